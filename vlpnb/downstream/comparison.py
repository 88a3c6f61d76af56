"""Several models over several seeds: means with their spread, and paired differences that claim no more than they show.

A published table has one fine-tuning seed on development sets, and a gain on one task may be a baseline's bad luck.
Here differences are paired by seed, and the verdict is computed from Student's interval.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student


@dataclass(frozen=True)
class Difference:
    """How much greater one score is than another, paired, with its 95 % interval (NaN where there is none)."""

    mean: float
    low: float
    high: float

    @classmethod
    def read(cls, metrics: Mapping[str, float], name: str) -> "Difference":
        """The difference that a stage keeps as `name.mean`, `name.low` and `name.high`."""
        return cls(*(metrics[f"{name}.{key}"] for key in ("mean", "low", "high")))


def spread(values: Sequence[float]) -> tuple[float, float]:
    """Mean and sample standard deviation (NaN for a single value)."""
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else math.nan


def paired(differences: Sequence[float], level: float = 0.95) -> dict[str, float]:
    """Mean of paired differences with Student's confidence interval (NaN for a single pair)."""
    mean, std = spread(differences)
    half = math.nan
    if len(differences) > 1:
        n = len(differences)
        half = float(student.ppf((1 + level) / 2, n - 1)) * std / math.sqrt(n)
    return {"mean": mean, "std": std, "low": mean - half, "high": mean + half}


def verdict(subject: str, other: str, what: str, difference: Mapping[str, float], seeds: int) -> str:
    """One sentence on a paired difference in points, which never claims more than the interval allows."""
    mean = difference["mean"]
    points = f"{mean:+.2f} points on {what}"
    if seeds < 2:
        return f"{subject} against {other}: {points} with a single seed, which says nothing about noise."
    if difference["low"] == difference["high"] != 0:
        return f"{subject} against {other}: {points} at every one of {seeds} seeds, so their spread cannot be judged."
    interval = f"95 % interval {difference['low']:+.2f} to {difference['high']:+.2f}, {seeds} paired seeds"
    if difference["low"] > 0:
        return f"{subject} is better than {other}: {points} ({interval})."
    if difference["high"] < 0:
        return f"{subject} is worse than {other}: {points} ({interval})."
    return f"{subject} against {other}: no difference beyond seed noise, {points} ({interval})."
