"""Checks of notebook 32, VQA with VLP: targets, the normal form of an answer, the loss and the choice of an answer."""

from collections import Counter
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from vlpnb.course.checks import Wrong, compare, passed


def check_target(function: Callable[[Sequence[str], Sequence[str]], Sequence[float]]) -> None:
    """Exercise 32.1: `function(ten answers, answer list)` is a score for every answer of the list; entry 0 is <unk>."""
    listed = ["<unk>", "red", "blue", "dark red", "2", "yes", "no"]
    ten = ["red"] * 4 + ["dark red"] * 2 + ["crimson"] * 3 + ["blue"]
    counts = Counter(ten)

    def vector(score: Callable[[int], float], unknown: float = 0.0) -> list[float]:
        return [unknown, *(score(counts[answer]) for answer in listed[1:])]

    def fair(c: int) -> float:
        return min(1.0, 0.3 * c)

    found = function(list(ten), list(listed))
    if found is not None and found is not ... and len(found) == len(listed) - 1:
        raise Wrong("the target: entry 0 belongs to <unk> and stays there, with a score of 0.")
    slips = {
        "this is the share of the ten people; three others who agree are enough.": vector(lambda c: c / 10),
        "this is min(1, c / 3); with each person left out once, one in ten gives 0.3 and not 1/3.": vector(
            lambda c: min(1.0, c / 3)
        ),
        "answers outside the list count as unknown, and the unknown answer scores 0.": vector(fair, fair(3)),
        "the best answer alone is 1 here; every answer that somebody gave has its score.": vector(
            lambda c: float(c == 4)
        ),
        "the scores need not sum to 1.": [s / sum(vector(fair)) for s in vector(fair)],
        "above three people the score is 1, not more.": vector(lambda c: 0.3 * c),
        "every answer that somebody gave is 1 here; how many gave it makes the score.": vector(
            lambda c: float(c > 0)
        ),
    }
    compare("the target of ten answers", found, vector(fair), slips, tol=1e-6)
    nobody = function(["crimson"] * 10, list(listed))
    compare("the target of a question whose answer is not in the list", nobody, [0.0] * len(listed))
    passed("a question nobody can answer from the list teaches the head to say no, and nothing else.")


# raw answer, its normal form, what a slip makes of it → why
_FORMS: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("Red", "red", {"Red": "answers are lower-cased."}),
    ("two dogs", "2 dogs", {"two dogs": "number words become digits, inside an answer as well."}),
    ("none", "0", {"none": "`none` is 0."}),
    ("the a dog", "dog", {"a dog": "all articles go, wherever they stand."}),
    ("a ten", "10", {"a 10": "articles go, too.", "ten": "number words become digits."}),
    ("yes!", "yes", {"yes!": "punctuation goes."}),
    ("on/off", "on off", {"onoff": "a mark that touches no blank becomes a blank.", "on/off": "a slash goes."}),
    ("red, blue", "red blue", {"red  blue": "a mark that touches a blank is removed, not replaced."}),
    ("1,000", "1000", {"1 000": "between digits a comma is removed.", "1,000": "a comma goes."}),
    ("2.5", "2.5", {"25": "a full stop before a digit stays: 2.5.", "2 5": "a full stop becomes no blank."}),
    ("st. louis", "st louis", {"st. louis": "a full stop that no digit follows goes."}),
    ("another man", "another man", {"nother man": "an article is a whole word.", "other man": "an article is a word."}),
    ("someone", "someone", {"some1": "a number word is a whole word."}),
    ("it's", "it's", {"its": "an apostrophe is no punctuation here.", "it s": "an apostrophe stays."}),
    (" blue\n", "blue", {" blue\n": "blanks and line ends at both ends go.", " blue": "blanks at both ends go."}),
)  # fmt: skip


def check_normaliser(function: Callable[[str], str]) -> None:
    """Exercise 32.2: `function(answer)` is its form when the accuracy is computed, contractions left alone."""
    for raw, right, slips in _FORMS:
        found = function(raw)
        if found is None or found is ...:
            compare("the normal form", found, right)
        if found == right:
            continue
        why = f": {slips[found]}" if found in slips else "."
        raise Wrong(f"{raw!r} became {found!r}, expected {right!r}{why}")
    passed("two people who mean the same should write the same; half of an evaluator is this table.")


def check_answers(
    function: Callable[
        [Float[Tensor, "B A"], Float[Tensor, "B A"]], tuple[Tensor, Int[Tensor, " B"] | Sequence[int]]
    ],
) -> None:
    """Exercise 32.3: `function(scores, targets)` is the loss of a batch, and the answer chosen for each question."""
    generator = torch.Generator().manual_seed(32)
    scores = 2 * torch.randn(3, 5, generator=generator)
    scores[1, 0] = 6.0  # <unk> is surest
    targets = torch.tensor([[0, 1, 0.6, 0, 0], [0, 0, 0, 0.3, 0], [0, 0, 0, 0, 0]], dtype=torch.float)
    found = function(scores.clone(), targets.clone())
    if found is None or found is ...:
        compare("the loss", found, 0)
    if not isinstance(found, tuple | list) or len(found) != 2:
        raise Wrong(f"expected (loss, answers), found {type(found).__name__}.")
    each = F.binary_cross_entropy_with_logits(scores, targets, reduction="none")
    twice = F.binary_cross_entropy_with_logits(scores.sigmoid(), targets, reduction="none")
    slips = {
        "this averages over the answers as well: with 3,129 of them the gradient is 3,129 times too small.": (
            each.mean()
        ),
        "this sums over the questions; their mean is wanted.": each.sum(),
        "a softmax makes answers compete; each has a yes or no of its own.": -(targets * scores.log_softmax(-1))
        .sum(1)
        .mean(),
        "the sigmoid is taken twice: the loss with logits has its own.": twice.sum(1).mean(),
        "the answers that nobody gave count, too: (1 − t) · log(1 − σ).": -(targets * F.logsigmoid(scores))
        .sum(1)
        .mean(),
        "targets of 0.6 and 0.3 stay as they are; they are not rounded.": F.binary_cross_entropy_with_logits(
            scores, targets.round(), reduction="none"
        )
        .sum(1)
        .mean(),
    }  # fmt: skip
    compare("the loss", found[0], each.sum(1).mean(), slips)
    best = scores[:, 1:].argmax(1) + 1
    chosen = {
        "answer 0 is <unk>: it is never given as an answer.": scores.argmax(1),
        "the first column was left out; add 1 to come back to the list.": best - 1,
        "this is where the target is largest; the answer comes from the scores.": targets.argmax(1),
    }
    compare("the answers", torch.as_tensor(found[1]), best, chosen)
    passed("one yes or no for every answer, summed; and the surest of those that are answers.")
