"""The pictures, drawn in chunks by any number of processes."""

import io
import os
from collections.abc import Iterable
from pathlib import Path

from vlpnb.world.render import render
from vlpnb.world.scene import SPLITS, Split, make_scene
from vlpnb.world.writers.disk import write
from vlpnb.world.writers.layout import WorldConfig

CHUNK = 200  # pictures per piece of work
Chunk = tuple[WorldConfig, Path, list[tuple[Split, int]]]


def _picture(split: Split, index: int) -> str:
    return f"images/{split}/world_{split}_{index:07d}.png"


def missing_pictures(config: WorldConfig, folder: Path) -> Iterable[Chunk]:
    """The pictures that `folder` lacks, in chunks of at most `CHUNK`."""
    for split in SPLITS:
        there = set(os.listdir(folder / "images" / split)) if (folder / "images" / split).is_dir() else set()
        todo = [(split, i) for i in range(config.count(split)) if Path(_picture(split, i)).name not in there]
        for start in range(0, len(todo), CHUNK):
            yield config, folder, todo[start : start + CHUNK]


def draw(chunk: Chunk) -> None:
    """Draw the pictures of a chunk; runs in any process."""
    config, folder, todo = chunk
    for split, index in todo:
        data = io.BytesIO()
        picture = render(make_scene(config.seed, split, index), config.image_size, config.seed)
        picture.save(data, "PNG")
        write(folder / _picture(split, index), data.getvalue())
