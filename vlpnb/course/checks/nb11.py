"""Checks of notebook 11, image keys: distance and inner product, skipped pictures, and comparing id lists."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from vlpnb.course.checks import Wrong, compare, passed


def check_nearest(function: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Exercise 11.1: `function(queries [M d], keys [V d])` is the nearest key by distance, both on the sphere."""
    generator = torch.Generator().manual_seed(11)
    # Very different lengths, so that forgetting to normalise changes the choice.
    queries = torch.randn(30, 6, generator=generator) * torch.rand(30, 1, generator=generator) * 5
    keys = torch.randn(40, 6, generator=generator) * torch.rand(40, 1, generator=generator) * 5
    distance = torch.cdist(normalize(queries, dim=-1), normalize(keys, dim=-1))
    slips = {
        "this is the farthest picture; take the smallest distance.": distance.argmax(1),
        "the rows are not on the unit sphere: divide each by its norm first.": torch.cdist(
            queries, keys
        ).argmin(1),
        "these are inner products of rows that are not on the unit sphere.": (queries @ keys.T).argmax(1),
        "only the keys are on the sphere; put the queries there too.": (
            torch.cdist(queries, normalize(keys, dim=-1)).argmin(1)
        ),
        "only the queries are on the sphere; put the keys there too.": (
            torch.cdist(normalize(queries, dim=-1), keys).argmin(1)
        ),
        "you divided by the norms of the columns (dim 0); a vector is a row.": (
            torch.cdist(normalize(queries, dim=0), normalize(keys, dim=0)).argmin(1)
        ),
    }
    found = function(queries, keys)
    compare("the nearest pictures", found, distance.argmin(1), slips)
    inner = (normalize(queries, dim=-1) @ normalize(keys, dim=-1).T).argmax(1)
    compare("the pictures of greatest inner product", found, inner)
    passed("on the unit sphere ‖q − k‖² = 2 − 2 q·k, so the nearest key has the greatest inner product.")


def check_keep_readable(
    function: Callable[[Sequence[str], Sequence], tuple[Sequence[str], np.ndarray]],
) -> None:
    """Exercise 11.2: `function(names, vectors)` drops what could not be read (None); names and rows agree."""
    names = ["zebra", "apple", "broken", "house", "cut_short", "car"]
    vectors = [np.array([i, 1.0]) for i in range(6)]
    vectors[2] = vectors[4] = None
    found = function(list(names), list(vectors))
    if not isinstance(found, tuple) or len(found) != 2:
        compare("the names", found if found is None or found is ... else None, names)
        raise Wrong(f"expected a pair (names, keys), found {type(found).__name__}.")
    kept, keys = found
    if list(kept) == names:
        raise Wrong("the names: broken pictures kept theirs; row i must be the picture called names[i].")
    compare(
        "the names",
        list(kept),
        ["zebra", "apple", "house", "car"],
        {
            "you cut the list to the right length; later names then belong to other rows.": names[:4],
            "you sorted the names; a picture's row is its place in the given order.": sorted(
                ["zebra", "apple", "house", "car"]
            ),
        },
    )
    zeros = np.stack([np.zeros(2) if v is None else v for v in vectors])
    rows = np.asarray(keys)
    if rows.shape == zeros.shape:
        raise Wrong(
            "the keys: a broken picture still has a row, and could be retrieved as a voken. Leave it out."
        )
    compare("the keys", rows, np.stack([v for v in vectors if v is not None]))
    _, again = function(["a", "b"], [np.ones(2), np.zeros(2)])
    if len(again) == 1:
        raise Wrong(
            "the keys when nothing is broken: a readable picture was dropped; only None means unreadable."
        )
    compare("the keys when nothing is broken", np.asarray(again), [[1, 1], [0, 0]])
    passed("a broken picture gets neither a name nor a row, and the others keep their order.")


def check_first_difference(function: Callable[[Sequence[str], Sequence[str]], int | None]) -> None:
    """Exercise 11.3: `function(expected, found)` is the first line that differs, None for equal lists (VOK-08)."""
    a = ["x", "y", "z"]
    same = function(list(a), list(a))
    if same is ...:
        compare("two equal lists", same, 0)
    if same is not None:
        raise Wrong(f"two equal lists: expected None, found {same!r}. Equal lists are no error (VOK-08).")
    cases = [
        (a, ["x", "q", "z"], 1, {"the position counts from 0.": 2}),
        (a, ["q", "y", "q"], 0, {"this is the last difference, not the first.": 2}),
    ]
    for expected, got, answer, slips in cases:
        compare(f"{expected} against {got}", function(list(expected), list(got)), answer, slips)
    for expected, got in ((a, a[:2]), (a[:2], a)):
        answer = function(list(expected), list(got))
        if answer is None:
            raise Wrong(
                f"{expected} against {got}: one list ends early (`zip` stops there); that differs at 2."
            )
        compare(f"{expected} against {got}", answer, 2)
    passed("equal lists give None, a shorter list differs where it ends.")
