"""Checks of notebook 30, VLP's pre-training: the seq2seq mask, the geometry of regions, targets, shared prefixes."""

from collections.abc import Callable, Sequence
from contextlib import suppress

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vlpnb.course.checks import Wrong, compare, passed

Mask = Bool[Tensor, "L L"]


def _told_mask(what: str, found: object, right: Mask, slips: dict[str, Mask], rows: Tensor) -> None:
    """Compare masks (a tensor, an array or nested lists) at the rows that are read; the others are free."""
    if isinstance(found, list | tuple | np.ndarray):
        with suppress(TypeError, ValueError):  # rows of several lengths: `compare` says so
            found = torch.as_tensor(np.array(found))
    if isinstance(found, Tensor) and found.shape == right.shape:
        if found.dtype != torch.bool and not ((found == 0) | (found == 1)).all():
            raise Wrong(f"{what}: expected True and False, found other numbers. A mask says who may look.")
        found = found.bool()[rows]
    else:
        compare(what, found, right)
    compare(what, found, right[rows], {text: slip[rows] for text, slip in slips.items()})


def check_seq2seq_mask(function: Callable[[int, int, int], Mask]) -> None:
    """Exercise 30.1: `function(prefix, n, length)` is (L, L), True where position i may look at position j."""
    for prefix, n, length in ((4, 3, 10), (102, 3, 123), (6, 5, 12), (3, 1, 5)):
        i, j = torch.arange(length)[:, None], torch.arange(length)[None]
        last = prefix + n  # the closing [SEP]
        words = (j >= prefix) & (j <= i) & (i <= last)
        right = (j < prefix) | words
        slips = {
            "the prefix is read in both directions: a region sees the regions after it, too.": j <= i,
            "the prefix sees words here. Its states must depend on the picture alone.": (
                (j <= last).expand(length, length)
            ),
            "a word sees itself, too: j ≤ i, not j < i.": (j < prefix) | (words & (j < i)),
            "the row of the closing [SEP] is cut off: it sees all words, like any position of the text.": (
                (j < prefix) | (words & (i < last))
            ),
            "this is transposed: row i says what position i *sees*.": right.T,
            "words do not see the picture here.": torch.where(i < prefix, j < prefix, words),
            "True and False have changed places: True means that i may look at j.": ~right,
            "the [SEP] between picture and words belongs to the prefix.": (j < prefix - 1)
            | ((j >= prefix - 1) & (j <= i) & (i <= last)),
        }
        said = f"the mask for a prefix of {prefix} and {n} words"
        _told_mask(said, function(prefix, n, length), right, slips, torch.arange(last + 1))
    passed("one Transformer writes with this mask, and reads with another; nothing else changes.")


def _layer_norm(x: Tensor, correction: int = 0, dim: int = -1) -> Tensor:
    return (x - x.mean(dim, keepdim=True)) / (x.var(dim, correction=correction, keepdim=True) + 1e-5).sqrt()


def check_geometry(function: Callable[[Float[Tensor, "R 6"]], Float[Tensor, "R 6"]]) -> None:
    """Exercise 30.2: `function(x1, y1, x2, y2, class, score of R boxes)` are the six normalised numbers of each."""
    boxes = torch.tensor(
        [
            [12.0, 30.0, 210.0, 180.0, 7.0, 0.91],
            [0.0, 0.0, 320.0, 100.0, 3.0, 0.55],
            [200.0, 60.0, 280.0, 240.0, 12.0, 0.34],
            [90.0, 80.0, 60.0, 140.0, 1.0, 0.21],  # left and right changed places: an area below zero
        ]
    )
    corners, score = boxes[:, :4], boxes[:, 5:]
    size = torch.stack([corners[:, 0::2].max(), corners[:, 1::2].max()]).repeat(2) + 1e-5

    def six(scale: Tensor, floor: bool = True, swapped: bool = False) -> Tensor:
        scaled = corners / scale
        sides = scaled[:, 2:] - scaled[:, :2]
        area = sides.prod(1, keepdim=True)
        area = area.clamp_min(0) if floor else area
        return torch.cat([scaled, score, area] if swapped else [scaled, area, score], 1)

    found = function(boxes.clone())
    if isinstance(found, Tensor) and found.shape == (len(boxes), 5):
        raise Wrong(
            "the geometry: five numbers a region, as the paper says; the code has the score as a sixth."
        )
    if isinstance(found, Tensor) and found.shape == (len(boxes), 7):
        raise Wrong("the geometry: seven numbers a region; the class index is dropped, it is no quantity.")
    own = (corners[:, 2:] - corners[:, :2]).abs().repeat(1, 2)
    kept = torch.cat([six(size)[:, :5], boxes[:, 4:5]], 1)
    slips = {
        "the sixth number is the score, not the index of the class.": _layer_norm(kept),
        "an area below zero counts as 0.": _layer_norm(six(size, floor=False)),
        "each box is divided by its own size; divide all by that of the picture.": _layer_norm(six(own)),
        "the variance is divided by 6, not by 5 (`correction=0`).": _layer_norm(six(size), 1),
        "normalise the six numbers of a region, not a number over the regions.": _layer_norm(six(size), 0, 0),
        "the numbers are not normalised yet: mean 0 and variance 1 over the six.": six(size),
        "width and height are one number each, the largest of *all* boxes.": _layer_norm(
            six(corners[:, 2:].repeat(1, 2) + 1e-5)
        ),
        "x is divided by the width, y by the height.": _layer_norm(six(size.flip(0))),
        "the area comes before the score.": _layer_norm(six(size, swapped=True)),
    }
    compare("the geometry", found, _layer_norm(six(size)), slips, tol=1e-3)
    passed("six numbers a region, and no position: where a region is, its box says.")


