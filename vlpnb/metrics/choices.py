"""Scores of a choice among a few answers: accuracy, calibrated accuracy, what a predictor without eyes would get.

VaLM (section 4) reports plain accuracy. That says little where one answer is right most of the time ("round", of 74 %
of the things in one list) or always ("yes", of every question of another); so the same numbers are given for predictors
that look at nothing, for each label alone (macro), and calibrated: without what a model likes to say anyway.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from vlpnb.errors import UserError


def chosen(scores: Float[np.ndarray, "P A"]) -> Int[np.ndarray, " P"]:
    """The answer with the highest score in each row; the first of equal ones. NaN is no answer.

    UserError where a row has no score at all.
    """
    if not len(scores) or np.isnan(scores).all(axis=1).any():
        raise UserError("a prompt has no answer with a score; expected at least one answer for each prompt")
    return np.nanargmax(scores, axis=1).astype(np.int64)


def calibrated(
    scores: Float[np.ndarray, "P A"], prior: Float[np.ndarray, "Q A"] | None = None
) -> Float[np.ndarray, "P A"]:
    """Log-probabilities less what each answer has on average over all prompts; or, given some, over those of `prior`.

    Prompts of `prior` say nothing of the item ("contextual calibration", Zhao et al. 2021).
    """
    about = scores if prior is None else prior
    return scores - np.nanmean(about, axis=0, keepdims=True)


def accuracy(right: Bool[np.ndarray, " P"] | Sequence[bool]) -> float:
    """The share that is right; NaN where nothing was asked."""
    return float(np.mean(right)) if len(right) else float("nan")


def macro_accuracy(right: Bool[np.ndarray, " P"] | Sequence[bool], labels: Sequence[str]) -> float:
    """The mean over the labels that occur of the share that is right: one thing of a rare label weighs as many."""
    found: dict[str, list[bool]] = defaultdict(list)
    for hit, label in zip(right, labels, strict=True):
        found[label].append(bool(hit))
    return float(np.mean([np.mean(hits) for hits in found.values()])) if found else float("nan")


def majority(labels: Sequence[str]) -> tuple[str, float]:
    """The label that is right most often, the first in the alphabet of equals, and how often it is."""
    counts = Counter(labels)
    if not counts:
        raise UserError("there is no label to count; expected at least one answer")
    label = min(counts, key=lambda name: (-counts[name], name))
    return label, counts[label] / len(labels)


def always(labels: Sequence[str]) -> dict[str, float]:
    """What a predictor gets that always says one label, for each that occurs."""
    counts = Counter(labels)
    return {label: counts[label] / len(labels) for label in sorted(counts)}
