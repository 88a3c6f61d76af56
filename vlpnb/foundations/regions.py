"""Stage `regions`: what a detector sees in every picture that the region models read, in one store.

LXMERT's pictures are a few boxes each, with a vector, a kind of object and an attribute (section 2.1), made once by a
frozen detector. They come from pictures, one at a time, because a batch padded to a common size changes features:

| `source` | regions |
|---|---|
| `detector` | of the stage `detector`, trained on the world |
| `torchvision` | of a Faster R-CNN by its name or from a file of weights |
| `grid` | cells of grids over a backbone's map; no kinds, no attributes |

or from files that hold them already: `obj36` (LXMERT's TSV) and `vlp` (VLP's HDF5 or numpy files), where a picture is
found by its id and never by its place.

The store covers the pictures of the stages that `of` names, of `captions` also those of its further sets. A file that
several of them name, under whatever ids, is worked on once, and every id finds it. Pictures that cannot be read, that a
file does not have, or in which nothing is found are left out, counted and listed. What is really in a picture of the
world is asked by nothing here.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from json import dumps
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from vlpnb.config import Config, Count
from vlpnb.data.images import BrokenImage, decoded, none_readable
from vlpnb.data.obj36 import index_obj36, read_classes, read_place
from vlpnb.data.region_store import STORE, RegionStore, join_store, unit_arrays
from vlpnb.data.regions import PictureRegions, checked, refuse_widths, widths_of
from vlpnb.data.shards import Shards
from vlpnb.data.text_files import require
from vlpnb.data.vlp_regions import VlpRegions
from vlpnb.errors import UserError
from vlpnb.files import content_hash, write_text
from vlpnb.foundations.distinct_pictures import Dataset, Picture, pictures_of
from vlpnb.outside import ModelName, OutsidePath
from vlpnb.stage import Request, Run, Stage, StageContext
from vlpnb.vision.backbones import WEIGHTS, load_backbone
from vlpnb.vision.detector import load_detector
from vlpnb.vision.extracting import GridWindows, RegionExtractor
from vlpnb.vision.torchvision_detector import load_torchvision

Source = Literal["detector", "torchvision", "grid", "obj36", "vlp"]
LISTS = {"broken": "cannot be read", "missing": "are not in the files", "empty": "have no region"}


class RegionsConfig(Config):
    """Where regions come from, and of which pictures."""

    source: Source = "obj36"
    """What finds the regions: detector, torchvision, grid; or files that hold them: obj36, vlp."""
    of: tuple[Dataset, ...] = ("sentences", "questions", "pairs")
    """The stages whose pictures the store covers; of files, empty: all that they have."""
    captions: dict[str, Any] = Field(default_factory=dict)
    """Fields of the stage `captions`, where it is among these, that are other than the run's."""
    least: Count = 36
    """Boxes of a picture, at least; of a detector."""
    most: Count = 36
    """Boxes of a picture, at most; of a detector."""
    vision: ModelName = "stage"
    """Grid: "stage", a folder, a torchvision name, or "efficientnet_lite0"."""
    vision_weights: ModelName | None = "DEFAULT"
    """Grid: of a torchvision model: published name, a file, or none (random)."""
    grid: tuple[Count, ...] = Field((1, 2, 3, 4), min_length=1)
    """Grid: numbers of rows and columns; 1 is the whole picture."""
    short: int = Field(400, ge=16)
    """Grid: a picture is shrunk until its short side has so many pixels."""
    long: int = Field(600, ge=16)
    """Grid: the same for its long side."""
    enlarge: bool = False
    """Grid: a smaller picture is enlarged to these sides."""
    probabilities: bool = False
    """Keep what VLP reads: probabilities of all classes (grid: of the backbone's own), and the scores of its files."""
    torchvision: str = "fasterrcnn_resnet50_fpn_v2"
    """Torchvision: the name of a Faster R-CNN."""
    torchvision_weights: ModelName | None = "DEFAULT"
    """Torchvision: published name, a file, or none (random)."""
    files: OutsidePath = ""
    """Obj36: a TSV file, or a folder with all of them below it; vlp: the folder of the features."""
    boxes: OutsidePath = ""
    """Vlp: the HDF5 file of the boxes."""
    objects: OutsidePath = ""
    """Obj36, vlp: names of the kinds of objects, one a line (objects_vocab.txt); empty: they are numbered."""
    attributes: OutsidePath = ""
    """Obj36: names of the attributes, one a line (attributes_vocab.txt); empty: they are numbered."""
    batch: int = Field(1, ge=1, json_schema_extra={"hash": False})
    """Pictures of one size that go through a detector together; none is padded."""
    shard: int = Field(128, ge=1, json_schema_extra={"hash": False})
    """Pictures per shard."""

    @model_validator(mode="after")
    def _least_below_most(self) -> "RegionsConfig":
        if self.least > self.most:
            raise ValueError(f"least: {self.least} boxes at least and {self.most} at most; expected a range")
        if self.probabilities and self.source == "obj36":
            raise ValueError("probabilities: obj36 files tell the best class alone; expected another source")
        return self


