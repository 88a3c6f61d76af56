"""Which text the frozen text tower reads for the query of each token (VaLM, section 2; the modes of `query_texts.py`).

The tower reads at most 75 tokens, so that text is cut. Everything is said by a `Reading`: texts for the tower, and for
each position the text and the place in it whose state is the query.

The original's rule (`compat_lengths`, VAL-24) looks up to 75 tokens ahead for the best place to cut: where a chunk
begins at some position depends on what comes after it, so that training and generation see different queries, and
perplexity a little of the future. All other rules decide from the past alone.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

LONGEST = 75  # tokens of a chunk: CLIP's context without its start and its end
# After the end of text and padding, most wanted first, as whole words. CLIP's padding is also "!" inside a word, which
# the original cannot tell apart.
SEPARATORS = (".", ";", "!", ":", ",", '."', ',"', '".', '",', ").", "),", "/", "-")
START, END = 0, -1  # places: the tower's start, and the end of a text

Ids = Int[np.ndarray, " T"]


def compat_lengths(
    ids: Int[np.ndarray, " T"], separators: Sequence[int], longest: int = LONGEST
) -> list[int]:
    """Lengths of the chunks as the original cuts them (VAL-24).

    While more than `longest` tokens are left, a chunk ends with the first occurrence of the most wanted separator that
    has one among the next `longest`; with none of them it has `longest` tokens. What is left then is the last chunk.
    """
    lengths, first = [], 0
    while len(ids) - first > longest:
        ahead = ids[first : first + longest]
        found = (np.flatnonzero(ahead == separator) for separator in separators)
        lengths.append(next((int(at[0]) + 1 for at in found if len(at)), longest))
        first += lengths[-1]
    return [*lengths, len(ids) - first] if first < len(ids) else lengths


def separators_of(pieces: Sequence[str], end: int, pad: int) -> tuple[int, ...]:
    """The ids of a tower's separators, most wanted first; those that it has no piece for are left out.

    Args:
        pieces: every id's as the vocabulary has it; CLIP's mark the end of a word by `</w>`.
    """
    ids = {text: i for i, text in reversed(list(enumerate(pieces)))}
    whole = "</w>" if any(text.endswith("</w>") for text in pieces) else ""
    return (end, pad, *(ids[text + whole] for text in SEPARATORS if text + whole in ids))


def causal_lengths(closes: Bool[np.ndarray, " T"], longest: int | None = LONGEST) -> list[int]:
    """Lengths of chunks that end with a token that closes, or when they have `longest`: known at that token.

    `longest` None: only what closes ends a chunk.
    """
    lengths = []
    ends = [*(np.flatnonzero(closes) + 1).tolist(), len(closes)]
    first = 0
    for end in ends:
        while longest is not None and end - first > longest:
            lengths.append(longest)
            first += longest
        if end > first:
            lengths.append(end - first)
            first = end
    return lengths


def sentence_marks(pieces: Sequence[str]) -> list[int]:
    """The ids of the pieces that end a sentence: full stops and their kin, with the quotes and brackets beside them."""
    return [
        i
        for i, text in enumerate(pieces)
        if text and not set(text) - set(".!?;\"')") and set(text) & set(".!?;")
    ]


@dataclass(frozen=True)
class Reading:
    """What the tower reads for one text of T positions.

    `texts`: ids of the tower; `text` [T]: which of them, −1: this position has no query; `place` [T]: `START`, a token
    (from 1 on), or `END`.
    """

    texts: list[Int[np.ndarray, " _"]]
    text: Int[np.ndarray, " T"]
    place: Int[np.ndarray, " T"]


Prefixes = Callable[[Ids], tuple[list[np.ndarray], np.ndarray, np.ndarray]]
"""Ids of the language model → the tower's texts, and for each position (text, place) of the text up to it."""


def same_pieces(lookup: Int[np.ndarray, " V"], causal: bool = True) -> Prefixes:
    """Prefixes for a tower with the language model's own pieces: `lookup` holds the tower's id of each.

    A causal tower reads a text once, for all of its prefixes; one that sees both sides must read each of them (only
    then does no query know more than the tokens up to its own), and the query is the state of its end.
    """

    def prefixes(ids: np.ndarray) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
        read = lookup[ids]
        if causal:
            return [read], np.zeros(len(ids), np.int64), np.arange(1, len(ids) + 1)
        return [read[: n + 1] for n in range(len(ids))], np.arange(len(ids)), np.full(len(ids), END)

    return prefixes


