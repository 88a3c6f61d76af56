"""Notebook 10: the paired hinge, recall at k, and the gradient of InfoNCE."""

import torch

from tests.course.slips import Exercise
from vlpnb.course.checks import nb10


def hinge(f, g, mask, margin, slip=""):
    half = len(g) // 2
    partner = g.roll(1, 0) if slip == "neighbour" else torch.cat([g[half:], g[:half]])
    own, other = (f * g[:, None]).sum(-1), (f * partner[:, None]).sum(-1)
    if slip == "exchanged":
        own, other = other, own
    terms = (0.5 if slip == "margin" else margin) - own + other
    terms = terms if slip == "no relu" else terms.relu()
    if slip == "padding":
        return terms.mean()
    if slip == "all positions":
        return (terms * mask).mean()
    if slip == "sentences":
        return ((terms * mask).sum(1) / mask.sum(1)).mean()
    return (terms * mask).sum() / (len(f) if slip == "batch" else mask.sum())


def recall_at_k(scores, own, k, slip=""):
    if slip == "one more":
        k = min(k + 1, scores.shape[1])
    if slip == "upwards" and len(own) > 1:
        scores = -scores
    best = scores.topk(k, dim=1).indices
    hits = (best == own[:, None]).any(1).float()
    return hits.sum().item() if slip == "hits" else hits.mean().item()


def gradient(f, g, temperature, slip=""):
    scores = f @ g.T / (1 if slip == "inside" else temperature)
    share = scores.softmax(dim=0 if slip == "tokens" else 1)
    if slip == "alike":
        share = torch.full_like(share, 1 / len(g))
    pull = share @ g if slip == "own" else share @ g - g
    pull = -pull if slip == "sign" else pull
    return pull / (1 if slip == "temperature" else temperature) / (1 if slip == "mean" else len(f))


EXERCISES = (
    Exercise(
        nb10.check_paired_hinge,
        hinge,
        {
            "neighbour": "not its neighbour",
            "exchanged": "exchanged",
            "no relu": "max",
            "padding": "padding counts",
            "all positions": "all B·T positions",
            "batch": "batch size",
            "sentences": "within each sentence",
            "margin": "use the argument",
        },
    ),
    Exercise(
        nb10.check_recall_at_k,
        recall_at_k,
        {"one more": "VOK-06", "upwards": "sorted upwards", "hits": "number of hits"},
    ),
    Exercise(
        nb10.check_info_nce_gradient,
        gradient,
        {
            "sign": "sign is turned",
            "temperature": "division by the temperature",
            "mean": "division by B",
            "inside": "inside the softmax",
            "tokens": "dim=1",
            "alike": "softmax share",
            "own": "subtract g",
        },
    ),
)
