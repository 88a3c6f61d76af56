"""Keys of pictures: the vectors by which pictures are found, in files of one image set each, whoever makes them.

Row i of `<set>.hdf5` (`keys`, float32, contiguous) is the picture of line i of `<set>.ids` and `<set>.path`. Sets
follow one another in alphabetical order of their names, up to a number of readable pictures. A picture that cannot be
decoded gets no row, and is listed. The layout is that of Vokenization's original project; the work is cut in shards
(`data/shards.py`).
"""

import json
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from itertools import groupby
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from vlpnb.data.captions import CaptionedImage
from vlpnb.data.images import BrokenImage, decoded
from vlpnb.data.shards import Shards
from vlpnb.data.store import check_finite
from vlpnb.errors import UserError
from vlpnb.files import write_text
from vlpnb.foundations.features import picture_features
from vlpnb.vision.backbones import Backbone
from vlpnb.vision.transforms import bounded_view, to_pixels

Source = Literal["matcher", "backbone"]
NAME = "universe"
SHOWN = 100  # broken pictures that a store's attributes list; `broken.txt` lists all


@runtime_checkable
class PictureEncoder(Protocol):
    """What makes keys: a trained matcher, or `BackboneFeatures`."""

    def pixels(self, picture: Image.Image) -> Tensor:
        """What is read of one RGB picture; called in any thread."""

    def keys_of(self, pixels: Sequence[Tensor]) -> Float[Tensor, "N d"]:
        """The vectors of some pictures."""


class BackboneFeatures:
    """A bare vision backbone as the maker of keys: each picture alone and whole (`bounded_view`)."""

    def __init__(self, vision: Backbone):
        self.vision = vision

    def pixels(self, picture: Image.Image) -> Float[Tensor, "3 H W"]:
        """One picture, shrunk and normalised."""
        return to_pixels(bounded_view(picture), self.vision.mean, self.vision.std)

    def keys_of(self, pixels: Sequence[Float[Tensor, "3 H W"]]) -> Float[Tensor, "N D"]:
        """Features on the host, float32.

        Raises:
            UserError: the backbone takes pictures of one size only, or a picture is too small for it.
        """
        return torch.cat([self._features(picture) for picture in pixels])

    def _features(self, pixels: Float[Tensor, "3 H W"]) -> Float[Tensor, "1 D"]:
        try:
            return picture_features(self.vision, [pixels])
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, AssertionError, ValueError) as error:
            _, height, width = pixels.shape
            raise UserError(
                f"the vision backbone cannot read {width} × {height} pixels "
                f"({error}); expected one that takes any size, such as a ResNet: change features.vision"
            ) from error


def extract_keys(
    encoder: PictureEncoder,
    images: Sequence[CaptionedImage] | Mapping[str, Sequence[CaptionedImage]],
    folder: Path,
    *,
    limit: int | None = None,
    batch: int = 32,
    shard: int = 512,
    source: Source = "matcher",
    rank: int = 0,
    world_size: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
    place: Callable[[Path], str] = str,
) -> int:
    """Write the keys of some pictures to `folder`; returns the number of pictures that could not be read.

    Shards of `shard` pictures stay in `checkpoint-keys` (the stage's end removes them): with them the keys of all sets
    are written again in no time.

    Args:
        images: by image set; a plain sequence is the one set `universe`.
        limit: stop after so many readable pictures, counted over the sets in alphabetical order.
        source: what `encoder` is, for the files' attribute.
        place: how the path of a picture is written down.
    """
    sets = images if isinstance(images, Mapping) else {NAME: images}
    flat = [(name, image) for name in sorted(sets) for image in sets[name]]
    wanted = len(flat) if limit is None else min(limit, len(flat))
    firsts = [*range(0, wanted, shard), *range(wanted, len(flat), shard), len(flat)]
    about = [source, [[name, image.image_id] for name, image in flat]]
    shards = Shards(
        folder / "checkpoint-keys", sha256(json.dumps(about).encode()).hexdigest(), np.diff(firsts).tolist(),
        rank, world_size, lambda done, total: progress(min(done, wanted), wanted),
    )  # fmt: skip
    unit = source == "matcher"
    shards.make(lambda i: _keys_of(encoder, flat, firsts[i], firsts[i + 1], batch, unit), wanted, of="keys")
    notes = shards.notes()
    kept = notes.get("kept", [])[:wanted]
    if not kept:
        shards.publish(lambda: None)  # so that they are made again once the pictures are there
        raise UserError(f"keys: none of the {len(flat)} pictures can be read; the first is {flat[0][1].path}")
    end = kept[-1] if len(kept) == wanted else len(flat)  # nobody asks for what is broken after the last one
    broken = [
        (flat[i][0], place(flat[i][1].path), reason) for i, reason in notes.get("broken", []) if i < end
    ]

    def write() -> None:
        for name, rows in groupby(range(len(kept)), lambda row: flat[kept[row]][0]):
            rows = list(rows)
            mine = [flat[kept[row]][1] for row in rows]
            write_text(folder / f"{name}.ids", "".join(f"{image.image_id}\n" for image in mine))
            write_text(folder / f"{name}.path", "".join(f"{place(image.path)}\n" for image in mine))
            unread = [row[1:] for row in broken if row[0] == name]
            kind = {"broken": unread[:SHOWN], "source": source}
            part = (rows[0], rows[-1] + 1)
            shards.join(folder / f"{name}.hdf5", "keys", kind, rows={"keys": part})
        if broken:
            text = "".join(f"{path}\t{reason}\n" for _, path, reason in broken)
            write_text(folder / "broken.txt", text)

    shards.publish(write, keep=True)
    return len(broken)


def _keys_of(
    encoder: PictureEncoder,
    flat: Sequence[tuple[str, CaptionedImage]],
    first: int,
    last: int,
    batch: int,
    unit: bool,
) -> tuple[dict[str, np.ndarray], dict[str, list]]:
    """The keys of the pictures [first, last), the numbers of those that can be read, and the others' reasons."""
    paths = [image.path for _, image in flat[first:last]]
    vectors: list[np.ndarray] = []
    kept: list[int] = []
    broken: list[tuple[int, str]] = []
    waiting: list[Tensor] = []

    def encode() -> None:
        try:
            found = encoder.keys_of(waiting).float().cpu().numpy()
            vectors.append(check_finite(found, "the vectors of these pictures", unit))
        except UserError as error:
            names = [str(flat[i][1].path) for i in (kept[-len(waiting)], kept[-1])]
            raise UserError(f"{' … '.join(dict.fromkeys(names))}: {error}") from error
        waiting.clear()

    for i, found in enumerate(decoded(paths, lambda _, picture: encoder.pixels(picture)), start=first):
        if isinstance(found, BrokenImage):
            broken.append((i, found.reason))
            continue
        kept.append(i)
        waiting.append(found)
        if len(waiting) == batch:
            encode()
    if waiting:
        encode()
    # Where all are broken, nothing knows the width.
    return {"keys": np.concatenate(vectors)} if vectors else {}, {"kept": kept, "broken": broken}
