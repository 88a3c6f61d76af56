"""Stage `detector`: train the detector of the visual world, as Visual Genome's annotations train the papers' one.

It learns from boxes with kinds and colours (COCO instances) of training pictures, a file that plays the part of human
annotations and is read by this stage alone: what finds regions later sees pictures only. The backbone stays as it is,
so every picture goes through it once; of its windows as many as configured are kept. Like `vision`, it runs on one
process whatever their number: it takes half a minute.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor
from torchvision.ops import box_iou

from vlpnb.config import Config, Count, Seed
from vlpnb.data.description import CaptionData, load_captions
from vlpnb.data.images import BrokenImage, decoded, none_readable
from vlpnb.data.instances import AnnotatedPicture, Instances, read_instances
from vlpnb.errors import UserError
from vlpnb.foundations.captions import splits_only
from vlpnb.outside import ModelName, OutsidePath
from vlpnb.stage import Request, Stage, StageContext
from vlpnb.train.loop import TrainingPlan, fit
from vlpnb.train.sampling import EpochSampler, Update
from vlpnb.vision.backbones import load_backbone
from vlpnb.vision.detector import IGNORE, Detector, DetectorConfig, corrections, save_detector
from vlpnb.vision.proposals import recall

POSITIVE, NEGATIVE = 0.5, 0.4  # overlap from which a window shows an object; up to which it shows background
SCALED = 20_000  # windows whose mean and spread the layers' inputs are scaled with


class DetectorStageConfig(Config):
    """Training of the detector; sizes of what it learns from and of what it is."""

    vision: ModelName = "stage"
    """"stage", a folder, a torchvision name, or "efficientnet_lite0": the frozen backbone."""
    vision_weights: ModelName | None = "DEFAULT"
    """Of a torchvision model: published name, a file, or none (random)."""
    instances: OutsidePath = ""
    """Folder of instances_train.json and instances_valid.json in COCO's layout; empty: that of the world."""
    image_size: int = Field(128, ge=32)
    """Pixels of the square that the backbone reads."""
    levels: int = Field(3, ge=1, le=5)
    """Resolutions of the backbone that are read."""
    cells: int = Field(2, ge=1, le=7)
    """A window is read in so many rows and columns."""
    width: Count = 256
    """Of a region's feature."""
    scales: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field((0.2, 0.3, 0.45, 0.65), min_length=1)
    """Sides of the windows as shares of the picture's."""
    ratios: tuple[Annotated[float, Field(ge=0.05, le=20)], ...] = Field((0.5, 1.0, 2.0), min_length=1)
    """Width of a window by its height."""
    step: float = Field(0.5, gt=0, le=1)
    """From window to window, as a share of its side."""
    windows: int = Field(32, ge=2)
    """Kept of each training picture; at most half of them show an object."""
    epochs: int = Field(4, ge=1)
    """Passes over the kept windows."""
    batch: int = Field(256, ge=1)
    """Windows per update."""
    lr: float = Field(2e-3, gt=0)
    """Peak learning rate."""
    weight_decay: float = Field(0.01, ge=0)
    """Decay of the weights, biases spared."""
    boxes: int = Field(10, ge=1)
    """The best boxes of a picture, in which the metrics look for its objects."""
    max_images: int | None = Field(4000, ge=1)
    """Only the first pictures; their windows are in memory, 90 kB a picture."""
    seed: Seed = 9595
    """Of initial weights, kept windows and order."""
    checkpoint_seconds: float = Field(15.0, ge=0, json_schema_extra={"hash": False})
    """A kill loses at most so many seconds of work."""


def instances_of(captions: CaptionData, folder: str, split: str) -> Instances:
    """The annotated boxes of a split, from a folder or from beside the world's captions."""
    place = Path(folder) if folder else captions.root / "annotations"
    images = Path(captions.splits.images.replace("{split}", split))
    found = read_instances(place / f"instances_{split}.json", images)
    if not any(len(picture.boxes) for picture in found.pictures):
        raise UserError(f"{place}/instances_{split}.json: no box; expected objects to learn from")
    return found


