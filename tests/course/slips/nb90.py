"""Notebook 90: gain over a control, average precision, paired intervals, many claims."""

import numpy as np

from tests.course.slips import Exercise
from vlpnb.course.checks import nb90


def gain(score, control, slip=""):
    if slip == "sign":
        return (control - score) / (1 - control)
    rest = {"control": control, "model": max(1 - score, 1e-9), "none": 1}.get(slip, 1 - control)
    found = (score - control) / rest
    return max(0.0, found) if slip == "cut" else found


def precision(scores, right, slip=""):
    order = sorted(range(len(scores)), key=lambda i: scores[i] if slip == "lowest" else -scores[i])
    seen, shares = 0, []
    for position, picture in enumerate(order, 2 if slip == "second" else 1):
        if right[picture]:
            seen += 1
            shares.append((1 if slip == "alone" else seen) / position)
    if slip == "share":
        return float(np.mean(right))
    if slip == "first":
        return shares[0]
    return sum(shares) / len(scores if slip == "gallery" else shares)


def interval(mine, other, groups, kinds, draws, slip=""):
    of = np.array([kinds.index(group) for group in groups])
    gaps = {"one": mine, "sign": other - mine}.get(slip, mine - other)
    sums, counts = np.bincount(of, gaps, len(kinds)), np.bincount(of, minlength=len(kinds))
    ends = [0.05, 0.95] if slip == "narrow" else [0.025, 0.975]
    if slip == "apart":
        both = [
            np.quantile(np.bincount(of, each)[draws].sum(1) / counts[draws].sum(1), ends)
            for each in (mine, other)
        ]
        return both[0] - both[1]
    if slip == "kinds":
        return np.quantile((sums / counts)[draws].mean(1), ends)
    if slip == "once":
        draws = [np.unique(row) for row in draws]
        return np.quantile([sums[row].sum() / counts[row].sum() for row in draws], ends)
    return tuple(np.quantile(sums[draws].sum(1) / counts[draws].sum(1), ends))


def claims(drawn, slip=""):
    each = {"each": 0.05, "most": 1 - 0.95 / len(drawn)}.get(slip, 0.05 / len(drawn))
    kept = []
    for name, means in drawn.items():
        low, high = np.quantile(means, [each / 2, 1 - each / 2])
        if low > 0 or (high < 0 and slip != "above"):
            kept.append(name)
    if slip == "others":
        return [name for name in drawn if name not in kept]
    return kept[::-1] if slip == "order" else [] if slip == "empty" else kept


EXERCISES = (
    Exercise(
        nb90.check_gain,
        gain,
        {
            "none": "the gain itself",
            "control": "divided by the control's score",
            "model": "what the \\*model\\* left",
            "sign": "sign is the other way round",
            "cut": "do not cut it off",
        },
        said="0.7 is little",
    ),
    Exercise(
        nb90.check_precision,
        precision,
        {
            "share": "whole gallery",
            "first": "reciprocal rank",
            "lowest": "lowest scores",
            "gallery": "size of the gallery",
            "second": "ranks begin with 1",
            "alone": "number of right ones so far",
        },
    ),
    Exercise(
        nb90.check_interval,
        interval,
        {
            "kinds": "weighs the same",
            "apart": "two intervals subtracted",
            "once": "counts once",
            "narrow": "middle 90 %",
            "sign": "other way round",
            "one": "one model alone",
        },
    ),
    Exercise(
        nb90.check_claims,
        claims,
        {
            "each": "95 % by itself",
            "above": "below 0 is a claim",
            "most": "divide the 0.05",
            "others": "do \\*not\\* stand",
            "order": "another order",
            "empty": "found none",
        },
    ),
)
