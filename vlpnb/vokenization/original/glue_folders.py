"""The original project's table of results, from folders of fine-tuned models.

    snap/vlm/<run>/glueepoch_<checkpoint>/<TASK>/eval_results.txt      as the original project leaves them
    <run>/glue-<variant>-<hash>/seed-<n>/<TASK>/eval_results.txt       as the stage `glue` does

so that runs of either code stand in one table. A file has lines `metric = value`.

Differs from the original: a folder counts for what it holds, not for its name; a value that is no number is an error.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from vlpnb.data.text_files import lines_of, require
from vlpnb.downstream.glue import COLUMNS, result_row
from vlpnb.errors import UserError
from vlpnb.vokenization.results import HEADER

FILE = "eval_results.txt"
# What a task's column shows, by the names of either code and of the library's later releases.
SHOWN: Mapping[str, tuple[str, ...]] = {
    "MRPC": ("acc_and_f1",),
    "QQP": ("acc_and_f1",),
    "STS-B": ("corr",),
    "CoLA": ("mcc", "matthews"),
}
ACCURACY = ("acc", "accuracy", "mnli/acc", "mnli-mm/acc")


def read_eval_results(path: Path) -> dict[str, float]:
    """Metric → value of one file. UserError names a line that is no `metric = value`."""
    found = {}
    for number, text in lines_of(path, "lines 'metric = value'"):
        if not text.strip():
            continue
        name, equals, value = text.partition("=")
        try:
            found[name.strip()] = float(value)
        except ValueError:
            equals = ""
        if not equals:
            raise UserError(f"{path}:{number}: expected 'metric = value', found {text[:60]!r}")
    return found


def task_value(task: str, path: Path) -> float:
    """The value of a task's column. UserError when the file lacks the task's metric."""
    found = read_eval_results(path)
    names = SHOWN.get(task, ACCURACY)
    for name in names:
        if name in found:
            return found[name]
    raise UserError(
        f"{path}: no metric {' or '.join(names)}, which the column {task} shows; found {', '.join(found) or 'nothing'}"
    )


def glue_folders(root: Path) -> Iterator[tuple[Path, dict[str, float]]]:
    """Every folder below `root` (itself included) with results of tasks, and the value of each; by time of change."""
    files = {task: root / task / FILE for task in COLUMNS}
    values = {task: task_value(task, path) for task, path in files.items() if path.is_file()}
    if values:
        yield root, values
        return
    with os.scandir(root) as entries:
        folders = sorted((e.stat().st_mtime_ns, e.name) for e in entries if e.is_dir(follow_symlinks=False))
    for _, name in folders:
        yield from glue_folders(root / name)


def table(root: Path) -> str:
    """Path, header and row of every folder with results: percentages, the mean of the tasks that are there last.

    UserError when there is none.
    """
    root = require(Path(root), "fine-tuning results <folder>/<TASK>/eval_results.txt")
    lines = [line for path, values in glue_folders(root) for line in (str(path), HEADER, result_row(values))]
    if not lines:
        raise UserError(f"{root}: no <TASK>/{FILE} below it; expected tasks such as {', '.join(COLUMNS[:3])}")
    return "\n".join(lines)
