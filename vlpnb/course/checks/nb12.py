"""Checks of notebook 12, tokenising a corpus: balanced pieces and the sentence of a position."""

from collections.abc import Callable

import numpy as np

from vlpnb.course.checks import Wrong, compare, passed
from vlpnb.text.corpora import split_long


def check_balanced(function: Callable[[int, int], list[int]]) -> None:
    """Exercise 12.1: `function(length, limit)` cuts into the fewest pieces, lengths differing by at most one."""
    for length, limit in ((129, 128), (1, 128), (128, 128), (257, 128), (255, 128), (1000, 128), (7, 3)):
        found = function(length, limit)
        what = f"the pieces of {length} tokens with limit {limit}"
        expected = split_long(length, limit)
        if isinstance(found, list) and found:
            if sum(found) != length:
                raise Wrong(f"{what}: {found} add up to {sum(found)}; tokens got lost or were made up.")
            if max(found) > limit:
                raise Wrong(f"{what}: {found} holds a piece of {max(found)}, above the limit.")
        full, rest = divmod(length, limit)
        slips = {
            "the remainder became an extra tail piece, as in the original program (Q-09); spread it over the "
            "pieces instead.": split_long(length, limit, legacy=True),
            "you filled pieces up to the limit; the last one is a crumb. Divide evenly instead.": (
                [limit] * full + ([rest] if rest else [])
            ),
            "the longer pieces come first.": sorted(expected),
        }
        for slip, value in slips.items():
            if found == value != expected:
                raise Wrong(f"{what}: {slip}")
        compare(what, found, expected)
    if function(0, 128) != []:
        raise Wrong(f"no tokens give no piece: expected [], found {function(0, 128)!r}.")
    passed("as few pieces as possible, none longer than the limit, and no crumbs.")


def check_sentence_of(function: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> None:
    """Exercise 12.2: `function(offsets, positions)` is the index of the sentence of every position."""
    offsets, positions = np.array([0, 4, 9, 10, 16]), np.arange(16)
    expected = np.repeat(np.arange(4), np.diff(offsets))
    left = np.searchsorted(offsets, positions, side="left")
    slips = {
        "the first token of a sentence lands in the sentence before; the start offset belongs to the sentence "
        '(side="right").': left - 1,
        "your numbers start at 1; the first sentence is number 0.": expected + 1,
        "these are insertion points from the left: starts of sentences come out wrong.": left,
    }
    compare("the sentence of every position", function(offsets, positions), expected, slips)
    compare("positions in any order", function(offsets, np.array([15, 0, 9])), [3, 0, 2])
    passed("sentence s holds the positions from its offset up to, and without, the next one.")
