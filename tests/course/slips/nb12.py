"""Notebook 12: balanced pieces of a line, sentences of positions, and places in blocks."""

import numpy as np

from tests.course.slips import Exercise
from vlpnb.course.checks import nb12


def balanced(length, limit):
    if length == 0:
        return []
    count = -(-length // limit)
    size, rest = divmod(length, count)
    return [size + 1] * rest + [size] * (count - rest)


def original(length, limit):
    count = -(-length // limit)
    size, rest = divmod(length, count)
    return [size] * count + [rest] * (rest > 0)


def filled(length, limit):
    return [limit] * (length // limit) + [length % limit] * (length % limit > 0)


def sentence_of(offsets, positions):
    return np.searchsorted(offsets, positions, side="right") - 1


def place(i, n, block):
    number, offset = divmod(i, block)
    return (number, offset + 1) if number < n // block else None


EXERCISES = (
    Exercise(
        nb12.check_balanced,
        balanced,
        wrong=(
            (original, "VOK-09"),
            (filled, "crumb"),
            (lambda length, limit: balanced(length, limit)[::-1], "longer pieces come first"),
            (lambda length, limit: [length // -(-length // limit)] * -(-length // limit), "add up to"),
            (lambda length, limit: [length], "above the limit"),
            (lambda length, limit: balanced(length, limit) or [0], "no tokens give no piece"),
        ),
    ),
    Exercise(
        nb12.check_sentence_of,
        sentence_of,
        wrong=(
            (lambda offsets, positions: np.searchsorted(offsets, positions) - 1, "sentence before"),
            (lambda offsets, positions: np.searchsorted(offsets, positions, side="right"), "start at 1"),
            (lambda offsets, positions: np.searchsorted(offsets, positions), "insertion points"),
        ),
    ),
    Exercise(
        nb12.check_place_in_block,
        place,
        wrong=(
            (lambda i, n, block: divmod(i, block) if i // block < n // block else None, r"\[CLS\]"),
            (lambda i, n, block: (i // (block + 2), i % (block + 2) + 1), "special tokens are added"),
            (lambda i, n, block: place(i, n, block) and place(i, n, block)[::-1], "exchanged"),
            (lambda i, n, block: (i // block + 1, i % block + 1), "counted from 0"),
            (lambda i, n, block: (i // block, i % block + 1), "read by no block"),
            (lambda i, n, block: place(i, n, block) if i // block < -(-n // block) - 2 else None, "VOK-14"),
        ),
    ),
)
