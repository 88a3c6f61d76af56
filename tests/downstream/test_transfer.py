"""Rows with pictures, few-shot settings, and intervals of what was learnt in English and asked in every language."""

import json

import numpy as np
import pytest
import torch

from tests.cclm import small_iglue as small
from tests.cclm.small_iglue import FakeStore
from vlpnb.downstream.transfer import intervals
from vlpnb.downstream.transfer_rows import Shots, Views, read_shots


def test_few_shot_settings_are_read():
    assert read_shots("de,10  zh,10x2 de,10") == (Shots("de", "10"), Shots("zh", "10x2"))
    assert Shots("de", "10").split == "de_10_shots"
    with pytest.raises(ValueError, match="expected LANGUAGE,N such as de,10"):
        read_shots("de 10")


def test_a_control_sees_one_picture_of_zeros_whatever_is_named():
    names = [("train0", "train1"), ("train2", "train0")]
    patches, which = Views(FakeStore(), names, blind=True).batch([1, 0])
    assert patches.shape == (1, 1 + small.PATCHES, small.WIDTH)
    assert not patches.any()
    assert which.tolist() == [[0, 0], [0, 0]]


def test_a_batch_has_each_picture_once_and_random_views_of_training_pictures_alone():
    views = Views(FakeStore(), [("train0", "train1"), ("train2", "train0"), ("test3", "train1")])
    patches, which = views.batch([2, 0])
    assert len(patches) == 3
    named = [[small.NAMES[views.rows[row, side]] for side in (0, 1)] for row in (2, 0)]
    for row, names in enumerate(named):
        for side, name in enumerate(names):
            assert torch.equal(patches[which[row, side]], torch.from_numpy(small.patches_of(name, 0)))
    seen = {1: 0, 2: 0}
    for number in range(20):
        patches, which = views.batch([2, 0], np.random.default_rng(number))
        assert torch.equal(patches[which[0, 0]], torch.from_numpy(small.patches_of("test3", 0)))
        for view in seen:
            seen[view] += torch.equal(
                patches[which[1, 0]], torch.from_numpy(small.patches_of("train0", view))
            )
    assert sum(seen.values()) == 20
    assert min(seen.values()) > 2


def test_intervals_are_of_means_over_seeds_and_pictures_stand_or_fall_together(tmp_path):
    for seed, right in ((1, [True] * 4 + [False] * 4), (2, [True] * 4 + [None] * 4)):
        (tmp_path / f"seed-{seed}").mkdir()
        rows = [{"group": f"p{i // 4}", "right": value} for i, value in enumerate(right)]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / f"seed-{seed}" / "predictions_en.jsonl").write_text(text)
    one = intervals([tmp_path / "seed-1"], ["en"])
    assert one == {"en_low": 0.0, "en_high": 1.0}  # two pictures: either may be drawn twice
    both = intervals([tmp_path / "seed-1", tmp_path / "seed-2"], ["en"])
    assert both == {"en_low": 1.0, "en_high": 1.0}  # what nobody labelled does not count
