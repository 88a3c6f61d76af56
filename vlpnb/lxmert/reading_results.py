"""The results of LXMERT: their names, the paper's figures beside them, the page, and the reader of a finished stage."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vlpnb.downstream.comparison import Difference
from vlpnb.downstream.results import (
    Scores,
    comparisons,
    learnt,
    read_kept,
    shown,
    table,
    with_spread,
)

TaskName = Literal["vqa", "gqa", "nlvr2"]
ModelName = Literal[
    "blind", "scratch", "bert", "from_bert", "no_vision", "features", "labels", "no_qa", "mismatch_0", "mismatch_50",
    "pretrained",
]  # fmt: skip
TITLES: Mapping[str, str] = {"vqa": "VQA", "gqa": "GQA", "nlvr2": "NLVR2"}
NAMES: Mapping[str, str] = {
    "blind": "words without pictures",
    "scratch": "no pre-training",
    "bert": "no pre-training but BERT's",
    "from_bert": "pre-trained from BERT",
    "no_vision": "pre-trained without vision tasks",
    "features": "pre-trained with features alone",
    "labels": "pre-trained with labels alone",
    "no_qa": "pre-trained without questions' answers",
    "mismatch_0": "pre-trained without wrong pairs",
    "mismatch_50": "pre-trained with half of the pairs wrong",
    "pretrained": "pre-trained",
}
PAPER: Mapping[str, tuple[float, float, float]] = {
    "scratch": (65.1, 50.0, 50.9),
    "bert": (65.5, 56.2, 50.9),
    "from_bert": (68.8, 58.3, 70.1),
    "no_vision": (66.3, 57.1, 50.9),
    "features": (69.2, 59.5, 72.9),
    "labels": (69.5, 59.3, 73.5),
    "no_qa": (68.9, 58.2, 72.4),
    "pretrained": (69.9, 60.0, 74.9),
}  # tables 3 to 5: VQA, GQA and NLVR2, development sets, one run each
DETAILS = {
    "vqa": ("yes_no", "number", "other"),
    "gqa": ("binary", "open", "consistency"),
    "nlvr2": ("consistency",),
}
MAIN = "accuracy"
SUBJECT = "pretrained"  # the row that is compared with every other


@dataclass(frozen=True)
class Results:
    """A finished stage `lxmert.results`."""

    rows: Mapping[str, Mapping[str, Scores]]  # model → task → what it reached
    differences: Mapping[tuple[str, str, str], Difference]  # of (task, model, other model)
    metrics: Mapping[str, float]
    verdict: tuple[str, ...]
    notes: tuple[str, ...]  # runs that diverged, or learnt nothing
    page: str  # Markdown


def read_results(folder: Path) -> Results:
    """The results in the folder of the finished stage."""
    kept = read_kept(folder)
    rows = kept.rows()
    differences = kept.differences(TITLES, comparisons(list(rows), SUBJECT))
    return Results(rows, differences, kept.metrics, kept.verdict, kept.notes, kept.page)


def results_page(
    tasks: Sequence[str],
    models: Sequence[str],
    metrics: Mapping[str, float],
    seeds: int,
    sentences: Sequence[str],
    notes: Sequence[str],
) -> str:
    """The page `results.md`: the table beside the paper's, by kinds of questions, test splits, verdict, notes."""
    several = f", mean ± standard deviation over {seeds} fine-tuning seeds of one pre-training" * (seeds > 1)
    lines = [
        "# Results",
        "",
        f"Validation accuracy × 100{several}; in brackets the paper's (tables 3 to 5).",
        "",
    ]
    rows = [[NAMES[model], *(_beside_paper(metrics, task, model) for task in tasks)] for model in models]
    rows.append(["one answer to everything", *(f"{metrics[f'{t}.{models[0]}.majority']:.1f}" for t in tasks)])
    lines += table(["model", *(TITLES[task] for task in tasks)], rows)
    for task in tasks:
        kinds = [kind for kind in DETAILS[task] if f"{task}.{models[0]}.{kind}" in metrics]
        rows = [
            [NAMES[model], *(with_spread(metrics, f"{task}.{model}.{kind}") for kind in kinds)]
            for model in models
        ]
        lines += ["", f"{TITLES[task]}:", "", *table(["model", *kinds], rows)] if kinds else []
    tested = [task for task in tasks if f"{task}.{models[0]}.test_{MAIN}" in metrics]
    if tested:
        rows = [
            [NAMES[model], *(with_spread(metrics, f"{task}.{model}.test_{MAIN}") for task in tested)]
            for model in models
        ]
        lines += ["", "The test split, on which nothing was chosen:", ""]
        lines += table(["model", *(TITLES[task] for task in tested)], rows)
    return "\n".join([*lines, *shown(sentences), *learnt(notes), ""])


def _beside_paper(metrics: Mapping[str, float], task: str, model: str) -> str:
    published = PAPER.get(model)
    beside = f" ({published[list(TITLES).index(task)]})" if published else ""
    return with_spread(metrics, f"{task}.{model}.{MAIN}") + beside
