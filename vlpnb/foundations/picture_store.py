"""What a model reads of pictures: patches from a memory map, or pixels decoded when they are asked for.

Made by the stage `patches`. Either way a picture has views: view 0 is the whole of it. Views 1 and up are random ones
of a training picture, and of another those that its vector is the mean of (`PatchesConfig.eval_views`). Pixels are for
a Swin that is trained with the rest, as in the paper (Zeng et al., ACL 2023, section 3.1); they have as many random
views as anybody asks for.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from PIL import Image
from torch import Tensor

from vlpnb.data.images import all_decoded
from vlpnb.data.store import check_finite, mapped, open_checked
from vlpnb.errors import UserError
from vlpnb.train.sampling import seed_of
from vlpnb.vision.augment import augmented_view, rand_augment
from vlpnb.vision.patches import view_pixels, whole_pixels
from vlpnb.vision.swin import Swin, SwinConfig
from vlpnb.vision.transforms import squeezed_view

PRODUCER = "patches"
STORE, IDS, BROKEN = "patches.hdf5", "patches.ids", "broken.txt"
ENDLESS = 2**30  # random views of a training picture that is decoded when it is asked for

Rows = Int[np.ndarray, " N"]


class Frame(NamedTuple):
    """What is cut out of a picture, in its pixels (left, top, right, bottom), and whether it is mirrored then."""

    crop: tuple[int, int, int, int]
    flip: bool


@dataclass(frozen=True)
class Source:
    """Where the views of pictures come from, by rows and numbers of views."""

    counts: Int[np.ndarray, " N"]  # views of each picture
    patches: int  # P
    width: int  # F
    read: Callable[[Rows, Rows], Tensor]
    training: Bool[np.ndarray, " N"]  # pictures whose views, but the first, are random
    swin: SwinConfig | None = None  # of pixels: the network that reads them
    framed: Callable[[Rows, Sequence[Frame], int], Tensor] | None = None  # of pixels: see `PatchStore.framed`


class PatchStore:
    """All pictures of a stage `patches`, by rows."""

    def __init__(self, folder: Path, source: Source, ids: Sequence[str]):
        self.folder, self.source, self.ids = Path(folder), source, list(ids)
        self.patches, self.width, self.swin = source.patches, source.width, source.swin
        self.grid = round(self.patches**0.5)
        """Patches of a side."""
        if len(self.ids) != len(source.counts):
            raise UserError(
                f"{self.folder} holds {len(source.counts):,} pictures, its list of ids {len(self.ids):,}; they are "
                "not of one run. Delete the folder and run the stage again."
            )
        self._rows = {name: row for row, name in enumerate(self.ids)}
        self.broken = read_broken(folder)
        """Ids of pictures that were left out, and why."""

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self.ids)

    def __contains__(self, name: object) -> bool:
        return name in self._rows

    def rows(self, ids: Iterable[str]) -> Rows:
        """The rows of some pictures. UserError for one that is not there; says so where it could not be read."""
        found = []
        for name in ids:
            if name not in self._rows:
                why = f"could not be read ({self.broken[name]})" if name in self.broken else "is not there"
                raise UserError(
                    f"{self.folder}: the picture '{name}' {why}; expected one of {len(self):,}. Name its stage in "
                    "patches.sources, or fetch it again."
                )
            found.append(self._rows[name])
        return np.array(found, dtype=np.int64)

    def views(self, rows: Rows) -> Rows:
        """How many views some pictures have: 1 and more."""
        return self.source.counts[rows]

    def eval_views(self, rows: Rows) -> int:
        """How many views some pictures are evaluated by: the whole alone where training pictures are among them."""
        return 1 if self.source.training[rows].any() or not len(rows) else int(self.views(rows).min())

    def gather(self, rows: Rows, view: int | Rows = 0) -> Float[Tensor, "N ..."]:
        """One view of each of some pictures: (N, 1 + P, F), the mean before the patches; of pixels (N, 3, S, S).

        Raises:
            UserError: a picture that has no such view, numbers that are not finite, or a picture that has gone.
        """
        rows = np.asarray(rows, dtype=np.int64)
        view = np.broadcast_to(np.asarray(view, dtype=np.int64), rows.shape)
        if (wrong := (view < 0) | (view >= self.views(rows))).any():
            at = int(wrong.argmax())
            raise UserError(
                f"{self.folder}: view {view[at]} of '{self.ids[rows[at]]}', which has {self.views(rows)[at]}; "
                "set patches.train_views or patches.eval_views, or take fewer"
            )
        return self.source.read(rows, view)

    @property
    def frames(self) -> bool:
        """Whether pictures can be cut and mirrored: pixels can, patches that were computed once cannot."""
        return self.source.framed is not None

    def framed(self, rows: Rows, frames: Sequence[Frame], seed: int) -> Float[Tensor, "N 3 S S"]:
        """What is cut out of some pictures for a batch of regions: resized, mirrored, then changed at random in its
        colours alone, since boxes must stay where they are. UserError for patches that were computed once.
        """
        if self.source.framed is None:
            raise UserError(
                f"{self.folder} keeps patches, out of which nothing can be cut; expected `keep: pixels`, or whole "
                "pictures"
            )
        return self.source.framed(np.asarray(rows, dtype=np.int64), frames, seed)


def read_broken(folder: Path) -> dict[str, str]:
    """Ids of the pictures that a stage left out, and why."""
    lines = (Path(folder) / BROKEN).read_text(encoding="utf-8").splitlines()
    return {name: why for name, _, why in (line.partition("\t") for line in lines)}


def stored_patches(folder: Path) -> Source:
    """Patches in a file of the folder, mapped into memory. UserError if it is absent or damaged."""
    path = Path(folder) / STORE
    with open_checked(path, ("patches", "offsets", "training"), PRODUCER) as file:
        offsets: np.ndarray = file["offsets"][()]
        training: np.ndarray = file["training"][()]
        _, places, width = file["patches"].shape
    values = mapped(path, "patches")

    def read(rows: Rows, view: Rows) -> Tensor:
        found = torch.from_numpy(np.asarray(values[offsets[rows] + view])).float()
        if not torch.isfinite(found).all():
            check_finite(found.numpy(), f"{path}, patches read")
        return found

    return Source(np.diff(offsets), places - 1, int(width), read, training)


@dataclass(frozen=True)
class Views:
    """How the random views of training pictures are made."""

    seed: int
    crop_scale: tuple[float, float]
    flip: bool
    augment: bool

    def draw(self, image: Image.Image, number: int, view: int, size: int) -> Image.Image:
        """Random view `view` (0 and up) of the picture with this number; called in any thread."""
        generator = torch.Generator().manual_seed(seed_of(self.seed, number, view))
        return augmented_view(image, size, generator, self.crop_scale, self.flip, self.augment)


def decoded_pixels(
    paths: Sequence[Path],
    numbers: Sequence[int],
    training: Sequence[bool],
    views: Views,
    config: SwinConfig,
    eval_views: Sequence[str] = ("whole",),
) -> Source:
    """Pixels for a Swin, decoded when they are asked for."""
    trained = np.asarray(training, dtype=bool)
    with torch.device("meta"):
        tower = Swin(config)

    def read(rows: Rows, view: Rows) -> Tensor:
        def prepare(place: int, image: Image.Image) -> Tensor:
            if view[place] == 0 or not trained[rows[place]]:
                return whole_pixels(tower, image, eval_views[view[place]])
            random = views.draw(image, numbers[rows[place]], int(view[place]) - 1, config.image_size)
            return view_pixels(tower, random)

        return torch.stack(list(all_decoded([paths[row] for row in rows], prepare)))

    def framed(rows: Rows, frames: Sequence[Frame], seed: int) -> Tensor:
        def prepare(place: int, image: Image.Image) -> Tensor:
            generator = torch.Generator().manual_seed(seed_of(views.seed, seed, numbers[rows[place]]))
            cut = squeezed_view(image.crop(frames[place].crop), config.image_size)
            cut = cut.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if frames[place].flip else cut
            cut = rand_augment(cut, generator, geometric=False) if views.augment else cut
            return view_pixels(tower, cut)

        return torch.stack(list(all_decoded([paths[row] for row in rows], prepare)))

    counts = np.where(trained, ENDLESS, len(eval_views))
    return Source(counts, config.patches, config.width, read, trained, config, framed)