class Targets:
    """Numbers for the names of kinds and attributes."""

    def __init__(self, config: DetectorConfig):
        self.kinds = {name: i for i, name in enumerate(config.objects)}
        self.groups = [{name: i for i, name in enumerate(group)} for group in config.attributes]

    def of(self, picture: AnnotatedPicture) -> tuple[Int[Tensor, " K"], Int[Tensor, "K G"]]:
        """Kinds and attributes of the objects of a picture; −1 and `IGNORE` for names that training never had."""
        kinds = torch.tensor([self.kinds.get(name, -1) for name in picture.kinds], dtype=torch.long)
        rows = [
            [group.get(names[i], IGNORE) if len(names) > i else IGNORE for i, group in enumerate(self.groups)]
            for names in picture.attributes
        ]
        return kinds, torch.tensor(rows, dtype=torch.long).reshape(len(kinds), len(self.groups))


def readable(
    detector: Detector, pictures: Sequence[AnnotatedPicture], broken: list[BrokenImage]
) -> Iterator[tuple[int, AnnotatedPicture, Float[Tensor, "1 3 S S2"]]]:
    """Number, annotation and pixels of the pictures with objects that can be read; `broken` gets the others."""
    annotated = [(i, picture) for i, picture in enumerate(pictures) if len(picture.boxes)]
    paths = [picture.path for _, picture in annotated]
    pixels = decoded(paths, lambda _, picture: detector.pixels(picture))
    device = next(detector.head.parameters()).device
    for (i, picture), found in zip(annotated, pixels, strict=True):
        if isinstance(found, BrokenImage):
            broken.append(found)
        else:
            yield i, picture, found[None].to(device)


class Windows:
    """Some windows of every training picture: what is in them, in half precision, and what they should be told for."""

    def __init__(
        self,
        detector: Detector,
        pictures: Sequence[AnnotatedPicture],
        config: DetectorStageConfig,
        context: StageContext,
    ):
        targets, broken = Targets(detector.config), []
        parts: list[tuple[Tensor, ...]] = []
        for i, picture, pixels in readable(detector, pictures, broken):
            random = torch.Generator().manual_seed(config.seed * 1_000_003 + i)
            chosen, owner = choose(detector.windows, torch.from_numpy(picture.boxes), config.windows, random)
            kinds, attributes = targets.of(picture)
            on = owner >= 0
            true = torch.from_numpy(picture.boxes)[owner.clamp(min=0)]
            parts.append((
                detector.pooled(pixels)[0, chosen.to(pixels.device)].half().cpu(),
                torch.where(on, kinds[owner.clamp(min=0)] + 1, 0),
                attributes[owner.clamp(min=0)].masked_fill(~on[:, None], IGNORE),
                corrections(detector.windows[chosen], true),
            ))  # fmt: skip
            context.progress(i + 1, len(pictures))
        if not parts:
            raise none_readable("the annotated training pictures", [b.path for b in broken])
        for error in broken:
            context.log(f"left out: {error}")
        self.pooled, self.kinds, self.attributes, self.corrections = map(torch.cat, zip(*parts, strict=True))

    def __len__(self) -> int:
        return len(self.kinds)

    def update(self, rows: np.ndarray) -> Update:
        """Some windows as the data of one update."""
        at = torch.from_numpy(rows)
        kinds, attributes = self.kinds[at], self.attributes[at]
        micro = {
            "pooled": self.pooled[at].float(), "kinds": kinds, "attributes": attributes,
            "corrections": self.corrections[at],
        }  # fmt: skip
        boxes = max(1, int((kinds > 0).sum()))
        counts = {"kinds": len(rows), "boxes": 4 * boxes, "attributes": max(1, int((attributes >= 0).sum()))}
        return Update([micro], counts, len(rows))


