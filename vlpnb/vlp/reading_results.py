"""The results of VLP: their names, the paper's figures beside them, the page, and the reader of a finished stage."""

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

TaskName = Literal["captioning", "vqa"]
ModelName = Literal["blind", "scratch", "bert", "text", "s2s", "bi", "pretrained"]
TITLES: Mapping[str, str] = {"captioning": "captioning", "vqa": "VQA"}
NAMES: Mapping[str, str] = {
    "blind": "words without pictures",
    "scratch": "no pre-training",
    "bert": "no pre-training but BERT's",
    "text": "pre-trained on text alone",
    "s2s": "pre-trained, seq2seq alone",
    "bi": "pre-trained, both ways alone",
    "pretrained": "pre-trained",
}
BASELINES: Mapping[str, str] = {
    "constant": "one caption for all",
    "nearest": "the nearest training picture's",
    "consensus": "what the ten nearest agree on",
    "person": "one person against the others",
}
PAPER: Mapping[str, tuple[float, float]] = {
    "scratch": (56.8, 70.0),
    "s2s": (68.5, 70.2),
    "bi": (63.3, 71.3),
    "pretrained": (67.4, 70.7),
}  # the table of ablations: CIDEr on Flickr30k, VQA test-std; one run each
MAIN: Mapping[str, str] = {"captioning": "cider", "vqa": "accuracy"}
DETAILS: Mapping[str, tuple[str, ...]] = {
    "captioning": (
        "bleu_4", "rouge_l", "kinds", "colours", "bound", "recall", "different", "bad_endings", "shuffled_cider",
        "constant_cider",
    ),
    "vqa": ("yes_no", "number", "other"),
}  # fmt: skip
SHARES = {*MAIN.values(), *DETAILS["captioning"], *DETAILS["vqa"]} - {"different"}
"""What is multiplied by 100, as in the paper."""
SUBJECT = "pretrained"  # the row that is compared with every other


@dataclass(frozen=True)
class Results:
    """A finished stage `vlp.results`."""

    rows: Mapping[str, Mapping[str, Scores]]  # model → task → what it reached
    baselines: Mapping[str, Mapping[str, float]]  # name → metric of captions that nobody trained
    differences: Mapping[tuple[str, str, str], Difference]  # of (task, model, other model)
    metrics: Mapping[str, float]
    verdict: tuple[str, ...]
    notes: tuple[str, ...]  # runs that diverged, or learnt nothing
    page: str  # Markdown


def read_results(folder: Path) -> Results:
    """The results in the folder of the finished stage."""
    kept = read_kept(folder)
    rows = kept.rows()
    baselines: dict[str, dict[str, float]] = {}
    for name, value in kept.metrics.items():
        if name.startswith("baseline."):
            _, which, key = name.split(".")
            baselines.setdefault(which, {})[key] = value
    differences = kept.differences(TITLES, comparisons(list(rows), SUBJECT))
    return Results(rows, baselines, differences, kept.metrics, kept.verdict, kept.notes, kept.page)


def results_page(
    tasks: Sequence[str],
    models: Sequence[str],
    metrics: Mapping[str, float],
    seeds: int,
    pretrained: bool,
    sentences: Sequence[str],
    notes: Sequence[str],
) -> str:
    """The page `results.md`: the tables beside the paper's, what nobody trained, verdict, notes.

    Args:
        seeds: runs of a row.
        pretrained: whether each of them was pre-trained anew.
    """
    of = "pre-trainings with their fine-tuning" if pretrained else "fine-tuning seeds of one pre-training"
    several = f", mean ± standard deviation over {seeds} {of}" if seeds > 1 else ""
    lines = ["# Results", "", f"CIDEr and accuracy × 100{several}; in brackets the paper's (one run each)."]
    for task in tasks:
        for split, said in (("test_", "test pictures"), ("", "validation pictures")):
            names = [
                name
                for name in (MAIN[task], *DETAILS[task])
                if f"{task}.{models[0]}.{split}{name}" in metrics
            ]
            if not names:
                continue
            rows = []
            for model in models:
                cells = [with_spread(metrics, f"{task}.{model}.{split}{name}") for name in names]
                if split and model in PAPER:
                    cells[0] += f" ({PAPER[model][list(TITLES).index(task)]})"
                rows.append([NAMES[model], *cells])
            if task == "captioning" and split:
                rows += [
                    [name, *(with_spread(metrics, f"baseline.{key}.{column}") for column in names)]
                    for key, name in BASELINES.items()
                    if f"baseline.{key}.cider" in metrics
                ]
            heads = [name.removeprefix("said_").replace("_", " ") for name in names]
            lines += ["", f"{TITLES[task].capitalize() if task != 'vqa' else 'VQA'}, {said}:", ""]
            lines += table(["model", *heads], rows)
    return "\n".join([*lines, *shown(sentences), *learnt(notes), ""])
