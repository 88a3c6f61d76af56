"""Checks of notebook 11: the solutions pass, stubs and typical mistakes are named."""

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from vlpnb.course.checks import Wrong, nb11


def nearest(queries, keys):
    return torch.cdist(normalize(queries, dim=-1), normalize(keys, dim=-1)).argmin(1)


def keep_readable(names, vectors):
    kept = [i for i, vector in enumerate(vectors) if vector is not None]
    return [names[i] for i in kept], np.stack([vectors[i] for i in kept])


def first_difference(expected, found):
    for i, (a, b) in enumerate(zip(expected, found, strict=False)):
        if a != b:
            return i
    return None if len(expected) == len(found) else min(len(expected), len(found))


def test_right_answers_pass(capsys):
    nb11.check_nearest(nearest)
    nb11.check_keep_readable(keep_readable)
    nb11.check_first_difference(first_difference)
    assert capsys.readouterr().out.count("Correct") == 3


@pytest.mark.parametrize("stub", [lambda a, b: ..., lambda a, b: None])
def test_stubs_fail(stub):
    for check in (nb11.check_nearest, nb11.check_keep_readable, nb11.check_first_difference):
        with pytest.raises(Wrong):
            check(stub)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda q, k: (q @ k.T).argmax(1), "not on the unit sphere"),
        (lambda q, k: torch.cdist(q, k).argmin(1), "divide each by its norm"),
        (lambda q, k: torch.cdist(normalize(q, dim=-1), normalize(k, dim=-1)).argmax(1), "farthest"),
        (lambda q, k: torch.cdist(normalize(q, dim=0), normalize(k, dim=0)).argmin(1), "columns"),
    ],
)
def test_slips_of_nearest_are_named(function, message):
    with pytest.raises(Wrong, match=message):
        nb11.check_nearest(function)


def test_the_queries_need_not_be_normalised_for_an_inner_product():
    nb11.check_nearest(lambda q, k: (q @ normalize(k, dim=-1).T).argmax(1))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda n, v: (n, np.stack([x for x in v if x is not None])), "kept theirs"),
        (lambda n, v: (n[: sum(x is not None for x in v)], None), "cut the list"),
        (lambda n, v: (sorted(keep_readable(n, v)[0]), keep_readable(n, v)[1]), "sorted"),
        (
            lambda n, v: (keep_readable(n, v)[0], np.stack([np.zeros(2) if x is None else x for x in v])),
            "still has a row",
        ),
        (lambda n, v: keep_readable(n, [x if x is not None and x.any() else None for x in v]), "was dropped"),
    ],
)
def test_slips_of_skipping_are_named(function, message):
    with pytest.raises(Wrong, match=message):
        nb11.check_keep_readable(function)


def test_slips_of_comparing_are_named():
    with pytest.raises(Wrong, match="VOK-08"):
        nb11.check_first_difference(lambda a, b: 0)
    with pytest.raises(Wrong, match="ends early"):
        nb11.check_first_difference(
            lambda a, b: next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), None)
        )
    with pytest.raises(Wrong, match="counts from 0"):
        nb11.check_first_difference(lambda a, b: None if a == b else first_difference(a, b) + 1)
