"""Picture vectors as the original VaLM keeps them: one file for each part of LAION, or two memory maps for all.

A part is a pickled mapping with `image_feats`, floats [n, E], and `image_names`, n texts. The maps have no header
though they are called `.npy` (VAL-21): `keys` float16 [N, E], `vals` int64 [N, 1], the number of each picture. Rows are
not unit (VAL-22).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vlpnb.data.text_files import require
from vlpnb.errors import UserError

FEATURES, NAMES = "image_feats", "image_names"
PART_ENDINGS = (".pt", ".pth", ".bin")


def part_files(folder: Path) -> list[Path]:
    """The parts in a folder by name. UserError if there are none."""
    found = sorted(
        p for p in require(folder, "parts of picture vectors").iterdir() if p.suffix in PART_ENDINGS
    )
    if not found:
        raise UserError(
            f"{folder}: holds no {', '.join(PART_ENDINGS)}; expected parts with {FEATURES} and {NAMES}"
        )
    return found


def read_part(path: Path, width: int) -> tuple[Float[np.ndarray, "n E"], list[str]]:
    """The vectors of a part, float32, and the names of their pictures; nothing but tensors and text is unpickled."""
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UserError(
            f"{path}: cannot be read as a part of picture vectors ({str(error)[:200]})"
        ) from error
    if not isinstance(found, dict) or not {FEATURES, NAMES} <= found.keys():
        raise UserError(f"{path}: expected a mapping with {FEATURES} and {NAMES}")
    vectors, names = found[FEATURES], found[NAMES]
    good = isinstance(vectors, Tensor) and vectors.is_floating_point() and vectors.ndim == 2
    if not good or vectors.shape[1] != width:
        shape = (
            f"{vectors.dtype} {list(vectors.shape)}"
            if isinstance(vectors, Tensor)
            else type(vectors).__name__
        )
        raise UserError(
            f"{path}: {FEATURES} are {shape}; expected floats [n, {width}], as wide as the towers' vectors"
        )
    if (
        not isinstance(names, list)
        or len(names) != len(vectors)
        or not all(isinstance(n, str) for n in names)
    ):
        raise UserError(f"{path}: {NAMES} are no list of {len(vectors):,} texts, one for each vector")
    return vectors.float().numpy(), names


@dataclass(frozen=True)
class MappedFeatures:
    """All vectors in two maps of files without a header; their length follows from the width."""

    keys: np.ndarray  # [N, E] float16
    numbers: np.ndarray  # [N] int64

    def __len__(self) -> int:
        return len(self.keys)

    def part(self, first: int, last: int) -> tuple[Float[np.ndarray, "n E"], Sequence[str]]:
        """Some rows, float32, and the numbers of their pictures as ids."""
        return np.asarray(self.keys[first:last], np.float32), [
            str(n) for n in self.numbers[first:last].tolist()
        ]


def open_maps(keys: Path, numbers: Path, width: int) -> MappedFeatures:
    """UserError if the files' sizes do not fit the width and each other, or they have a header after all."""
    sizes = [require(path, "a map of picture vectors").stat().st_size for path in (keys, numbers)]
    for path in (keys, numbers):
        with path.open("rb") as file:
            if file.read(6) == b"\x93NUMPY":
                raise UserError(f"{path}: has a header; expected bare numbers, as the original writes them")
    if not sizes[0] or sizes[0] % (2 * width) or sizes[1] != sizes[0] // (2 * width) * 8:
        raise UserError(
            f"{keys} ({sizes[0]:,} bytes) and {numbers} ({sizes[1]:,} bytes) are no float16 rows of width {width} with "
            "one int64 each; expected N · width · 2 and N · 8 bytes"
        )
    count = sizes[0] // (2 * width)
    return MappedFeatures(
        np.memmap(keys, np.float16, "r", shape=(count, width)),
        np.memmap(numbers, np.int64, "r", shape=(count,)),
    )
