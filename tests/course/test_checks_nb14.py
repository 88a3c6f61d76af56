"""Checks of notebook 14: the solutions pass, stubs and typical mistakes are named."""

import itertools
import math
from collections import Counter, defaultdict

import numpy as np
import pytest

from vlpnb.course.checks import Wrong, nb14


def recall(captions, k):
    hits = [[rank <= k for rank in caption] for caption in captions]
    return sum(map(sum, hits)) / sum(map(len, hits)), float(np.mean([np.mean(row) for row in hits]))


def diversity(pairs, ddof=0):
    counts = defaultdict(Counter)
    for token, picture in pairs:
        counts[token][picture] += 1
    rows = [np.array(list(c.values())) for c in counts.values()]
    return {
        "images": np.mean([len(row) for row in rows]),
        "max_count": np.mean([row.max() for row in rows]),
        "mean_count": np.mean([row.mean() for row in rows]),
        "std_count": np.mean([row.std(ddof=ddof if len(row) > 1 else 0) for row in rows]),
        "cover": len({picture for _, picture in pairs}),
        "types": len(rows),
    }


def test_right_answers_pass(capsys):
    nb14.check_recall(recall)
    nb14.check_diversity(diversity)
    assert capsys.readouterr().out.count("Correct") == 2


def test_stubs_fail():
    for stub in (None, ...):
        with pytest.raises(Wrong, match="nothing came back yet"):
            nb14.check_recall(lambda captions, k, stub=stub: stub)
        with pytest.raises(Wrong, match="nothing came back yet"):
            nb14.check_diversity(lambda pairs, stub=stub: stub)
    with pytest.raises(Wrong, match="pair"):
        nb14.check_recall(lambda captions, k: 0.5)
    with pytest.raises(Wrong, match="no entry"):
        nb14.check_diversity(lambda pairs: {"images": 1.5})


def test_slips_of_recall_are_named():
    with pytest.raises(Wrong, match="average over captions"):
        nb14.check_recall(lambda captions, k: recall(captions, k)[::-1])
    with pytest.raises(Wrong, match="VOK-06"):
        nb14.check_recall(lambda captions, k: recall(captions, k + 1))
    with pytest.raises(Wrong, match="rank k is a hit"):
        nb14.check_recall(lambda captions, k: recall(captions, k - 1))
    with pytest.raises(Wrong, match="over tokens again"):
        nb14.check_recall(lambda captions, k: (recall(captions, k)[0],) * 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cover": lambda pairs: len(set(pairs))}, "counts once"),
        ({"types": len}, "number of tokens"),
        ({"std_count": lambda pairs: diversity(pairs, ddof=1)["std_count"]}, "population"),
        ({"max_count": lambda pairs: max(Counter(pairs).values())}, "greatest of each type"),
    ],
)
def test_slips_of_diversity_are_named(change, message):
    def wrong(pairs):
        return diversity(pairs) | {name: function(pairs) for name, function in change.items()}

    with pytest.raises(Wrong, match=message):
        nb14.check_diversity(wrong)


def chance(n, c, k):
    return 1 - math.comb(n - c, k) / math.comb(n, k)


def test_chance(capsys):
    nb14.check_chance(chance)
    assert "Correct" in capsys.readouterr().out
    with pytest.raises(Wrong, match="nothing came back yet"):
        nb14.check_chance(lambda n, c, k: ...)


def test_chance_is_what_random_lists_give():
    lists = itertools.combinations(range(7), 3)
    hits = [any(picture < 2 for picture in chosen) for chosen in lists]
    assert chance(7, 2, 3) == pytest.approx(sum(hits) / len(hits))


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda n, c, k: k / n, "when one picture is right"),
        (lambda n, c, k: k * c / n, "twice"),
        (lambda n, c, k: 1 - (1 - c / n) ** k, "with replacement"),
        (lambda n, c, k: 1 - chance(n, c, k), "one minus it"),
        (lambda n, c, k: c * math.comb(n - c, k - 1) / math.comb(n, k), "exactly"),
    ],
)
def test_slips_of_chance_are_named(answer, message):
    with pytest.raises(Wrong, match=message):
        nb14.check_chance(answer)
