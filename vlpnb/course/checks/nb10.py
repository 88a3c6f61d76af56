"""Checks of notebook 10, contextual matching: the paired hinge, recall at k, the gradient of InfoNCE."""

from collections.abc import Callable

import torch
from torch import Tensor

from vlpnb.course.checks import Wrong, compare, passed
from vlpnb.metrics.retrieval import ranks
from vlpnb.nn.losses import info_nce, paired_hinge


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
    """Exercise 10.1: `function(f [B T d], g [B d], mask [B T], margin)` is the paired hinge."""
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
    slip = "the own image is second best, so it is no hit at k = 1. Ranks start at 1, a hit is rank ≤ k (VOK-06)."
    compare("R@1 of the small case", found, 0.0, {slip: 1.0})
    compare("R@2 of the small case", function(second, torch.tensor([0]), 2), 1.0)

    generator = torch.Generator().manual_seed(3)
    scores, own = torch.rand(40, 9, generator=generator), torch.randint(9, (40,), generator=generator)
    place = ranks(scores, own)
    for k in (1, 3, 5):
        slips = {
            "you count rank ≤ k + 1, as the original program did (VOK-06).": (place <= k + 1).float().mean(),
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


def check_info_nce_gradient(function: Callable[[Tensor, Tensor, float], Tensor]) -> None:
    """Exercise 10.3: `function(f [B d], g [B d], temperature)` is the derivative of the mean InfoNCE by f, [B d]."""
    for size, temperature in ((5, 0.5), (8, 0.1)):
        f, g = _unit(size, 6, seed=size), _unit(size, 6, seed=size + 1)
        leaf = f.clone().requires_grad_()
        info_nce(leaf[:, None], g, torch.ones(size, 1), temperature).backward()
        right = leaf.grad
        share = (f @ g.T / temperature).softmax(dim=1)
        columns = (f @ g.T / temperature).softmax(dim=0)

        def pull(weights: Tensor, scale: float = 1 / (size * temperature), g: Tensor = g) -> Tensor:
            return (weights @ g - g) * scale

        slips = {
            "the sign is turned: the gradient points from the own picture to the mean of all (a step goes back).": (
                -right
            ),
            "the division by the temperature is missing: the scores are f · g / τ, so τ appears once more.": (
                pull(share, 1 / size)
            ),
            "the division by B is missing: the loss is a mean over B tokens.": pull(share, 1 / temperature),
            "every picture pulls alike here; each pulls with its softmax share.": pull(
                torch.ones_like(share) / size
            ),
            "the temperature is missing inside the softmax.": pull((f @ g.T).softmax(dim=1)),
            "the softmax runs over the tokens; each token chooses among the pictures (dim=1).": pull(columns),
            "the pull towards the own picture is missing: subtract g.": share @ g / (size * temperature),
        }
        what = f"the gradient for B = {size}, temperature {temperature}"
        compare(what, function(f, g, temperature), right, slips, tol=1e-5)
    passed("equal to autograd: each picture pulls with its softmax share, so hard negatives pull most.")
