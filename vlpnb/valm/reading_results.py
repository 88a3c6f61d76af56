"""The results of VaLM: their rows, the paper's figures, the page, and the reader of a finished stage."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from vlpnb.downstream.comparison import Difference
from vlpnb.files import read_back

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
PAPER: Mapping[str, Mapping[str, float]] = {
    "memory_colour": {"retrieved": 58.6, "none": 32.4},
    "colour_terms": {"retrieved": 52.7, "none": 34.6},
    "shape": {"retrieved": 62.8, "none": 44.5},
    "relative_size": {"retrieved": 85.0, "none": 43.1},
}
"""The paper's accuracies × 100: VaLM with the better of 4 and 8 pictures, and GPT-2. Its sizes are asked with the
bigger thing first alone, so that "yes" is always right."""


@dataclass(frozen=True)
class Score:
    """A share of right answers, with its 95 % interval over things."""

    mean: float
    low: float
    high: float
    std: float
    """Over seeds; NaN for one."""


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
    content = read_back(folder / "results.json")
    metrics = {name: math.nan if value is None else value for name, value in content["metrics"].items()}
    tasks, rows = tuple(content["tasks"]), tuple(content["rows"])
    scores = {
        (task, row, kind): Score(
            *(metrics[f"{task}.{row}.{kind}{end}"] for end in ("", "_low", "_high", "_std"))
        )
        for task in tasks
        for row in rows
        for kind in KINDS
    }
    differences = {
        (task, a, b): Difference.read(metrics, f"difference_{task}.{a}_minus_{b}")
        for task in tasks
        for a, b in comparisons(rows)
    }
    page = (folder / "results.md").read_text(encoding="utf-8")
    return Results(scores, differences, metrics, tasks, rows, tuple(content["verdict"]), page)


def comparisons(rows: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs that answer a question: VaLM (or else the last row) against every other."""
    subject = "retrieved" if "retrieved" in rows else rows[-1]
    return [(subject, other) for other in rows if other != subject]


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
        table = []
        for row in rows:
            cells = [_interval(metrics, f"{task}.{row}.{kind}") for kind in KINDS]
            paper = PAPER.get(task, {}).get(row)
            table.append([NAMES[row], *cells, "" if paper is None else f"{paper}"])
        table += [
            [f"*{name.replace('_', ' ')}*", f"{100 * metrics[f'{task}.trivial.{name}']:.1f}", "", ""]
            for name in ("majority", "uniform")
            if f"{task}.trivial.{name}" in metrics
        ]
        lines += ["", f"{task.replace('_', ' ').capitalize()}:", ""]
        lines += _table(["beside the words", "raw", "calibrated", "paper"], table)
    texts = [
        key.removeprefix(f"held_out.{rows[0]}.") for key in metrics if key.startswith(f"held_out.{rows[0]}.")
    ]
    texts = [text for text in texts if not text.endswith("_std")]
    if texts:
        lines += ["", "Held-out text, nats per token:", ""]
        lines += _table(
            ["beside the words", *texts],
            [
                [NAMES[row], *(_number(metrics, f"held_out.{row}.{text}") for text in texts)]
                for row in rows
                if f"held_out.{row}.{texts[0]}" in metrics
            ],
        )
    lines += ["", "## What this shows", "", *(f"* {line}" for line in sentences)]
    return "\n".join([*lines, ""])


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def _interval(metrics: Mapping[str, float], name: str) -> str:
    mean, low, high, std = (100 * metrics[f"{name}{end}"] for end in ("", "_low", "_high", "_std"))
    return f"{mean:.1f} ({low:.1f} to {high:.1f})" + ("" if math.isnan(std) else f", seeds ± {std:.1f}")


def _number(metrics: Mapping[str, float], name: str) -> str:
    if name not in metrics:
        return ""
    std = metrics.get(f"{name}_std", math.nan)
    return f"{metrics[name]:.3f}" + ("" if math.isnan(std) else f" ± {std:.3f}")
