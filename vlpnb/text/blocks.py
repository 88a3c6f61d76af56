"""Text as examples for a language model that reads from left to right: inputs, and the next token of each.

VaLM (section 3.1) reads one flat stream: lines with their end tokens back to back, cut into blocks of T whatever ends
where; the last block may be shorter. The input of a block is the token before each of its targets; before the very
first stands an end token. `lines=True` is the other way: a line is an example of its own, read after an end token,
and one that is longer than T gives several (or, with `cut`, is cut).

What packing hides, a line keeps: the picture that it describes (`pictures`). A system that looks pictures up while it
reads can so leave out the one whose caption it reads.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int, Integer
from torch import Tensor
from torch.utils.data import Dataset

from vlpnb.errors import UserError
from vlpnb.nn.losses import IGNORE
from vlpnb.text.binarised import Binarised


class LanguageBlocks(Dataset):
    """Examples of at most T tokens of a corpus, int64.

    Args:
        tokens: ids [N] of lines that end with the end token; an array, or a corpus of `text.binarised` by its path.
        offsets: where the lines start, [L + 1]; a corpus that is named knows them.
        block: T.
        lines: one line is one example.
        cut: with `lines`, what a line has beyond T is left out; else it is an example that starts after its last token.
        pictures: with each line the number of the picture that it describes, or -1; [L].

    `batch(rows)` gives `ids` [B, T], `targets` [B, T] (-100 behind the end of an example, whose `ids` are `pad_id`),
    `start` [B] (where the example's first target stands in the corpus), and with `pictures` also `own` [B, T], the
    picture of the line that each target is of.

    Raises:
        UserError: no token, a block of no token, or pictures for another number of lines.
    """

    def __init__(
        self,
        tokens: Path | Integer[np.ndarray, " N"],
        offsets: Integer[np.ndarray, " L1"] | None = None,
        *,
        block: int,
        end_id: int,
        pad_id: int,
        lines: bool = False,
        cut: bool = False,
        pictures: Integer[np.ndarray, " L"] | None = None,
    ):
        self.block, self.end_id, self.pad_id = block, end_id, pad_id
        self._corpus = Binarised(tokens) if isinstance(tokens, str | Path) else None
        self._array = None if self._corpus is not None else tokens
        if self._corpus is not None:
            offsets = self._corpus.offsets
        name = f"{tokens}" if self._corpus is not None else "the array"
        if block < 1 or not len(self.tokens):
            raise UserError(f"{name} has {len(self.tokens):,} tokens for blocks of {block}; use more text.")
        if offsets is None and (lines or pictures is not None):
            raise UserError(f"{name}: where its lines start is not said, so that they cannot be told apart.")
        if pictures is not None and len(pictures) != len(offsets) - 1:
            raise UserError(
                f"{name} has {len(offsets) - 1:,} lines, but pictures are given for {len(pictures):,}; they come "
                "from different texts."
            )
        self.offsets, self.pictures, self.of_lines = offsets, pictures, lines
        if lines:
            self.starts, self.lengths = _line_examples(offsets, block, cut)
        else:
            self.starts = np.arange(0, len(self.tokens), block, dtype=np.int64)
            self.lengths = np.minimum(self.starts + block, len(self.tokens)) - self.starts

    @property
    def tokens(self) -> np.ndarray:
        """The ids [N]."""
        return self._corpus.tokens if self._corpus is not None else self._array

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {name: rows[0] for name, rows in self.batch([index]).items()}

    def batch(self, rows: Sequence[int] | np.ndarray) -> dict[str, Int[Tensor, "B *_"]]:
        """Several examples, in the order of `rows`; as wide as the longest of them."""
        at = np.asarray(rows, dtype=np.int64)
        starts, lengths = self.starts[at], self.lengths[at]
        width = int(lengths.max(initial=1))
        ids = np.full((len(at), width), self.pad_id, dtype=np.int64)
        targets = np.full((len(at), width), IGNORE, dtype=np.int64)
        for row, (start, length) in enumerate(zip(starts.tolist(), lengths.tolist(), strict=True)):
            found = self.tokens[start : start + length]
            targets[row, :length] = found
            ids[row, 1:length] = found[:-1]
            ids[row, 0] = self._before(start)
        made = {"ids": ids, "targets": targets, "start": starts}
        if self.pictures is not None:
            made["own"] = np.where(targets == IGNORE, -1, self._own(starts, width))
        return {name: torch.from_numpy(values) for name, values in made.items()}

    def _before(self, start: int) -> int:
        """The token that stands before a place: of the stream, or, at the beginning of a line's example, the end."""
        first = start == 0 or (self.of_lines and self.offsets[np.searchsorted(self.offsets, start)] == start)
        return self.end_id if first else int(self.tokens[start - 1])

    def _own(self, starts: np.ndarray, width: int) -> np.ndarray:
        places = np.minimum(starts[:, None] + np.arange(width), len(self.tokens) - 1)  # (B, T)
        return np.asarray(self.pictures, np.int64)[
            np.searchsorted(self.offsets, places.ravel(), side="right").reshape(places.shape) - 1
        ]


def _line_examples(offsets: np.ndarray, block: int, cut: bool) -> tuple[np.ndarray, np.ndarray]:
    """Start and length of the examples of lines; those without a token have none."""
    offsets = np.asarray(offsets, np.int64)
    sizes = np.diff(offsets)
    if cut:
        kept = sizes > 0
        return offsets[:-1][kept], np.minimum(sizes, block)[kept]
    parts = -(-sizes // block)
    line = np.repeat(np.arange(len(sizes)), parts)
    part = np.arange(len(line)) - np.repeat(np.cumsum(parts) - parts, parts)
    starts = offsets[line] + part * block
    return starts, np.minimum(starts + block, offsets[line + 1]) - starts
