"""Stage `pairs`: statements about two pictures, true or false: NLVR2, in its own or LXMERT's form, and NLVR v1.

A picture of NLVR v1 shows three boxes; two of them, cropped, are a pair here. A statement about the third, or about how
many boxes there are, can then not be judged from the pair: results on it compare models with each other alone.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from vlpnb.config import Name
from vlpnb.data.asked_data import VALID, PairData, PairFormat
from vlpnb.data.description import SPLITS
from vlpnb.data.images import open_rgb
from vlpnb.data.nlvr import BOXES, crop_box, read_nlvr
from vlpnb.data.text_files import require
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
from vlpnb.stage import Request, Stage, StageContext

Box = Annotated[int, Field(ge=0, lt=BOXES)]


class PairsConfig(DatasetConfig):
    """Statements about two pictures, relative to the root."""

    format: PairFormat = "nlvr2"
    """NLVR2's JSON lines, LXMERT's JSON of them (lxmert), or NLVR v1 (nlvr)."""
    statements: dict[Name, str | tuple[str, ...]] = Field(
        default_factory=lambda: {split: f"nlvr2/{split}.json" for split in SPLITS}
    )
    """File per split, or several one after the other; further test sets have names of their own."""
    images: str = "nlvr2/images/{split}"
    """Folder of the pictures; {split} is replaced; empty: features come from files. NLVR's lie beside its file."""
    boxes: tuple[Box, Box] = (0, 1)
    """Of the format nlvr: which two of the three boxes are shown, from the left."""
    hold_out: float = Field(0, ge=0, lt=1)
    """The share of the training sets of pictures, by the hashes of their ids, that become the split `valid`."""

    @model_validator(mode="after")
    def _two_boxes_and_one_validation_set(self) -> "PairsConfig":
        if len(set(self.boxes)) != 2:
            raise ValueError(f"boxes: expected two different ones of 0, 1 and 2, found {self.boxes}")
        if self.hold_out and VALID in self.statements:
            raise ValueError(
                f"hold_out: `statements` has a file for the split '{VALID}'; leave one of them out"
            )
        return self


def describe(config: PairsConfig, root: Path, folder: Path) -> PairData:
    """The description of configured statements under a root; nothing is checked."""
    images = str(root / config.images) if config.images and config.format != "nlvr" else ""
    files = file_paths(config.statements, root)
    return PairData(root, folder, config.format, files, images, config.boxes, config.hold_out)


def _read_files(config: PairsConfig, root: Path) -> Iterator[Path]:
    data = describe(config, root, Path())
    for split, paths in data.statements.items():
        for path in paths:
            yield path
            if config.format == "nlvr":
                yield path.parent / "images"
        if data.pictures:
            yield Path(data.pictures.replace("{split}", split))


def inputs(config: PairsConfig) -> Mapping[str, Request]:
    """The world, unless the statements lie in a folder of their own."""
    return world_unless_rooted(config)


def run(context: StageContext) -> dict[str, float]:
    """Read all statements, look for all pictures, and crop those of NLVR v1.

    Metrics: `<split>_pairs`, `<split>_true` (the share of true ones; of unlabelled ones nan), `missing_pairs` (those of
    which a picture is missing: listed, and left out).
    """
    root = data_root(context)
    data = describe(context.config, root, context.folder)
    for path in (path for paths in data.statements.values() for path in paths):
        require(path, f"statements about two pictures in {data.format} format")
    broken = _crop(context, data) if data.format == "nlvr" else []
    metrics: dict[str, float] = {}
    absent: list[str] = []
    for split in data.splits:
        everything, pairs = data.annotated(split), data.read(split)
        kept = {pair.identifier for pair in pairs}
        absent += [f"{split} {p.identifier}" for p in everything if p.identifier not in kept]
        if not pairs:
            raise UserError(
                f"of {len(everything):,} statements of split '{split}' none has its two pictures"
                f"{f' in {data.pictures}' if data.pictures else ''}. Put the pictures there, or correct "
                "`pairs.images`."
            )
        labels = [pair.label for pair in pairs if pair.label is not None]
        metrics[f"{split}_pairs"] = float(len(pairs))
        metrics[f"{split}_true"] = sum(labels) / len(labels) if labels else float("nan")
    metrics["missing_pairs"] = float(len(absent))
    context.list_left_out("broken.txt", broken, "pictures cannot be cropped")
    context.list_left_out("missing.txt", absent, "statements are left out, of which a picture is missing")
    data.save()
    shown = ", ".join(f"{split} {metrics[f'{split}_pairs']:,.0f}" for split in data.splits)
    context.log(f"statements about two pictures: {shown}")
    return metrics


def _crop(context: StageContext, data: PairData) -> list[str]:
    """Write two boxes of every picture into the stage's folder, unless they are there; returns what could not be."""
    folder = context.folder / "pictures"
    folder.mkdir(exist_ok=True)
    files = [path for paths in data.statements.values() for path in paths]
    todo = [(path, example) for path in dict.fromkeys(files) for example in read_nlvr(path)]
    broken = []
    for done, (path, example) in enumerate(todo, start=1):
        targets = data.box_files(path.stem, example.identifier)
        if not all(target.is_file() for target in targets.values()):
            source = path.parent / example.picture
            try:
                picture = open_rgb(source)
                boxes = [crop_box(picture, box) for box in data.boxes]
            except UserError as error:
                broken.append(f"{source}: {error}")
                continue
            for target, box in zip(targets.values(), boxes, strict=True):
                with atomic(target, flush=False) as temporary:
                    box.save(temporary, "PNG")
        context.progress(done, len(todo))
    return broken


PAIRS = Stage(
    "pairs", PairsConfig, run, inputs, outside=below_root(_read_files), reused=point_to_root,
    doc="Check statements about two pictures, and describe them.",
)  # fmt: skip
