"""What the results stages of all systems share: rows with their seeds, differences, tables, the page and its files.

A stage `<system>.results` says which rows are asked what, and beside which figures they stand; how means, intervals and
verdicts come about is the same for all. Runs of one row differ by their seed; differences are paired, by seed
(`verdicts`) or by what was asked (`difference`), and claim no more than their interval allows.
"""

import math
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from vlpnb.downstream.comparison import Difference, paired, spread, verdict
from vlpnb.files import read_back, write_json, write_text
from vlpnb.metrics.bootstrap import difference_interval, interval
from vlpnb.stage import Request, StageContext

Metrics = Mapping[str, float]
Runs = Mapping[tuple[str, str], Sequence[Mapping[str, Any]]]
"""(task, row) → what its seeds reached, as `downstream.seeds` keeps it."""


def seeded(name: str, stage: str, fields: Mapping[str, Any], seeds: Sequence[int]) -> dict[str, Request]:
    """A stage with each of some seeds, of its pre-training and its fine-tuning, as the inputs `<name>.<seed>`.

    Without seeds once, with the run's own, as `<name>`.
    """
    if not seeds:
        return {name: Request(stage, dict(fields))}
    return {
        f"{name}.{seed}": Request(stage, {**fields, "seed": seed, "seeds": (seed,)})
        for seed in dict.fromkeys(seeds)
    }


def folders_by_row(inputs: Mapping[str, Path]) -> dict[str, dict[str, list[Path]]]:
    """Kind → row → the folders of its seeds, of inputs that are called `<kind>.<row>` or `<kind>.<row>.<seed>`."""
    found: dict[str, dict[str, list[Path]]] = {}
    for key, folder in inputs.items():
        kind, *rest = key.split(".")
        if rest:
            found.setdefault(kind, {}).setdefault(rest[0], []).append(folder)
    return found


def comparisons(rows: Sequence[str], subject: str, otherwise: int = -1) -> list[tuple[str, str]]:
    """Pairs that answer a question: the subject against every other row; `otherwise`: which row it is if not there."""
    subject = subject if subject in rows else rows[otherwise]
    return [(subject, other) for other in rows if other != subject]


def verdicts(
    scores: Mapping[tuple[str, str], Mapping[int, float]],
    pairs: Sequence[tuple[str, str]],
    titles: Mapping[str, str],
    names: Mapping[str, str],
) -> tuple[dict[str, float], list[str]]:
    """Differences paired by seed as metrics `difference_<task>.<row>_minus_<row>.{mean,std,low,high}`; a sentence each.

    Args:
        scores: (task, row) → seed → points.
        titles: of the tasks that are asked.
        names: of the rows.
    """
    metrics, sentences = {}, []
    for task, title in titles.items():
        for a, b in pairs:
            seeds = [seed for seed in scores[task, a] if seed in scores[task, b]]
            found = paired([scores[task, a][seed] - scores[task, b][seed] for seed in seeds])
            metrics |= named(f"difference_{task}.{a}_minus_{b}", found)
            sentences.append(verdict(names[a], names[b], title, found, len(seeds)))
    return metrics, sentences


def named(name: str, values: Metrics) -> dict[str, float]:
    """Values of one thing as metrics `<name>.<key>`."""
    return {f"{name}.{key}": value for key, value in values.items()}


def remarks(
    runs: Runs, titles: Mapping[str, str], names: Mapping[str, str], unsaid: Container[str] = ()
) -> list[str]:
    """A line for each run that diverged or learnt nothing; none for the rows `unsaid`."""
    return [
        f"{titles[task]}, {names[row]}, seed {run['seed']}: {run['diverged'] or run['note']}"
        for (task, row), found in runs.items()
        for run in found
        if row not in unsaid and (run["diverged"] or run["note"])
    ]


@dataclass(frozen=True)
class Judged:
    """What was right of one row, task and metric."""

    right: Float[np.ndarray, "S Q"]
    """Of S runs and Q questions: 1, 0, or NaN where nobody knows what is right."""
    groups: Sequence[Any]
    """What each question is about (its picture, its thing): what stands or falls together."""


def shares(about: Judged, scale: float = 1.0) -> dict[str, float]:
    """The share that is right with its 95 % interval over groups and its deviation over runs, by ending of the name."""
    mean, std = spread(np.nanmean(about.right, axis=1).tolist())
    low, high = interval(about.right.mean(0), about.groups)
    return {"": scale * mean, "_low": scale * low, "_high": scale * high, "_std": scale * std}