def open_extractor(config: RegionsConfig, inputs: Mapping[str, Path], device: str) -> RegionExtractor:
    """What finds regions in pictures, as configured."""
    if config.source == "detector":
        return load_detector(inputs["detector"], config.least, config.most).to(device)
    if config.source == "torchvision":
        weights = config.torchvision_weights
        return load_torchvision(config.torchvision, weights, config.least, config.most).to(device)
    name = inputs.get("vision", config.vision)
    about: dict[str, Any] = {"vision": str(config.vision), "weights": config.vision_weights}
    if (Path(name) / WEIGHTS).is_file():
        about["weights"] = content_hash(Path(name) / WEIGHTS)
    elif config.vision_weights is not None and Path(config.vision_weights).is_file():
        about["weights"] = content_hash(Path(config.vision_weights))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # of random weights: the same in every process
        backbone = load_backbone(name, config.vision_weights, config.probabilities).fuse().to(device)
    sides = config.short, config.long, config.enlarge
    return GridWindows(backbone, config.grid, *sides, about, config.probabilities)


Maker = Callable[[Sequence[int]], tuple[list[tuple[int, PictureRegions]], list[tuple[int, str]]]]
"""Numbers of pictures → (number, regions) of those that can be read, and (number, reason) of the others."""


def from_pictures(extractor: RegionExtractor, pictures: Sequence[Picture], batch: int) -> Maker:
    """Regions by looking at the pictures."""

    def make(numbers: Sequence[int]) -> tuple[list[tuple[int, PictureRegions]], list[tuple[int, str]]]:
        made: list[tuple[int, PictureRegions]] = []
        broken: list[tuple[int, str]] = []
        waiting: list[tuple[int, Tensor, int, int]] = []

        def extract() -> None:
            try:
                found = extractor.extract(torch.stack([part[1] for part in waiting])) if waiting else []
            except UserError as error:
                raise UserError(f"{pictures[waiting[0][0]]}: {error}") from error
            for (i, _, height, width), regions in zip(waiting, found, strict=True):
                made.append((i, regions.of(pictures[i].names[0], height, width)))
            waiting.clear()

        paths = [pictures[i].path for i in numbers]
        seen = decoded(paths, lambda _, image: (extractor.pixels(image), image.height, image.width))
        for i, item in zip(numbers, seen, strict=True):
            if isinstance(item, BrokenImage):
                broken.append((i, item.reason))
                continue
            if waiting and (len(waiting) == batch or waiting[0][1].shape != item[0].shape):
                extract()
            waiting.append((i, *item))
        extract()
        # A grid names no objects, whatever its backbone's classes are.
        objects, attributes = len(extractor.objects) or None, len(extractor.attributes)
        return [(i, checked(r, str(pictures[i]), objects, attributes)) for i, r in made], broken

    return make


