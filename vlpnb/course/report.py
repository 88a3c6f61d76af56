"""`vlpnb report`: every metric of a run, beside the paper's figure where there is one.

The JSON form is an object whose `metrics` is a flat map from dotted names to numbers.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vlpnb.config import merge
from vlpnb.course import data_root, open_run
from vlpnb.course.pages import paper_figures
from vlpnb.course.runner import read_status
from vlpnb.errors import UserError, did_you_mean
from vlpnb.files import read_back, write_json, write_text
from vlpnb.foundations.datasets import DATASETS
from vlpnb.stage import Run, StageResult

# The papers' figures with their setting and how sure we are of them; the data is in `papers/*.yaml`.
PAPER: dict[str, tuple[float, str]] = paper_figures()


@dataclass(frozen=True)
class Row:
    """One metric of the report."""

    name: str
    value: float
    paper: float | None
    note: str


def rows(metrics: Mapping[str, float]) -> list[Row]:
    """The run's metrics in their order, each with the paper's figure and its setting where there is one."""
    return [Row(name, value, *PAPER.get(name, (None, ""))) for name, value in metrics.items()]


def as_json(run: str, profile: str, metrics: Mapping[str, float], results: Iterable[StageResult]) -> dict:
    """The report as one JSON object: `metrics` holds finite numbers, `undefined` names the others."""
    return {
        "run": run,
        "profile": profile,
        "metrics": {name: value for name, value in metrics.items() if math.isfinite(value)},
        "undefined": [name for name, value in metrics.items() if not math.isfinite(value)],
        "paper": {
            name: {"value": PAPER[name][0], "note": PAPER[name][1]} for name in metrics if name in PAPER
        },
        "stages": [
            {
                "stage": result.name,
                "variant": result.label,
                "folder": result.folder.name,
                "seconds": round(result.seconds, 2),
                "device": result.manifest.get("device"),
            }
            for result in results
        ],
    }


def reopen(name: str | None, data: Path | None = None) -> Run:
    """Open a run as it was made: its profile and settings come from its folder. None: the run used last.

    `data` is the folder of the datasets where they lie elsewhere than when it was made.

    Raises:
        UserError: there is no run, or none of that name.
    """
    folder = data_root() / "runs"
    runs = {path.parent.name: path.parent for path in sorted(folder.glob("*/run.json"))}
    if not runs:
        raise UserError(f"{folder}: no run yet; `vlpnb run --profile smoke` makes one")
    if name is None:
        name = max(runs, key=lambda key: (runs[key] / "run.json").stat().st_mtime)
    if name not in runs:
        raise UserError(f"run {name!r} not found in {folder}{did_you_mean(name, runs)}")
    note = read_back(runs[name] / "run.json")
    places = {} if data is None else {stage: {"root": str(data.absolute())} for stage in DATASETS}
    return open_run(note["profile"], name, merge(note["settings"], places))


def all_metrics(run: Run) -> dict[str, float]:
    """The metrics of a run's stages, and the seconds that each of its notebooks took."""
    status = read_status(run.folder)
    times = {f"notebooks.{item.notebook.split('_')[0]}.seconds": item.seconds for item in status}
    total = {"notebooks.seconds": sum(times.values())} if times else {}
    return run.metrics() | times | total


def as_text(run: str, profile: str, metrics: Mapping[str, float], others: Sequence[str] = ()) -> str:
    """The report as a Markdown table, readable in a terminal as it is; `others` are results that it does not hold."""
    head = ("metric", "value", "paper")
    cells = [(row.name, _number(row.value), _paper(row)) for row in rows(metrics)]
    name, value, paper = (max(len(row[i]) for row in [head, *cells]) for i in range(3))
    lines = [f"| {row[0]:<{name}} | {row[1]:>{value}} | {row[2]:<{paper}} |" for row in [head, *cells]]
    lines.insert(1, f"|{'-' * (name + 2)}|{'-' * (value + 1)}:|{'-' * (paper + 2)}|")
    if others:
        shown = f"{', '.join(others[:3])}{' …' if len(others) > 3 else ''}"
        why = "of another configuration, version or data, or damaged"
        lines += ["", f"Not in the table, because {why}: {len(others)} finished results ({shown})"]
    return "\n".join([f"Run {run}, profile {profile}: {len(cells)} metrics", "", *lines])


def write_report(run: Run, folder: Path) -> Path:
    """Write `results.md` and `results.json` into a folder; returns the path of the first."""
    metrics = all_metrics(run)
    path = folder / "results.md"
    write_text(path, as_text(run.name, run.profile.name, metrics, run.others()) + "\n")
    write_json(folder / "results.json", as_json(run.name, run.profile.name, metrics, run.results()))
    return path


def _number(value: float) -> str:
    return f"{value:,.0f}" if math.isfinite(value) and abs(value) >= 1e4 else f"{value:.4g}"


def _paper(row: Row) -> str:
    return "" if row.paper is None else f"{row.paper:g} ({row.note})"
