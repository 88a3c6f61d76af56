"""Checks of notebook 10: the solutions pass, stubs and typical mistakes are named."""

import pytest
import torch

from vlpnb.course.checks import Wrong, nb10


def hinge(f, g, mask, margin):
    half = len(g) // 2
    partner = torch.cat([g[half:], g[:half]])
    own, other = (f * g[:, None]).sum(-1), (f * partner[:, None]).sum(-1)
    return (torch.clamp(margin - own + other, min=0) * mask).sum() / mask.sum()


def recall_at_k(scores, own, k):
    best = scores.topk(k, dim=1).indices
    return (best == own[:, None]).any(1).float().mean().item()


def test_right_answers_pass(capsys):
    nb10.check_paired_hinge(hinge)
    nb10.check_recall_at_k(recall_at_k)
    assert capsys.readouterr().out.count("Correct") == 2


def test_stubs_fail():
    with pytest.raises(Wrong, match="nothing came back yet"):
        nb10.check_paired_hinge(lambda f, g, mask, margin: ...)
    with pytest.raises(Wrong, match="nothing came back yet"):
        nb10.check_recall_at_k(lambda scores, own, k: None)


def wrong_hinge(slip):
    def function(f, g, mask, margin):
        half = len(g) // 2
        partner = g.roll(1, 0) if slip == "neighbour" else torch.cat([g[half:], g[:half]])
        own, other = (f * g[:, None]).sum(-1), (f * partner[:, None]).sum(-1)
        if slip == "exchanged":
            own, other = other, own
        terms = margin - own + other
        terms = terms if slip == "no relu" else terms.relu()
        if slip == "padding":
            return terms.mean()
        if slip == "all positions":
            return (terms * mask).mean()
        if slip == "batch":
            return (terms * mask).sum() / len(f)
        if slip == "sentences":
            return ((terms * mask).sum(1) / mask.sum(1)).mean()
        return (terms * mask).sum() / mask.sum()

    return function


@pytest.mark.parametrize(
    ("slip", "message"),
    [
        ("neighbour", "not its neighbour"),
        ("exchanged", "exchanged"),
        ("no relu", "max"),
        ("padding", "padding counts"),
        ("all positions", "all B·T positions"),
        ("batch", "batch size"),
        ("sentences", "within each sentence"),
    ],
)
def test_slips_of_the_hinge_are_named(slip, message):
    with pytest.raises(Wrong, match=message):
        nb10.check_paired_hinge(wrong_hinge(slip))


def test_a_fixed_margin_is_noticed():
    with pytest.raises(Wrong, match="use the argument"):
        nb10.check_paired_hinge(lambda f, g, mask, margin: hinge(f, g, mask, 0.5))


def test_slips_of_recall_are_named():
    with pytest.raises(Wrong, match="VOK-06"):
        nb10.check_recall_at_k(lambda scores, own, k: recall_at_k(scores, own, min(k + 1, scores.shape[1])))
    with pytest.raises(Wrong, match="sorted upwards"):
        nb10.check_recall_at_k(
            lambda scores, own, k: recall_at_k(scores if len(own) == 1 else -scores, own, k)
        )
    with pytest.raises(Wrong, match="number of hits"):
        nb10.check_recall_at_k(lambda scores, own, k: recall_at_k(scores, own, k) * len(own))


def gradient(f, g, temperature, slip=""):
    scores = f @ g.T / (1 if slip == "inside" else temperature)
    share = scores.softmax(dim=0 if slip == "tokens" else 1)
    if slip == "alike":
        share = torch.full_like(share, 1 / len(g))
    pull = share @ g if slip == "own" else share @ g - g
    pull = -pull if slip == "sign" else pull
    return pull / (1 if slip == "temperature" else temperature) / (1 if slip == "mean" else len(f))


def test_the_gradient_of_info_nce(capsys):
    nb10.check_info_nce_gradient(gradient)
    assert "Correct" in capsys.readouterr().out
    with pytest.raises(Wrong, match="nothing came back yet"):
        nb10.check_info_nce_gradient(lambda f, g, temperature: ...)


@pytest.mark.parametrize(
    ("slip", "message"),
    [
        ("sign", "sign is turned"),
        ("temperature", "division by the temperature"),
        ("mean", "division by B"),
        ("inside", "inside the softmax"),
        ("tokens", "dim=1"),
        ("alike", "softmax share"),
        ("own", "subtract g"),
    ],
)
def test_slips_of_the_gradient_are_named(slip, message):
    with pytest.raises(Wrong, match=message):
        nb10.check_info_nce_gradient(lambda *arguments: gradient(*arguments, slip))
