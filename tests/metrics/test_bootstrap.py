"""Intervals: of items, not of answers; and they hold what they promise."""

import numpy as np
import pytest

from vlpnb.errors import UserError
from vlpnb.metrics.bootstrap import difference_interval, drawn_means, interval


def test_the_interval_of_single_answers_is_the_textbooks():
    scores = np.tile([0.0, 1.0], 200)
    low, high = interval(scores, range(400))
    assert (low, high) == pytest.approx((0.5 - 1.96 * 0.025, 0.5 + 1.96 * 0.025), abs=0.005)


def test_answers_about_one_thing_are_drawn_together():
    once = interval(np.tile([0.0, 1.0], 10), range(20))
    nine = interval(np.repeat(np.tile([0.0, 1.0], 10), 9), np.repeat(range(20), 9).tolist())
    alone = interval(np.repeat(np.tile([0.0, 1.0], 10), 9), range(180))
    assert nine == pytest.approx(once)
    assert alone[1] - alone[0] < 0.4 * (nine[1] - nine[0])


def test_groups_of_unequal_size_weigh_what_they_hold():
    means = drawn_means([1.0, 1.0, 1.0, 0.0], ["a", "a", "a", "b"], draws=4000)
    assert set(np.round(np.unique(means), 6)) == {0.0, 0.75, 1.0}
    assert means.mean() == pytest.approx((0 + 0.75 * 2 + 1) / 4, abs=0.02)


def test_it_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    held = 0
    for seed in range(200):
        low, high = interval(rng.random(60) < 0.3, range(60), draws=400, seed=seed)
        held += low <= 0.3 <= high
    assert 0.88 <= held / 200 <= 0.99


def test_a_paired_difference_is_narrower_than_the_two_apart():
    rng = np.random.default_rng(1)
    first = (rng.random(200) < 0.5).astype(float)
    second = np.where(rng.random(200) < 0.1, 0.0, first)
    low, high = difference_interval(first, second, range(200))
    assert 0 <= low <= np.mean(first - second) <= high
    apart = interval(first, range(200))
    assert high - low < 0.6 * (apart[1] - apart[0])


def test_the_same_seed_gives_the_same_interval_and_missing_answers_do_not_count():
    scores = [0.0, 1.0, np.nan, 1.0]
    assert interval(scores, "abcd") == interval(scores, "abcd")
    assert interval([np.nan, 1.0], "ab") == (1.0, 1.0)
    with pytest.raises(UserError, match="no score"):
        interval([np.nan], "a")
    with pytest.raises(UserError, match="2 scores for 1 groups"):
        interval([0.0, 1.0], "a")
