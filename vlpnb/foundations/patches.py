"""Stage `patches`: a frozen backbone, run once over every picture that training and evaluation name.

Paper: CCLM (Zeng et al., ACL 2023, section 3.1) trains its picture tower, Swin-B, with the rest. Here the tower may
stay frozen: then a picture is its patches (`vision.patches`), read from a memory map, and an update costs no pixels.
Training pictures may have random views beside the whole picture, as the original draws a new one each time; how many
is a choice of disk against variety. With `keep: pixels` nothing runs and nothing is stored but the list of pictures:
they are decoded when they are asked for, for a Swin that is trained with the rest (`picture_store`).

A view is a function of (seed, picture, number of the view). Work is cut in shards (`data/shards.py`), so that a kill
loses one of them. What cannot be read is left out, counted, and listed in `broken.txt`.
"""

import filecmp
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from pydantic import Field, model_validator
from torch import Tensor, nn

from vlpnb.config import Config, Seed, Shares, one_of
from vlpnb.data.images import BrokenImage, decoded, none_readable, picture_size
from vlpnb.data.shards import Shards
from vlpnb.data.store import check_finite
from vlpnb.data.text_files import read_json
from vlpnb.errors import UserError
from vlpnb.files import write_json, write_text
from vlpnb.foundations.iglue import load_iglue
from vlpnb.foundations.multilingual import load_multilingual
from vlpnb.foundations.picture_store import (
    BROKEN,
    IDS,
    PRODUCER,
    STORE,
    PatchStore,
    Views,
    decoded_pixels,
    stored_patches,
)
from vlpnb.foundations.region_text import load_region_text
from vlpnb.outside import ModelName
from vlpnb.stage import Request, Stage, StageContext
from vlpnb.train.distributed import barrier
from vlpnb.vision.patches import SET_VIEWS, Tower, open_tower, patches, view_pixels, whole_pixels
from vlpnb.vision.swin import Swin, SwinConfig

ABOUT = "backbone.json"  # the backbone behind a store, and whose pictures they are
Naming = Literal["multilingual", "iglue", "region_text"]
EvalView = Annotated[str, one_of(SET_VIEWS)]


class PatchesConfig(Config):
    """Which pictures, through which backbone, and how many views of each."""

    sources: tuple[Naming, ...] = Field(("multilingual", "iglue"), min_length=1)
    """Stages whose pictures are encoded; one that several name is encoded once."""
    keep: Literal["patches", "pixels"] = "patches"
    """What models read: patches of a frozen backbone, or pixels for a Swin that is trained with them."""
    vision: ModelName = "swin_b"
    """"stage", a torchvision name, "efficientnet_lite0", or a Swin's file, folder or hub name; of pixels the last."""
    vision_weights: ModelName | None = "DEFAULT"
    """Of a torchvision model: published name, a file, or none (random)."""
    image_size: int | None = Field(None, ge=16)
    """Pixels of a side, of a Swin from a file or folder; its window follows."""
    cells: int | None = Field(None, ge=1)
    """Average the map into so many patches a side; none: as it is."""
    train_views: int = Field(0, ge=0)
    """Random views of each training picture that are kept, beside the whole picture; of pixels there is no end."""
    eval_views: tuple[EvalView, ...] = Field(("whole",), min_length=1)
    """What is kept of every other picture, found by the mean of its vectors; the first is read with sentences,
    and tasks that augment their training pictures draw from the others."""
    crop_scale: Shares = (0.2, 1.0)
    """Share of the picture's area that a random view keeps."""
    flip: bool = True
    """Mirror half of the random views; false where texts say left and right."""
    augment: bool = True
    """RandAugment in the random views."""
    max_images: int | None = Field(None, ge=1)
    """Only the first pictures of each source's split: for a dry run."""
    seed: Seed = 42
    """Of the random views."""
    shard: int = Field(256, ge=1, json_schema_extra={"hash": False})
    """Pictures per shard."""
    batch: int = Field(32, ge=1, json_schema_extra={"hash": False})
    """Views per forward pass."""

    @model_validator(mode="after")
    def _sources_once(self) -> "PatchesConfig":
        if len(set(self.sources)) < len(self.sources):
            raise ValueError(f"sources: {', '.join(self.sources)} names one twice")
        if len(set(self.eval_views)) < len(self.eval_views) or self.eval_views[0] != "whole":
            raise ValueError(f"eval_views: {', '.join(self.eval_views)}; expected whole first, and each once")
        return self


