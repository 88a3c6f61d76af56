"""Stage `cclm.patches`: a frozen backbone, run once over every picture that training and evaluation name.

Paper: CCLM (Zeng et al., ACL 2023, section 3.1) trains its picture tower, Swin-B, with the rest. Here the tower may
stay frozen: then a picture is its patches (`vision.patches`), read from a memory map, and an update costs no pixels.
Training pictures may have random views beside the whole picture, as the original draws a new one each time; how many
is a choice of disk against variety.

A view is a function of (seed, picture, number of the view). Work is cut in shards (`data/shards.py`), so that a kill
loses one of them. What cannot be read is left out, counted, and listed in `broken.txt`.
"""

import filecmp
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from PIL import Image
from pydantic import Field, model_validator
from torch import Tensor

from vlpnb.config import Config, Seed, Shares
from vlpnb.data.images import BrokenImage, decoded, none_readable
from vlpnb.data.shards import Shards
from vlpnb.data.store import attributes, check_finite, mapped, open_checked
from vlpnb.data.text_files import read_json
from vlpnb.errors import UserError
from vlpnb.files import write_json, write_text
from vlpnb.outside import ModelName
from vlpnb.stage import Request, Stage, StageContext
from vlpnb.train.sampling import seed_of
from vlpnb.vision.augment import augmented_view
from vlpnb.vision.patches import Tower, open_tower, patches, view_pixels, whole_pixels

PRODUCER = "patches"
STORE, BROKEN = "patches.hdf5", "broken.txt"
ABOUT = "backbone.json"  # the backbone behind a store
Source = Literal["multilingual", "iglue", "region_text"]


class PatchesConfig(Config):
    """Which pictures, through which backbone, and how many views of each."""

    sources: tuple[Source, ...] = Field(("multilingual", "iglue"), min_length=1)
    """Stages whose pictures are encoded; one that several name is encoded once."""
    vision: ModelName = "swin_b"
    """"stage", a torchvision name, "efficientnet_lite0", or a Swin's file, folder or hub name."""
    vision_weights: ModelName | None = "DEFAULT"
    """Of a torchvision model: published name, a file, or none (random)."""
    image_size: int | None = Field(None, ge=16)
    """Pixels of a side, of a Swin from a file or folder; its window follows."""
    cells: int | None = Field(None, ge=1)
    """Average the map into so many patches a side; none: as it is."""
    train_views: int = Field(0, ge=0)
    """Random views of each training picture, beside the whole picture."""
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
        return self


@dataclass(frozen=True)
class Listed:
    """A picture to encode."""

    id: str
    path: Path
    training: bool
    """Whether it has random views."""


def inputs(config: PatchesConfig) -> Mapping[str, Request]:
    """The stages that name pictures, and the one behind a backbone called "stage"."""
    needed = {source: Request(source) for source in config.sources}
    return needed | ({"vision": Request("vision")} if config.vision == "stage" else {})


def _named(source: Source, folder: Path, most: int | None) -> Iterator[Listed]:
    """The pictures of one source."""
    if source == "iglue":
        from vlpnb.foundations.iglue import load_iglue

        for name, path in [*load_iglue(folder).pictures().items()][:most]:
            yield Listed(name, path, training=False)
        return
    if source == "multilingual":
        from vlpnb.foundations.multilingual import load_multilingual as load
    else:
        from vlpnb.foundations.region_text import load_region_text as load
    data = load(folder)
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
                    f"cclm.patches: {known.path} and {picture.path} ({source}) are two pictures with the id "
                    f"'{picture.id}'; expected one. Rename one of them, or take one source less."
                )
            if picture.training and not known.training:
                found[picture.id] = picture
    return list(found.values())


def _same(one: Path, other: Path) -> bool:
    """Whether two files hold the same; one that is absent does not speak against it."""
    return not (one.is_file() and other.is_file()) or filecmp.cmp(one, other, shallow=False)


