"""Checks of notebook 14, the benchmark of a matcher: two averages of recall, diversity, and chance."""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from vlpnb.course.checks import Wrong, compare, passed
from vlpnb.metrics.retrieval import diversity

DIVERSITY = {  # name in the exercise → name in vlpnb.metrics.retrieval.diversity
    "images": "images",
    "max_count": "max_count",
    "mean_count": "mean_count",
    "std_count": "std_count",
    "cover": "cover",
    "types": "types",
}


def check_recall(function: Callable[[Sequence[Sequence[int]], int], tuple[float, float]]) -> None:
    """Exercise 14.1: `function(ranks of the tokens of each caption, k)` is (token average, caption average)."""
    captions = [[1, 1, 12, 3], [2], [7, 30, 11, 10, 40, 6], [1, 5]]
    for k in (1, 5, 10):
        tokens = np.mean([rank <= k for caption in captions for rank in caption])
        each = np.mean([np.mean([rank <= k for rank in caption]) for caption in captions])
        found = function([list(caption) for caption in captions], k)
        if found is None or found is ...:
            compare("the averages", found, 0)
        if not isinstance(found, tuple | list) or len(found) != 2:
            raise Wrong(f"expected a pair (token average, caption average), found {found!r}.")
        late = np.mean([rank <= k + 1 for caption in captions for rank in caption])
        early = np.mean([rank < k for caption in captions for rank in caption])
        compare(
            f"R@{k} over tokens",
            found[0],
            tokens,
            {
                "this is the average over captions, where a short caption's token weighs more.": each,
                "you count rank ≤ k + 1, as the original program did (VOK-06).": late,
                "you count rank < k; ranks start at 1, and rank k is a hit.": early,
                "divide the hits by the number of word pieces, not of captions.": tokens * 13 / 4,
            },
        )
        compare(f"R@{k} over captions", found[1], each,
                {"this is the average over tokens again; average within each caption first.": tokens})  # fmt: skip
    passed("over tokens long captions weigh more; the benchmark reports that one.")


def check_diversity(function: Callable[[Sequence[tuple[str, str]]], Mapping[str, float]]) -> None:
    """Exercise 14.2: `function(pairs of (token type, picture))` is the diversity table."""
    golden = [("a", "x")] * 3 + [("a", "y")] + [("b", "x")] * 2
    generator = np.random.default_rng(14)
    drawn = zip(generator.integers(0, 6, 200), generator.integers(0, 9, 200) ** 2 // 9, strict=True)
    for what, pairs in (("the small case", golden), ("200 tokens", [(int(a), int(b)) for a, b in drawn])):
        expected, found = diversity(pairs), function(list(pairs))
        if found is None or found is ...:
            compare("the table", found, 0)
        missing = [name for name in DIVERSITY if name not in found]
        if missing:
            raise Wrong(f"the table has no entry {', '.join(missing)}; it needs {', '.join(DIVERSITY)}.")
        slips = _diversity_slips(pairs)
        for name, package_name in DIVERSITY.items():
            compare(f"{name} of {what}", found[name], expected[package_name], slips.get(name))
    passed("every token type weighs the same, however often it occurs; cover counts each picture once.")


def _diversity_slips(pairs: Sequence[tuple]) -> dict[str, dict[str, float]]:
    counts: dict = defaultdict(Counter)
    for token, picture in pairs:
        counts[token][picture] += 1
    rows = [np.array(list(c.values()), dtype=float) for c in counts.values()]
    sizes = np.array([row.sum() for row in rows])
    weighted = float((sizes * [len(row) for row in rows]).sum() / sizes.sum())
    sample = float(np.mean([row.std(ddof=1) if len(row) > 1 else 0.0 for row in rows]))
    return {
        "images": {"you weighted types by how often they occur; average over types, unweighted.": weighted},
        "max_count": {
            "this is the greatest count of all; average the greatest of each type.": max(map(max, rows))
        },
        "mean_count": {
            "you pooled the counts of all types; average within each type first.": np.concatenate(rows).mean()
        },
        "std_count": {
            "this is the sample deviation (÷ n − 1); the benchmark wants the population's (÷ n).": sample,
            "you pooled the counts of all types; average within each type first.": np.concatenate(rows).std(),
        },
        "cover": {"a picture given to two types counts once.": sum(map(len, rows))},
        "types": {"this is the number of tokens; a type is a different token.": len(pairs)},
    }


def check_chance(function: Callable[[int, int, int], float]) -> None:
    """Exercise 14.3: `function(n, c, k)`: a random order of n pictures has one of c right ones among the first k."""
    for n, c, k in ((100, 1, 10), (300, 12, 10), (10, 3, 2), (20, 15, 10)):
        right = 1 - math.comb(n - c, k) / math.comb(n, k)
        slips = {
            "this is k / n, the chance when one picture is right; here c are.": k / n,
            "k · c / n counts a list twice when it holds two right pictures.": k * c / n,
            "this draws with replacement; the k pictures of a list are different.": 1 - (1 - c / n) ** k,
            "this is the chance that *no* right picture is in the list; take one minus it.": 1 - right,
            "this asks for *exactly* one right picture; more are a hit, too.": (
                c * math.comb(n - c, k - 1) / math.comb(n, k)
            ),
        }
        slips = {text: slip for text, slip in slips.items() if not math.isclose(slip, right)}
        compare(f"chance with n = {n}, c = {c}, k = {k}", function(n, c, k), right, slips)
    passed("the more pictures are right, the higher is chance: print it beside every recall.")
