"""Checks of notebook 02: the solutions pass, stubs and typical mistakes are named."""

import pytest
import torch
from torch.nn.functional import normalize

from vlpnb.course.checks import Wrong, nb02


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


def test_right_answers_pass(capsys):
    nb02.check_fold(fold)
    nb02.check_neighbours(neighbours)
    assert capsys.readouterr().out.count("Correct") == 2


def test_stubs_fail():
    with pytest.raises(Wrong, match="nothing came back yet"):
        nb02.check_fold(lambda *args: ...)
    with pytest.raises(Wrong, match="nothing came back yet"):
        nb02.check_neighbours(lambda features, k: None)


@pytest.mark.parametrize(
    ("slip", "message"),
    [
        ("outside", "under the root"),
        ("variance", "not by the variance"),
        ("mean", "passes through the scale"),
        ("axis", "output channel"),
    ],
)
def test_wrong_folds_are_named(slip, message):
    with pytest.raises(Wrong, match=message):
        nb02.check_fold(lambda *args: fold(*args, slip))


@pytest.mark.parametrize(
    ("slip", "message"),
    [("itself", "found itself"), ("product", "long vectors win"), ("columns", "normalised the columns")],
)
def test_wrong_neighbours_are_named(slip, message):
    with pytest.raises(Wrong, match=message):
        nb02.check_neighbours(lambda features, k: neighbours(features, k, slip))