class _Work:
    """Pictures through the backbone, unit by unit."""

    def __init__(self, pictures: Sequence[Listed], tower: Tower, config: PatchesConfig, device: str):
        self.pictures, self.tower, self.config, self.device = pictures, tower, config, device
        self.firsts = [*range(0, len(pictures), config.shard), len(pictures)]

    def views(self, picture: Listed, image: Image.Image) -> list[Float[Tensor, "3 S S"]]:
        """The whole picture, then random views of a training picture; called in any thread."""
        config, found = self.config, [whole_pixels(self.tower, image)]
        number = int.from_bytes(hashlib.sha256(picture.id.encode()).digest()[:4], "big")
        for view in range(config.train_views if picture.training else 0):
            generator = torch.Generator().manual_seed(seed_of(config.seed, number, view))
            random = augmented_view(
                image, self.tower.image_size, generator, config.crop_scale, config.flip, config.augment
            )
            found.append(view_pixels(self.tower, random))
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
        return {"patches": found, "offsets": np.array(counts, dtype=np.int32)}, notes


def _tower(config: PatchesConfig, vision: Path | None) -> Tower:
    return open_tower(vision or config.vision, config.vision_weights, config.image_size, config.seed)


def run(context: StageContext) -> dict[str, float]:
    """Write the store. Metrics: `images`, `views`, `broken`, `patches` (P) and `width` (F) of a picture."""
    config: PatchesConfig = context.config
    pictures = listed(config, context.inputs)
    tower = _tower(config, context.inputs.get("vision")).to(context.device)
    about = [config.model_dump(mode="json", exclude={"shard", "batch", "sources"})]
    about += [[picture.id, picture.training] for picture in pictures]
    work = _Work(pictures, tower, config, context.device)
    shards = Shards(
        context.folder / "checkpoint-patches", hashlib.sha256(json.dumps(about).encode()).hexdigest(),
        np.diff(work.firsts).tolist(), context.rank, context.world_size, context.progress,
    )  # fmt: skip
    if not shards.complete(context.folder / STORE):
        shards.make(work)
        notes = shards.notes()
        broken = notes.get("broken", [])
        if not notes.get("ids"):
            shards.publish(lambda: None)  # so that they are made again once the pictures are there
            raise none_readable("cclm.patches", [p.path for p in pictures], broken)

        def write() -> None:
            # Before the store: where the store is, the work is done, and nobody comes back for its ids.
            write_text(context.folder / "patches.ids", "".join(f"{name}\n" for name in notes["ids"]))
            write_text(context.folder / BROKEN, "".join(f"{name}\t{why}\n" for name, why in broken))
            vision = context.inputs.get("vision")
            about = {"config": config.model_dump(mode="json")}
            about |= {"vision": os.path.relpath(vision, context.folder) if vision else None}
            write_json(context.folder / ABOUT, about)
            shards.join(context.folder / STORE, PRODUCER, {"broken_count": len(broken)}, offsets=["offsets"])

        shards.publish(write)
    store = open_patches(context.folder)
    if store.broken:
        context.log(
            f"{len(store.broken):,} of {len(pictures):,} pictures cannot be read (listed in {BROKEN})"
        )
    return {
        "images": float(len(store)), "views": float(store.offsets[-1]), "broken": float(len(store.broken)),
        "patches": float(store.patches), "width": float(store.width),
    }  # fmt: skip