def choose(
    seen: Float[Tensor, "W 4"], true: Float[Tensor, "K 4"], count: int, random: torch.Generator
) -> tuple[Int[Tensor, " N"], Int[Tensor, " N"]]:
    """Some windows of a picture, and which object each shows, −1 for the background.

    At most half show an object; a window between object and background is not taken.
    """
    overlap, owner = box_iou(seen, true).max(1)
    on, off = (overlap >= POSITIVE).nonzero()[:, 0], (overlap < NEGATIVE).nonzero()[:, 0]
    on = on[torch.randperm(len(on), generator=random)[: count // 2]]
    off = off[torch.randperm(len(off), generator=random)[: count - len(on)]]
    return torch.cat([on, off]), torch.cat([owner[on], torch.full((len(off),), -1)])


def evaluate(detector: Detector, pictures: Sequence[AnnotatedPicture]) -> dict[str, float]:
    """How well the best boxes of pictures that training never saw find and name their objects.

    `recall`: the share of objects that a box overlaps by at least a half. Of those found (nan: none):
    `object_accuracy` and `attribute_accuracy` (the first attribute, in the world the colour), is the box named rightly?
    """
    targets, broken = Targets(detector.config), []
    found = total = kinds_right = attributes_right = asked = 0
    for _, picture, pixels in readable(detector, pictures, broken):
        (regions,) = detector.extract(pixels)
        which = recall(regions.boxes.cpu(), torch.from_numpy(picture.boxes))
        kinds, attributes = targets.of(picture)
        hit = which >= 0
        total, found = total + len(which), found + int(hit.sum())
        kinds_right += int((regions.object_ids.cpu()[which[hit]] == kinds[hit]).sum())
        if attributes.shape[1]:
            known = hit & (attributes[:, 0] >= 0)
            asked += int(known.sum())
            same = regions.attribute_ids.cpu()[which[known]] == attributes[known, 0]
            attributes_right += int(same.sum())
    if not total:
        raise none_readable("the annotated validation pictures", [b.path for b in broken])
    metrics = {"recall": found / total, "object_accuracy": kinds_right / found if found else float("nan")}
    if detector.attributes:
        metrics["attribute_accuracy"] = attributes_right / asked if asked else float("nan")
    return metrics


def run(context: StageContext) -> dict[str, float]:
    """Train on annotated training pictures, measure on those of validation, and save the detector."""
    config: DetectorStageConfig = context.config
    captions = load_captions(context.inputs["captions"])
    train = instances_of(captions, config.instances, "train")
    shape = config.model_dump(include={"image_size", "levels", "cells", "width", "scales", "ratios", "step"})
    name, weights = context.inputs.get("vision", config.vision), config.vision_weights
    torch.manual_seed(config.seed)
    backbone = load_backbone(name, weights).fuse().to(context.device)
    about = DetectorConfig(train.kinds, train.attribute_groups(), **shape)
    detector = Detector(backbone, None, about, config.boxes, config.boxes).to(context.device)
    windows = Windows(detector, train.pictures[: config.max_images], config, context)
    detector.head.fit_inputs(windows.pooled[:SCALED].float())
    sampler = EpochSampler(len(windows), min(config.batch, len(windows)), config.seed, drop_last=True)
    total = config.epochs * sampler.per_epoch
    plan = TrainingPlan(
        updates=total, lr=config.lr, warmup=total // 10, weight_decay=config.weight_decay, clip=5.0,
        seed=config.seed, weights={"attributes": 1.5, "boxes": 8.0}, log_every=max(1, sampler.per_epoch // 2),
        checkpoint_seconds=config.checkpoint_seconds,
    )  # fmt: skip
    fit(
        detector.head, lambda update: windows.update(sampler(update)), plan, context.folder,
        device=context.device, progress=context.progress, keep=True,
    )  # fmt: skip
    detector.head.eval()
    metrics = evaluate(detector, instances_of(captions, config.instances, "valid").pictures)
    save_detector(context.folder, detector, name, weights)
    context.log(", ".join(f"{name} {value:.3f}" for name, value in metrics.items()))
    return metrics


def inputs(config: DetectorStageConfig) -> Mapping[str, Request]:
    """The captions, whose data has the pictures, and the stage behind a backbone called "stage"."""
    return {
        "captions": splits_only,
        **({"vision": Request("vision")} if config.vision == "stage" else {}),
    }


DETECTOR = Stage(
    "detector", DetectorStageConfig, run, inputs,
    doc="Train a detector on the visual world's annotated boxes, over its frozen backbone.",
)  # fmt: skip
