"""Notebook 02: folding a normalisation, nearest pictures, and receptive fields."""

import torch
from torch.nn.functional import normalize

from tests.course.slips import Exercise
from vlpnb.course.checks import nb02


def fold(kernel, weight, bias, mean, var, eps, slip=""):
    scale = weight / {
        "outside": var.sqrt() + eps,
        "variance": var + eps,
    }.get(slip, (var + eps).sqrt())
    shift = bias - (mean if slip == "mean" else mean * scale)
    if slip == "axis":
        return kernel * scale, shift
    return kernel * scale[:, None, None, None], shift


def neighbours(features, k, slip=""):
    unit = features if slip == "product" else normalize(features, dim=0 if slip == "columns" else 1)
    scores = unit @ unit.T
    if slip != "itself":
        scores.fill_diagonal_(-torch.inf)
    return scores.topk(k).indices


def receptive_field(layers, slip=""):
    side, step = int(slip != "no start"), 1
    for kernel, stride in layers:
        step *= stride if slip == "own" else 1
        side += (kernel - (slip != "kernel")) * (1 if slip == "no stride" else step)
        step *= 1 if slip == "own" else stride
    return step if slip == "jump" else side


EXERCISES = (
    Exercise(
        nb02.check_fold,
        fold,
        {
            "outside": "under the root",
            "variance": "not by the variance",
            "mean": "passes through the scale",
            "axis": "output channel",
        },
    ),
    Exercise(
        nb02.check_neighbours,
        neighbours,
        {"itself": "found itself", "product": "long vectors win", "columns": "normalised the columns"},
    ),
    Exercise(
        nb02.check_receptive_field,
        receptive_field,
        {
            "own": "layers after it",
            "kernel": "k − 1",
            "no stride": "strides are missing",
            "no start": "begin with one pixel",
            "jump": "step between neighbouring cells",
        },
        said="435",
    ),
)
