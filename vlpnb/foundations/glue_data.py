"""Stage `glue_data`: the files of GLUE's tasks, checked and described."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from vlpnb.data.description import FolderData
from vlpnb.data.glue import GLUE_TASKS, glue_task, read_glue
from vlpnb.foundations.datasets import (
    DatasetConfig,
    below_root,
    data_root,
    point_to_root,
    world_unless_rooted,
)
from vlpnb.stage import Request, Stage, StageContext

MISMATCHED = "MNLI-MM"  # it comes with MNLI where its file exists


class GlueDataConfig(DatasetConfig):
    """GLUE's tasks, relative to the root."""

    folder: str = "glue"
    """GLUE's folder."""
    tasks: tuple[str, ...] = tuple(name for name in GLUE_TASKS if name != MISMATCHED)
    """Tasks that are there; MNLI brings MNLI-MM with it where its file exists."""


def _names(config: GlueDataConfig) -> tuple[str, ...]:
    return tuple(glue_task(name).name for name in config.tasks)


def _read_files(config: GlueDataConfig, root: Path) -> Iterator[Path]:
    for name in _names(config):
        task = GLUE_TASKS[name]
        yield from (root / config.folder / task.folder / task.file(split) for split in ("train", "valid"))
    if "MNLI" in _names(config):
        yield root / config.folder / GLUE_TASKS[MISMATCHED].folder / GLUE_TASKS[MISMATCHED].dev


def inputs(config: GlueDataConfig) -> Mapping[str, Request]:
    """The world, unless GLUE lies in a folder of its own."""
    return world_unless_rooted(config)


def run(context: StageContext) -> dict[str, float]:
    """Read every task. Metrics: `<task>_train` and `<task>_valid`, examples."""
    root = data_root(context)
    data = FolderData(root, root / context.config.folder, _names(context.config))
    metrics = {
        f"{name}_{split}": float(len(read_glue(data.folder, name, split)))
        for name in data.tasks
        for split in ("train", "valid")
    }
    mismatched = GLUE_TASKS[MISMATCHED]
    if "MNLI" in data.tasks and (data.folder / mismatched.folder / mismatched.dev).is_file():
        metrics[f"{MISMATCHED}_valid"] = float(len(read_glue(data.folder, MISMATCHED, "valid")))
    data.save(context.folder, "glue_data")
    context.log(f"GLUE: {', '.join(data.tasks)}")
    return metrics


GLUE_DATA = Stage(
    "glue_data", GlueDataConfig, run, inputs, outside=below_root(_read_files), reused=point_to_root,
    doc="Check the files of GLUE's tasks.",
)  # fmt: skip
