"""Stage `captions`: captioned pictures, checked and described for the stages that follow.

The splits are what the matcher learns from and is asked about; `sets` are captioned pictures beside them, for the
benchmark or as vokens. Stages that read the splits alone ask for `splits_only`, so that another set makes nothing of
theirs again. In the world, the scenes behind the pictures belong to them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from vlpnb.config import Config, Name
from vlpnb.data.captions import CaptionFormat, Split, split_missing
from vlpnb.data.description import SPLITS, CaptionData, CaptionFiles, within
from vlpnb.data.text_files import require
from vlpnb.foundations.datasets import (
    DatasetConfig,
    below_root,
    data_root,
    file_paths,
    point_to_root,
    world_unless_rooted,
)
from vlpnb.stage import Request, Stage, StageContext

splits_only = Request("captions", {"sets": None})
"""The captions of the splits, without the sets beside them."""


class CaptionSetConfig(Config):
    """Captioned pictures beside the splits; relative to the root."""

    format: CaptionFormat
    """How the annotation files are laid out."""
    annotations: str | tuple[str, ...]
    """Annotation file (flickr: folder), or several files one after the other."""
    images: str
    """Folder of the pictures; empty: there are none, and regions of them come from files."""
    source: str = ""
    """Lxmert only: keep one sentence source (mscoco, vg, …); empty keeps all."""
    split: Split | None = None
    """Karpathy and flickr only: the split of the files that is the set; none: all of them."""
    valid_images: str = ""
    """JSON list of the names of the pictures that count, such as those that could be downloaded; empty: all."""
    optional: bool = False
    """Without its annotation files the set is left out, and said so."""


class CaptionsConfig(DatasetConfig):
    """Captioned pictures, relative to the root."""

    format: CaptionFormat = "coco"
    """How the annotation files are laid out."""
    annotations: dict[Name, str | tuple[str, ...]] = Field(
        default_factory=lambda: {split: f"annotations/captions_{split}.json" for split in SPLITS}
    )
    """Annotation file (flickr: folder) per split, or several files one after the other."""
    images: str = "images/{split}"
    """Folder of the pictures; {split} is replaced by the split's name; empty: there are none, as for sets."""
    source: str = ""
    """Lxmert only: keep one sentence source (mscoco, vg, …); empty keeps all."""
    max_images: int | None = Field(None, ge=1)
    """Only the first pictures of each split: for a dry run on real data."""
    max_sentences: int | None = Field(None, ge=1)
    """Only the first sentences of each picture."""
    sets: dict[str, CaptionSetConfig] | None = None
    """Further captioned pictures by name, such as Conceptual Captions beside COCO; the name becomes part of
    metrics.
    """
    scenes: str = "scenes.jsonl"
    """World only: the scenes behind the pictures; empty: none."""

    @model_validator(mode="after")
    def _names_differ(self) -> "CaptionsConfig":
        for name in self.sets or {}:
            good = name.isascii() and name.isidentifier() and name.islower()
            if name in self.annotations or not good or name.startswith("_"):
                raise ValueError(
                    f"sets: '{name}' must be small letters, digits and _, and no split of the captions"
                )
        return self


def describe(config: CaptionsConfig, root: Path) -> CaptionData:
    """The description of configured captions under a root; nothing is checked."""
    sets = {name: _files(c, {name: c.annotations}, root) for name, c in (config.sets or {}).items()}
    scenes = root / config.scenes if config.scenes else None
    return CaptionData(root, _files(config, config.annotations, root), sets, scenes)


def _files(
    config: CaptionsConfig | CaptionSetConfig, annotations: Mapping[str, str | tuple[str, ...]], root: Path
) -> CaptionFiles:
    rest = (getattr(config, name, None) for name in ("max_images", "max_sentences", "split"))
    valid = getattr(config, "valid_images", "")
    return CaptionFiles(
        config.format,
        file_paths(annotations, root),
        str(root / config.images) if config.images else "",
        config.source or None,
        *rest,
        root / valid if valid else None,
    )


def _read_files(config: CaptionsConfig, root: Path) -> Iterator[Path]:
    data = describe(config, root)
    for path in (path for name in data.names for path in data.files(name).annotations[name]):
        flickr = (*path.glob("*.t*"), *path.glob("*.csv"))  # .txt, .token and .csv
        yield from sorted(flickr) if path.is_dir() else [path]
    for name in data.names:
        if images := data.files(name).images:
            yield Path(images.replace("{split}", name))
        if (valid := data.files(name).valid) is not None:
            yield valid
    if data.scenes is not None:
        yield data.scenes


def _with_sets_that_are_there(data: CaptionData, context: StageContext) -> CaptionData:
    """The description without the optional sets whose files are absent; each is said."""
    kept = {}
    for name, files in data.sets.items():
        absent = [path for path in files.annotations[name] if not path.exists()]
        if absent and context.config.sets[name].optional:
            context.log(f"caption set '{name}' is left out: {absent[0]} does not exist")
        else:
            kept[name] = files
    return replace(data, sets=kept)


def inputs(config: CaptionsConfig) -> Mapping[str, Request]:
    """The world, unless the captions lie in a folder of their own."""
    return world_unless_rooted(config)


def run(context: StageContext) -> dict[str, float]:
    """Read all captions and look for all pictures. Metrics per split and set: `<name>_images`, `<name>_captions`;
    `missing_images` and `left_out_captions` are counted, listed and left out.
    """
    root = data_root(context)
    data = _with_sets_that_are_there(describe(context.config, root), context)
    metrics: dict[str, Any] = {}
    absent: list[str] = []
    uncaptioned: list[str] = []
    for name in data.names:
        files = data.files(name)
        for path in files.annotations[name]:
            require(path, f"the captions of split '{name}' in {files.format} format")
        present, missing = data.annotated(name, uncaptioned), []
        if files.images:
            present, missing = split_missing(present)
            data.captioned(name)  # raises when there is no picture at all
        absent += [within(image.path, root) for image in missing]
        metrics[f"{name}_images"] = len(present)
        metrics[f"{name}_captions"] = sum(len(image.sentences) for image in present)
    metrics["missing_images"] = len(absent)
    metrics["left_out_captions"] = len(uncaptioned)
    context.list_left_out(
        "uncaptioned.txt",
        uncaptioned,
        "empty captions, and pictures without one or off their list, are left out",
    )
    context.list_left_out("missing.txt", absent, f"pictures are missing in {root} and left out")
    if data.scenes is not None:
        require(data.scenes, "the scenes behind the pictures (real data has none: set captions.scenes to '')")
    data.save(context.folder)
    shown = ", ".join(f"{name} {metrics[f'{name}_images']:,}" for name in data.names)
    context.log(f"captioned pictures: {shown}")
    return metrics


CAPTIONS = Stage(
    "captions", CaptionsConfig, run, inputs, outside=below_root(_read_files), reused=point_to_root,
    doc="Check captioned pictures, and describe them for the stages that follow.",
)  # fmt: skip