def difference(pairs: Sequence[tuple[Judged, Judged]], scale: float = 1.0) -> dict[str, float]:
    """How much better the first are than the second over the questions of all pairs, with the interval over groups."""
    ours, theirs = (np.concatenate([pair[i].right.mean(0) for pair in pairs]) for i in (0, 1))
    groups = [group for pair in pairs for group in pair[0].groups]
    low, high = difference_interval(ours, theirs, groups)
    return {"mean": scale * float(np.nanmean(ours - theirs)), "low": scale * low, "high": scale * high}


@dataclass(frozen=True)
class Score:
    """A share of what is right, with its 95 % interval over what was asked."""

    mean: float
    low: float
    high: float
    std: float
    """Over seeds; NaN for one."""

    @classmethod
    def read(cls, metrics: Metrics, name: str) -> "Score":
        """What `shares` has made; NaN where something is not there."""
        return cls(*(metrics.get(f"{name}{end}", math.nan) for end in ("", "_low", "_high", "_std")))


@dataclass(frozen=True)
class Scores:
    """What one row reached on one task, in points."""

    scores: Mapping[int, float]  # seed → points
    mean: float
    std: float  # sample deviation; NaN for one seed
    majority: float  # of the best constant answer, where there is one; else NaN
    diverged: int


@dataclass(frozen=True)
class Kept:
    """What a finished results stage has kept."""

    content: Mapping[str, Any]  # of `results.json`
    metrics: Metrics
    verdict: tuple[str, ...]
    notes: tuple[str, ...]  # runs that diverged, or learnt nothing
    page: str  # Markdown

    def rows(self) -> dict[str, dict[str, Scores]]:
        """Row → task → what it reached, of rows that are kept as `<task>.<row>` → seed → points."""
        found: dict[str, dict[str, Scores]] = {}
        for name, seeds in self.content["rows"].items():
            task, row = name.split(".")
            mean, std = spread(list(seeds.values()))
            majority = self.metrics.get(f"{name}.majority", math.nan)
            scores = {int(seed): value for seed, value in seeds.items()}
            diverged = int(self.metrics[f"{name}.diverged"])
            found.setdefault(row, {})[task] = Scores(scores, mean, std, majority, diverged)
        return found

    def differences(
        self, tasks: Iterable[str], pairs: Sequence[tuple[str, str]]
    ) -> dict[tuple[str, str, str], Difference]:
        """(task, row, other row) → the difference, where there is one."""
        return {
            (task, a, b): Difference.read(self.metrics, f"difference_{task}.{a}_minus_{b}")
            for task in tasks
            for a, b in pairs
            if f"difference_{task}.{a}_minus_{b}.mean" in self.metrics
        }


def read_kept(folder: Path) -> Kept:
    """What `publish` has kept in the folder of a finished stage."""
    content = read_back(folder / "results.json")
    metrics = {name: math.nan if value is None else value for name, value in content["metrics"].items()}
    page = (folder / "results.md").read_text(encoding="utf-8")
    return Kept(content, metrics, tuple(content["verdict"]), tuple(content.get("notes", ())), page)


def publish(
    context: StageContext, page: str, metrics: dict[str, float], sentences: Sequence[str], **more: Any
) -> dict[str, float]:
    """Write `results.md` and `results.json`, log the verdict, and return the metrics."""
    write_text(context.folder / "results.md", page)
    write_json(context.folder / "results.json", {"metrics": metrics, "verdict": sentences, **more})
    for sentence in sentences:
        context.log(sentence)
    return metrics


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table."""
    return [f"| {' | '.join(line)} |" for line in [head, ["---"] * len(head), *rows]]


def with_spread(metrics: Metrics, name: str, std: str = "", digits: int = 1) -> str:
    """A mean with its deviation over seeds (`<name>_std`, or the metric that `std` names); empty where it is absent."""
    if name not in metrics:
        return ""
    deviation = metrics.get(std or f"{name}_std", math.nan)
    return f"{metrics[name]:.{digits}f}" + ("" if math.isnan(deviation) else f" ± {deviation:.{digits}f}")


def with_interval(metrics: Metrics, name: str, scale: float = 1.0) -> str:
    """A share with its interval, and its deviation over seeds; empty where it is absent."""
    if name not in metrics:
        return ""
    found = Score.read(metrics, name)
    mean, low, high, std = (scale * value for value in (found.mean, found.low, found.high, found.std))
    return f"{mean:.1f} ({low:.1f} to {high:.1f})" + ("" if math.isnan(std) else f", seeds ± {std:.1f}")


def shown(sentences: Sequence[str]) -> list[str]:
    """The lines of a page that say what it shows."""
    return ["", "## What this shows", "", *(f"* {sentence}" for sentence in sentences)]


def learnt(notes: Sequence[str]) -> list[str]:
    """The lines of a page that name the runs which learnt nothing."""
    if not notes:
        return ["", "Every run learnt."]
    return ["", "Runs that learnt nothing:", "", *(f"* {note}" for note in notes)]
