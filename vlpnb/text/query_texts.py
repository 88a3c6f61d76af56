"""Which text is read for the query of each token, by mode, and how a tower's pieces are those of a language model.

Paper: VaLM (Wang et al. 2023, section 2). Whoever looks something up for every token of a text, as `valm.retriever`
does pictures, asks with the state of a text tower that has read the text up to it. What it has read is the mode:

| mode | the query of a token |
|---|---|
| `token_causal` | the state at the token, of a chunk that ends where the past alone says (the default) |
| `token_window` | the same of the last `window` tokens: more context right after an end |
| `token_compat` | the original's: chunks whose ends are looked for ahead, which leaks a little of the future (VAL-24) |
| `chunk` | the end of the `every` tokens before those in which it lies: fewer searches |
| `sentence` | the end of the text up to the sentence before: the tower as it was trained |
| `self` | as `token_causal`, and the query itself is what is found: no search |
| `random`, `none`, `oracle` | any rows, no rows, the rows that the caller gives |

Differs from the original: the default sees the past alone, and padding is no text and asks nothing (there it takes part
in the cutting, so that chunks depend on the width of a batch). How texts are cut is in `chunking.py`.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Int
from pydantic import Field, model_validator

from vlpnb.config import Config, Count
from vlpnb.text.chunking import (
    LONGEST,
    Prefixes,
    Reading,
    causal_lengths,
    compat_lengths,
    read_before,
    read_chunks,
    read_windows,
)

QueryMode = Literal[
    "token_causal", "token_compat", "token_window", "chunk", "sentence", "self", "random", "none", "oracle"
]
SEARCHED = ("token_causal", "token_compat", "token_window", "chunk", "sentence")


class ReadingRules(Config):
    """What the query of a token is made of."""

    mode: QueryMode = "token_causal"
    """What the query of a token is made of; see the head of `text/query_texts.py`."""
    close_at: Literal["eos", "sentence"] = "eos"
    """Where a query's text begins anew: at the end of a text, or at every end of a sentence, too."""
    longest: int = Field(LONGEST, ge=1, le=LONGEST)
    """Most tokens of a text that the tower reads."""
    window: int = Field(LONGEST, ge=1, le=LONGEST)
    """Mode `token_window`: most tokens of a query."""
    stride: Count = 16
    """Mode `token_window`: the window moves every so many tokens."""
    every: int = Field(32, ge=1, le=LONGEST)
    """Mode `chunk`: tokens that share a query (16, 32 or 64)."""

    @model_validator(mode="after")
    def _windows_overlap(self) -> "ReadingRules":
        if self.mode == "token_window" and self.stride > self.window:
            raise ValueError(f"stride: {self.stride} is more than the window of {self.window} tokens")
        return self

    def shared(self, longest: int) -> int:
        """Positions that share a query, of a tower that reads so many tokens at most."""
        return min(self.every, longest) if self.mode == "chunk" else 1


@dataclass(frozen=True)
class Words:
    """What must be known of a language model's ids to make queries of them."""

    pad: int
    eos: int
    marks: tuple[int, ...]  # ids that end a sentence
    prefixes: Prefixes
    lookup: np.ndarray | None  # the tower's ids, where the pieces are the same
    separators: tuple[int, ...] = ()  # of the original's rule, in the tower's ids


def reading_of(ids: Int[np.ndarray, " T"], rules: ReadingRules, words: Words, longest: int) -> Reading:
    """What a tower reads for one text, padded on the right; padding asks nothing.

    Args:
        longest: tokens that the tower reads at most.
    """
    whole = len(ids)
    ids = ids[: len(ids) - int((ids[::-1] != words.pad).argmax()) if (ids != words.pad).any() else 0]
    closes = ids == words.eos
    if rules.close_at == "sentence":
        closes |= np.isin(ids, words.marks)
    if rules.mode == "token_compat":
        lengths = compat_lengths(words.lookup[ids], words.separators, longest)
        found = read_chunks(ids, lengths, words.prefixes)
    elif rules.mode == "token_window":
        lengths = causal_lengths(closes, None)
        window, stride = min(rules.window, longest), min(rules.stride, longest)
        found = read_windows(ids, lengths, words.prefixes, window, stride)
    elif rules.mode == "chunk":
        every = rules.shared(longest)
        begins = np.arange(len(ids)) - (every - 1)
        found = read_before(ids, range(every - 1, len(ids), every), begins, words.prefixes)
    elif rules.mode == "sentence":
        found = _sentences(ids, words, longest)
    else:
        found = read_chunks(ids, causal_lengths(closes, longest), words.prefixes)
    found.text[ids == words.pad] = -1
    rest = whole - len(ids)
    return Reading(
        found.texts, np.pad(found.text, (0, rest), constant_values=-1), np.pad(found.place, (0, rest))
    )


def _sentences(ids: np.ndarray, words: Words, longest: int) -> Reading:
    """The end of the text up to each sentence's end, for the sentence after it in the same text."""
    texts: list[np.ndarray] = []
    parts, first = [], 0
    for length in causal_lengths(ids == words.eos, None):
        part = ids[first : first + length]
        ends = np.flatnonzero(np.isin(part, words.marks)).tolist()
        begins = np.maximum(np.arange(length) - (longest - 1), 0)
        found = read_before(part, ends, begins, words.prefixes)
        parts.append((np.where(found.text < 0, -1, found.text + len(texts)), found.place))
        texts += found.texts
        first += length
    text, place = (np.concatenate(arrays) for arrays in zip(*parts, strict=True)) if parts else (ids, ids)
    return Reading(texts, text, place)
