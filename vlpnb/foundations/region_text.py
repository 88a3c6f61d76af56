"""Stage `region_text`: boxes of pictures with texts in several languages, checked, for pre-training by regions.

The world's lines are written here, from its scenes, in the layout that real ones come in (`data.region_text`), and read
back by the same reader. A line that cannot be used is left out, counted and listed.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from vlpnb.config import Name
from vlpnb.data.description import read_description, within, write_description
from vlpnb.data.fields import list_field
from vlpnb.data.multilingual import shards_of
from vlpnb.data.region_text import Region, RegionPicture, read_region_text
from vlpnb.data.text_files import read_json, read_json_lines
from vlpnb.errors import UserError
from vlpnb.files import atomic
from vlpnb.foundations.datasets import (
    DatasetConfig,
    below_root,
    data_root,
    file_paths,
    point_to_root,
    world_unless_rooted,
)
from vlpnb.stage import Run, Stage, StageContext
from vlpnb.world.writers import load_scenes
from vlpnb.world.writers.disk import json_lines, write
from vlpnb.world.writers.regions import region_rows

UNPACKED = "pictures"  # of lines that hold the picture itself


class RegionTextConfig(DatasetConfig):
    """Region lines, relative to the root."""

    files: dict[Name, str | tuple[str, ...]] = Field(
        default_factory=lambda: {split: f"regions/{split}.jsonl" for split in ("train", "valid")}
    )
    """File or folder of JSON lines per split, or several one after the other."""
    images: str = "images/{split}"
    """Folder of the pictures that lines name by their paths, which without suffixes are their ids; {split} is replaced;
    empty: the root.
    """
    max_images: int | None = Field(None, ge=1)
    """Only the first pictures of each split."""


@dataclass(frozen=True)
class RegionText:
    """Pictures with regions, per split."""

    root: Path
    folder: Path  # of the stage
    splits: tuple[str, ...]

    def pictures(self, split: str) -> list[RegionPicture]:
        """The pictures of a split, in file order. UserError for an unknown split."""
        if split not in self.splits:
            raise UserError(f"there are no regions for split '{split}'; there are {', '.join(self.splits)}.")
        rows = read_json_lines(self.folder / f"{split}.jsonl", "pictures with regions (stage `region_text`)")
        return [self._picture(row) for _, row in rows]

    def _picture(self, row: Mapping[str, Any]) -> RegionPicture:
        place = self.folder if row["unpacked"] else self.root
        regions = tuple(Region(tuple(box), captions, said) for box, captions, said in row["regions"])
        captions = tuple(row["captions"])
        return RegionPicture(row["id"], place / row["path"], row["width"], row["height"], captions, regions)


def load_region_text(folder: Path) -> RegionText:
    """The regions that a run of the stage has checked. UserError if its description is absent or lacks a field."""
    about, root, where = read_description(folder, "region_text")
    return RegionText(root, Path(folder), tuple(list_field(about, "splits", where)))


def open_region_text(run: Run) -> RegionText:
    """The regions of a run, checked if they are not yet."""
    return load_region_text(run.stage("region_text").folder)


def _read_files(config: RegionTextConfig, root: Path) -> Iterator[Path]:
    for paths in file_paths(config.files, root).values():
        for path in paths:
            yield from shards_of(path) if path.is_dir() else [path]
    if config.images:
        yield from dict.fromkeys(root / config.images.replace("{split}", split) for split in config.files)


def _write_world(world: Path, folder: Path, config: RegionTextConfig) -> None:
    """The region lines of the world's scenes, where the configuration looks for them."""
    about = read_json(world / "world.json", "the sizes of a world")
    scenes = load_scenes(world)
    for split, paths in file_paths(config.files, folder).items():
        chosen = [scene for scene in scenes.values() if scene.split == split]
        if len(paths) != 1 or not chosen:
            raise UserError(
                f"region_text.files: '{split}' has {len(paths)} files and {len(chosen)} of the world's pictures; "
                "expected one file and some; real region lines have a root (--data FOLDER)"
            )
        rows = region_rows(chosen[: config.max_images], about["image_size"], about["languages"])
        write(paths[0], json_lines(rows))


def run(context: StageContext) -> dict[str, float]:
    """Read all lines. Metrics per split: `<split>_images`, `<split>_regions`; `left_out` lines are listed."""
    config: RegionTextConfig = context.config
    root = data_root(context)
    if not config.root:
        _write_world(root, context.folder, config)
    metrics: dict[str, float] = {}
    left_out: list[str] = []
    for split, paths in file_paths(config.files, root if config.root else context.folder).items():
        counts = _check(context, root, split, paths, left_out)
        metrics[f"{split}_images"], metrics[f"{split}_regions"] = map(float, counts)
    metrics["left_out"] = float(len(left_out))
    context.list_left_out("left_out.txt", left_out, "lines of regions cannot be used and are left out")
    write_description(context.folder, "region_text", root, {"splits": list(config.files)})
    shown = ", ".join(f"{split} {metrics[f'{split}_regions']:,.0f}" for split in config.files)
    context.log(f"regions with texts: {shown}")
    return metrics


def _check(
    context: StageContext, root: Path, split: str, paths: tuple[Path, ...], left_out: list[str]
) -> tuple[int, int]:
    """Write what is read of a split into the stage's folder; returns the numbers of pictures and regions."""
    config: RegionTextConfig = context.config
    unpacked = context.folder / UNPACKED
    place = root / config.images.replace("{split}", split)
    images = regions = 0
    with atomic(context.folder / f"{split}.jsonl") as temporary, temporary.open("w", encoding="utf-8") as out:
        for path in paths:
            for picture in read_region_text(path, place, unpacked, left_out.append):
                if images == config.max_images:
                    break
                inside = picture.path.is_relative_to(unpacked)
                row = {
                    "id": picture.id, "unpacked": inside,
                    "path": within(picture.path, context.folder if inside else root),
                    "width": picture.width, "height": picture.height, "captions": picture.captions,
                    "regions": [[r.box, r.captions, r.attributes] for r in picture.regions],
                }  # fmt: skip
                out.write(json.dumps(row, ensure_ascii=False) + "\n")
                images, regions = images + 1, regions + len(picture.regions)
    if not images:
        raise UserError(
            f"region_text: of {', '.join(map(str, paths))} no line can be used; the first of {len(left_out):,} that "
            f"cannot: {left_out[0] if left_out else 'there is none'}"
        )
    return images, regions


REGION_TEXT = Stage(
    "region_text", RegionTextConfig, run, world_unless_rooted, outside=below_root(_read_files), reused=point_to_root,
    doc="Check boxes of pictures with texts in several languages.",
)  # fmt: skip
