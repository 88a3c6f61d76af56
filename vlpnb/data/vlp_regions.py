"""Region files of VLP (Zhou et al., AAAI 2020), for import into a store of regions.

Two layouts, both with a key of the picture's base name (without its suffix):

* HDF5, cut by the last three characters of the key: `<prefix>_feat<ddd>.h5` [n, F] and `<prefix>_cls<ddd>.h5`
  [n, 1 + classes], the probabilities of the background and of the classes;
* numpy: `<key>.npy` [n, F] and `<key>_cls_prob.npy` [n, 1 + classes].

Boxes are in one HDF5 file for all pictures, [n, 6]: left, top, right, bottom in pixels, class, score. Sizes of pictures
are not stored: they come from the pictures, or, as VLP itself does, from the largest coordinates. Attributes are not
among these files.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

import h5py
import numpy as np
from PIL import Image, ImageOps

from vlpnb.data.regions import PictureRegions, checked
from vlpnb.data.store import open_checked
from vlpnb.data.text_files import require
from vlpnb.errors import UserError

OPEN = 32  # shards that are held open
GAPS = ("no boxes", "no features", "no class probabilities")
SLACK = 1.0  # pixels that a box may reach beyond its picture, and is cut


class VlpRegions:
    """Regions by key. Close it, or use it as a context.

    Args:
        folder: of the feature files, in either layout.
        boxes: the HDF5 file of boxes.
        probabilities: give them, too, and as confidence the score that stands with the box, which VLP reads (VLP-15):
            0 for a box that no suppression spared. Without them it is the probability of the best class.
    Raises:
        UserError: there are no such files, or of several prefixes.
    """

    def __init__(self, folder: Path, boxes: Path, probabilities: bool = False):
        self.probabilities = probabilities
        self.folder, self.boxes = require(Path(folder), "VLP's region features"), Path(boxes)
        self._files: dict[Path, h5py.File] = {}
        self._shards: list[Path] = []  # those of the open files that may be closed, the oldest first
        prefixes = {path.name[: -len("_feat000.h5")] for path in self.folder.glob("*_feat???.h5")}
        if len(prefixes) > 1:
            raise UserError(f"{folder}: files of {', '.join(sorted(prefixes))}; expected one prefix")
        self.prefix = next(iter(prefixes), None)
        if self.prefix is None and next(self.folder.glob("*_cls_prob.npy"), None) is None:
            raise UserError(
                f"{folder}: expected <prefix>_feat<ddd>.h5 with _cls<ddd>.h5, or <key>.npy with <key>_cls_prob.npy"
            )

    def __enter__(self) -> "VlpRegions":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the files that are open."""
        for file in self._files.values():
            file.close()
        self._files.clear()
        self._shards.clear()

    def keys(self) -> list[str]:
        """The keys of all pictures that have boxes, sorted."""
        return sorted(self._open(self.boxes))

    def __contains__(self, key: str) -> bool:
        return not self.gaps([key])

    def gaps(self, keys: Iterable[str]) -> dict[str, str]:
        """Of these keys, those of which something is missing, and what: one of `GAPS`. Every shard is opened once."""
        found = {}
        for key in sorted(set(keys), key=self.shard):
            there = (
                lambda key=key: key in self._open(self.boxes),
                lambda key=key: self._has("feat", ".npy", key),
                lambda key=key: self._has("cls", "_cls_prob.npy", key),
            )
            gap = next((gap for gap, check in zip(GAPS, there, strict=True) if not check()), None)
            if gap is not None:
                found[key] = gap
        return found

    def shard(self, key: str) -> str:
        """Which shard a picture lies in: whoever reads many takes those of one together."""
        return "" if self.prefix is None else key[-3:]

    def _has(self, kind: str, suffix: str, key: str) -> bool:
        if self.prefix is None:
            return (self.folder / f"{key}{suffix}").is_file()
        path = self._shard(kind, key)
        return path.is_file() and key in self._open(path)

    def picture(self, key: str, path: Path | None = None) -> PictureRegions:
        """The regions of one picture.

        Args:
            path: the picture itself, for its size; else the largest coordinates are taken for it.
        Raises:
            UserError: an array is missing, has another shape, or numbers that cannot be stored.
        """
        boxes, where = self._dataset(self.boxes, key)
        if boxes.ndim != 2 or boxes.shape[1] != 6:
            raise UserError(f"{where}: shape {list(boxes.shape)}; expected [n, 6]")
        if self.prefix is None:
            features, place = self._array(self.folder / f"{key}.npy")
            classes, _ = self._array(self.folder / f"{key}_cls_prob.npy")
        else:
            features, place = self._dataset(self._shard("feat", key), key)
            classes, _ = self._dataset(self._shard("cls", key), key)
        shapes = [array.shape for array in (boxes, features, classes)]
        if features.ndim != 2 or classes.ndim != 2 or len({shape[0] for shape in shapes}) != 1:
            shown = " ".join(str(list(shape)) for shape in shapes)
            raise UserError(
                f"{place}: boxes, features and classes of {key} have the shapes {shown}; expected [n, …] each"
            )
        height, width = self._size(path, boxes)
        edges = boxes[:, :4].astype(np.float32)
        most = np.array([width, height] * 2, np.float32)
        cut = edges.clip(0, most)
        edges = np.where(np.abs(edges - cut) <= SLACK, cut, edges)
        told = classes.astype(np.float32)
        ids = told[:, 1:].argmax(1) if len(boxes) else np.empty(0, np.int64)
        best = boxes[:, 5].astype(np.float32) if self.probabilities else told[np.arange(len(ids)), 1 + ids]
        found = PictureRegions(
            key, height, width, edges, features.astype(np.float32), ids, best,
            np.full(len(ids), -1), np.zeros(len(ids), np.float32), told if self.probabilities else None,
        )  # fmt: skip
        return checked(found, place, classes.shape[1] - 1)

    def _shard(self, kind: str, key: str) -> Path:
        return self.folder / f"{self.prefix}_{kind}{key[-3:]}.h5"

    def _open(self, path: Path) -> h5py.File:
        if path not in self._files:
            if path != self.boxes:  # which is asked for every picture, and large
                if len(self._shards) >= OPEN:
                    self._files.pop(self._shards.pop(0)).close()
                self._shards.append(path)
            self._files[path] = open_checked(path)
        return self._files[path]

    def _dataset(self, path: Path, key: str) -> tuple[np.ndarray, str]:
        where = f"{path}: {key}"
        file = self._open(path)
        if not isinstance(file.get(key), h5py.Dataset):
            raise UserError(f"{where}: no such picture; the file has {len(file):,}")
        return _read(lambda: file[key][()], where), where

    def _array(self, path: Path) -> tuple[np.ndarray, str]:
        require(path, "one picture's array")
        return _read(lambda: np.load(path, allow_pickle=False), str(path)), str(path)

    def _size(self, path: Path | None, boxes: np.ndarray) -> tuple[int, int]:
        if path is not None and path.is_file():
            try:
                with Image.open(path) as image:
                    turned = ImageOps.exif_transpose(image) if image.getexif().get(0x0112, 1) != 1 else image
                    return turned.height, turned.width
            except (OSError, ValueError, SyntaxError):
                pass  # a picture that cannot be read has its features all the same
        width, height = np.ceil(boxes[:, [0, 2]].max(initial=1)), np.ceil(boxes[:, [1, 3]].max(initial=1))
        return int(height), int(width)


def _read(read: Callable[[], np.ndarray], where: str) -> np.ndarray:
    try:
        values = read()
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{where}: cannot be read ({error}); fetch the file again") from error
    if values.dtype.kind != "f":
        raise UserError(f"{where}: {values.dtype} numbers; expected floats")
    return values
