"""Checks of notebook 15, visual supervision: masking with given random numbers, the joint loss, calibrated answers."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from vlpnb.course.checks import Wrong, compare, passed


def check_mask(function: Callable[[Tensor, Tensor, int, Tensor, Tensor], tuple[Tensor, Tensor]]) -> None:
    """Exercise 15.1: `function(ids, special, mask_id, u, random_ids)` → inputs and labels, [B T] each."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(10, 90, (4, 40), generator=generator)
    special = torch.zeros_like(ids, dtype=torch.bool)
    special[:, [0, -1]] = True
    u = torch.rand(ids.shape, generator=generator) * 0.3
    u[:, 0] = 0.01  # specials that would be selected
    random_ids = torch.randint(100, 190, ids.shape, generator=generator)
    found = function(ids.clone(), special, 4, u, random_ids)
    if found is None or found is ...:
        compare("inputs and labels", found, ids)
    if not isinstance(found, tuple | list) or len(found) != 2:
        raise Wrong(f"expected a pair (inputs, labels), found {type(found).__name__}.")

    def made(selected: Tensor, mask: float, random: float) -> Tensor:
        inputs = torch.where(selected & (u < random), random_ids, ids)
        return torch.where(selected & (u < mask), 4, inputs)

    selected = (u < 0.15) & ~special
    everywhere = u < 0.15
    compare(
        "the inputs", found[0], made(selected, 0.12, 0.135),
        {
            "[CLS] and [SEP] are never masked; leave out the special positions.": made(everywhere, 0.12, 0.135),
            "every selected token became [MASK]; 10 % become a random word and 10 % stay.": made(selected, 0.15, 0.15),
            "no token stayed as it was: the last 10 % of the selected ones are unchanged.": made(selected, 0.12, 0.15),
            "the random words are missing: where 0.12 ≤ u < 0.135 take random_ids.": made(selected, 0.12, 0.0),
        },
    )  # fmt: skip
    compare(
        "the labels", found[1], torch.where(selected, ids, -100),
        {
            "positions that became [MASK] only: random and unchanged words must be guessed, too.": (
                torch.where(selected & (u < 0.12), ids, -100)
            ),
            "labels are the *original* words, not the inputs.": torch.where(selected, found[0], -100),
            "every position has a label; only selected ones are guessed, the others get −100.": ids,
            "unselected positions get −100, not 0 (0 is a word).": torch.where(selected, ids, 0),
            "special tokens have no label.": torch.where(everywhere, ids, -100),
        },
    )  # fmt: skip
    passed("15 % are guessed; the model cannot tell which of the words it sees are right.")


def check_joint_loss(function: Callable[..., Tensor]) -> None:
    """Exercise 15.2: `function(word_scores, words, voken_scores, vokens, mlm_ratio)` is the weighted sum."""
    generator = torch.Generator().manual_seed(0)
    word_scores = torch.randn(3, 8, 11, generator=generator)
    voken_scores = torch.randn(3, 8, 7, generator=generator)
    words = torch.randint(11, (3, 8), generator=generator)
    vokens = torch.randint(7, (3, 8), generator=generator)
    words[torch.rand(3, 8, generator=generator) > 0.3] = -100
    words[0, 1] = 5
    vokens[:, [0, -1]] = -100

    def loss(scores: Tensor, labels: Tensor, reduction: str = "mean") -> Tensor:
        return F.cross_entropy(scores[labels != -100], labels[labels != -100], reduction=reduction)

    for ratio in (1.0, 0.5):
        word, voken = loss(word_scores, words), loss(voken_scores, vokens)
        summed = loss(voken_scores, vokens, "sum"), loss(word_scores, words, "sum")
        together = (summed[0] + ratio * summed[1]) / ((words != -100).sum() + (vokens != -100).sum())
        masked = vokens.masked_fill(words == -100, -100)
        slips = {
            "mlm_ratio weights the word loss, not the voken loss.": ratio * voken + word,
            "mlm_ratio has no effect; multiply the word loss by it.": voken + word,
            "these are sums; each loss is a mean over its own labelled positions.": summed[0]
            + ratio * summed[1],
            "you divided by all B·T positions; unlabelled ones do not count.": (
                (summed[0] + ratio * summed[1]) / words.numel()
            ),
            "both sums were divided by one common count; each loss has its own.": together,
            "vokens count at *all* positions that have one, not only where a word is masked.": (
                loss(voken_scores, masked) + ratio * word
            ),
            "the voken loss is missing.": ratio * word,
            "the word loss is missing.": voken,
        }
        right = voken + ratio * word
        slips = {text: slip for text, slip in slips.items() if not torch.isclose(slip, right)}
        what = f"the joint loss with mlm_ratio {ratio}"
        compare(what, function(word_scores, words, voken_scores, vokens, ratio), right, slips)
    passed("two means, each over its own positions, and a weight on the words.")


def check_calibrated(function: Callable[[Tensor, Tensor], float]) -> None:
    """Exercise 15.3: `function(scores [N C], right [N])` is the accuracy after each candidate's mean is taken off."""
    generator = torch.Generator().manual_seed(5)
    right = torch.arange(24) % 4
    knows = torch.nn.functional.one_hot(right, 4) * 1.0
    loves = torch.tensor([3.0, 0.0, 0.0, -1.0])  # one colour is likeliest whatever the question
    noise = torch.randn(24, 4, generator=generator)
    for what, scores in (("a model with a favourite", knows + loves), ("a noisy one", knows + loves + noise)):
        calibrated = (scores - scores.mean(0)).argmax(1)
        expected = (calibrated == right).float().mean()
        slips = {
            "this is the number of right answers; divide by the number of questions.": expected * len(right),
            "the mean is added; take it off.": ((scores + scores.mean(0)).argmax(1) == right).float().mean(),
            "these are the lowest scores; the answer has the greatest.": (
                ((scores - scores.mean(0)).argmin(1) == right).float().mean()
            ),
        }
        slips = {text: slip for text, slip in slips.items() if not torch.isclose(slip, expected)}
        found = function(scores.clone(), right.clone())
        if (
            found is not None
            and found is not ...
            and float(found) == float((scores.argmax(1) == right).float().mean())
        ):
            raise Wrong(
                f"the calibrated accuracy of {what}: {float(found):.3f} is that of the plain scores. Take the mean "
                "of each *candidate* (column) off; a question's own mean (row) changes no arg max."
            )
        compare(f"the calibrated accuracy of {what}", found, expected, slips)
    passed("a favourite colour no longer hides what the model knows of each thing.")
