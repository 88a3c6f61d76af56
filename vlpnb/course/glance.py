"""Time, memory and device in the "At a glance" tables, from measured runs.

`measured.json` beside this file is the source: per profile and notebook what the last measured run took. `vlpnb glance
RUN` reads it out of a finished run: a notebook's time is that of its executed copy, its peak memory what its kernel
and the processes it started held together (the largest of the stages that ended meanwhile, where that is more or the
runner did not record it), its device theirs.
"""

import datetime
import itertools
import json
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import nbformat

from vlpnb.config import flatten
from vlpnb.course.outline import stated
from vlpnb.course.pipeline import STAGES
from vlpnb.course.runner import STATUS
from vlpnb.errors import UserError
from vlpnb.files import read_back, write_json, write_text
from vlpnb.foundations.datasets import DATASETS
from vlpnb.stage.folder import MANIFEST, finished_folders
from vlpnb.stage.profiles import load_profile

MEASURED = Path(__file__).with_name("measured.json")
SHOWN = ("laptop", "photos", "paper")  # profiles in the tables, in this order
ROWS = ("Time", "Peak memory", "Device")
_ROW = re.compile(rf"^\| (?:{'|'.join(ROWS)}) \|")

Measured = Mapping[str, Mapping[str, Any]]  # profile → {"finished", "machine", "notebooks": {stem → numbers}}


def measure(run: Path, machine: str = "", only: Collection[str] = ()) -> tuple[str, dict[str, Any]]:
    """Read a run's folder: the profile's name, and its entry of `measured.json`.

    Args:
        run: the folder, such as `data/runs/laptop`. Notebooks that did not end well, or have not yet, are left out.
        machine: what it ran on, in words; manifests know the device only.
        only: numbers of notebooks, such as "90", that are measured alone: what they read may have been made before,
            what they write by themselves may not.

    Raises:
        UserError: no run, one with settings of its own, one without a finished notebook, one whose notebooks ran
            beside each other, or one with stages that no notebook made while it was timed (a resumed run), whose
            times would be too short.
    """
    for needed in (run / "run.json", run / "notebooks" / STATUS):
        if not needed.is_file():
            raise UserError(f"{needed}: missing; give the folder of a run made by `vlpnb run`")
    note = read_back(run / "run.json")
    own = flatten(note.get("settings", {})).keys() - {f"{name}.root" for name in DATASETS}
    if own:
        raise UserError(
            f"{run}: made with settings of its own ({', '.join(sorted(own))}), not those of its profile"
        )
    status = {Path(item["notebook"]).stem: item for item in read_back(run / "notebooks" / STATUS)}
    spans = {path.stem: _span(path) for path in sorted((run / "notebooks").glob("[0-9]*.ipynb"))}
    in_time = sorted(spans.items(), key=lambda item: item[1])
    for (one, (_, end)), (other, (start, _)) in itertools.pairwise(in_time):
        if start < end - 1:
            raise UserError(
                f"{run}: {one} and {other} ran beside each other; measure a run with one at a time"
            )
    if only:
        spans = {stem: span for stem, span in spans.items() if stem.split("_")[0] in only}
    own_stages = {name for stem in spans if only for name in _written(run / "notebooks" / f"{stem}.ipynb")}
    stages: dict[str, list[dict]] = {stem: [] for stem in spans}
    outside = []
    for folder in finished_folders(run):
        manifest = read_back(folder / MANIFEST)
        at = datetime.datetime.fromisoformat(manifest["finished"]).timestamp()
        inside = [stem for stem, (start, end) in spans.items() if start - 1 <= at <= end + 1]
        if inside:
            stages[inside[0]].append(manifest)
        elif not only or manifest["stage"] in own_stages:
            outside.append(folder.name)
    if outside:
        raise UserError(
            f"{run}: {', '.join(outside[:3])}{' …' if len(outside) > 3 else ''}: made by no notebook of its last "
            "execution, so that times would be too short; measure a run that was not resumed"
        )
    devices = _devices([manifest for made in stages.values() for manifest in made])
    entries = {
        stem: _entry(status[stem], stages[stem], devices)
        for stem in spans
        if stem in status and not status[stem]["problem"] and spans[stem][1] < float("inf")
    }
    if not entries:
        raise UserError(f"{run}: no notebook has been finished yet")
    finished = datetime.datetime.fromtimestamp(max(spans[stem][1] for stem in entries), datetime.UTC)
    return Path(note["profile"]).stem, {
        "finished": finished.date().isoformat(),
        "machine": machine,
        "notebooks": entries,
    }


def _span(path: Path) -> tuple[float, float]:
    """Start and end of an execution, in seconds of the epoch; an end that has not come is infinite."""
    timing = read_back(path)["metadata"].get("papermill", {})
    if not timing.get("start_time"):
        raise UserError(f"{path}: was not executed by `vlpnb run`")
    start, end = (
        datetime.datetime.fromisoformat(timing[key]).timestamp() if timing.get(key) else float("inf")
        for key in ("start_time", "end_time")
    )
    return start, end


def _written(path: Path) -> frozenset[str]:
    """The stages that an executed notebook says that it writes."""
    names = {stage.name: stage for stage in STAGES}
    return stated(nbformat.read(path, as_version=4), names).writes


