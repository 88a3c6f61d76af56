"""Notebook 14: recall over tokens and captions, diversity of token types, and chance."""

import math
from collections import Counter, defaultdict

import numpy as np

from tests.course.slips import Exercise
from vlpnb.course.checks import nb14


def recall(captions, k):
    hits = [[rank <= k for rank in caption] for caption in captions]
    return sum(map(sum, hits)) / sum(map(len, hits)), float(np.mean([np.mean(row) for row in hits]))


def diversity(pairs, slip=""):
    counts = defaultdict(Counter)
    for token, picture in pairs:
        counts[token][picture] += 1
    rows = [np.array(list(c.values())) for c in counts.values()]
    found = {
        "images": np.mean([len(row) for row in rows]),
        "max_count": np.mean([row.max() for row in rows]),
        "mean_count": np.mean([row.mean() for row in rows]),
        "std_count": np.mean([row.std(ddof=int(slip == "sample" and len(row) > 1)) for row in rows]),
        "cover": len({picture for _, picture in pairs}),
        "types": len(rows),
    }
    if slip == "pairs":
        found["cover"] = len(set(pairs))
    if slip == "tokens":
        found["types"] = len(pairs)
    if slip == "greatest":
        found["max_count"] = max(Counter(pairs).values())
    return found


def chance(n, c, k):
    return 1 - math.comb(n - c, k) / math.comb(n, k)


EXERCISES = (
    Exercise(
        nb14.check_recall,
        recall,
        wrong=(
            (lambda captions, k: 0.5, "pair"),
            (lambda captions, k: recall(captions, k)[::-1], "average over captions"),
            (lambda captions, k: recall(captions, k + 1), "VOK-06"),
            (lambda captions, k: recall(captions, k - 1), "rank k is a hit"),
            (lambda captions, k: (recall(captions, k)[0],) * 2, "over tokens again"),
        ),
    ),
    Exercise(
        nb14.check_diversity,
        diversity,
        {
            "pairs": "counts once",
            "tokens": "number of tokens",
            "sample": "population",
            "greatest": "greatest of each type",
        },
        wrong=((lambda pairs: {"images": 1.5}, "no entry"),),
    ),
    Exercise(
        nb14.check_chance,
        chance,
        wrong=(
            (lambda n, c, k: k / n, "when one picture is right"),
            (lambda n, c, k: k * c / n, "twice"),
            (lambda n, c, k: 1 - (1 - c / n) ** k, "with replacement"),
            (lambda n, c, k: 1 - chance(n, c, k), "one minus it"),
            (lambda n, c, k: c * math.comb(n - c, k - 1) / math.comb(n, k), "exactly"),
        ),
    ),
)
