"""Checks of notebook 90, side by side: gain over a control, average precision, paired intervals, many claims."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int

from vlpnb.course.checks import Wrong, compare, passed


def check_gain(function: Callable[[float, float], float]) -> None:
    """Exercise 90.1: `function(score, control)` is the gain as a share of what the control left."""
    for score, control in ((0.7, 0.4), (0.25, 0.1), (0.2, 0.5), (1.0, 0.6)):
        right = (score - control) / (1 - control)
        slips = {
            "this is the gain itself; divide it by what the control left to learn.": score - control,
            "it is divided by the control's score; divide by what the control left, 1 − control.": (
                score - control
            )
            / control,
            "it is divided by what the *model* left; the control's rest is what could be learnt.": (
                score - control
            )
            / max(1 - score, 1e-9),
            "the sign is the other way round: the score less the control.": (control - score) / (1 - control),
            "a worse model has a negative gain; do not cut it off.": max(0.0, right),
        }
        slips = {text: value for text, value in slips.items() if abs(value - right) > 1e-6}
        compare(f"the gain of {score} over {control}", function(score, control), right, slips)
    passed("a score of 0.7 is little over 0.65 and much over 0.1.")


def _precisions(scores: Sequence[float], right: Sequence[bool]) -> tuple[list[int], list[float]]:
    order = np.argsort(-np.asarray(scores), kind="stable")
    hits = np.asarray(right)[order]
    places = np.flatnonzero(hits) + 1
    return places.tolist(), (np.arange(1, len(places) + 1) / places).tolist()


def check_precision(function: Callable[[Float[np.ndarray, " I"], np.ndarray], float]) -> None:
    """Exercise 90.2: `function(scores, right)` is the average precision of the right pictures."""
    dice = np.random.default_rng(90)
    cases = [
        (np.array([0.9, 0.1, 0.8, 0.4, 0.2]), np.array([True, False, False, True, False])),
        (np.array([0.2, 0.7, 0.1]), np.array([True, False, True])),
        (dice.permutation(30) / 30, np.isin(np.arange(30), [3, 11, 17, 29])),
    ]
    for scores, hits in cases:
        places, shares = _precisions(scores, hits)
        worst, _ = _precisions(-scores, hits)
        right = float(np.mean(shares))
        slips = {
            "this is the share of right pictures in the whole gallery; only the ranks of the right ones count.": float(
                hits.mean()
            ),
            "only the first right picture is looked at (reciprocal rank); take the mean over all right ones.": 1
            / places[0],
            "the lowest scores are taken for the best.": float(
                np.mean(np.arange(1, len(worst) + 1) / np.array(worst))
            ),
            "it is divided by the size of the gallery; divide by the number of right pictures.": sum(shares)
            / len(scores),
            "ranks begin with 1; here the first picture has rank 2.": float(
                np.mean(np.arange(1, len(places) + 1) / (np.array(places) + 1))
            ),
            "each right picture counts 1 / rank; it should be the number of right ones so far / rank.": float(
                np.mean(1 / np.array(places))
            ),
        }
        slips = {text: value for text, value in slips.items() if abs(value - right) > 1e-6}
        compare("the average precision", function(scores.copy(), hits.copy()), right, slips)
    passed(
        "one number for a whole ranking, which many right pictures do not make easier to read, but fairer."
    )


def check_interval(
    function: Callable[
        [np.ndarray, np.ndarray, Sequence[str], Sequence[str], Int[np.ndarray, "D G"]], Sequence[float]
    ],
) -> None:
    """Exercise 90.3: `function(mine, other, groups, kinds, draws)` is the paired interval over drawn kinds."""
    dice = np.random.default_rng(3)
    kinds = [f"kind{i}" for i in range(12)]
    groups = [kind for i, kind in enumerate(kinds) for _ in range(1 + i % 4)]  # of one to four items
    base = np.repeat(dice.random(12), [1 + i % 4 for i in range(12)])
    other = (base + 0.3 * dice.random(len(groups))).clip(0, 1)
    mine = (base + 0.1 + 0.5 * dice.random(len(groups))).clip(0, 1)
    draws = dice.integers(12, size=(400, 12))
    of = np.array([kinds.index(group) for group in groups])
    gaps = mine - other
    sums, counts = np.bincount(of, gaps), np.bincount(of)

    def middle(means: np.ndarray, ends: tuple[float, float] = (0.025, 0.975)) -> np.ndarray:
        return np.quantile(means, ends)

    right = middle(sums[draws].sum(1) / counts[draws].sum(1))
    one = np.bincount(of, mine)[draws].sum(1) / counts[draws].sum(1)
    two = np.bincount(of, other)[draws].sum(1) / counts[draws].sum(1)
    once = np.array([gaps[np.isin(of, row)].mean() for row in draws])
    slips = {
        "every kind weighs the same here; the mean is over all items of the drawn kinds.": middle(
            (sums / counts)[draws].mean(1)
        ),
        "these are two intervals subtracted; a difference is taken item by item, inside each draw.": middle(
            one
        )
        - middle(two),
        "a kind that is drawn twice counts once here; a draw is with replacement.": middle(once),
        "the middle 90 % are taken; leave out 2.5 % at each end.": middle(
            sums[draws].sum(1) / counts[draws].sum(1), (0.05, 0.95)
        ),
        "the sign is the other way round: mine less other.": middle(
            -sums[draws].sum(1) / counts[draws].sum(1)
        ),
        "this is the interval of one model alone.": middle(one),
    }
    found = function(mine.copy(), other.copy(), list(groups), list(kinds), draws.copy())
    if isinstance(found, tuple | list):
        found = np.array(found, float)
    compare("the interval", found, right, slips, tol=1e-6)
    passed("what the two models share, easy and hard kinds, is gone from the interval of their difference.")


def check_claims(function: Callable[[Mapping[str, Float[np.ndarray, " D"]]], Sequence[str]]) -> None:
    """Exercise 90.4: `function(drawn)` names the comparisons that stand at 95 % together (Bonferroni)."""
    dice = np.random.default_rng(4)
    shifts = {
        "far above": 6,
        "clear alone": 2.3,
        "nothing": 0.2,
        "below": -5,
        "nearly": 1.2,
        "above": 4,
        "low": -2.4,
    }
    drawn = {name: dice.normal(shift, 1, 4000) for name, shift in shifts.items()}
    count = len(drawn)

    def standing(rest: float, both: bool = True, ends: float = 2) -> list[str]:
        kept = []
        for name, means in drawn.items():
            low, high = np.quantile(means, [rest / ends, 1 - rest / ends])
            if low > 0 or (both and high < 0):
                kept.append(name)
        return kept

    right = standing(0.05 / count)
    slips = {
        "every interval has a level of 95 % by itself; with seven of them the level of each must be higher.": standing(
            0.05
        ),
        "a difference below 0 is a claim as well.": standing(0.05 / count, both=False),
        "0.95 is divided by the number of comparisons; divide the 0.05 that may be wrong.": standing(
            1 - 0.95 / count
        ),
        "these are the comparisons that do *not* stand.": [name for name in drawn if name not in right],
    }
    found = function({name: means.copy() for name, means in drawn.items()})
    if found is None or found is ... or found is NotImplemented:
        compare("the claims", found, right)
    found = list(found)
    if sorted(found) == sorted(right) and found != right:
        raise Wrong("the claims: these are the right ones, in another order; keep that of `drawn`.")
    for text, wrong in slips.items():
        if found == wrong and wrong != right:
            raise Wrong(f"the claims: {text}")
    if found != right:
        raise Wrong(f"the claims: expected {', '.join(right)}; found {', '.join(map(str, found)) or 'none'}.")
    passed("the more is compared, the more a single claim has to show.")
