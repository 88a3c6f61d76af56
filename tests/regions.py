"""Invented regions of a few pictures, and a finished store of them, for the tests of whatever reads regions."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vlpnb.data.region_store import RegionStore, write_store_of
from vlpnb.data.regions import PictureRegions


def invented(
    image_id: str, count: int = 4, width: int = 8, objects: int = 6, attributes: int = 3, seed: int = 0,
    probabilities: bool = False,
) -> PictureRegions:  # fmt: skip
    """`count` random regions of one picture; non-negative features of which some are zero, as real ones."""
    random = np.random.default_rng([seed, *image_id.encode()])
    size = random.integers(40, 200, 2)  # height, width
    corners = np.sort(random.random((count, 2, 2), np.float32), axis=1) * size[::-1].astype(np.float32)
    return PictureRegions(
        image_id, int(size[0]), int(size[1]), corners.reshape(count, 4).astype(np.float32),
        random.standard_normal((count, width), np.float32).clip(0),
        random.integers(0, objects, count), random.random(count, np.float32),
        random.integers(0, attributes, count), random.random(count, np.float32),
        random.dirichlet(np.ones(1 + objects), count).astype(np.float32) if probabilities else None,
    )  # fmt: skip


def region_store(
    folder: Path,
    ids: Sequence[str],
    counts: Sequence[int] | int = 4,
    width: int = 8,
    objects: int = 6,
    attributes: int = 3,
    seed: int = 0,
    probabilities: bool = False,
) -> RegionStore:
    """A finished store (as the stage `regions` leaves it) with invented regions of these pictures."""
    counts = [counts] * len(ids) if isinstance(counts, int) else counts
    pictures = [
        invented(name, count, width, objects, attributes, seed, probabilities)
        for name, count in zip(ids, counts, strict=True)
    ]
    names = ([f"{kind}{i}" for i in range(n)] for kind, n in (("object", objects), ("attribute", attributes)))
    return write_store_of(folder, pictures, *names, {"extractor": "invented"})
