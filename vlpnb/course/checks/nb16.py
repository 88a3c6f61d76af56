"""Checks of notebook 16, GLUE: Matthews' correlation, the interval of a paired difference, diverged runs."""

import math
from collections.abc import Callable, Sequence

import numpy as np
from scipy.stats import norm
from scipy.stats import t as student

from vlpnb.course.checks import Wrong, compare, passed
from vlpnb.metrics.glue import classification
from vlpnb.vokenization.results import paired


def check_matthews(function: Callable[[Sequence[int], Sequence[int]], float]) -> None:
    """Exercise 16.1: `function(predictions, labels)` of 0/1 lists is Matthews' correlation, 0 where one is constant."""
    predictions, labels = [1, 1, 1, 1, 1, 0, 0, 0, 1, 0], [1, 1, 1, 1, 0, 0, 0, 1, 1, 1]
    tp, tn, fp, fn = 5, 2, 1, 2
    square = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
    right = classification(predictions, labels)
    slips = {
        "this is the accuracy.": right["accuracy"],
        "this is F1; Matthews' correlation uses the true negatives too.": right["f1"],
        "the square root of the denominator is missing.": (tp * tn - fp * fn) / square,
        "the products of the numerator are added; subtract FP·FN.": (tp * tn + fp * fn) / math.sqrt(square),
        "the sign is turned: TP·TN comes first.": -right["matthews"],
        "only the numerator came back; divide by the square root of the four sums' product.": tp * tn
        - fp * fn,
    }
    compare("the correlation of ten answers", function(predictions, labels), right["matthews"], slips)
    compare("the correlation of answers that are all wrong", function([0, 1, 0, 1], [1, 0, 1, 0]), -1.0,
            {"answers that are all wrong correlate by −1; do not cut off at zero.": 0.0})  # fmt: skip
    for name, sides in {
        "constant answers": ([1] * 4, [1, 0, 1, 1]),
        "constant labels": ([1, 0, 1, 1], [0] * 4),
    }.items():
        zero = f"{name}: you divide by zero. A constant side knows nothing: return 0."
        try:
            found = function(*sides)
        except ZeroDivisionError:
            raise Wrong(zero) from None
        if isinstance(found, float | np.floating) and np.isnan(found):
            raise Wrong(zero)
        compare(f"the correlation with {name}", found, 0.0)
    passed(
        "only answers that tell the classes apart are paid; a constant answer gets 0, whatever the majority."
    )


def check_interval(function: Callable[[Sequence[float], Sequence[float]], Sequence[float]]) -> None:
    """Exercise 16.2: `function(a, b)` is (mean, low, high) of the paired difference, with Student's 95 % interval."""
    for n, seed in ((3, 0), (5, 1)):
        generator = np.random.default_rng(seed)
        b = 70 + 3 * generator.standard_normal(n)
        a = b + 1 + generator.standard_normal(n)
        expected = paired((a - b).tolist())
        slips = _interval_slips(a, b)
        right = (expected["mean"], expected["low"], expected["high"])
        compare(f"the interval of {n} pairs", function(a.tolist(), b.tolist()), right, slips)
    passed("paired differences cancel what a seed does to both models; few seeds cost a wide interval.")


def _interval_slips(a: np.ndarray, b: np.ndarray) -> dict[str, tuple[float, float, float]]:
    """What typical mistakes in the interval give."""
    d, n = a - b, len(a)
    mean, std = d.mean(), d.std(ddof=1)

    def around(centre: float, half: float) -> tuple[float, float, float]:
        return centre, centre - half, centre + half

    t, root = student.ppf(0.975, n - 1), math.sqrt(n)
    unpaired = math.sqrt(a.var(ddof=1) + b.var(ddof=1))
    return {
        "this is b − a; the difference is a − b.": around(-mean, t * std / root),
        "the standard deviation divides by n; a sample's divides by n − 1 (ddof=1).": around(
            mean, t * d.std() / root
        ),
        "the square root of n is missing: the mean of n seeds is surer than one.": around(mean, t * std),
        "1.96 is for a known spread; with few seeds take Student's t with n − 1 degrees of freedom.": around(
            mean, norm.ppf(0.975) * std / root
        ),
        "Student's t has n − 1 degrees of freedom, not n.": around(mean, student.ppf(0.975, n) * std / root),
        "an interval of 95 % leaves 2.5 % on each side: take the quantile at 0.975, not 0.95.": around(
            mean, student.ppf(0.95, n - 1) * std / root
        ),
        "the two models are not paired: take the spread of the differences.": around(
            mean, t * unpaired / root
        ),
        "this is mean ± standard deviation, not an interval of the mean.": around(mean, std),
    }


_FELL, _FLAT = (
    (0.70, 0.69, 0.68, 0.60, 0.50, 0.45, 0.42, 0.40),
    (0.70, 0.71, 0.69, 0.70, 0.70, 0.71, 0.70, 0.70),
)
_DIP = (0.70, 0.70, 0.40, 0.40, 0.40, 0.40, 0.70, 0.70)
_MIXED, _SAME = (0, 1, 1, 0, 1, 0), (1,) * 6
# what happened, answers, losses, score, score of the best constant, diverged?, the slip that says otherwise
_RUNS: tuple[tuple[str, tuple, tuple, float, float, bool, str], ...] = (
    ("the loss fell, the score is good", _MIXED, _FELL, 0.8, 0.5, False, "nothing speaks against this run."),
    ("one answer for everything", _SAME, _FELL, 0.5, 0.5, True,
     "the same answer for every example is rule 1, whatever the loss does."),
    ("a loss that is not finite", _MIXED, (*_FELL[:4], math.nan, *_FELL[5:]), 0.8, 0.5, True,
     "comparisons with nan are false; ask math.isfinite of *every* loss."),
    ("a flat loss and a poor score", _MIXED, _FLAT, 0.5, 0.5, True,
     "a score that equals the constant's does not beat it."),
    ("a flat loss and a good score", _MIXED, _FLAT, 0.8, 0.5, False,
     "rule 2 asks for both: it beats a constant answer, so it learnt something."),
    ("the loss fell, the score is poor", _MIXED, _FELL, 0.4, 0.5, False,
     "rule 2 asks for both: the loss fell. This is a poor model, not a diverged run."),
    ("a loss that fell and came back, and a poor score", _MIXED, _DIP, 0.4, 0.5, True,
     "compare the mean of the last quarter with that of the first; what was between does not count."),
)  # fmt: skip


def check_diverged(function: Callable[[Sequence[int], Sequence[float], float, float], bool]) -> None:
    """Exercise 16.3: `function(predictions, losses, score, floor)` says whether a fine-tuning run diverged."""
    for what, predictions, losses, score, floor, expected, why in _RUNS:
        found = function(list(predictions), list(losses), score, floor)
        if found is None or found is ...:
            compare(what, found, expected)
        if bool(found) != expected:
            raise Wrong(f"{what}: expected {expected}, found {bool(found)}; {why}")
    passed("a run that failed is told apart from a model that is merely poor.")
