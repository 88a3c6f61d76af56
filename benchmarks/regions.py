"""Features of regions: the mapped store beside reading the TSV whole, as the original does.

Time to the first batch and time for an epoch of batches in random order; and, in a process of its own for each, the
memory. The original decodes every line of the TSV into arrays before it starts and stacks them batch by batch; its
numbers are single precision, the store's half, so results agree to that.
"""

import base64
import csv
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.measure import OwnMemory, Row, agree, compare, peak_megabytes
from vlpnb.data.obj36 import FIELDS, write_obj36
from vlpnb.data.region_store import RegionStore, write_store_of
from vlpnb.data.regions import PictureRegions

ARRAYS = {
    "objects_id": "<i8", "objects_conf": "<f4", "attrs_id": "<i8", "attrs_conf": "<f4", "boxes": "<f4",
    "features": "<f4",
}  # fmt: skip


@dataclass(frozen=True)
class Size:
    """36 boxes of 2,048 numbers are the published sizes; `long` says how many pictures the memory is measured with."""

    pictures: int = 200
    boxes: int = 36
    width: int = 2048
    batch: int = 32
    long: int = 800
    memory: bool = True
    rounds: int = 3


def invented(pictures: int, boxes: int, width: int) -> list[PictureRegions]:
    """Random regions; a third of the numbers is zero, as in published ones."""
    random = np.random.default_rng(0)
    base = random.standard_normal((boxes * 3, width), np.float32).clip(-0.4) + 0.4
    found = []
    for i in range(pictures):
        corners = np.sort(random.random((boxes, 2, 2), np.float32), axis=1) * 400
        ids, conf = random.integers(0, 400, boxes), random.random(boxes, np.float32)
        features = base[random.integers(0, len(base), boxes)]
        found.append(
            PictureRegions(f"p{i}", 400, 400, corners.reshape(boxes, 4), features, ids, conf, ids, conf)
        )
    return found


def write(folder: Path, size: Size, pictures: int) -> None:
    """The same pictures as a store and as a TSV."""
    found = invented(pictures, size.boxes, size.width)
    write_store_of(folder / "store", found)
    write_obj36(folder / "regions.tsv", found)


def ours(folder: Path, order: list[np.ndarray]) -> list[tuple[Tensor, Tensor]]:
    """Open the store and make batches; what is kept of each is the mean feature and the mean box of its pictures."""
    store = RegionStore(folder / "store")
    found = []
    for rows in order:
        batch = store.batch(rows)
        found.append((batch.features.mean((1, 2)), batch.boxes.mean((1, 2))))
    return found


def peer(folder: Path, order: list[np.ndarray]) -> list[tuple[Tensor, Tensor]]:
    """Read the TSV into memory with Python's reader, then make batches by stacking."""
    csv.field_size_limit(sys.maxsize)
    data = []
    with (folder / "regions.tsv").open() as file:
        for item in csv.DictReader(file, FIELDS, delimiter="\t"):
            count = int(item["num_boxes"])
            for name, kind in ARRAYS.items():
                values = np.frombuffer(base64.b64decode(item[name]), kind)
                item[name] = values.reshape(count, -1) if name in ("boxes", "features") else values
            data.append(item)
    found = []
    for rows in order:
        features = torch.stack([torch.from_numpy(data[i]["features"].copy()) for i in rows])
        boxes = torch.stack([torch.from_numpy(data[i]["boxes"].copy()) for i in rows])
        sizes = torch.tensor([[float(data[i]["img_w"]), float(data[i]["img_h"])] * 2 for i in rows])
        found.append((features.mean((1, 2)), (boxes / sizes[:, None]).mean((1, 2))))
    return found


def same(first: list[tuple[Tensor, Tensor]], second: list[tuple[Tensor, Tensor]]) -> None:
    """Equal up to half precision of the features; boxes to rounding."""
    agree(len(first) == len(second), f"{len(first)} batches beside {len(second)}")
    for (a, c), (b, d) in zip(first, second, strict=True):
        agree(torch.allclose(a, b, atol=1e-3), f"mean features differ by up to {(a - b).abs().max():.1e}")
        agree(torch.allclose(c, d, atol=1e-6), f"mean boxes differ by up to {(c - d).abs().max():.1e}")


def batches(pictures: int, batch: int) -> list[np.ndarray]:
    """An epoch in random order."""
    order = np.random.default_rng(1).permutation(pictures)
    return [order[i : i + batch] for i in range(0, pictures, batch)]


def loading(which: str, folder: str, pictures: int, batch: int) -> dict[str, float]:
    """Megabytes that one epoch on one side needs of its own, at most, and a sum over what it read."""
    with OwnMemory() as own:
        found = (ours if which == "ours" else peer)(Path(folder), batches(pictures, batch))
    return {"megabytes": own.most, "sum": float(sum(features.sum() for features, _ in found))}


def memory(folder: Path, size: Size, pictures: int) -> tuple[dict[str, float], dict[str, float]]:
    """Both sides in processes of their own."""
    first, second = (
        peak_megabytes("benchmarks.regions.loading", which, str(folder), pictures, size.batch)
        for which in ("ours", "peer")
    )
    agree(abs(first["sum"] - second["sum"]) < 1e-3 * abs(second["sum"]), "features have different sums")
    return first, second


def run(size: Size = Size(), device: str = "cpu") -> list[Row]:
    """Rows: the first batch, an epoch, and peak memory for two numbers of pictures."""
    rows = []
    shape = f"{size.boxes} × {size.width:,}"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder, size, size.pictures)
        order = batches(size.pictures, size.batch)
        for what, part in (("first batch of regions", order[:1]), ("an epoch of regions", order)):
            rows.append(compare(
                f"{what}, {size.pictures:,} pictures", lambda part=part: ours(folder, part),
                lambda part=part: peer(folder, part), same, rounds=size.rounds,
                note=f"{shape}; peer: the TSV in memory",
            ))  # fmt: skip
        if not size.memory:
            return rows
        short = memory(folder, size, size.pictures)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder, size, size.long)
        long = memory(folder, size, size.long)
    for count, (first, second) in ((size.pictures, short), (size.long, long)):
        mine, theirs = first["megabytes"], second["megabytes"]
        rows.append(Row(
            f"memory for the regions of {count:,} pictures", mine, theirs, theirs / mine, "MB",
            note="its own; pages of the mapped file, which all processes share, are not counted",
        ))  # fmt: skip
    return rows
