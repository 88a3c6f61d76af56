"""The states of a causal text tower at every token of many short texts, in batches of similar length.

Paper: VaLM (Wang et al. 2022, section 2.2) asks for pictures with one query a token; the text is cut into chunks that
the tower can read.

Differs from the original, which runs every chunk alone and padded to 77 positions: chunks of similar length run
together, equal ones once. A batch has always the same number of rows for its length, filled up with empty ones, so that
what a chunk gets does not depend on its company, to the bit: the queries of one prefix are those of a table of a
million.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from vlpnb.errors import UserError

STEP = 8
"""Rows have a multiple of so many positions, start and end included, or the tower's longest."""
POSITIONS = 1024
"""Positions of a batch, all rows together, at most. A single chunk costs as much as a whole batch."""


def token_states(
    states: Callable[[Int[Tensor, "B T"]], Float[Tensor, "B T E"]],
    chunks: Sequence[Int[np.ndarray, " _"] | Sequence[int]],
    *,
    start: int,
    end: int,
    pad: int,
    longest: int,
    positions: int = POSITIONS,
) -> list[Float[np.ndarray, "_ E"]]:
    """The states at start, every token and end of each chunk.

    Args:
        states: ids of whole rows → the vector of every position. Causal: what is behind the end is never seen.
        chunks: ids without special tokens; a chunk may be empty.
        longest: ids of a chunk, at most.
        positions: of a batch, at most; another number may change the last bits.
    Returns:
        float32 (n + 2, E) of each chunk of n ids; equal chunks share one array.
    Raises:
        UserError: a chunk is longer than `longest`.
    """
    rows = [np.asarray(chunk, np.int64) for chunk in chunks]
    for i, row in enumerate(rows):
        if len(row) > longest:
            raise UserError(
                f"text {i} has {len(row)} word pieces; the text tower reads {longest} at most. Cut it in chunks"
            )
    keys = [row.tobytes() for row in rows]
    distinct = dict(zip(keys, rows, strict=True))
    by_length: dict[int, list[bytes]] = {}
    for key, row in distinct.items():
        by_length.setdefault(_row_length(len(row) + 2, longest + 2), []).append(key)
    found: dict[bytes, np.ndarray] = {}
    for length, waiting in sorted(by_length.items()):
        size = max(1, positions // length)
        for first in range(0, len(waiting), size):
            batch = waiting[first : first + size]
            ids = np.full((size, length), pad, np.int64)
            ids[:, 0] = start
            for i in range(size):
                row = distinct[batch[i]] if i < len(batch) else ()
                ids[i, 1 : len(row) + 1] = row
                ids[i, len(row) + 1] = end
            with torch.no_grad():
                vectors = states(torch.from_numpy(ids)).float().cpu().numpy()
            for i, key in enumerate(batch):
                found[key] = vectors[i, : len(distinct[key]) + 2].copy()
    return [found[key] for key in keys]


def _row_length(wanted: int, longest: int) -> int:
    return min(-(-wanted // STEP) * STEP, longest)
