"""Notebook 22: rows of pairs, the pair's vector, consistency over a statement's pairs, and the majority alarm."""

import math
from collections import defaultdict

import torch

from tests.course.slips import Exercise
from vlpnb.course.checks import nb22


def rows(features, ids, slip=""):
    pictures = features.flatten(0, 1)
    sentences = ids.repeat_interleave(2, 0)
    if slip == "left first":
        pictures = torch.cat([features[:, 0], features[:, 1]])
    if slip == "right first":
        pictures = features.flip(1).flatten(0, 1)
    if slip == "repeat":
        sentences = ids.repeat(2, 1)
    return pictures, sentences


def pair_vector(pooled, slip=""):
    left, right = pooled[::2], pooled[1::2]
    if slip == "halves":
        left, right = pooled.chunk(2)
    if slip == "mean":
        return (left + right) / 2
    if slip == "turned":
        left, right = right, left
    if slip == "mixed":
        return torch.stack([left, right], -1).flatten(1)
    return torch.cat([left, right], -1)


def consistency(judged, slip=""):
    groups = defaultdict(list)
    for identifier, right in judged.items():
        split, images, pair, sentence = identifier.split("-")
        key = {"pair": (pair, sentence), "fourth": (pair,), "set": ()}.get(slip, (sentence,))
        groups[split, images, *key].append(right)
    if slip == "means":
        return sum(sum(group) / len(group) for group in groups.values()) / len(groups)
    of_groups = any if slip == "any" else all
    return sum(map(of_groups, groups.values())) / len(judged if slip == "examples" else groups)


def alarm(accuracy, majority, n, slip=""):
    error = math.sqrt(majority * (1 - majority) / n)
    if slip == "root":
        error = error / math.sqrt(n)
    if slip == "exact":
        return accuracy == majority
    if slip == "one side":
        return abs(accuracy - majority) < 2 * error
    if slip == "below":
        return accuracy < majority + 2 * error
    if slip == "fixed":
        return abs(accuracy - majority) < 0.02 or abs(accuracy - 1 + majority) < 0.02
    return min(abs(accuracy - majority), abs(accuracy - (1 - majority))) < 2 * error


EXERCISES = (
    Exercise(
        nb22.check_rows,
        rows,
        {
            "left first": "next to each other",
            "right first": "before the left",
            "repeat": "repeat_interleave",
        },
        wrong=(
            (lambda features, ids: features.flatten(0, 1), "expected a pair"),
            (lambda features, ids: (features.flatten(0, 1), ids), "expected shape"),
        ),
    ),
    Exercise(
        nb22.check_pair_vector,
        pair_vector,
        {
            "halves": "rows 2b and 2b",
            "mean": "cannot tell left from right",
            "turned": "comes first",
            "mixed": "as a whole",
        },
    ),
    Exercise(
        nb22.check_consistency,
        consistency,
        {
            "pair": "this is the accuracy",
            "fourth": "blank the third",
            "set": "whole sets",
            "means": "when \\*all\\* of it",
            "examples": "number of groups",
            "any": "one right answer is not enough",
        },
    ),
    Exercise(
        nb22.check_alarm,
        alarm,
        {
            "root": "two standard errors",
            "exact": "mirror image",
            "one side": "mirror image",
            "below": "wrong way round",
            "fixed": "more than two",
        },
    ),
)
