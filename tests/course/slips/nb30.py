"""Notebook 30: the seq2seq mask, the geometry of regions, the places to guess, captions behind one prefix."""

import math

import torch

from tests.course.slips import Exercise
from vlpnb.course.checks import nb30


def seq2seq_mask(prefix, n, length, slip=""):
    mask = torch.zeros(length, length, dtype=torch.bool)
    start = prefix - 1 if slip == "first sep" else prefix
    mask[:, :start] = True
    for i in range(start, prefix + n + 1 - (slip == "cut")):
        mask[i, start : i + (slip != "itself")] = True
    if slip == "causal":
        mask = torch.ones(length, length).tril().bool()
    if slip == "both":
        mask[:, : prefix + n + 1] = True
    if slip == "blind":
        mask[prefix:, :prefix] = False
    return {"transposed": mask.T, "inverted": ~mask}.get(slip, mask)


def geometry(boxes, slip=""):
    corners = boxes[:, :4].clone()
    width, height = corners[:, [0, 2]].max() + 1e-5, corners[:, [1, 3]].max() + 1e-5
    if slip == "own":
        width, height = ((corners[:, k + 2] - corners[:, k]).abs()[:, None] for k in (0, 1))
    if slip == "corner":
        width, height = (corners[:, k, None] + 1e-5 for k in (2, 3))
    if slip == "swapped sides":
        width, height = height, width
    corners[:, [0, 2]] /= width
    corners[:, [1, 3]] /= height
    area = (corners[:, 2] - corners[:, 0]) * (corners[:, 3] - corners[:, 1])
    area = area if slip == "floor" else area.clamp_min(0)
    parts = {
        "five": [corners, area[:, None]],
        "seven": [corners, area[:, None], boxes[:, 4:]],
        "class": [corners, area[:, None], boxes[:, 4:5]],
        "order": [corners, boxes[:, 5:], area[:, None]],
    }.get(slip, [corners, area[:, None], boxes[:, 5:]])
    six = torch.cat(parts, 1)
    if slip == "plain":
        return six
    axis = 0 if slip == "columns" else 1
    variance = six.var(axis, correction=int(slip == "unbiased"), keepdim=True)
    return (six - six.mean(axis, keepdim=True)) / (variance + 1e-5).sqrt()


def targets(n, rate, most, random, slip=""):
    product = (n + 1) * rate if slip == "with sep" else n * rate
    if slip == "each":
        return [place for place in range(n + 1) if random.random() < rate] or [0]
    k = {"down": int(product), "half up": int(product + 0.5), "up": math.ceil(product)}.get(
        slip, round(product)
    )
    k = k if slip == "none" else max(1, k)
    k = k if slip == "unlimited" else min(most, k)
    if slip == "first":
        return list(range(k))
    if slip == "no sep":
        return random.choice(n, min(k, n), replace=False)
    if slip == "first sep":
        return random.choice(n + 2, k, replace=False) - 1
    if slip == "padding":
        return random.choice(n + 2, k, replace=False)
    return random.choice(n + 1, k, replace=slip == "twice")


def packed_mask(prefix, lengths, slip=""):
    owner = torch.tensor([-1] * prefix + [c for c, many in enumerate(lengths) for _ in range(many)])
    place = torch.arange(len(owner))
    earlier = place <= place[:, None] if slip != "itself" else place < place[:, None]
    same, shared = owner == owner[:, None], (owner < 0).expand(len(owner), -1)
    if slip == "before":
        return shared | earlier
    if slip == "others":
        return shared | (owner >= 0) & (owner[:, None] >= 0)
    if slip == "bidirectional":
        return shared | same
    if slip == "blind":
        return (shared & (owner[:, None] < 0)) | (same & earlier)
    if slip == "seen":
        return shared | (same & earlier) | (owner[:, None] < 0)
    if slip == "causal prefix":
        return (shared | same) & earlier
    return shared | (same & earlier)


EXERCISES = (
    Exercise(
        nb30.check_seq2seq_mask,
        seq2seq_mask,
        {
            "causal": "in both directions",
            "both": "the prefix sees words",
            "itself": "a word sees itself",
            "cut": r"row of the closing \[SEP\]",
            "transposed": "transposed",
            "blind": "do not see the picture",
            "inverted": "changed places",
            "first sep": "belongs to the prefix",
        },
        wrong=(
            (lambda prefix, n, length: torch.full((length, length), -1e4), "True and False"),
            (lambda prefix, n, length: torch.ones(length), "expected shape"),
            (lambda *sizes: seq2seq_mask(*sizes, slip="transposed").tolist(), "transposed"),
        ),
        also_right=tuple(
            lambda *sizes, kind=kind: getattr(seq2seq_mask(*sizes), kind)()
            for kind in ("long", "numpy", "tolist")
        ),
    ),
    Exercise(
        nb30.check_geometry,
        geometry,
        {
            "five": "score as a sixth",
            "seven": "class index is dropped",
            "class": "not the index of the class",
            "floor": "below zero counts as 0",
            "own": "own size",
            "corner": "largest of",
            "unbiased": "divided by 6",
            "columns": "not a number over the regions",
            "plain": "not normalised",
            "swapped sides": "y by the height",
            "order": "before the score",
        },
    ),
    Exercise(
        nb30.check_targets,
        targets,
        {
            "down": "not down",
            "half up": "even neighbour",
            "up": "not up",
            "none": "one at least",
            "unlimited": "never more than",
            "with sep": "without",
            "each": "a fixed number of places",
            "twice": "without replacement",
            "first sep": r"the first \[SEP\]",
            "padding": "is padding",
            "first": "never chosen",
            "no sep": r"\[SEP\] is never chosen",
        },
    ),
    Exercise(
        nb30.check_packed_mask,
        packed_mask,
        {
            "before": "captions before it",
            "others": "all other captions",
            "bidirectional": "not writing",
            "blind": "do not see the prefix",
            "seen": "can no longer be shared",
            "causal prefix": "both directions",
            "itself": "sees itself",
        },
    ),
)