def check_targets(
    function: Callable[[int, float, int, np.random.Generator], Sequence[int]],
) -> None:
    """Exercise 30.3: `function(n, rate, most, random)` are the places to guess, of 0…n; n is the closing [SEP]."""
    random = np.random.default_rng(30)
    cases = [(n, rate, most) for rate, most in ((0.15, 3), (0.25, 9)) for n in range(1, 31)]
    for n, rate, most in cases:
        drawn = [function(n, rate, most, random) for _ in range(20)]
        if drawn[0] is None or drawn[0] is ...:
            compare("the places to guess", drawn[0], 0)
        many = {len(list(one)) for one in drawn}
        for one in drawn:
            _check_places(list(one), n)
        k = min(most, max(1, round(n * rate)))
        if len(many) > 1:
            raise Wrong(
                f"{n} words: {min(many)} to {max(many)} places. Draw a fixed number of places, "
                "not each place with a probability."
            )
        product = n * rate
        slips = {
            "round to the nearest number, not down.": min(most, max(1, int(product))),
            "of halves, the even neighbour: Python's own `round` does it.": min(
                most, max(1, int(product + 0.5))
            ),
            "the rate counts the n words alone, without [SEP].": min(most, max(1, round((n + 1) * rate))),
            "round to the nearest number, not up.": min(most, max(1, int(np.ceil(product)))),
            "there are never more than `most`.": max(1, round(product)),
            "there is always one at least.": min(most, round(product)),
        }
        slips = {text: value for text, value in slips.items() if value != k}
        compare(f"the number of places for {n} word{'s' * (n > 1)} at a rate of {rate}", many.pop(), k, slips)
    found = np.bincount(
        [place for _ in range(3000) for place in function(6, 0.3, 9, random)], minlength=7
    )  # 2 of 7
    if found[6] == 0:
        raise Wrong("the closing [SEP] is never chosen; without it the model never learns to stop.")
    share = found / found.sum()
    if np.abs(share - 1 / 7).max() > 0.03:
        raise Wrong(f"places are not drawn evenly: shares {np.round(share, 2).tolist()}, expected 0.14 each.")
    passed("at most three places of a caption are asked for in a pass; the others teach nothing that time.")


def _check_places(places: list[int], n: int) -> None:
    if any(place < 0 for place in places):
        raise Wrong(
            "a place below 0 is the first [SEP] or a region; only words and the closing [SEP] are drawn."
        )
    if any(place > n for place in places):
        raise Wrong(f"place {max(places)} of {n} words is padding; the closing [SEP] is place {n}.")
    if len(set(places)) < len(places):
        raise Wrong(
            f"places {[int(place) for place in places]}: a place is drawn twice; draw without replacement."
        )


def check_packed_mask(function: Callable[[int, Sequence[int]], Mask]) -> None:
    """Exercise 30.4: `function(prefix, lengths)` is the mask of several captions behind one prefix, (L, L)."""
    for prefix, lengths in ((3, (2, 4, 3)), (5, (4, 4)), (4, (3,))):
        owner = torch.tensor([-1] * prefix + [c for c, many in enumerate(lengths) for _ in range(many)])
        i, j = torch.arange(len(owner))[:, None], torch.arange(len(owner))[None]
        seen, same = owner[None] < 0, owner[:, None] == owner[None]
        right = seen | (same & (j <= i))
        slips = {
            "a caption sees the captions before it; each sees its own words only.": seen | (j <= i),
            "a caption sees all other captions.": seen | (owner[:, None] >= 0) & (owner[None] >= 0),
            "inside a caption, a word sees later words: that is reading, not writing.": seen | same,
            "captions do not see the prefix that they share.": (seen & (owner[:, None] < 0))
            | (same & (j <= i)),
            "the prefix sees words; then it can no longer be shared by captions.": seen
            | (same & (j <= i))
            | (owner[:, None] < 0),
            "the prefix is read in both directions.": (j <= i) & (seen | same),
            "a word sees itself, too.": seen | (same & (j < i)),
        }
        said = f"the mask of captions of {list(lengths)} positions behind a prefix of {prefix}"
        slips = {text: slip for text, slip in slips.items() if not torch.equal(slip, right)}
        _told_mask(said, function(prefix, lengths), right, slips, torch.arange(len(owner)))
    passed("as the prefix sees no word, every caption reads what it would have read alone.")
