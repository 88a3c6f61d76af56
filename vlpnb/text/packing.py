"""A token stream cut into examples for language-model pre-training.

Blocks ignore line, sentence and document ends; every block is full, so there is no padding and no attention
mask. Differs from the reference: all full blocks are kept, where the reference drops up to two (quirk VOK-14;
`legacy=True` restores it). The reference's baseline may also read line by line: each line is then an example,
cut to the size of a block and padded to it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor
from torch.utils.data import Dataset

from vlpnb.data.store import mapped
from vlpnb.errors import UserError
from vlpnb.nn.losses import IGNORE


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


def line_spans(
    offsets: np.ndarray, block: int = 126, exclude: tuple[int, int] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Start offsets and lengths (int64) of the lines that have tokens, each cut after `block` of them.

    `offsets` are those of L lines, [L + 1]. `exclude` removes what overlaps a token range [start, end).
    """
    starts, lengths = offsets[:-1], np.minimum(np.diff(offsets), block)
    kept = lengths > 0
    if exclude is not None:
        kept &= (starts + lengths <= exclude[0]) | (starts >= exclude[1])
    return starts[kept], lengths[kept]


class BlockDataset(Dataset):
    """Blocks `[CLS] tokens [SEP]` of a corpus, or its lines, optionally with one label per token (vokens).

    `tokens` and `labels` are arrays, or paths of HDF5 stores with datasets `tokens` and `vokens`; paths are
    opened at first use in each process (as memory maps where possible), so that the dataset can be sent to
    workers. Item i is a dict of int64 tensors: `ids` [block + 2] and, with labels, `labels` [block + 2] with
    -100 at [CLS] and [SEP]; token j and label j share a position.

    With `lines`, the offsets [L + 1] of the corpus's lines, an item is a line: at most `block` of its tokens, then
    `pad_id` (labels: -100) up to the length of a block; `mask` [block + 2] is False at padding. Lines without tokens
    are left out.

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
        lines: np.ndarray | None = None,
        pad_id: int = 0,
    ):
        self.block, self.cls_id, self.sep_id, self.pad_id = block, cls_id, sep_id, pad_id
        self.padded = lines is not None
        self._tokens_source, self._labels_source = tokens, labels
        self._tokens = self._labels = None
        tokens_n, labels_n = len(self.tokens), len(self.labels) if labels is not None else None
        if labels_n is not None and labels_n != tokens_n:
            raise UserError(
                f"{_name(labels)} has {labels_n:,} labels but {_name(tokens)} has {tokens_n:,} tokens; "
                "expected one label per token. They come from different corpora or tokenizers: run the stages again."
            )
        if lines is None:
            self.starts = block_starts(tokens_n, block, legacy, exclude)
            self.lengths = np.broadcast_to(np.int64(block), self.starts.shape)
        else:
            self.starts, self.lengths = line_spans(lines, block, exclude)
        if len(self.starts) == 0:
            kind = "line" if self.padded else f"block of {block}"
            raise UserError(f"{_name(tokens)} has {tokens_n:,} tokens, which gives no {kind}; use more text.")

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

    def __getitem__(self, index: int) -> dict[str, Int[Tensor, " T"] | Bool[Tensor, " T"]]:
        return {name: rows[0] for name, rows in self.batch([index]).items()}

    def batch(
        self, indices: Sequence[int] | np.ndarray
    ) -> dict[str, Int[Tensor, "B T"] | Bool[Tensor, "B T"]]:
        """Several examples, in the order of `indices`: `ids`, and `labels` and `mask` where there are any."""
        at = np.asarray(indices, dtype=np.int64)
        result = {"ids": self._rows(self.tokens, at, self.cls_id, self.sep_id, self.pad_id)}
        if self.labels is not None:
            result["labels"] = self._rows(self.labels, at, IGNORE, IGNORE, IGNORE)
        if self.padded:
            result["mask"] = torch.from_numpy(np.arange(self.block + 2) < self.lengths[at, None] + 2)
        return result

    def _rows(self, source, at: np.ndarray, first: int, last: int, pad: int) -> Tensor:
        rows = np.full((len(at), self.block + 2), pad, dtype=np.int64)
        rows[:, 0] = first
        starts, lengths = self.starts[at].tolist(), self.lengths[at].tolist()
        for row, start, length in zip(rows, starts, lengths, strict=True):
            row[1 : length + 1] = source[start : start + length]
            row[length + 1] = last
        return torch.from_numpy(rows)


def trimmed(batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A batch [B, T] without the last columns that are padding in every row."""
    width = max(int(batch["mask"].any(0).sum()), 1) if "mask" in batch else None
    return {name: value[:, :width] for name, value in batch.items()}


def _opened(source: Path | np.ndarray, name: str):
    return mapped(Path(source), name) if isinstance(source, str | Path) else source


def _name(source: Path | np.ndarray) -> str:
    return str(source) if isinstance(source, str | Path) else "the array"