@dataclass(frozen=True)
class Listed:
    """A picture to encode."""

    id: str
    path: Path
    training: bool
    """Whether it has random views."""

    @property
    def number(self) -> int:
        """A number that random views depend on: of the id alone."""
        return int.from_bytes(hashlib.sha256(self.id.encode()).digest()[:4], "big")


def inputs(config: PatchesConfig) -> Mapping[str, Request]:
    """The stages that name pictures, and the one behind a backbone called "stage"."""
    needed = {source: Request(source) for source in config.sources}
    return needed | ({"vision": Request("vision")} if config.vision == "stage" else {})


def _named(source: Naming, folder: Path, most: int | None) -> Iterator[Listed]:
    """The pictures of one source."""
    if source == "iglue":
        for name, path in [*load_iglue(folder).pictures().items()][:most]:
            yield Listed(name, path, training=False)
        return
    data = load_multilingual(folder) if source == "multilingual" else load_region_text(folder)
    for split in data.splits:
        for picture in data.pictures(split)[:most]:
            yield Listed(picture.id, picture.path, training=split == "train")


def listed(config: PatchesConfig, folders: Mapping[str, Path]) -> list[Listed]:
    """All pictures, each once, in the order of the sources.

    UserError for two different pictures of one id.
    """
    found: dict[str, Listed] = {}
    for source in config.sources:
        for picture in _named(source, folders[source], config.max_images):
            known = found.setdefault(picture.id, picture)
            if known.path != picture.path and not _same(known.path, picture.path):
                raise UserError(
                    f"patches: {known.path} and {picture.path} ({source}) are two pictures with the id "
                    f"'{picture.id}'; expected one. Rename one of them, or take one source less."
                )
            if picture.training and not known.training:
                found[picture.id] = picture
    return list(found.values())


def _same(one: Path, other: Path) -> bool:
    """Whether two files hold the same; one that is absent does not speak against it."""
    return not (one.is_file() and other.is_file()) or filecmp.cmp(one, other, shallow=False)


def _views(config: PatchesConfig) -> Views:
    return Views(config.seed, config.crop_scale, config.flip, config.augment)