def other_pieces(
    decode: Callable[[Sequence[int]], str],
    encode: Callable[[Sequence[str]], Sequence[Sequence[int]]],
    longest: int,
    causal: bool = True,
) -> Prefixes:
    """Prefixes for a tower with pieces of its own: each prefix is written out and cut in the tower's pieces.

    The query of a token is the state of the last piece of the text up to it (`START` if there is none): what a writer
    from left to right would ask. Pieces of the whole text, lined up by their characters, would let a later token
    change how a word is cut. Prefixes that continue each other are read once. Of more pieces than the tower takes,
    the last ones are read.
    """

    def prefixes(ids: np.ndarray) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
        words = [decode(ids[: n + 1].tolist()) for n in range(len(ids))]
        pieces = [tuple(found)[-longest:] for found in encode(words)]
        text, place = np.zeros(len(ids), np.int64), np.zeros(len(ids), np.int64)
        kept: list[tuple[int, ...]] = []
        for n in reversed(range(len(ids))):
            mine = pieces[n]
            at = next((i for i, other in enumerate(kept) if _reads(other, mine, causal)), len(kept))
            if at == len(kept):
                kept.append(mine)
            text[n], place[n] = at, len(mine) if causal else END
        return [np.array(some, np.int64) for some in kept], text, place

    return prefixes


def _reads(text: tuple[int, ...], prefix: tuple[int, ...], causal: bool) -> bool:
    return text[: len(prefix)] == prefix if causal else text == prefix


def read_chunks(ids: Int[np.ndarray, " T"], lengths: Sequence[int], prefixes: Prefixes) -> Reading:
    """One query per token: the chunk that it lies in, up to it."""
    texts: list[np.ndarray] = []
    text, place = np.full(len(ids), -1), np.zeros(len(ids), np.int64)
    first = 0
    for length in lengths:
        part = slice(first, first + length)
        found, which, places = prefixes(ids[part])
        text[part], place[part] = which + len(texts), places
        texts += found
        first += length
    return Reading(texts, text, place)


def read_windows(
    ids: Int[np.ndarray, " T"], lengths: Sequence[int], prefixes: Prefixes, window: int, stride: int
) -> Reading:
    """One query per token from the last `window` tokens of its chunk at most, and `window − stride` + 1 at least.

    Every `stride` tokens the window moves; `lengths` are of chunks of any length, beyond which no window reaches.
    """
    texts: list[np.ndarray] = []
    text, place = np.full(len(ids), -1), np.zeros(len(ids), np.int64)
    begin = 0
    for length in lengths:
        for first in range(0, length, stride):
            last = min(first + stride, length)
            # From where the window would begin if it were full, whether or not the text goes on so far.
            start = max(0, first + stride - window)
            found, which, places = prefixes(ids[begin + start : begin + last])
            part = slice(begin + first, begin + last)
            text[part], place[part] = which[first - start :] + len(texts), places[first - start :]
            texts += found
        begin += length
    return _used(texts, text, place)


def read_before(
    ids: Int[np.ndarray, " T"], ends: Collection[int], begins: Ids, prefixes: Prefixes
) -> Reading:
    """One query for all tokens from one end to the next: the state at the end of the text before them.

    Args:
        ends: positions after which a text ends that gives a query, in order.
        begins: [T] where the text begins that ends at each position.
    """
    texts: list[np.ndarray] = []
    text, place = np.full(len(ids), -1), np.zeros(len(ids), np.int64)
    for end in ends:
        found, which, _ = prefixes(ids[begins[end] : end + 1])
        text[end + 1 :], place[end + 1 :] = len(texts), END
        texts.append(found[which[-1]])
    return _used(texts, text, place)


def _used(texts: list[np.ndarray], text: np.ndarray, place: np.ndarray) -> Reading:
    """The same without the texts that no position asks."""
    kept, numbers = np.unique(text[text >= 0], return_inverse=True)
    text = text.copy()
    text[text >= 0] = numbers
    return Reading([texts[i] for i in kept], text, place)