def _devices(stages: list[dict]) -> str:
    return ", ".join(sorted({manifest["device"] for manifest in stages}))


def _entry(status: Mapping[str, Any], stages: list[dict], devices: str) -> dict[str, Any]:
    peaks = [manifest.get("peak_rss_bytes", 0) for manifest in stages] + [status.get("peak_rss_bytes", 0)]
    return {
        "seconds": round(status["seconds"]),
        "peak_megabytes": round(max(peaks) / 1e6) or None,
        "peak_gpu_megabytes": round(max((m.get("peak_gpu_bytes", 0) for m in stages), default=0) / 1e6)
        or None,
        "device": _devices(stages) or devices or None,
        "stages": sorted({manifest["stage"] for manifest in stages}),
    }


def remember(run: Path, machine: str = "", path: Path | None = None, only: Collection[str] = ()) -> str:
    """Measure a run, or `only` these of its notebooks, and put it into `measured.json` (or `path`); the profile's name.

    What was measured of other notebooks stays, so that the parts of the course can be measured one at a time.
    """
    path = path or MEASURED
    measured = read_back(path) if path.is_file() else {}
    profile, entry = measure(run, machine, only)
    before = measured.get(profile, {"machine": "", "notebooks": {}})
    entry["machine"] = machine or before["machine"]
    entry["notebooks"] = dict(sorted({**before["notebooks"], **entry["notebooks"]}.items()))
    write_json(path, dict(sorted({**measured, profile: entry}.items())))
    return profile


def glance_rows(stem: str, measured: Measured) -> list[str]:
    """The rows of a notebook's table: one for time, one for memory, one for the device."""
    cells: dict[str, list[str]] = {name: [] for name in ROWS}
    for profile in SHOWN:
        if not _has(profile, stem):
            continue
        found = measured.get(profile, {}).get("notebooks", {}).get(stem)
        for name in ROWS:
            text = _text(name, found, measured[profile]["machine"]) if found else "not measured"
            cells[name].append(f"`{profile}` {text}")
    return [f"| {name} | {' · '.join(texts)} |" for name, texts in cells.items()]


def _has(profile: str, stem: str) -> bool:
    notebooks = load_profile(profile).notebooks
    return not notebooks or stem.startswith(notebooks)


def _text(row: str, found: Mapping[str, Any], machine: str) -> str:
    if row == "Time":
        return _duration(found["seconds"])
    if row == "Peak memory":
        parts = [(found["peak_megabytes"], ""), (found["peak_gpu_megabytes"], " on the GPU")]
        return " and ".join(f"{size / 1e3:.1f} GB{where}" for size, where in parts if size) or "no new stage"
    device = (found["device"] or "cpu").replace("cpu", "CPU")
    return f"{device} ({machine})" if machine else device


def expected_time(profile: str, stems: Sequence[str], measured: Measured | None = None) -> str:
    """How long notebooks took when they were measured, in words; "" where one of them was not."""
    measured = json.loads(MEASURED.read_text(encoding="utf-8")) if measured is None else measured
    entry = measured.get(profile, {"notebooks": {}})
    found = [entry["notebooks"].get(stem) for stem in stems]
    if not found or None in found:
        return ""
    where = f" on {entry['machine']}" if entry["machine"] else ""
    return f"{_duration(sum(notebook['seconds'] for notebook in found))}{where}"


def _duration(seconds: int) -> str:
    if seconds < 90:
        return f"{seconds} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"


def with_rows(text: str, rows: list[str], where: str) -> str:
    """The "At a glance" text with these rows at the end of its table, in place of those it had.

    Raises:
        UserError: the text has no table.
    """
    lines = [line for line in text.split("\n") if not _ROW.match(line)]
    table = [i for i, line in enumerate(lines) if line.startswith("|")]
    if not table:
        raise UserError(f"{where}: 'At a glance' has no table for time, memory and device")
    return "\n".join([*lines[: table[-1] + 1], *rows, *lines[table[-1] + 1 :]])


def glance_texts(notebook: Path, measured: Measured) -> tuple[dict, str, str]:
    """A notebook (as JSON) with its rows renewed, and its "At a glance" before and after.

    Raises:
        UserError: it has no "At a glance" with a table.
    """
    content = json.loads(notebook.read_text(encoding="utf-8"))
    for cell in content["cells"][:3]:
        before = "".join(cell["source"])
        if before.startswith("## At a glance"):
            after = with_rows(before, glance_rows(notebook.stem, measured), notebook.name)
            cell["source"] = after.splitlines(keepends=True)
            return content, before, after
    raise UserError(f"{notebook.name}: no cell 'At a glance'")


def stale(notebooks: Path, measured: Measured) -> list[str]:
    """Names of the notebooks whose rows are missing or differ from what was measured."""
    texts = {path.name: glance_texts(path, measured)[1:] for path in sorted(notebooks.glob("[0-9]*.ipynb"))}
    return [name for name, (before, after) in texts.items() if before != after]


def rewrite(notebooks: Path, measured: Measured) -> list[Path]:
    """Renew the rows of every notebook; the paths that changed."""
    changed = []
    for path in sorted(notebooks.glob("[0-9]*.ipynb")):
        content, before, after = glance_texts(path, measured)
        if before != after:
            write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
            changed.append(path)
    return changed