class _Work:
    """Pictures through the backbone, unit by unit."""

    def __init__(self, pictures: Sequence[Listed], tower: Tower, config: PatchesConfig, device: str):
        self.pictures, self.tower, self.config, self.device = pictures, tower, config, device
        self.firsts = [*range(0, len(pictures), config.shard), len(pictures)]

    def views(self, picture: Listed, image: Image.Image) -> list[Float[Tensor, "3 S S"]]:
        """The whole picture, then random views of a training picture, other set views of another; in any thread."""
        random = _views(self.config)
        if not picture.training:
            return [whole_pixels(self.tower, image, view) for view in self.config.eval_views]
        found = [whole_pixels(self.tower, image)]
        for view in range(self.config.train_views):
            drawn = random.draw(image, picture.number, view, self.tower.image_size)
            found.append(view_pixels(self.tower, drawn))
        return found

    @torch.no_grad()
    def _encode(self, pixels: list[Tensor]) -> np.ndarray:
        found = patches(self.tower, torch.stack(pixels).to(self.device), self.config.cells)
        return found.half().cpu().numpy()

    def __call__(self, unit: int) -> tuple[dict[str, np.ndarray], dict[str, list]]:
        """The patches of the pictures that can be read, one view after the other, and how many each has."""
        chosen = self.pictures[slice(*self.firsts[unit : unit + 2])]
        kept: list[str] = []
        broken: list[tuple[str, str]] = []
        counts: list[int] = []
        training: list[bool] = []
        waiting: list[Tensor] = []
        parts: list[np.ndarray] = []

        def prepare(place: int, image: Image.Image) -> list[Tensor]:
            return self.views(chosen[place], image)

        for picture, found in zip(chosen, decoded([p.path for p in chosen], prepare), strict=True):
            if isinstance(found, BrokenImage):
                broken.append((picture.id, found.reason))
                continue
            kept.append(picture.id)
            counts.append(len(found))
            training.append(picture.training)
            waiting += found
            while len(waiting) >= self.config.batch:
                parts.append(self._encode(waiting[: self.config.batch]))
                waiting = waiting[self.config.batch :]
        if waiting:
            parts.append(self._encode(waiting))
        notes = {"ids": kept, "broken": broken}
        if not kept:
            return {}, notes
        found = check_finite(np.concatenate(parts), f"the patches of {kept[0]} … {kept[-1]}")
        counted = {"offsets": np.array(counts, dtype=np.int32), "training": np.array(training)}
        return {"patches": found, **counted}, notes


def _tower(config: PatchesConfig, vision: Path | None) -> Tower:
    return open_tower(vision or config.vision, config.vision_weights, config.image_size, config.seed)


def run(context: StageContext) -> dict[str, float]:
    """Write the store. Metrics: `images`, `broken`, `patches` (P) and `width` (F) of a picture, `views` kept."""
    config: PatchesConfig = context.config
    pictures = listed(config, context.inputs)
    keep = _keep_pixels if config.keep == "pixels" else _keep_patches
    keep(context, pictures)
    store = open_patches(context.folder)
    if store.broken:
        context.log(
            f"{len(store.broken):,} of {len(pictures):,} pictures cannot be read (listed in {BROKEN})"
        )
    kept = float(store.source.counts.sum()) if config.keep == "patches" else 0.0
    return {
        "images": float(len(store)), "views": kept, "broken": float(len(store.broken)),
        "patches": float(store.patches), "width": float(store.width),
    }  # fmt: skip


def _keep_patches(context: StageContext, pictures: Sequence[Listed]) -> None:
    config: PatchesConfig = context.config
    tower = _tower(config, context.inputs.get("vision")).to(context.device)
    about = [config.model_dump(mode="json", exclude={"shard", "batch", "sources"})]
    about += [[picture.id, picture.training] for picture in pictures]
    work = _Work(pictures, tower, config, context.device)
    shards = Shards(
        context.folder / "checkpoint-patches", hashlib.sha256(json.dumps(about).encode()).hexdigest(),
        np.diff(work.firsts).tolist(), context.rank, context.world_size, context.progress,
    )  # fmt: skip
    if shards.complete(context.folder / STORE):
        return
    shards.make(work)
    notes = shards.notes()
    broken = notes.get("broken", [])
    if not notes.get("ids"):
        shards.publish(lambda: None)  # so that they are made again once the pictures are there
        raise none_readable("patches", [p.path for p in pictures], broken)

    def write() -> None:
        # Before the store: where the store is, the work is done, and nobody comes back for its ids.
        _write_lists(context, notes["ids"], broken)
        shards.join(context.folder / STORE, PRODUCER, {"broken_count": len(broken)}, offsets=["offsets"])

    shards.publish(write)


