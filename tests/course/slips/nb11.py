"""Notebook 11: nearest keys, pictures that cannot be read, and comparing two lists."""

import numpy as np
import torch
from torch.nn.functional import normalize

from tests.course.slips import Exercise
from vlpnb.course.checks import nb11


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


EXERCISES = (
    Exercise(
        nb11.check_nearest,
        nearest,
        wrong=(
            (lambda q, k: (q @ k.T).argmax(1), "not on the unit sphere"),
            (lambda q, k: torch.cdist(q, k).argmin(1), "divide each by its norm"),
            (lambda q, k: torch.cdist(normalize(q, dim=-1), normalize(k, dim=-1)).argmax(1), "farthest"),
            (lambda q, k: torch.cdist(normalize(q, dim=0), normalize(k, dim=0)).argmin(1), "columns"),
        ),
        # the queries need not be normalised for an inner product
        also_right=(lambda q, k: (q @ normalize(k, dim=-1).T).argmax(1),),
    ),
    Exercise(
        nb11.check_keep_readable,
        keep_readable,
        wrong=(
            (lambda n, v: (n, np.stack([x for x in v if x is not None])), "kept theirs"),
            (lambda n, v: (n[: sum(x is not None for x in v)], None), "cut the list"),
            (lambda n, v: (sorted(keep_readable(n, v)[0]), keep_readable(n, v)[1]), "sorted"),
            (
                lambda n, v: (keep_readable(n, v)[0], np.stack([np.zeros(2) if x is None else x for x in v])),
                "still has a row",
            ),
            (
                lambda n, v: keep_readable(n, [x if x is not None and x.any() else None for x in v]),
                "was dropped",
            ),
        ),
    ),
    Exercise(
        nb11.check_first_difference,
        first_difference,
        wrong=(
            (lambda a, b: 0, "VOK-08"),
            (
                lambda a, b: next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), None),
                "ends early",
            ),
            (lambda a, b: None if a == b else first_difference(a, b) + 1, "counts from 0"),
        ),
    ),
)
