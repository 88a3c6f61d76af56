"""Checks of notebook 16: the solutions pass, stubs and typical mistakes are named."""

import math

import numpy as np
import pytest
from scipy.stats import t as student

from vlpnb.course.checks import Wrong, nb16


def counts(predictions, labels):
    p, y = np.asarray(predictions, bool), np.asarray(labels, bool)
    return [int(x.sum()) for x in (p & y, ~p & ~y, p & ~y, ~p & y)]


def matthews(predictions, labels, slip=""):
    tp, tn, fp, fn = counts(predictions, labels)
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


def test_right_answers_pass(capsys):
    nb16.check_matthews(matthews)
    nb16.check_interval(interval)
    assert capsys.readouterr().out.count("Correct") == 2


def test_stubs_fail():
    for check in (nb16.check_matthews, nb16.check_interval):
        with pytest.raises(Wrong, match="nothing came back yet"):
            check(lambda a, b: ...)


@pytest.mark.parametrize(
    ("slip", "message"),
    [
        ("accuracy", "the accuracy"),
        ("f1", "this is F1"),
        ("root", "square root"),
        ("added", "subtract"),
        ("sign", "sign is turned"),
        ("clipped", "cut off at zero"),
        ("zero", "divide by zero"),
        ("nan", "divide by zero"),
    ],
)
def test_slips_of_matthews_are_named(slip, message):
    with pytest.raises(Wrong, match=message):
        nb16.check_matthews(lambda p, y: matthews(p, y, slip))


@pytest.mark.parametrize(
    ("slip", "message"),
    [
        ("order", "b − a"),
        ("ddof", "ddof=1"),
        ("root", "square root of n"),
        ("normal", "1.96"),
        ("n", "degrees of freedom, not n"),
        ("one side", "0.975"),
        ("unpaired", "not paired"),
        ("std", "mean ± standard deviation"),
    ],
)
def test_slips_of_the_interval_are_named(slip, message):
    with pytest.raises(Wrong, match=message):
        nb16.check_interval(lambda a, b: interval(a, b, slip))


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


def test_diverged_runs(capsys):
    nb16.check_diverged(diverged)
    assert "Correct" in capsys.readouterr().out
    with pytest.raises(Wrong, match="nothing came back yet"):
        nb16.check_diverged(lambda *arguments: ...)


@pytest.mark.parametrize(
    ("slip", "message"),
    [
        ("constant", "is rule 1"),
        ("nan", "comparisons with nan"),
        ("below", "does not beat it"),
        ("either", "asks for both"),
        ("lowest", "what was between"),
    ],
)
def test_slips_of_diverged_runs_are_named(slip, message):
    with pytest.raises(Wrong, match=message):
        nb16.check_diverged(lambda *arguments: diverged(*arguments, slip))
