"""Checks of notebook 10, contextual matching: the paired hinge and recall at k."""

from collections.abc import Callable

import torch
from torch import Tensor

from vlpnb.course.checks import Wrong, compare, passed
from vlpnb.metrics.retrieval import ranks
from vlpnb.nn.losses import paired_hinge


def _unit(*shape: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(*shape, generator=generator), dim=-1)


def _hinge_slips(f: Tensor, g: Tensor, mask: Tensor, margin: float) -> dict[str, Tensor]:
    """What typical mistakes in the paired hinge give."""
    half = len(g) // 2
    own = torch.einsum("btd,bd->bt", f, g)
    other = torch.einsum("btd,bd->bt", f, g.roll(half, dims=0))
    terms, count = (margin - own + other).relu(), mask.sum()
    next_one = torch.einsum("btd,bd->bt", f, g.roll(1, dims=0))
    means = (terms * mask).sum(1) / mask.sum(1)
    return {
        "padding counts in your mean. Multiply by the mask, and divide by the mask's sum.": terms.mean(),
        "you divided by all B·T positions, not by the tokens under the mask.": (terms * mask).mean(),
        "you divided by the batch size; the loss is a mean over tokens.": (terms * mask).sum() / len(f),
        "you averaged within each sentence first; every token weighs the same, whatever its sentence.": means.mean(),
        "the positive and the negative are exchanged: the own image's score must lower the loss.": (
            ((margin - other + own).relu() * mask).sum() / count
        ),
        "terms below zero are missing their max(0, ·).": ((margin - own + other) * mask).sum() / count,
        "the margin is missing.": ((other - own).relu() * mask).sum() / count,
        "the partner of sentence b is b + B/2 (or b − B/2), not its neighbour.": (
            ((margin - own + next_one).relu() * mask).sum() / count
        ),
        "the first and the last token of a sentence ([CLS], [SEP]) count too, as in the paper's code.": (
            _mean(terms, _without_ends(mask))
        ),
    }


def _mean(terms: Tensor, mask: Tensor) -> Tensor:
    return (terms * mask).sum() / mask.sum().clamp(min=1)


def _without_ends(mask: Tensor) -> Tensor:
    at = torch.arange(mask.shape[1])
    return mask * (at > 0) * (at < mask.sum(1, keepdim=True) - 1)


def check_paired_hinge(function: Callable[[Tensor, Tensor, Tensor, float], Tensor]) -> None:
    """Exercise 10.1: `function(f [B T d], g [B d], mask [B T], margin)` is the paired hinge (spec 3.2)."""
    f, g = _unit(6, 5, 8, seed=0), _unit(6, 8, seed=1)
    mask = (torch.arange(5) < torch.tensor([5, 3, 4, 5, 4, 3])[:, None]).float()
    slips = _hinge_slips(f, g, mask, 0.5)
    compare("the loss of a batch of 6", function(f, g, mask, 0.5), paired_hinge(f, g, mask, 0.5), slips)

    f = torch.tensor([[[1, 0], [0, 1]], [[0.6, 0.8], [1, 0]]])
    g, mask = torch.eye(2), torch.tensor([[1.0, 1.0], [1.0, 0.0]])
    compare("the loss of the batch in section 4", function(f, g, mask, 0.5), 0.6)
    compare("the loss with margin 0", function(f, g, mask, 0.0), paired_hinge(f, g, mask, 0.0),
            {"the margin is fixed inside your function; use the argument.": 0.6})  # fmt: skip
    passed("each token is pulled to its own image and pushed from its partner's; padding has no say.")


def check_recall_at_k(function: Callable[[Tensor, Tensor, int], float]) -> None:
    """Exercise 10.2: `function(scores [M V], own [M], k)` is the share of rows whose own column ranks ≤ k."""
    second = torch.tensor([[0.7, 0.9, 0.1, 0.0]])
    found = function(second, torch.tensor([0]), 1)
    slip = (
        "the own image is second best, so it is no hit at k = 1. Ranks start at 1, a hit is rank ≤ k (Q-06)."
    )
    compare("R@1 of the golden vector", found, 0.0, {slip: 1.0})
    compare("R@2 of the golden vector", function(second, torch.tensor([0]), 2), 1.0)

    generator = torch.Generator().manual_seed(3)
    scores, own = torch.rand(40, 9, generator=generator), torch.randint(9, (40,), generator=generator)
    place = ranks(scores, own)
    for k in (1, 3, 5):
        slips = {
            "you count rank ≤ k + 1, as the original program did (Q-06).": (place <= k + 1).float().mean(),
            "you count rank < k; the k-th picture is still a hit.": (place < k).float().mean(),
            "the scores are sorted upwards: the best picture has the greatest score.": (
                (ranks(-scores, own) <= k).float().mean()
            ),
            "this is the number of hits; divide by the number of tokens.": (place <= k).sum(),
            "own[m] names the right column of row m; it is not always the diagonal.": (
                (ranks(scores, torch.arange(40) % 9) <= k).float().mean()
            ),
        }
        compare(f"R@{k} of 40 tokens", function(scores, own, k), (place <= k).float().mean(), slips)
    if not 0 <= float(function(scores, own, 9)) <= 1.0001:
        raise Wrong("R@9 among 9 pictures: a share lies between 0 and 1.")
    passed("a hit is rank ≤ k, ranks start at 1; with k = V everything is found.")
