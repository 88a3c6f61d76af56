"""The regions of many pictures on disk: what every region model reads.

    regions.hdf5   features [ΣR, F] float16; boxes [ΣR, 4] float32, relative to the picture; object_ids, attribute_ids
                   [ΣR] int16 (−1: none), object_conf, attribute_conf [ΣR] float16; offsets [N + 1] int64: where each
                   picture's regions begin; sizes [N, 2] int32: height and width in pixels; and where the source tells
                   them, probabilities [ΣR, C] float16 of the background and then of every object class
    regions.ids    one id a line, and after a tab the row of its picture (a picture may have several ids)
    regions.json   names of the classes, and where the regions come from: extractor, hash of its weights, order of the
                   colours, parameters of the selection

The arrays are mapped, so that memory does not grow with the number of pictures and all processes share what was read.
Differs from the original, which decodes the TSV of section 5's detector into Python objects in every process. Half
precision keeps three decimal digits, as much as such features carry.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vlpnb.data.fields import list_field, object_field, one_line
from vlpnb.data.regions import PictureRegions, one_width
from vlpnb.data.shards import Shards
from vlpnb.data.store import check_finite, mapped, open_checked
from vlpnb.data.text_files import lines_of, read_json
from vlpnb.errors import UserError
from vlpnb.files import write_json, write_text

PRODUCER, STORE, IDS, ABOUT = "regions", "regions.hdf5", "regions.ids", "regions.json"
PROBABILITIES = "probabilities"  # only where the source tells them
ARRAYS = (
    "features", "boxes", "object_ids", "object_conf", "attribute_ids", "attribute_conf", "offsets", "sizes",
)  # fmt: skip


@dataclass(frozen=True)
class RegionBatch:
    """The regions of B pictures, R as many as the picture with the most has; zeros where a picture has none."""

    features: Float[Tensor, "B R F"]  # float32
    boxes: Float[Tensor, "B R 4"]  # left, top, right, bottom, relative to the picture, in [0, 1]
    mask: Bool[Tensor, "B R"] | None  # True where there is a region; None where all pictures have R
    object_ids: Int[Tensor, "B R"]  # −1: none
    object_conf: Float[Tensor, "B R"]
    attribute_ids: Int[Tensor, "B R"]  # −1: none
    attribute_conf: Float[Tensor, "B R"]
    probabilities: Float[Tensor, "B R C"] | None = (
        None  # float32: of the background, then of every object class
    )

    def best_class_alone(self, classes: int) -> Float[Tensor, "B R C"]:
        """Probabilities of background and classes where the best class alone is known: the others share the rest.

        Where a region has no class all are equal. `classes`: C, with background.
        """
        known = self.object_ids >= 0
        best = torch.where(known, self.object_conf, 1 / classes)
        rest = (1 - best) / max(classes - 1, 1)
        shared = rest[..., None].repeat(1, 1, classes)
        return shared.scatter(-1, torch.where(known, self.object_ids + 1, 0)[..., None], best[..., None])


class RegionStore:
    """The store in a folder, opened lazily and mapped; row i is the i-th picture.

    `ids` are all names of pictures in the order of their rows; a picture that several data sets name under ids of
    their own has several, so that there may be more ids than rows (`len`). `classes` is the number C of classes, the
    background among them, of which the store has probabilities; 0: it has none.
    """

    def __init__(self, folder: Path):
        self.path = Path(folder) / STORE
        with open_checked(self.path, ARRAYS, PRODUCER) as file:
            self.offsets: np.ndarray = file["offsets"][()]
            self._sizes: np.ndarray = file["sizes"][()]
            self.feature_width: int = file["features"].shape[1]
            self.classes = self._read_classes(file)
        about = read_json(self.path.with_name(ABOUT), "the names of classes, beside a store of regions")
        where = str(self.path.with_name(ABOUT))
        self.objects = tuple(list_field(about, "objects", where))
        self.attributes = tuple(list_field(about, "attributes", where))
        self.provenance: Mapping[str, Any] = object_field(about, "provenance", where)
        self.ids, self._row_of_id = _read_ids(self.path.with_name(IDS), len(self))

    def _read_classes(self, file: h5py.File) -> int:
        if PROBABILITIES not in file:
            return 0
        shape, expected = file[PROBABILITIES].shape, len(file["features"])
        if len(shape) != 2 or shape[0] != expected:
            raise UserError(
                f"{self.path}: {PROBABILITIES} have the shape {list(shape)}; expected [{expected}, classes], a row a "
                "region. The file is damaged: delete the folder and run the stage `regions` again"
            )
        return shape[1]

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self.offsets) - 1

    def __contains__(self, image_id: str) -> bool:
        return image_id in self.by_name

    @cached_property
    def by_name(self) -> dict[str, int]:
        """The row of every picture by its ids."""
        return dict(zip(self.ids, self._row_of_id.tolist(), strict=True))

    def rows(self, image_ids: Sequence[str]) -> Int[np.ndarray, " B"]:
        """The rows of some pictures. UserError counts and names those that the store does not have."""
        index = self.by_name
        unknown = [name for name in dict.fromkeys(image_ids) if name not in index]
        if unknown:
            raise UserError(
                f"{self.path}: has no regions of {len(unknown):,} of {len(image_ids):,} pictures: "
                f"{', '.join(unknown[:3])} …; it has {len(self):,} pictures, such as {', '.join(self.ids[:2])}. "
                "Say in `regions.of` which data sets' pictures it shall have"
            )
        return np.fromiter((index[name] for name in image_ids), np.int64, len(image_ids))

    def counts(self, rows: Int[np.ndarray, " B"]) -> Int[np.ndarray, " B"]:
        """How many regions each picture has."""
        return self.offsets[rows + 1] - self.offsets[rows]

    def sizes(self, rows: Int[np.ndarray, " B"]) -> Int[np.ndarray, "B 2"]:
        """Height and width of each picture in pixels."""
        return self._sizes[rows]

    def batch(self, rows: Int[np.ndarray, " B"], probabilities: bool = False) -> RegionBatch:
        """The regions of some pictures, in one gather.

        Args:
            probabilities: read them, too, if the store has them; they may be as wide as the features.
        Raises:
            UserError: a feature or a probability is not finite.
        """
        starts, counts = self.offsets[rows], self.counts(rows)
        most = int(counts.max(initial=0))
        at = np.arange(most)
        filled = at < counts[:, None]
        places = starts[:, None] + np.where(filled, at, 0)
        mask = None if filled.all() else torch.from_numpy(filled)
        names = (*ARRAYS[:6], *([PROBABILITIES] if probabilities and self.classes else []))
        arrays = {name: self._taken(name, places, mask) for name in names}
        for name in ("object_ids", "attribute_ids"):
            arrays[name] = arrays[name].long()
            if mask is not None:
                arrays[name].masked_fill_(~mask, -1)
        return RegionBatch(**arrays, mask=mask)

    def features_of(self, rows: Int[np.ndarray, " N"], boxes: Int[np.ndarray, " N"]) -> Float[Tensor, "N F"]:
        """The feature of region `boxes[i]` of picture `rows[i]`, float32, in one gather.

        Raises:
            UserError: a feature is not finite.
            IndexError: a picture has no such region.
        """
        wrong = (boxes < 0) | (boxes >= self.counts(rows))
        if wrong.any():
            at = int(wrong.argmax())
            raise IndexError(f"picture {rows[at]} has no region {boxes[at]}")
        return self._taken("features", self.offsets[rows] + boxes, None)

    def picture(self, row: int) -> PictureRegions:
        """One picture in the form that extractors give: boxes in pixels."""
        part = slice(*self.offsets[row : row + 2])
        height, width = (int(side) for side in self._sizes[row])
        name = self.ids[int(np.searchsorted(self._row_of_id, row))]
        size = np.array([width, height] * 2, np.float32)
        features = check_finite(self._array("features")[part], f"{self.path}, picture {name}")
        rest = {
            key: np.asarray(self._array(key)[part]).astype(np.int64 if key.endswith("ids") else np.float32)
            for key in (*ARRAYS[2:6], *([PROBABILITIES] if self.classes else []))
        }
        boxes = self._array("boxes")[part] * size
        return PictureRegions(name, height, width, boxes, features.astype(np.float32), **rest)

    def _array(self, name: str) -> np.ndarray:
        if name not in self._maps:
            self._maps[name] = mapped(self.path, name)
        return self._maps[name]

    @cached_property
    def _maps(self) -> dict[str, np.ndarray]:
        return {}

    def __getstate__(self) -> dict[str, Any]:  # a process that is sent a store maps the file itself
        return {name: value for name, value in vars(self).items() if name != "_maps"}

    def _taken(self, name: str, places: np.ndarray, mask: Tensor | None) -> Tensor:
        """Some rows of an array as float32 (whole numbers as they are), zeros where the mask is False."""
        values = np.take(self._array(name), places.ravel(), axis=0)
        found = torch.from_numpy(values).reshape(*places.shape, *values.shape[1:])
        if found.dtype == torch.float16:
            found = found.float()
        if name in ("features", PROBABILITIES) and not torch.isfinite(found.sum(dtype=torch.float32)):
            row = self._owner(places.ravel()[_first_wrong(found)])
            raise UserError(
                f"{self.path}: the {name} of picture {self.ids[int(np.searchsorted(self._row_of_id, row))]} are not "
                "finite (NaN or infinity). The file is damaged: delete the folder and run the stage `regions` again"
            )
        return found if mask is None else found * mask.reshape(*mask.shape, *[1] * (found.ndim - 2))

    def _owner(self, place: int) -> int:
        return int(np.searchsorted(self.offsets, place, side="right")) - 1


def _first_wrong(values: Tensor) -> int:
    """The first row that is not finite; 0 where only the sum of all is too large."""
    rows = values.reshape(-1, values.shape[-1])
    return int((~torch.isfinite(rows)).any(1).int().argmax())


def _read_ids(path: Path, pictures: int) -> tuple[list[str], np.ndarray]:
    ids, rows = [], []
    for number, text in lines_of(path, "an id and a row a line, with a tab between"):
        name, tab, row = text.partition("\t")
        if not tab or not row.isdigit() or int(row) >= pictures:
            raise UserError(
                f"{path}:{number}: found {text[:60]!r}; expected an id, a tab, and a row below {pictures}"
            )
        ids.append(name)
        rows.append(int(row))
    return ids, np.array(rows, np.int64)


def unit_arrays(pictures: Sequence[PictureRegions]) -> dict[str, np.ndarray]:
    """The store's arrays of some pictures, with counts in place of offsets: what a unit of `Shards` makes.

    Every picture has a region: one without is the caller's to leave out. UserError if widths differ (`one_width`).
    """
    if not pictures:
        return {}
    one_width(pictures)

    def joined(name: str, kind: type) -> np.ndarray:
        return np.concatenate([getattr(item, name) for item in pictures]).astype(kind)

    told = pictures[0].probabilities is not None
    return ({PROBABILITIES: joined(PROBABILITIES, np.float16)} if told else {}) | {
        "features": joined("features", np.float16),
        "boxes": np.concatenate([item.relative_boxes() for item in pictures]),
        "object_ids": joined("object_ids", np.int16),
        "object_conf": joined("object_conf", np.float16),
        "attribute_ids": joined("attribute_ids", np.int16),
        "attribute_conf": joined("attribute_conf", np.float16),
        "offsets": np.array([len(item) for item in pictures], np.int32),
        "sizes": np.array([[item.height, item.width] for item in pictures], np.int32),
    }


def join_store(
    shards: Shards,
    folder: Path,
    names: Sequence[tuple[str, int]],
    objects: Sequence[str],
    attributes: Sequence[str],
    provenance: Mapping[str, Any],
) -> None:
    """Write a store of finished shards; called by `Shards.publish`.

    Args:
        names: ids and their rows, in the order of the rows.
    """
    # Before the store: where the store is, the work is done, and nobody comes back for the others.
    write_text(folder / IDS, "".join(f"{one_line(name, IDS)}\t{row}\n" for name, row in names))
    about = {"objects": list(objects), "attributes": list(attributes), "provenance": dict(provenance)}
    write_json(folder / ABOUT, about)
    shards.join(folder / STORE, PRODUCER, offsets=["offsets"])


def write_store_of(
    folder: Path,
    pictures: Sequence[PictureRegions],
    objects: Sequence[str] = (),
    attributes: Sequence[str] = (),
    provenance: Mapping[str, Any] = {},
) -> RegionStore:
    """A store of pictures that are in memory: for examples and tests; stages use `Shards`."""
    folder = Path(folder)
    shards = Shards(folder / "checkpoint-regions", "in memory", [len(pictures)])
    shards.make(lambda i: (unit_arrays(pictures), {}))
    names = [(item.image_id, row) for row, item in enumerate(pictures)]
    shards.publish(lambda: join_store(shards, folder, names, objects, attributes, provenance))
    return RegionStore(folder)
