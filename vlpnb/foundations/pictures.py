"""Stage `pictures`: the picture index, which says what pictures can become vokens.

Entries are splits and sets with captions, folders of pictures, and lists of ids; see `PictureData`.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from vlpnb.data.description import PictureData, names_captions
from vlpnb.foundations.datasets import (
    DatasetConfig,
    below_root,
    data_root,
    point_to_root,
    world_unless_rooted,
)
from vlpnb.stage import Request, Stage, StageContext


class PicturesConfig(DatasetConfig):
    """Which pictures can become vokens; relative to the root."""

    sets: tuple[str, ...] = ("images/universe",)
    """Splits and sets with captions, folders of pictures, lists `….ids`, lxmert files `….json`, or conceptual
    files `….tsv`; `name=entry` names the image set, and sets come in alphabetical order.
    """


LISTED = {".ids": ("mscoco", "vg", "cc"), ".json": ("mscoco", "vg"), ".tsv": ("cc",)}
"""Where pictures lie that such a list names (`original_image_path`)."""


def _read_files(config: PicturesConfig, root: Path) -> Iterator[Path]:
    places = (root / entry.rpartition("=")[2] for entry in config.sets if not names_captions(entry))
    for path in places:
        yield path
        yield from (root / part / "images" for part in LISTED.get(path.suffix, ()))


def inputs(config: PicturesConfig) -> Mapping[str, Request]:
    """The world, unless the pictures lie in a folder of their own; and captions where an entry names them."""
    named = any(names_captions(entry) for entry in config.sets)
    return {**world_unless_rooted(config), **({"captions": Request("captions")} if named else {})}


def run(context: StageContext) -> dict[str, float]:
    """Look all pictures up. Metrics: `images`, and `images_<set>` where there are several sets."""
    data = PictureData(data_root(context), context.config.sets, context.inputs.get("captions"))
    counts = {name: len(images) for name, images in data.sets(context.log).items()}
    data.save(context.folder)
    total = sum(counts.values())
    context.log(f"pictures that can become vokens: {', '.join(f'{n} {c:,}' for n, c in counts.items())}")
    several = {f"images_{name}": float(count) for name, count in counts.items()} if len(counts) > 1 else {}
    return {"images": float(total), **several}


PICTURES = Stage(
    "pictures", PicturesConfig, run, inputs, outside=below_root(_read_files), reused=point_to_root,
    doc="Look up the pictures that can become vokens.",
)  # fmt: skip
