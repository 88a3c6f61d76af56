"""A token stream cut into blocks for language-model pre-training (Vokenization spec section 9.2).

Blocks ignore line, sentence and document ends; every block is full, so there is no padding and no attention
mask. Differs from the reference: all full blocks are kept, where the reference drops up to two (quirk Q-14;
`legacy=True` restores it).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor
from torch.utils.data import Dataset

from vlpnb.data.store import mapped
from vlpnb.errors import UserError
from vlpnb.text.masking import IGNORE


def block_starts(
    n: int, block: int = 126, legacy: bool = False, exclude: tuple[int, int] | None = None
) -> np.ndarray:
    """Start offsets (int64) of the blocks of a corpus of `n` tokens.

    `legacy` counts as the reference does: pairs of consecutive starts, less one. `exclude` removes the blocks
    that overlap a token range [start, end), such as the list of counties in the reference's Wikipedia.
    """
    count = max(-(-n // block) - 2, 0) if legacy else n // block
    starts = np.arange(count, dtype=np.int64) * block
    if exclude is not None:
        first, end = exclude
        starts = starts[(starts + block <= first) | (starts >= end)]
    return starts


class BlockDataset(Dataset):
    """Blocks `[CLS] tokens [SEP]` of a corpus, optionally with one label per token (vokens).

    `tokens` and `labels` are arrays, or paths of HDF5 stores with datasets `tokens` and `vokens`; paths are
    opened at first use in each process (as memory maps where possible), so that the dataset can be sent to
    workers. Item i is a dict of int64 tensors: `ids` [block + 2] and, with labels, `labels` [block + 2] with
    -100 at [CLS] and [SEP]; token j and label j share a position.

    Raises:
        UserError: if tokens and labels differ in length, or the corpus is shorter than one block.
    """

    def __init__(
        self,
        tokens: Path | np.ndarray,
        labels: Path | np.ndarray | None = None,
        *,
        cls_id: int,
        sep_id: int,
        block: int = 126,
        legacy: bool = False,
        exclude: tuple[int, int] | None = None,
    ):
        self.block, self.cls_id, self.sep_id = block, cls_id, sep_id
        self._tokens_source, self._labels_source = tokens, labels
        self._tokens = self._labels = None
        tokens_n, labels_n = len(self.tokens), len(self.labels) if labels is not None else None
        if labels_n is not None and labels_n != tokens_n:
            raise UserError(
                f"{_name(labels)} has {labels_n:,} labels but {_name(tokens)} has {tokens_n:,} tokens; "
                "expected one label per token. They come from different corpora or tokenizers: run the stages again."
            )
        self.starts = block_starts(tokens_n, block, legacy, exclude)
        if len(self.starts) == 0:
            raise UserError(
                f"{_name(tokens)} has {tokens_n:,} tokens, which gives no block of {block}; use more text."
            )

    @property
    def tokens(self):
        if self._tokens is None:
            self._tokens = _opened(self._tokens_source, "tokens")
        return self._tokens

    @property
    def labels(self):
        if self._labels is None and self._labels_source is not None:
            self._labels = _opened(self._labels_source, "vokens")
        return self._labels

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_tokens": None, "_labels": None}

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, index: int) -> dict[str, Int[Tensor, T]]:
        return {name: rows[0] for name, rows in self.batch([index]).items()}

    def batch(self, indices: Sequence[int]) -> dict[str, Int[Tensor, "B T"]]:
        """Several blocks, in the order of `indices`: `ids` and, where there are, `labels`, [B, block + 2]."""
        starts = self.starts[np.asarray(indices, dtype=np.int64)]
        result = {"ids": self._rows(self.tokens, starts, self.cls_id, self.sep_id)}
        if self.labels is not None:
            result["labels"] = self._rows(self.labels, starts, IGNORE, IGNORE)
        return result

    def _rows(self, source, starts: np.ndarray, first: int, last: int) -> Tensor:
        rows = np.empty((len(starts), self.block + 2), dtype=np.int64)
        rows[:, 0], rows[:, -1] = first, last
        for row, start in zip(rows, starts.tolist(), strict=True):
            row[1:-1] = source[start : start + self.block]
        return torch.from_numpy(rows)


def _opened(source: Path | np.ndarray, name: str):
    return mapped(Path(source), name) if isinstance(source, str | Path) else source


def _name(source: Path | np.ndarray) -> str:
    return str(source) if isinstance(source, str | Path) else "the array"
