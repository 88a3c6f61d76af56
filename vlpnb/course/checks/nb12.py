"""Checks of notebook 12, tokenising a corpus: balanced pieces, the sentence of a position, its place in a block."""

from collections.abc import Callable

import numpy as np

from vlpnb.course.checks import Wrong, compare, passed
from vlpnb.text.corpora import split_long
from vlpnb.text.packing import block_starts


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
            "the remainder became an extra tail piece, as in the original program (VOK-09); spread it over the "
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


def check_place_in_block(function: Callable[[int, int, int], tuple[int, int] | None]) -> None:
    """Exercise 12.3: `function(i, n, block)` is (block, position) of token i of a stream of n, None for the rest."""
    for i, n, block in ((0, 1260, 126), (125, 1260, 126), (126, 1260, 126), (1259, 1260, 126), (17, 23, 5)):
        number, offset = divmod(i, block)
        blocks = len(block_starts(n, block))
        found = function(i, n, block)
        what = f"token {i} of {n} in blocks of {block}"
        if found is None and number < blocks:
            last = number >= len(block_starts(n, block, legacy=True))
            hint = " Every full block is kept (the original dropped the last ones, VOK-14)." if last else ""
            raise Wrong(
                f"{what}: nothing came back yet, expected block {number}, position {offset + 1}.{hint}"
            )
        slips = {
            "position 0 is [CLS]; the block's first token stands at 1.": (number, offset),
            "the two special tokens are added to a block, they take no token's place in the stream.": (
                i // (block + 2), i % (block + 2) + 1
            ),
            "block and position are exchanged.": (offset + 1, number),
            "blocks are counted from 0.": (number + 1, offset + 1),
        }  # fmt: skip
        compare(what, found, (number, offset + 1), slips)
    for i, n, block in ((1260, 1300, 126), (22, 23, 5)):
        found = function(i, n, block)
        if found is not None:
            raise Wrong(f"token {i} of {n} in blocks of {block}: expected None, found {found!r}. "
                        "All blocks are full; what is left over is read by no block.")  # fmt: skip
    passed("token j and voken j share a block and a position; only the rest is never read.")
