"""The results of VaLM: their rows, the paper's figures, the page, and the reader of a finished stage."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from vlpnb.downstream.comparison import Difference
from vlpnb.downstream.results import (
    Score,
    comparisons,
    read_kept,
    shown,
    table,
    with_interval,
    with_spread,
)

ModelName = Literal["none", "random", "captions", "self", "hidden", "retrieved", "oracle"]
ROWS: Mapping[ModelName, tuple[Mapping[str, Any], str]] = {
    "none": ({"variant": "none"}, "trained"),
    "random": ({"variant": "random"}, "trained"),
    "captions": ({"variant": "captions"}, "trained"),
    "self": ({"variant": "self"}, "trained"),
    "hidden": ({"variant": "retrieved"}, "hidden"),
    "retrieved": ({"variant": "retrieved"}, "trained"),
    "oracle": ({"variant": "retrieved"}, "oracle"),
}
"""Fields of `valm.pretraining`, and the setting (`shown.py`) in which the model is asked."""
NAMES: Mapping[str, str] = {
    "none": "text alone",
    "random": "random pictures",
    "captions": "words of the captions",
    "self": "the query itself (Blind-VaLM)",
    "hidden": "found pictures, hidden when asked",
    "retrieved": "found pictures (VaLM)",
    "oracle": "found pictures, asked with pictures of the thing",
    "retrieved_disjoint": "found pictures that the text does not describe",
}
KINDS = ("raw", "calibrated")
SUBJECT = "retrieved"  # the row that is compared with every other
PAPER: Mapping[str, Mapping[str, float]] = {
    "memory_colour": {"retrieved": 58.6, "none": 32.4},
    "colour_terms": {"retrieved": 52.7, "none": 34.6},
    "shape": {"retrieved": 62.8, "none": 44.5},
    "relative_size": {"retrieved": 85.0, "none": 43.1},
}
"""The paper's accuracies × 100: VaLM with the better of 4 and 8 pictures, and GPT-2. Its sizes are asked with the
bigger thing first alone, so that "yes" is always right."""


@dataclass(frozen=True)
class Results:
    """A finished stage `valm.results`."""

    scores: Mapping[tuple[str, str, str], Score]  # (task, row, "raw" or "calibrated")
    differences: Mapping[tuple[str, str, str], Difference]  # (task, row, other row), calibrated
    metrics: Mapping[str, float]
    tasks: tuple[str, ...]
    rows: tuple[str, ...]
    verdict: tuple[str, ...]
    page: str  # Markdown


def read_results(folder: Path) -> Results:
    """The results in the folder of the finished stage."""
    kept = read_kept(folder)
    tasks, rows = tuple(kept.content["tasks"]), tuple(kept.content["rows"])
    scores = {
        (task, row, kind): Score.read(kept.metrics, f"{task}.{row}.{kind}")
        for task in tasks
        for row in rows
        for kind in KINDS
    }
    differences = kept.differences(tasks, comparisons(rows, SUBJECT))
    return Results(scores, differences, kept.metrics, tasks, rows, kept.verdict, kept.page)


def sentence(a: str, b: str, task: str, found: Mapping[str, float]) -> str:
    """What a difference shows, and no more than its interval allows."""
    points = f"{100 * found['mean']:+.1f} points on {task} ({100 * found['low']:+.1f} to {100 * found['high']:+.1f})"
    if found["low"] > 0:
        return f"{NAMES[a]} knows more than {NAMES[b]}: {points}."
    if found["high"] < 0:
        return f"{NAMES[a]} knows less than {NAMES[b]}: {points}."
    return f"{NAMES[a]} against {NAMES[b]}: no difference beyond what other things would show, {points}."


def results_page(
    tasks: Sequence[str],
    rows: Sequence[str],
    metrics: Mapping[str, float],
    seeds: int,
    sentences: Sequence[str],
) -> str:
    """The page `results.md`: a table of each task with intervals, trivial predictors, language, what it shows."""
    several = f", mean over {seeds} seeds" if seeds > 1 else ", one seed, which says nothing of other seeds"
    lines = ["# Results", ""]
    lines += [
        f"Right answers × 100{several}; in brackets the 95 % interval over things; the paper's where it has one."
    ]
    for task in tasks:
        cells = []
        for row in rows:
            ours = [with_interval(metrics, f"{task}.{row}.{kind}", 100) for kind in KINDS]
            paper = PAPER.get(task, {}).get(row)
            cells.append([NAMES[row], *ours, "" if paper is None else f"{paper}"])
        cells += [
            [f"*{name.replace('_', ' ')}*", f"{100 * metrics[f'{task}.trivial.{name}']:.1f}", "", ""]
            for name in ("majority", "uniform")
            if f"{task}.trivial.{name}" in metrics
        ]
        lines += ["", f"{task.replace('_', ' ').capitalize()}:", ""]
        lines += table(["beside the words", "raw", "calibrated", "paper"], cells)
    texts = [
        key.removeprefix(f"held_out.{rows[0]}.") for key in metrics if key.startswith(f"held_out.{rows[0]}.")
    ]
    texts = [text for text in texts if not text.endswith("_std")]
    if texts:
        lines += ["", "Held-out text, nats per token (e to this power is the perplexity per token):", ""]
        lines += table(
            ["beside the words", *texts],
            [
                [NAMES[row], *(with_spread(metrics, f"held_out.{row}.{text}", digits=3) for text in texts)]
                for row in rows
                if f"held_out.{row}.{texts[0]}" in metrics
            ],
        )
    return "\n".join([*lines, *shown(sentences), ""])
