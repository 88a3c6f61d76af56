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


def receptive_field(layers, slip=""):
    side, step = int(slip != "no start"), 1
    for kernel, stride in layers:
        step *= stride if slip == "own" else 1
        side += (kernel - (slip != "kernel")) * (1 if slip == "no stride" else step)
        step *= 1 if slip == "own" else stride
    return step if slip == "jump" else side


def test_receptive_field(capsys):
    nb02.check_receptive_field(receptive_field)
    assert "435" in capsys.readouterr().out
    with pytest.raises(Wrong, match="nothing came back yet"):
        nb02.check_receptive_field(lambda layers: ...)


def test_the_receptive_field_is_where_the_gradient_lands():
    layers = [(3, 2), (5, 1), (3, 2)]
    net = torch.nn.Sequential(*(torch.nn.Conv1d(1, 1, k, s, padding=k // 2) for k, s in layers))
    for layer in net:
        torch.nn.init.ones_(layer.weight)
    pixels = torch.ones(1, 1, 128, requires_grad=True)
    net(pixels)[0, 0, 16].backward()
    assert int((pixels.grad != 0).sum()) == receptive_field(layers)


@pytest.mark.parametrize(
    ("slip", "message"),
    [
        ("own", "layers after it"),
        ("kernel", "k − 1"),
        ("no stride", "strides are missing"),
        ("no start", "begin with one pixel"),
        ("jump", "step between neighbouring cells"),
    ],
)
def test_wrong_receptive_fields_are_named(slip, message):
    with pytest.raises(Wrong, match=message):
        nb02.check_receptive_field(lambda layers: receptive_field(layers, slip))
