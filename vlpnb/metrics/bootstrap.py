"""Intervals of scores by the bootstrap (Efron 1979): how far a mean moves when other items had been asked.

Not in the VaLM paper, whose tables have no intervals. What is drawn again are *items* (things, kinds), not prompts:
nine templates about one thing stand or fall together, and an interval over prompts would be far too narrow.
"""

from collections.abc import Hashable, Sequence

import numpy as np
from jaxtyping import Bool, Float

from vlpnb.errors import UserError

DRAWS = 2000
LEVEL = 0.95


def interval(
    scores: Float[np.ndarray, " P"] | Bool[np.ndarray, " P"] | Sequence[float],
    groups: Sequence[Hashable],
    *,
    draws: int = DRAWS,
    level: float = LEVEL,
    seed: int = 0,
) -> tuple[float, float]:
    """The interval in which `level` of the means lie when groups are drawn with replacement.

    Args:
        scores: one number for each answer; NaN (no answer of its kind) does not count.
        groups: what each answer is about (its item, its kind): answers of one group are drawn together.
    Raises:
        UserError: no score, or another number of groups than of scores.
    """
    means = drawn_means(scores, groups, draws, seed)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def difference_interval(
    scores: Float[np.ndarray, " P"] | Bool[np.ndarray, " P"] | Sequence[float],
    others: Float[np.ndarray, " P"] | Bool[np.ndarray, " P"] | Sequence[float],
    groups: Sequence[Hashable],
    *,
    draws: int = DRAWS,
    level: float = LEVEL,
    seed: int = 0,
) -> tuple[float, float]:
    """The interval of how much better one model's scores are than another's on the same answers (paired)."""
    differences = np.asarray(scores, np.float64) - np.asarray(others, np.float64)
    return interval(differences, groups, draws=draws, level=level, seed=seed)


def drawn_means(
    scores: Float[np.ndarray, " P"] | Bool[np.ndarray, " P"] | Sequence[float],
    groups: Sequence[Hashable],
    draws: int = DRAWS,
    seed: int = 0,
) -> Float[np.ndarray, " _"]:
    """The mean of `scores` in each of `draws` samples of the groups, each as large as there are groups."""
    values = np.asarray(scores, np.float64)
    if len(values) != len(groups):
        raise UserError(f"{len(values):,} scores for {len(groups):,} groups; expected a group for each score")
    kept = ~np.isnan(values)
    names = {
        name: i for i, name in enumerate(dict.fromkeys(g for g, k in zip(groups, kept, strict=True) if k))
    }
    if not names:
        raise UserError("there is no score to draw from; expected at least one answer")
    of = np.array([names[g] for g, k in zip(groups, kept, strict=True) if k])
    sums, counts = np.bincount(of, values[kept]), np.bincount(of)
    rng = np.random.default_rng(seed)
    means = np.empty(draws)
    for first in range(0, draws, 256):  # a few hundred samples in memory at a time
        rows = rng.integers(len(names), size=(min(256, draws - first), len(names)))
        means[first : first + len(rows)] = sums[rows].sum(1) / counts[rows].sum(1)
    return means
