"""`vlpnb report`: every metric of a run, beside the paper's figure where there is one."""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlpnb.course import data_root, open_run
from vlpnb.errors import UserError, did_you_mean
from vlpnb.folders import read_json, write_json

if TYPE_CHECKING:
    from vlpnb.stage import Run


def existing_runs(root: Path | None = None) -> dict[str, Path]:
    """Name → folder of every run under the data folder."""
    folder = (root or data_root()) / "runs"
    return {path.parent.name: path.parent for path in sorted(folder.glob("*/run.json"))}


def reopen(name: str | None, root: Path | None = None) -> "Run":
    """Open a run as it was made: its profile and settings come from its folder. None: the one used last.

    Raises:
        UserError: no run has that name.
    """
    runs = existing_runs(root)
    if not runs:
        raise UserError(
            f"{(root or data_root()) / 'runs'}: no run yet; `vlpnb run --profile smoke` makes one"
        )
    if name is None:
        name = max(runs, key=lambda key: (runs[key] / "run.json").stat().st_mtime)
    if name not in runs:
        raise UserError(f"run {name!r} not found in {data_root() / 'runs'}{did_you_mean(name, runs)}")
    note = read_json(runs[name] / "run.json")
    return open_run(note["profile"], name, note["settings"], root)


def collect(run: "Run") -> dict[str, Any]:
    """The report as plain values: `metrics` is flat, dotted name → finite number; others are in `not_finite`."""
    from vlpnb.course.runner import read_status

    status = read_status(run.folder)
    flat = run.metrics()
    results = run.results()
    flat |= {f"notebooks.{item.notebook.split('_')[0]}.seconds": item.seconds for item in status}
    if status:
        flat["notebooks.seconds"] = sum(item.seconds for item in status)
    return {
        "run": run.name,
        "profile": run.profile.name,
        "settings": run.settings,
        "metrics": {key: value for key, value in flat.items() if math.isfinite(value)},
        "not_finite": sorted(key for key, value in flat.items() if not math.isfinite(value)),
        "paper": {key: value for key, value in paper_values().items() if key in flat},
        "stages": [
            {
                "stage": result.name,
                "variant": result.label,
                "folder": result.folder.name,
                "seconds": result.seconds,
                "peak_rss_bytes": result.manifest["peak_rss_bytes"],
                "device": result.manifest["device"],
            }
            for result in results
        ],
        "notebooks": [{**vars(item)} for item in status],
    }


def paper_values() -> dict[str, float]:
    """The paper's figures by the name of the metric that they belong to, as the systems state them."""
    from vlpnb.vokenization import results

    return dict(getattr(results, "PAPER", {}))


def as_text(report: dict[str, Any]) -> str:
    """The report as a Markdown table, readable in a terminal as it is."""
    paper = report["paper"]
    rows = [("metric", "value", "paper")]
    for name, value in report["metrics"].items():
        rows.append(
            (name, f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}", _number(paper.get(name)))
        )
    rows += [(name, "nan", _number(paper.get(name))) for name in report["not_finite"]]
    if not any(row[2] for row in rows[1:]):
        rows = [row[:2] for row in rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]

    def line(row: tuple[str, ...]) -> str:
        cells = [
            row[0].ljust(widths[0]),
            *(text.rjust(w) for text, w in zip(row[1:], widths[1:], strict=True)),
        ]
        return f"| {' | '.join(cells)} |"

    rule = f"|{'-' * (widths[0] + 2)}|" + "|".join("-" * (w + 1) + ":" for w in widths[1:]) + "|"
    title = f"Run {report['run']}, profile {report['profile']}: {len(report['metrics'])} metrics"
    return "\n".join([title, "", line(rows[0]), rule, *map(line, rows[1:])])


def write_report(run: "Run") -> tuple[Path, Path]:
    """Write `results.md` and `results.json` into the run's folder; returns both paths."""
    report = collect(run)
    markdown, data = run.folder / "results.md", run.folder / "results.json"
    markdown.write_text(as_text(report) + "\n", encoding="utf-8")
    write_json(data, report)
    return markdown, data


def as_json(report: dict[str, Any]) -> str:
    """The report as strict JSON."""
    return json.dumps(report, indent=1, ensure_ascii=False, allow_nan=False)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:g}"