class PatchStore:
    """The patches of all pictures; memory-mapped, so memory does not grow with their number.

    View 0 of a picture is the whole of it; views 1 and up are random ones, which training pictures have.
    """

    def __init__(self, folder: Path):
        self.path = Path(folder) / STORE
        with open_checked(self.path, ("patches", "offsets"), PRODUCER) as file:
            self.offsets: np.ndarray = file["offsets"][()]
            _, places, self.width = file["patches"].shape
        self.patches = places - 1
        self.grid = round(self.patches**0.5)
        """Patches of a side."""
        self.ids = (Path(folder) / "patches.ids").read_text(encoding="utf-8").split("\n")[:-1]
        if len(self.ids) != len(self.offsets) - 1:
            raise UserError(
                f"{self.path} holds {len(self.offsets) - 1:,} pictures, its list of ids {len(self.ids):,}; they are "
                "not of one run. Delete the folder and run the stage again."
            )
        self._rows = {name: row for row, name in enumerate(self.ids)}

    @property
    def identity(self) -> str:
        """A hash of what the store depends on."""
        return str(attributes(self.path)["identity"])

    @cached_property
    def broken(self) -> dict[str, str]:
        """Ids of pictures that were left out, and why."""
        lines = (self.path.parent / BROKEN).read_text(encoding="utf-8").splitlines()
        return {name: why for name, _, why in (line.partition("\t") for line in lines)}

    @cached_property
    def _map(self) -> np.ndarray:
        return mapped(self.path, "patches")

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self.ids)

    def __contains__(self, name: object) -> bool:
        return name in self._rows

    def rows(self, ids: Iterable[str]) -> Int[np.ndarray, " N"]:
        """The rows of some pictures. UserError for one that is not there; says so where it could not be read."""
        found = []
        for name in ids:
            if name not in self._rows:
                why = f"could not be read ({self.broken[name]})" if name in self.broken else "is not there"
                raise UserError(
                    f"{self.path}: the picture '{name}' {why}; expected one of {len(self):,}. Name its stage in "
                    "cclm.patches.sources, or fetch it again."
                )
            found.append(self._rows[name])
        return np.array(found, dtype=np.int64)

    def views(self, rows: Int[np.ndarray, " N"]) -> Int[np.ndarray, " N"]:
        """How many views some pictures have: 1 and more."""
        return self.offsets[rows + 1] - self.offsets[rows]

    def gather(
        self, rows: Int[np.ndarray, " N"], view: int | Int[np.ndarray, " N"] = 0
    ) -> Float[Tensor, "N P1 F"]:
        """One view of each of some pictures: the mean, then the patches row by row.

        Raises:
            UserError: a picture that has no such view, or numbers that are not finite.
        """
        rows = np.asarray(rows, dtype=np.int64)
        view = np.broadcast_to(np.asarray(view), rows.shape)
        if (wrong := (view < 0) | (view >= self.views(rows))).any():
            at = int(wrong.argmax())
            raise UserError(
                f"{self.path}: view {view[at]} of '{self.ids[rows[at]]}', which has {self.views(rows)[at]}; "
                "set cclm.patches.train_views, or take fewer"
            )
        found = torch.from_numpy(np.asarray(self._map[self.offsets[rows] + view])).float()
        if not torch.isfinite(found).all():
            check_finite(found.numpy(), f"{self.path}, patches read")
        return found


def open_patches(folder: Path) -> PatchStore:
    """The patches that a run of the stage has left in a folder. UserError if they are absent or damaged."""
    return PatchStore(folder)


def open_reader(
    folder: Path, device: str = "cpu"
) -> Callable[[Sequence[Image.Image]], Float[Tensor, "N P1 F"]]:
    """What turns new pictures into patches: the backbone of a finished store, and its view 0.

    Equal to `PatchStore.gather` for a picture of the store, up to half precision.
    """
    about = read_json(Path(folder) / ABOUT, "the backbone behind a store (stage `cclm.patches`)")
    config = PatchesConfig.model_validate(about["config"])
    tower = _tower(config, Path(folder) / about["vision"] if about["vision"] else None).to(device)

    @torch.no_grad()
    def read(pictures: Sequence[Image.Image]) -> Tensor:
        pixels = torch.stack([whole_pixels(tower, picture.convert("RGB")) for picture in pictures])
        return patches(tower, pixels.to(device), config.cells).float().cpu()

    return read


PATCHES = Stage(
    "cclm.patches", PatchesConfig, run, inputs, distributed=True,
    doc="Run a frozen backbone once over every picture of the multilingual sets.",
)  # fmt: skip
