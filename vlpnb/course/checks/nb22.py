"""Checks of notebook 22, NLVR2: the rows of a pair, the pair's vector, and consistency over a statement's pairs."""

from collections import defaultdict
from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vlpnb.course.checks import Wrong, compare, passed

Rows = tuple[Float[Tensor, "B2 R F"], Int[Tensor, "B2 T"]]


def check_rows(function: Callable[[Float[Tensor, "B 2 R F"], Int[Tensor, "B T"]], Rows]) -> None:
    """Exercise 22.1: `function(features of pairs, ids)` is the features of 2B pictures and their sentences' ids."""
    features = torch.arange(3 * 2 * 2 * 4, dtype=torch.float).view(3, 2, 2, 4)
    ids = torch.tensor([[101, 7, 102], [101, 8, 102], [101, 9, 102]])
    found = function(features.clone(), ids.clone())
    if found is None or found is ...:
        compare("the rows", found, features)
    if not isinstance(found, tuple | list) or len(found) != 2:
        raise Wrong(f"expected a pair (features, ids), found {type(found).__name__}.")
    compare(
        "the features of the six pictures",
        found[0],
        features.flatten(0, 1),
        {
            "all left pictures come first; the two of a pair belong next to each other.": (
                features.transpose(0, 1).flatten(0, 1)
            ),
            "the right picture comes before the left one.": features.flip(1).flatten(0, 1),
        },
    )
    compare(
        "the ids of the six sentences",
        found[1],
        ids.repeat_interleave(2, 0),
        {
            "`repeat` gives a b c a b c, so that pictures get the sentences of others; `repeat_interleave` gives "
            "a a b b c c.": ids.repeat(2, 1),
            "a sentence goes with both of its pictures; here it goes with one.": ids,
        },
    )
    passed("rows 2b and 2b + 1 are the two pictures of statement b, each with its sentence.")


def check_pair_vector(function: Callable[[Float[Tensor, "B2 D"]], Float[Tensor, "B D2"]]) -> None:
    """Exercise 22.2: `function(pooled vectors of 2B rows)` is what the head reads of each of B pairs."""
    pooled = torch.arange(24, dtype=torch.float).view(6, 4)
    found = function(pooled.clone())
    if found is None or found is ...:
        compare("the vectors", found, pooled)
    if isinstance(found, Tensor) and found.shape == (3, 4):
        raise Wrong(
            "the two vectors became one of the same width. Mean, sum and product cannot tell left from right: "
            "put them beside each other, (B, 2D)."
        )
    compare(
        "the vectors of three pairs",
        found,
        pooled.view(3, 8),
        {
            "row b and row b + B are not a pair; rows 2b and 2b + 1 are.": torch.cat(
                [pooled[:3], pooled[3:]], 1
            ),
            "the right picture's vector comes first.": torch.cat([pooled[1::2], pooled[::2]], 1),
            "the numbers of the two vectors are mixed; the left one comes first, as a whole.": (
                pooled.view(3, 2, 4).transpose(1, 2).reshape(3, 8)
            ),
        },
    )
    passed("left and right keep their places, so a statement may speak of either.")


# split, set of pictures, pair, sentence: right?
_JUDGED = {
    "dev-0-0-0": True, "dev-0-1-0": True, "dev-0-2-0": True,  # one sentence, three pairs: all right
    "dev-0-0-1": True, "dev-0-1-1": False,  # another sentence on the same set
    "dev-1-0-0": False, "dev-1-1-0": True, "dev-1-2-0": True, "dev-1-3-0": True,
    "dev-2-0-0": True,
    "dev-2-0-1": False,
}  # fmt: skip


def check_consistency(function: Callable[[Mapping[str, bool]], float]) -> None:
    """Exercise 22.3: `function(identifier → right?)` is NLVR2's consistency, by set and sentence."""

    def groups(*kept: int) -> list[list[bool]]:
        found = defaultdict(list)
        for identifier, right in _JUDGED.items():
            parts = identifier.split("-")
            found[tuple(parts[i] for i in kept)].append(right)
        return list(found.values())

    def consistent(judged: list[list[bool]]) -> float:
        return sum(map(all, judged)) / len(judged)

    by_sentence = groups(0, 1, 3)
    slips = {
        "the third part, the number of the pair, is still in the name of the group: this is the accuracy.": (
            consistent(groups(0, 1, 2, 3))
        ),
        "you blanked the fourth part, the sentence; blank the third, the pair.": consistent(groups(0, 1, 2)),
        "you blanked pair and sentence: this asks for whole sets.": consistent(groups(0, 1)),
        "this is the mean of the groups' shares; a group counts only when *all* of it is right.": (
            sum(sum(group) / len(group) for group in by_sentence) / len(by_sentence)
        ),
        "divide by the number of groups, not of examples.": sum(map(all, by_sentence)) / len(_JUDGED),
        "one right answer is not enough: all of a group's have to be.": sum(map(any, by_sentence))
        / len(by_sentence),
    }
    compare("the consistency of eleven answers", function(dict(_JUDGED)), consistent(by_sentence), slips)
    passed("who answers by luck is right often, but seldom on every pair of a sentence.")


def check_alarm(function: Callable[[float, float, int], bool]) -> None:
    """Exercise 22.4: `function(accuracy, majority, n)`: is it within two standard errors of a constant answer?"""
    cases = (
        (0.5086, 0.5086, 6982, True, "the majority's own accuracy is the plainest alarm."),
        (0.4914, 0.5086, 6982, True, "the other constant answer gives 1 − majority: its mirror image."),
        (0.7490, 0.5086, 6982, False, "this model has learnt something."),
        (0.5190, 0.5086, 6982, True, "two standard errors of 6,982 answers are 1.2 points."),
        (0.5220, 0.5086, 6982, False, "the standard error is √(m(1 − m)/n); 1.3 points are more than two."),
        (0.5600, 0.5086, 100, True, "with 100 answers two standard errors are 10 points."),
        (0.3500, 0.5086, 400, False, "far below both is no constant answer, but labels the wrong way round."),
    )
    for accuracy, majority, n, expected, why in cases:
        found = function(accuracy, majority, n)
        what = f"accuracy {accuracy}, majority {majority}, {n} answers"
        if found is None or found is ...:
            compare(what, found, expected)
        if bool(found) != expected:
            raise Wrong(f"{what}: expected {expected}, found {bool(found)}; {why}")
    passed("an accuracy that a constant gives as well is no result, however many digits it has.")
