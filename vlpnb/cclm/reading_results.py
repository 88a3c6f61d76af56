"""The results of CCLM: rows, figures of others beside them, the page, and the reader of a finished stage."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vlpnb.cclm.start import NAMES as STARTS
from vlpnb.downstream.comparison import Difference
from vlpnb.downstream.results import Score, read_kept, shown, table, with_interval

ModelName = Literal[
    "all", "no_parallel", "contrastive_only", "no_regions", "withheld", "every_language", "scratch"
]
TaskName = Literal["retrieval", "xvnli", "xgqa", "marvl"]
RETRIEVAL: TaskName = "retrieval"
NAMES: Mapping[str, str] = {
    **STARTS,
    "withheld": "a language withheld",
    "every_language": "captions in every language",
    "blind": "words without pictures",
}
TITLES: Mapping[str, str] = {"retrieval": "retrieval", "xvnli": "XVNLI", "xgqa": "xGQA", "marvl": "MaRVL"}
MAIN: Mapping[str, str] = {
    "retrieval": "img_r10",
    "xvnli": "accuracy",
    "xgqa": "accuracy",
    "marvl": "accuracy",
}
OTHERS: Mapping[str, str] = {
    "Multi30K": "CCLM-3M, fine-tuned in English, mean recall as CCRK (KDD 2024, table 1) quotes it: en 90.4, de 89.9, "
    "fr 89.4, cs 88.1.",
    "IGLUE": "The paper's abstract: more than 10 points better on average than earlier models, and zero-shot better "
    "than translate-test of English models. Its tables are not quoted here, since we could not check them.",
}


TABLES = (
    ("vectors_img_r10", "Retrieval, text to picture R@10 by the vectors alone"),
    ("vectors_img_r1", "Retrieval, text to picture R@1 by the vectors alone"),
    ("img_r1", "Retrieval, text to picture R@1 after re-ranking"),
)
SETS = {"xflickrco": "xFlickr&CO", "wit": "WIT"}  # whose results stand beside those of the run's own pictures


@dataclass(frozen=True)
class Results:
    """A finished stage `cclm.results`."""

    scores: Mapping[tuple[str, str, str, str], Score]
    """(task, row, language, metric): `img_r10`, `vectors_img_r10` … of retrieval, `accuracy` of the others."""
    differences: Mapping[tuple[str, str, str], Difference]
    """(task, row, other row): in points, over all languages that are zero-shot."""
    reranking: Mapping[str, Difference]
    """Row → what re-ranking adds to text→picture R@1 in points, over all languages."""
    metrics: Mapping[str, float]
    tasks: tuple[str, ...]
    rows: Mapping[str, tuple[str, ...]]  # task → rows
    languages: Mapping[str, tuple[str, ...]]  # task → languages, English first
    verdict: tuple[str, ...]
    page: str  # Markdown


def read_results(folder: Path) -> Results:
    """The results in the folder of the finished stage."""
    kept = read_kept(folder)
    content, metrics = kept.content, kept.metrics
    scores, differences, reranking = {}, {}, {}
    for name in metrics:
        parts = name.split(".")
        if parts[-1] == "mean" and parts[0].startswith("difference_"):
            task = parts[0].removeprefix("difference_")
            row, other = parts[1].split("_minus_")
            differences[task, row, other] = Difference.read(metrics, f"{parts[0]}.{parts[1]}")
        elif parts[-1] == "mean" and parts[0] == "reranking":
            reranking[parts[1]] = Difference.read(metrics, f"reranking.{parts[1]}")
        elif len(parts) == 4 and f"{name}_low" in metrics:
            scores[tuple(parts)] = Score.read(metrics, name)
    about = {key: {task: tuple(v) for task, v in content[key].items()} for key in ("rows", "languages")}
    return Results(
        scores, differences, reranking, metrics, tuple(content["tasks"]), **about,
        verdict=kept.verdict, page=kept.page,
    )  # fmt: skip


def by_set(languages: Sequence[str]) -> dict[str, list[str]]:
    """The splits that are asked, by set: "" for the run's own pictures, and for every task but retrieval."""
    found: dict[str, list[str]] = {}
    for split in languages:
        first = split.partition("_")[0]
        found.setdefault(first if first in SETS else "", []).append(split)
    return found


def sentence(a: str, b: str, what: str, found: Mapping[str, float], better: str = "is better than") -> str:
    """What a difference in points shows, and no more than its interval allows."""
    points = f"{found['mean']:+.1f} points of {what} ({found['low']:+.1f} to {found['high']:+.1f})"
    if found["low"] > 0:
        return f"{a} {better} {b}: {points}."
    if found["high"] < 0:
        return f"{b} {better} {a}: {points}."
    return f"{a} against {b}: no difference beyond what other pictures would show, {points}."


def results_page(
    rows: Mapping[str, Sequence[str]],
    languages: Mapping[str, Sequence[str]],
    metrics: Mapping[str, float],
    seeds: int,
    sentences: Sequence[str],
) -> str:
    """The page `results.md`: a table of each task, row by language, what others report, what it shows."""
    several = f", mean over {seeds} seeds" if seeds > 1 else ", one seed, which says nothing of other seeds"
    lines = ["# Results", "", f"Shares × 100{several}; in brackets the 95 % interval over pictures."]
    for task, models in rows.items():
        for metric, title in TABLES if task == RETRIEVAL else ((MAIN[task], f"{TITLES[task]}, accuracy"),):
            for name, columns in by_set(languages[task]).items():
                cells = [
                    [
                        NAMES[row],
                        *(with_interval(metrics, f"{task}.{row}.{column}.{metric}") for column in columns),
                    ]
                    for row in models
                ]
                chance = metrics.get(f"chance.{task}")
                if chance is not None and metric.endswith("r10") and not name:
                    cells.append(["*chance*", *([f"{chance:.1f}"] * len(columns))])
                lines += ["", f"{title}{f', {SETS[name]}' if name else ''}:", ""]
                lines += table(["model", *(column.removeprefix(f"{name}_") for column in columns)], cells)
    lines += ["", "## What others report", "", *(f"* {name}: {text}" for name, text in OTHERS.items())]
    return "\n".join([*lines, *shown(sentences), ""])
