"""Where sentences end in a stream of token ids, and how long ones are cut.

Differs from the reference: sentences come from a rule on the ids instead of spaCy's (a full stop inside a
decimal number ends no sentence); over-long sentences are cut in balanced pieces (quirk VOK-09).
"""

from collections.abc import Sequence
from weakref import WeakKeyDictionary

import numpy as np
from transformers import PreTrainedTokenizerFast

from vlpnb.text.tokenizers import piece_texts

TERMINATORS = frozenset(".!?…。！？｡।؟۔")
CLOSERS = frozenset("\"'”’»)]}」』）")
_END, _CLOSE, _DIGIT, _AT, _DOT = 1, 2, 4, 8, 16
_TABLES: WeakKeyDictionary = WeakKeyDictionary()


def _classes(tokenizer: PreTrainedTokenizerFast) -> np.ndarray:
    """Per id, what it means for sentence ends: uint8 [V] flags."""
    if tokenizer not in _TABLES:
        table = np.zeros(len(tokenizer), dtype=np.uint8)
        for i, text in enumerate(piece_texts(tokenizer)):
            marks = set(text.strip())
            if text and marks <= TERMINATORS | CLOSERS:  # white space alone stays with the sentence before
                table[i] = _END if marks & TERMINATORS else _CLOSE
            table[i] |= _DIGIT * text.isdigit() | _AT * (text.strip() == "@") | _DOT * (text.strip() == ".")
        _TABLES[tokenizer] = table
    return _TABLES[tokenizer]


def sentence_ends(ids: np.ndarray, line_ends: np.ndarray, tokenizer: PreTrainedTokenizerFast) -> np.ndarray:
    """End offsets (exclusive, ascending, int64) of the sentences in a stream of lines.

    A sentence ends after `. ! ?` (and their like in other scripts) with the closing quotes and brackets that
    follow, and at the end of each line; it never crosses a line. A full stop between two digits, or written
    `@.@` as WikiText does, is a decimal point.

    Args:
        ids: [N]. line_ends: exclusive end offset of each line, ascending, the last one N.
    """
    n = len(ids)
    if n == 0:
        return np.zeros(0, dtype=np.int64)
    kind = _classes(tokenizer)[ids]
    last_of_line = np.zeros(n, dtype=bool)
    last_of_line[np.asarray(line_ends) - 1] = True

    inner = (kind & _DOT > 0) & ~last_of_line
    inner[0] = False
    inner[1:] &= ~last_of_line[:-1]
    for flag in (_DIGIT, _AT):
        near = kind & flag > 0
        decimal = inner & np.roll(near, 1) & np.roll(near, -1)
        kind = np.where(decimal, 0, kind)

    at = np.arange(n)
    terminator, mark = kind & _END > 0, kind & (_END | _CLOSE) > 0
    last_terminator = np.maximum.accumulate(np.where(terminator, at, -1))
    last_word = np.maximum.accumulate(np.where(mark, -1, at))
    line_start = np.maximum.accumulate(np.where(np.roll(last_of_line, 1), at, 0))
    after_terminator = (last_terminator > last_word) & (last_terminator >= line_start)
    next_is_mark = np.append(mark[1:], False)
    return np.flatnonzero((after_terminator & ~next_is_mark) | last_of_line) + 1


def sentence_lengths(ids: Sequence[int] | np.ndarray, tokenizer: PreTrainedTokenizerFast) -> list[int]:
    """Lengths in tokens of the sentences of one line; they add up to the line's length."""
    array = np.asarray(ids, dtype=np.int64)
    ends = sentence_ends(array, np.array([len(array)]), tokenizer) if len(array) else array
    return np.diff(ends, prepend=0).tolist()


def split_long(length: int, limit: int = 128, legacy: bool = False) -> list[int]:
    """Cut a sentence of `length` tokens into pieces of at most `limit`; lengths differ by at most one.

    `legacy` cuts as the reference does, with a short tail piece (quirk VOK-09): 129 → 64, 64, 1.
    """
    if length <= limit:
        return [length] if length else []
    count = -(-length // limit)
    size, rest = divmod(length, count)
    if legacy:
        return [size] * count + ([rest] if rest else [])
    return [size + 1] * rest + [size] * (count - rest)
