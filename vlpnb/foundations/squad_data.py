"""Stage `squad_data`: SQuAD v1.1 and v2.0, checked and described."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from vlpnb.data.description import FolderData
from vlpnb.data.squad import VERSIONS, read_squad, squad_file
from vlpnb.foundations.datasets import (
    DatasetConfig,
    below_root,
    data_root,
    point_to_root,
    world_unless_rooted,
)
from vlpnb.stage import Request, Stage, StageContext


class SquadDataConfig(DatasetConfig):
    """SQuAD's JSON files, relative to the root."""

    folder: str = "squad"
    """SQuAD's folder."""


def _read_files(config: SquadDataConfig, root: Path) -> Iterator[Path]:
    for version in VERSIONS:
        yield from (squad_file(root / config.folder, version, split) for split in ("train", "valid"))


def inputs(config: SquadDataConfig) -> Mapping[str, Request]:
    """The world, unless SQuAD lies in a folder of its own."""
    return world_unless_rooted(config)


def run(context: StageContext) -> dict[str, float]:
    """Read both versions. Metrics: `v1_train`, `v1_valid`, `v2_train`, `v2_valid`, questions."""
    root = data_root(context)
    data = FolderData(root, root / context.config.folder)
    metrics = {
        f"v{version[0]}_{split}": float(len(read_squad(data.folder, version, split)))
        for version in VERSIONS
        for split in ("train", "valid")
    }
    data.save(context.folder, "squad_data")
    return metrics


SQUAD_DATA = Stage(
    "squad_data", SquadDataConfig, run, inputs, outside=below_root(_read_files), reused=point_to_root,
    doc="Check SQuAD's files.",
)  # fmt: skip
