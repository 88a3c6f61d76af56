"""Stage `swag_data`: SWAG, checked and described."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from vlpnb.data.description import FolderData
from vlpnb.data.swag import read_swag, swag_file
from vlpnb.foundations.datasets import (
    DatasetConfig,
    below_root,
    data_root,
    point_to_root,
    world_unless_rooted,
)
from vlpnb.stage import Request, Stage, StageContext


class SwagDataConfig(DatasetConfig):
    """SWAG's CSV files, relative to the root."""

    folder: str = "swag"
    """SWAG's folder."""


def _read_files(config: SwagDataConfig, root: Path) -> Iterator[Path]:
    yield from (swag_file(root / config.folder, split) for split in ("train", "valid"))


def inputs(config: SwagDataConfig) -> Mapping[str, Request]:
    """The world, unless SWAG lies in a folder of its own."""
    return world_unless_rooted(config)


def run(context: StageContext) -> dict[str, float]:
    """Read both splits. Metrics: `train` and `valid`, examples."""
    root = data_root(context)
    data = FolderData(root, root / context.config.folder)
    metrics = {split: float(len(read_swag(data.folder, split))) for split in ("train", "valid")}
    data.save(context.folder, "swag_data")
    return metrics


SWAG_DATA = Stage(
    "swag_data", SwagDataConfig, run, inputs, outside=below_root(_read_files), reused=point_to_root,
    doc="Check SWAG's files.",
)  # fmt: skip