def open_files(
    config: RegionsConfig, pictures: list[Picture] | None
) -> tuple[list[Picture], list[str], Maker, dict[str, Any]]:
    """Regions that files hold: the pictures that they have, lines for those that they lack, a maker, and where it is
    from.
    """
    if not config.files:
        raise UserError(f"regions.files: expected the files of source '{config.source}'; none is named")
    files = require(Path(config.files), f"regions for the source '{config.source}'")
    objects = len(read_classes(Path(config.objects), "objects")) if config.objects else None
    if config.source == "obj36":
        paths = sorted(files.rglob("*.tsv")) if files.is_dir() else [files]
        if not paths:
            raise UserError(f"{files}: holds no .tsv file; expected obj36 files")
        attributes = len(read_classes(Path(config.attributes), "attributes")) if config.attributes else None
        places = index_obj36(paths)
        if not places:
            raise UserError(
                f"{files}: holds no line; expected a picture with its regions in each. Fetch it again"
            )
        lacks: Mapping[str, str] = {}
        known: Callable[[str], bool] = places.__contains__
        listed = list(places)

        def read(name: str, picture: Picture) -> PictureRegions:
            return read_place(places[name], objects, attributes)
    else:
        if not config.boxes:
            raise UserError("regions.boxes: expected VLP's HDF5 file of boxes; none is named")
        source = VlpRegions(files, Path(config.boxes), config.probabilities)
        if pictures is None:
            raise UserError(
                "regions.of: empty; expected the stages whose pictures are looked for in VLP's files"
            )
        # All gaps are found before the work of hours begins.
        lacks = source.gaps(name for picture in pictures for name in picture.names)
        listed = []

        def known(name: str) -> bool:
            return name not in lacks

        def read(name: str, picture: Picture) -> PictureRegions:
            found = source.picture(name, picture.path)
            return found if objects is None else checked(found, str(files), objects)

    if pictures is None:
        pictures = [Picture([name], None) for name in listed]
    under = [next((name for name in picture.names if known(name)), None) for picture in pictures]
    have = [(p, name) for p, name in zip(pictures, under, strict=True) if name is not None]
    if config.source == "vlp":
        have.sort(key=lambda item: source.shard(item[1]))  # stable: each shard is opened once
    lacking = [
        "\t".join([str(p), *sorted({lacks[name] for name in p.names if name in lacks})])
        for p, name in zip(pictures, under, strict=True)
        if name is None
    ]

    def make(numbers: Sequence[int]) -> tuple[list[tuple[int, PictureRegions]], list[tuple[int, str]]]:
        return [(i, read(have[i][1], have[i][0])) for i in numbers], []

    about = {"extractor": config.source, "files": files.name, "colours": "BGR"}
    return [p for p, _ in have], lacking, make, about


def extract_regions(
    folder: Path,
    pictures: Sequence[Picture],
    make: Maker,
    identity: str,
    classes: Callable[[int, int], tuple[Sequence[str], Sequence[str]]],
    provenance: Mapping[str, Any],
    probabilities: bool = False,
    shard: int = 128,
    rank: int = 0,
    world_size: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, list[str]]:
    """Write the store of some pictures; returns lines of `broken` ones and of those that are `empty`.

    Args:
        classes: (largest object class, largest attribute class) → names of all.
        probabilities: keep those of all classes, where they are told.
    """
    firsts = [*range(0, len(pictures), shard), len(pictures)]
    shards = Shards(
        folder / "checkpoint-regions", identity, np.diff(firsts).tolist(), rank, world_size, progress
    )

    def kept(regions: PictureRegions) -> PictureRegions:
        return regions if probabilities else replace(regions, probabilities=None)

    def unit(i: int) -> tuple[dict[str, np.ndarray], dict[str, list]]:
        made, broken = make(range(firsts[i], firsts[i + 1]))
        full = [(number, kept(regions)) for number, regions in made if len(regions)]
        most = [[int(r.object_ids.max(initial=-1)), int(r.attribute_ids.max(initial=-1))] for _, r in full]
        notes = {
            "kept": [n for n, _ in full],
            "broken": broken,
            "most": [np.max(most, 0).tolist()] if most else [],
            "widths": [[widths_of(r), r.image_id] for _, r in full[:1]],
        }
        return unit_arrays([regions for _, regions in full]), notes | {
            "empty": [number for number, regions in made if not len(regions)]
        }

    if not shards.complete(folder / STORE):
        shards.make(unit)
        notes = shards.notes()
        broken = [f"{pictures[i]}\t{reason}" for i, reason in notes.get("broken", [])]
        empty = [str(pictures[i]) for i in notes.get("empty", [])]
        if not notes.get("kept"):
            shards.publish(lambda: None)  # so that they are made again once the pictures are there
            reasons = [line.split("\t") for line in broken] or [[name, "no region"] for name in empty]
            raise none_readable("the stages in regions.of", [Path(str(p)) for p in pictures], reasons)
        names = [(name, row) for row, i in enumerate(notes["kept"]) for name in pictures[i].names]

        def write() -> None:
            for kind, lines in (("broken", broken), ("empty", empty)):
                if lines:
                    write_text(folder / f"{kind}.txt", "".join(f"{line}\n" for line in lines))
            refuse_widths({tuple(widths): name for widths, name in notes["widths"]})
            found = classes(*(1 + n for n in np.max(notes["most"], 0).tolist()))
            join_store(shards, folder, names, *found, provenance)

        shards.publish(write)
    return {kind: _lines(folder / f"{kind}.txt") for kind in ("broken", "empty")}


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.is_file() else []


