"""Notebook 16: Matthews' correlation, a paired interval, and runs that diverged."""

import math

import numpy as np
from scipy.stats import t as student

from tests.course.slips import Exercise
from vlpnb.course.checks import nb16


def matthews(predictions, labels, slip=""):
    p, y = np.asarray(predictions, bool), np.asarray(labels, bool)
    tp, tn, fp, fn = (int(x.sum()) for x in (p & y, ~p & ~y, p & ~y, ~p & y))
    square = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
    if slip == "accuracy":
        return (tp + tn) / len(labels)
    if slip == "f1":
        return 2 * tp / (2 * tp + fp + fn)
    if slip == "clipped":
        return max(0.0, matthews(predictions, labels))
    if slip == "nan" and not square:
        return math.nan
    if not square and slip != "zero":
        return 0.0
    value = (tp * tn + (fp * fn if slip == "added" else -fp * fn)) / (
        square if slip == "root" else math.sqrt(square)
    )
    return -value if slip == "sign" else value


def interval(a, b, slip=""):
    d = np.array(a) - np.array(b)
    n = len(d)
    std = d.std() if slip == "ddof" else d.std(ddof=1)
    if slip == "unpaired":
        std = math.sqrt(np.var(a, ddof=1) + np.var(b, ddof=1))
    t = (
        1.959964
        if slip == "normal"
        else student.ppf(0.95 if slip == "one side" else 0.975, n - (slip != "n"))
    )
    half = t * std / (1 if slip == "root" else math.sqrt(n))
    half = std if slip == "std" else half
    mean = -d.mean() if slip == "order" else d.mean()
    return mean, mean - half, mean + half


def diverged(predictions, losses, score, floor, slip=""):
    if len(set(predictions)) == 1 and slip != "constant":
        return True
    if slip != "nan" and not all(map(math.isfinite, losses)):
        return True
    quarter = max(1, len(losses) // 4)
    fell = np.mean(losses[-quarter:]) < 0.98 * np.mean(losses[:quarter])
    if slip == "lowest":
        fell = min(losses) < 0.98 * losses[0]
    if slip == "either":
        return not fell or score <= floor
    return not fell and (score < floor if slip == "below" else score <= floor)


EXERCISES = (
    Exercise(
        nb16.check_matthews,
        matthews,
        {
            "accuracy": "the accuracy",
            "f1": "this is F1",
            "root": "square root",
            "added": "subtract",
            "sign": "sign is turned",
            "clipped": "cut off at zero",
            "zero": "divide by zero",
            "nan": "divide by zero",
        },
    ),
    Exercise(
        nb16.check_interval,
        interval,
        {
            "order": "b − a",
            "ddof": "ddof=1",
            "root": "square root of n",
            "normal": "1.96",
            "n": "degrees of freedom, not n",
            "one side": "0.975",
            "unpaired": "not paired",
            "std": "mean ± standard deviation",
        },
    ),
    Exercise(
        nb16.check_diverged,
        diverged,
        {
            "constant": "is rule 1",
            "nan": "comparisons with nan",
            "below": "does not beat it",
            "either": "asks for both",
            "lowest": "what was between",
        },
    ),
)
