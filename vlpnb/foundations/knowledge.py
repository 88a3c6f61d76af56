"""Stage `knowledge`: lists of what everybody knows of things and no text says, checked and described."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from vlpnb.data.description import FolderData
from vlpnb.data.text_files import require
from vlpnb.foundations.datasets import (
    DatasetConfig,
    below_root,
    data_root,
    point_to_root,
    world_unless_rooted,
)
from vlpnb.stage import Request, Stage, StageContext

LISTS = (".jsonl", ".csv", ".txt", ".raw")  # endings of lists, and of texts that are asked about


class KnowledgeConfig(DatasetConfig):
    """The commonsense lists, such as one JSON-lines file per attribute; relative to the root."""

    folder: str = "commonsense"
    """The lists' folder."""


def _read_files(config: KnowledgeConfig, root: Path) -> Iterator[Path]:
    folder = root / config.folder
    yield from sorted(path for path in folder.rglob("*") if path.suffix in LISTS and path.is_file())


def inputs(config: KnowledgeConfig) -> Mapping[str, Request]:
    """The world, unless the lists lie in a folder of their own."""
    return world_unless_rooted(config)


def run(context: StageContext) -> dict[str, float]:
    """See that the lists are there. Metrics: `lists`, their number."""
    root = data_root(context)
    data = FolderData(root, require(root / context.config.folder, "the commonsense lists, ….jsonl"))
    data.save(context.folder, "knowledge")
    return {"lists": float(len(list(data.folder.glob("*.jsonl"))))}


KNOWLEDGE = Stage(
    "knowledge", KnowledgeConfig, run, inputs, outside=below_root(_read_files), reused=point_to_root,
    doc="Check the commonsense lists.",
)  # fmt: skip