def _keep_pixels(context: StageContext, pictures: Sequence[Listed]) -> None:
    """Look at the header of every picture, and at the size of the Swin."""
    config: PatchesConfig = context.config
    tower = _tower(config, context.inputs.get("vision"))
    if not isinstance(tower, Swin):
        raise UserError(
            f"patches.vision: {config.vision!r} is no Swin; expected a Swin's file, folder or hub name with "
            "keep: pixels, since no other network is trained with the model"
        )
    if context.rank == 0:
        kept, broken = [], []
        for done, picture in enumerate(pictures, start=1):
            try:
                picture_size(picture.path)
                kept.append(picture.id)
            except BrokenImage as error:
                broken.append((picture.id, error.reason))
            context.progress(done, len(pictures))
        if not kept:
            raise none_readable("patches", [p.path for p in pictures], broken)
        _write_lists(context, kept, broken, swin=asdict(tower.config))
    barrier(context.world_size)


def _write_lists(
    context: StageContext, ids: Sequence[str], broken: Sequence[Sequence[str]], **more: Any
) -> None:
    """What is there, what is not, and where both come from."""
    write_text(context.folder / IDS, "".join(f"{name}\n" for name in ids))
    write_text(context.folder / BROKEN, "".join(f"{name}\t{why}\n" for name, why in broken))
    inputs = {role: os.path.relpath(path, context.folder) for role, path in context.inputs.items()}
    write_json(
        context.folder / ABOUT,
        {"config": context.config.model_dump(mode="json"), "inputs": inputs, **more},
    )


def _about(folder: Path) -> tuple[PatchesConfig, dict[str, Path], dict[str, Any]]:
    """What a finished stage says of itself: its configuration, its inputs on this machine, and the rest."""
    about = read_json(Path(folder) / ABOUT, "the backbone behind a store (stage `patches`)")
    inputs = {role: Path(folder) / path for role, path in about["inputs"].items()}
    return PatchesConfig.model_validate(about["config"]), inputs, about


def open_patches(folder: Path) -> PatchStore:
    """What a run of the stage has left in a folder. UserError if it is absent or damaged."""
    config, inputs, about = _about(folder)
    ids = (Path(folder) / IDS).read_text(encoding="utf-8").split("\n")[:-1]
    if config.keep == "patches":
        return PatchStore(folder, stored_patches(folder), ids)
    known = {picture.id: picture for picture in listed(config, inputs)}
    pictures = [known[name] for name in ids]
    swin = SwinConfig(**{n: tuple(v) if isinstance(v, list) else v for n, v in about["swin"].items()})
    source = decoded_pixels(
        [p.path for p in pictures], [p.number for p in pictures], [p.training for p in pictures],
        _views(config), swin, config.eval_views,
    )  # fmt: skip
    return PatchStore(folder, source, ids)


def open_reader(
    folder: Path, device: str = "cpu"
) -> Callable[[Sequence[Image.Image]], Float[Tensor, "V N ..."]]:
    """What turns new pictures into what a model reads of pictures: the backbone of a finished store, and its views.

    Equal to `PatchStore.gather` for a picture of the store, view by view, up to half precision.
    """
    config, inputs, _ = _about(folder)
    tower = _tower(config, inputs.get("vision")).to(device)

    def view(pictures: Sequence[Image.Image], name: str) -> Tensor:
        pixels = torch.stack([whole_pixels(tower, picture.convert("RGB"), name) for picture in pictures])
        if config.keep == "pixels":
            return pixels
        return patches(tower, pixels.to(device), config.cells).float().cpu()

    @torch.no_grad()
    def read(pictures: Sequence[Image.Image]) -> Tensor:
        return torch.stack([view(pictures, name) for name in config.eval_views])

    return read


def fill_tower(swin: nn.Module, folder: Path) -> None:
    """Give a model's own Swin the weights that a store of pixels names; a store of patches has none to give."""
    config, inputs, _ = _about(folder)
    if config.keep == "pixels":
        swin.load_state_dict(_tower(config, inputs.get("vision")).state_dict())


PATCHES = Stage(
    "patches", PatchesConfig, run, inputs, distributed=True,
    doc="Run a frozen backbone once over every picture of the multilingual sets.",
)  # fmt: skip
