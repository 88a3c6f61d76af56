"""Regions with the probabilities of their classes: the mapped store beside VLP's HDF5 shards.

Time for an epoch of batches in random order; and, in a process of its own for each, the memory. The original opens the
two shards of a picture and the file of boxes anew for every picture; a second peer holds all files open, as one would
who keeps the layout. Both sides hold half precision, as the files of Conceptual Captions do, and give single precision.
The files are read from the system's cache: from a slow disk all sides wait for the same bytes.
"""

import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import torch
from torch import Tensor

from benchmarks.measure import OwnMemory, Row, agree, compare, peak_megabytes
from benchmarks.regions import batches
from vlpnb.data.region_store import RegionStore, write_store_of
from vlpnb.data.regions import PictureRegions

SIDE = 400  # pixels, of every picture
SHARDS = 20  # so that ten pictures share one, where published files have a hundred and more
Batches = list[tuple[Tensor, Tensor, Tensor]]


@dataclass(frozen=True)
class Size:
    """100 boxes of 2,048 numbers and 1,601 classes are the published sizes; `long`: pictures for the memory."""

    pictures: int = 200
    boxes: int = 100
    width: int = 2048
    classes: int = 1601
    batch: int = 32
    long: int = 600
    memory: bool = True
    rounds: int = 3


def named(number: int) -> str:
    """Shards are cut by the last three characters."""
    return f"p{number // SHARDS:04d}{number % SHARDS:03d}"


def invented(number: int, size: Size) -> PictureRegions:
    """Random regions of one picture."""
    random = np.random.default_rng(number)
    corners = np.sort(random.random((size.boxes, 2, 2), np.float32), axis=1) * SIDE
    features = random.standard_normal((size.boxes, size.width), np.float32).clip(0)
    told = random.random((size.boxes, size.classes), np.float32) ** 8
    told /= told.sum(1, keepdims=True)
    ids, conf = told[:, 1:].argmax(1), told[:, 1:].max(1)
    none = np.full(size.boxes, -1), np.zeros(size.boxes, np.float32)
    return PictureRegions(
        named(number), SIDE, SIDE, corners.reshape(-1, 4), features, ids, conf, *none, told
    )  # fmt: skip


def write(folder: Path, size: Size, pictures: int) -> None:
    """The same pictures as a store and as VLP's files."""
    found = [invented(i, size) for i in range(pictures)]
    write_store_of(folder / "store", found)
    with h5py.File(folder / "boxes.h5", "w") as boxes:
        for item in found:
            about = [item.boxes, item.object_ids[:, None], item.object_conf[:, None]]
            boxes[item.image_id] = np.concatenate(about, 1).astype(np.float32)
            for kind, values in (("feat", item.features), ("cls", item.probabilities)):
                with h5py.File(folder / f"x_{kind}{item.image_id[-3:]}.h5", "a") as shard:
                    shard[item.image_id] = values.astype(np.float16)


def ours(folder: Path, order: list[np.ndarray]) -> Batches:
    """Open the store and make batches; kept of each are the means of features, probabilities and boxes."""
    store = RegionStore(folder / "store")
    made = (store.batch(rows, probabilities=True) for rows in order)
    return [_means(batch.features, batch.probabilities, batch.boxes) for batch in made]


def peer(folder: Path, order: list[np.ndarray]) -> Batches:
    """As the original: three files are opened for every picture."""

    def read(path: Path, name: str) -> Tensor:
        with h5py.File(path, "r") as file:
            return torch.from_numpy(file[name][:]).float()

    return _stacked(folder, order, read)


def held_open(folder: Path, order: list[np.ndarray]) -> Batches:
    """The same files, each opened once."""
    with ExitStack() as stack:
        files: dict[Path, h5py.File] = {}

        def read(path: Path, name: str) -> Tensor:
            if path not in files:
                files[path] = stack.enter_context(h5py.File(path, "r"))
            return torch.from_numpy(files[path][name][:]).float()

        return _stacked(folder, order, read)


def _stacked(folder: Path, order: list[np.ndarray], read: Callable[[Path, str], Tensor]) -> Batches:
    found = []
    for rows in order:
        items = []
        for name in (named(i) for i in rows):
            features, told = (read(folder / f"x_{kind}{name[-3:]}.h5", name) for kind in ("feat", "cls"))
            items.append((features, told, read(folder / "boxes.h5", name)[:, :4] / SIDE))
        found.append(_means(*(torch.stack(part) for part in zip(*items, strict=True))))
    return found


def _means(*arrays: Tensor) -> tuple[Tensor, ...]:
    return tuple(values.mean((1, 2)) for values in arrays)


def same(first: Batches, second: Batches) -> None:
    """Equal to rounding: both sides hold the same half-precision numbers."""
    agree(len(first) == len(second), f"{len(first)} batches beside {len(second)}")
    for mine, theirs in zip(first, second, strict=True):
        for a, b, what in zip(mine, theirs, ("features", "probabilities", "boxes"), strict=True):
            agree(torch.allclose(a, b, atol=1e-6), f"mean {what} differ by up to {(a - b).abs().max():.1e}")


def loading(which: str, folder: str, pictures: int, batch: int) -> dict[str, float]:
    """Megabytes that one epoch on one side needs of its own, at most, and a sum over what it read."""
    with OwnMemory() as own:
        found = {"ours": ours, "peer": peer}[which](Path(folder), batches(pictures, batch))
    return {"megabytes": own.most, "sum": float(sum(features.sum() for features, _, _ in found))}


def run(size: Size = Size(), device: str = "cpu") -> list[Row]:
    """Rows: an epoch beside files opened anew and files held open, and peak memory for two numbers of pictures."""
    rows = []
    shape = f"{size.boxes} × ({size.width:,} + {size.classes:,})"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder, size, size.pictures)
        order = batches(size.pictures, size.batch)
        for other, what in ((peer, "opened for each picture"), (held_open, "held open")):
            rows.append(compare(
                f"{size.pictures:,} pictures' regions, shards {what}", lambda: ours(folder, order),
                lambda other=other: other(folder, order), same, rounds=size.rounds, note=shape,
            ))  # fmt: skip
    for count in (size.pictures, size.long) if size.memory else ():
        with tempfile.TemporaryDirectory() as name:
            write(Path(name), size, count)
            mine, theirs = (
                peak_megabytes("benchmarks.region_shards.loading", which, name, count, size.batch)
                for which in ("ours", "peer")
            )
        agree(abs(mine["sum"] - theirs["sum"]) < 1e-4 * abs(theirs["sum"]), "features have different sums")
        a, b = mine["megabytes"], theirs["megabytes"]
        note = "its own; pages of the mapped file, which all processes share, are not counted"
        rows.append(
            Row(f"memory for {count:,} pictures' regions beside shards", a, b, b / a, "MB", note=note)
        )
    return rows
