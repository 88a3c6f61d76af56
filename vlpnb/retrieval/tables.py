"""Tables of what every token of a corpus retrieves, as a stage such as `valm.queries` has written them once.

<split>.hdf5   rows [N, P, K] int32: for each example and each of its positions (mode `chunk`: each piece of
               `every` positions) rows of a store, −1: none; scores [N, P, K] float16 if they were kept; or, mode
               `self`, vectors [N, P, E] float16; lengths [N] int32
"""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from vlpnb.data.fields import field
from vlpnb.data.store import attributes, mapped
from vlpnb.errors import UserError
from vlpnb.retrieval.store import VectorStore


class QueryTable:
    """The table of a split, mapped.

    Raises:
        UserError: it is missing or damaged.
    """

    def __init__(self, path: Path):
        self.path, about = Path(path), attributes(path)
        where = str(path)
        self.mode, self.store = (field(about, name, where) for name in ("mode", "store"))
        self.k, self.length, self.every = (
            int(field(about, name, where)) for name in ("k", "length", "every")
        )

    @cached_property
    def rows(self) -> np.ndarray:
        """[N, P, K] int32, mapped. UserError in mode self, which has vectors."""
        if self.mode == "self":
            raise UserError(f"{self.path}: mode self looks nothing up: the table has vectors and no rows")
        return mapped(self.path, "rows")

    @cached_property
    def vectors(self) -> np.ndarray:
        """Mode self: [N, P, E] float16, mapped; zeros where there is no query."""
        if self.mode != "self":
            raise UserError(f"{self.path}: mode {self.mode} has rows of the store and no vectors")
        return mapped(self.path, "vectors")

    @cached_property
    def lengths(self) -> np.ndarray:
        """Tokens of each example, [N]."""
        return mapped(self.path, "lengths")

    @cached_property
    def scores(self) -> np.ndarray | None:
        """[N, P, K] float16, mapped, −∞ where there is no picture; None if they were not kept."""
        return mapped(self.path, "scores") if attributes(self.path).get("scores") else None

    def __len__(self) -> int:
        """Number of examples."""
        return len(self.vectors if self.mode == "self" else self.rows)

    def batch(
        self, numbers: Sequence[int] | Int[np.ndarray, " B"], length: int | None = None, k: int | None = None
    ) -> Int[Tensor, "B T k"]:
        """The rows of some examples, one for every position; the first `k` pictures, the first `length` positions."""
        k = k or self.k
        if k > self.k:
            raise UserError(
                f"{self.path}: has {self.k} pictures for each token, and {k} are asked for: make it anew"
            )
        found = torch.from_numpy(self.rows[np.asarray(numbers), :, :k])
        if self.every > 1:
            found = found.repeat_interleave(self.every, dim=1)[:, : self.length]
            behind = torch.arange(self.length) >= torch.from_numpy(self.lengths[np.asarray(numbers)])[:, None]
            found[behind] = -1
        return found[:, :length]

    def queries(
        self, numbers: Sequence[int] | Int[np.ndarray, " B"], length: int | None = None
    ) -> Float[Tensor, "B T E"]:
        """Mode self: the vectors of some examples, float32; zeros where there is no query."""
        return torch.from_numpy(self.vectors[np.asarray(numbers), :length]).float()

    @cached_property
    def used(self) -> Int[np.ndarray, " U"]:
        """The rows that occur, in order: a run needs those of the store and no others."""
        top, step = 0, 1 << 14
        for at in range(0, len(self), step):
            top = max(top, int(self.rows[at : at + step].max(initial=-1)) + 1)
        seen = np.zeros(top + 1, bool)  # the last place takes −1
        for at in range(0, len(self), step):
            seen[self.rows[at : at + step]] = True
        return np.flatnonzero(seen[:-1])

    def check_store(self, store: VectorStore) -> None:
        """UserError if its rows are of another store."""
        if self.store != store.meta.hash:
            raise UserError(
                f"{self.path}: its rows are of a store with the hash {str(self.store)[:12]}, {store.folder} has "
                f"{store.meta.hash[:12]}. Run the stage `valm.queries` with this database"
            )


def open_table(folder: Path, split: str) -> QueryTable:
    """The table of a split. UserError if the folder has none of it."""
    path = Path(folder) / f"{split}.hdf5"
    if not path.is_file():
        there = ", ".join(sorted(found.stem for found in Path(folder).glob("*.hdf5"))) or "none"
        raise UserError(
            f"{folder}: has no rows of the text '{split}'; there are {there} (`valm.queries.splits`)"
        )
    return QueryTable(path)