def _class_names(config: RegionsConfig, objects: int, attributes: int) -> tuple[Sequence[str], Sequence[str]]:
    """Names of the classes of files: from a list, or numbers."""
    found = []
    for path, what, count in (
        (config.objects, "object", objects),
        (config.attributes, "attribute", attributes),
    ):
        found.append(read_classes(Path(path), what) if path else [f"{what} {i}" for i in range(count)])
    return found[0], found[1]


def run(context: StageContext) -> dict[str, float]:
    """Find or import the regions. Metrics: `pictures`, `regions`, and the numbers of those left out, by reason."""
    config: RegionsConfig = context.config
    pictures = pictures_of(config.of, context.inputs) if config.of else None
    left_out: dict[str, list[str]] = {"missing": []}
    if config.source in ("obj36", "vlp"):
        pictures, missing, make, about = open_files(config, pictures)
        left_out["missing"] = missing
        if not pictures:
            first = missing[0].replace("\t", ": ") if missing else "none"
            raise UserError(
                f"{config.files}: has no regions of the {len(missing):,} pictures of {', '.join(config.of)}, the first "
                f"of which is {first}; expected their ids in the files"
            )

        def classes(objects: int, attributes: int) -> tuple[Sequence[str], Sequence[str]]:
            return _class_names(config, objects, attributes)
    else:
        if pictures is None:
            raise UserError("regions.of: empty; expected the stages whose pictures are looked at")
        without = [picture for picture in pictures if picture.path is None]
        pictures = [picture for picture in pictures if picture.path is not None]
        left_out["missing"] = [str(picture) for picture in without]
        if not pictures:
            raise UserError(
                f"regions.source: '{config.source}' looks at pictures, and the stages in regions.of name no folder of "
                "them; set their `images`, or import regions from files (obj36, vlp)"
            )
        extractor = open_extractor(config, context.inputs, context.device)
        make, about = from_pictures(extractor, pictures, config.batch), extractor.provenance

        def classes(objects: int, attributes: int) -> tuple[Sequence[str], Sequence[str]]:
            return extractor.objects, extractor.attributes

    listed = [picture.names for picture in pictures]
    identity = sha256(dumps([config.identity(), dict(about), listed]).encode()).hexdigest()
    left_out |= extract_regions(
        context.folder, pictures, make, identity, classes, about, config.probabilities, config.shard, context.rank,
        context.world_size, context.progress,
    )  # fmt: skip
    if left_out["missing"] and context.rank == 0:
        write_text(context.folder / "missing.txt", "".join(f"{line}\n" for line in left_out["missing"]))
    for kind, lines in left_out.items():
        if lines:
            context.log(f"{len(lines):,} pictures {LISTS[kind]} and are left out (listed in {kind}.txt)")
    store = RegionStore(context.folder)
    regions = int(store.offsets[-1])
    context.log(
        f"{len(store):,} pictures with {regions / len(store):.1f} regions each, F = {store.feature_width}"
        + (f", with the probabilities of {store.classes:,} classes" if store.classes else "")
    )
    counts = {kind: float(len(lines)) for kind, lines in left_out.items()}
    return {"pictures": float(len(store)), "regions": float(regions), **counts}


def inputs(config: RegionsConfig) -> Mapping[str, Request]:
    """The stages whose pictures are covered, and what looks at them."""
    found = {name: Request(name, config.captions if name == "captions" else {}) for name in config.of}
    if config.source == "detector":
        found["detector"] = Request("detector")
    if config.source == "grid" and config.vision == "stage":
        found["vision"] = Request("vision")
    return found


def load_regions(folder: Path) -> RegionStore:
    """The store in a folder of the stage `regions`."""
    return RegionStore(folder)


def open_regions(run: Run) -> RegionStore:
    """The regions of a run, made if they are not yet."""
    return load_regions(run.stage("regions").folder)


REGIONS = Stage(
    "regions", RegionsConfig, run, inputs, variant=("source",), distributed=True,
    doc="Find the regions of all pictures with a detector, or import them from files.",
)  # fmt: skip
