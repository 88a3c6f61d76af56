"""A corpus in pages of whole sentences, or of pieces of those that are too long: how a frozen reader goes through it.

Pages depend on the corpus and their size alone, so that neither where a run was interrupted nor the number of processes
changes what is read together. Memory does not grow with the corpus.
"""

from bisect import bisect_left, bisect_right

import numpy as np
from jaxtyping import Int

from vlpnb.text.sentences import split_long

CHUNK = 1 << 20  # sentences in memory at a time


def pieces_of(offsets: Int[np.ndarray, " S1"], limit: int, legacy: bool = False) -> Int[np.ndarray, " P1"]:
    """Offsets of the pieces in which sentences are encoded: sentences longer than `limit` are cut in
    balanced pieces, or as the original cuts them (`legacy`, VOK-09).
    """
    lengths = np.diff(offsets)
    if (lengths <= limit).all():
        return offsets[np.concatenate([[True], lengths > 0])]
    cut = [size for length in lengths.tolist() for size in split_long(length, limit, legacy)]
    return np.concatenate([offsets[:1], offsets[0] + np.cumsum(cut)]).astype(np.int64)


class Pages:
    """A corpus cut in pages of whole pieces: `starts` [P + 1] are their offsets. A page is as long as `tokens` allow;
    a longer piece has one of its own. Sentences are read as they are needed, never all of them.
    """

    def __init__(self, sentences: Int[np.ndarray, " S1"], tokens: int, limit: int, legacy: bool = False):
        self.sentences, self.limit, self.legacy = sentences, limit, legacy
        starts, left = [0], np.zeros(1, np.int64)  # `left`: offsets of the pieces after the last page so far
        for at in range(0, len(sentences) - 1, CHUNK):
            chunk = pieces_of(np.asarray(sentences[at : at + CHUNK + 1]), limit, legacy)
            left = np.concatenate([left, chunk[1:]])
            while left[-1] - starts[-1] > tokens:
                end = int(np.searchsorted(left, starts[-1] + tokens, side="right")) - 1
                end = max(end, 1)
                starts.append(int(left[end]))
                left = left[end:]
        if left[-1] > starts[-1]:
            starts.append(int(left[-1]))
        self.starts = np.array(starts)

    def __len__(self) -> int:
        return len(self.starts) - 1

    def pieces(self, page: int) -> Int[np.ndarray, " n1"]:
        """Offsets of the pieces of a page."""
        first, last = self.starts[page : page + 2]
        # A page may begin and end inside a sentence.
        start = bisect_right(self.sentences, first) - 1  # numpy's search would copy a map that is not aligned
        stop = bisect_left(self.sentences, last) + 1
        found = pieces_of(np.asarray(self.sentences[start:stop]), self.limit, self.legacy)
        return found[(found >= first) & (found <= last)]
