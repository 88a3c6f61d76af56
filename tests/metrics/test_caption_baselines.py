"""Captions that no captioner wrote."""

import pytest
import torch

from vlpnb.errors import UserError
from vlpnb.metrics.caption_baselines import (
    consensus_captions,
    constant_caption,
    nearest_captions,
    one_against_others,
)
from vlpnb.metrics.captions import score

CAPTIONS = [
    ["a red boat on the lake", "a boat floats"],
    ["a red boat at sea", "the red boat is on the water"],
    ["a red boat on the sea", "ship"],
    ["two dogs run in the grass", "dogs play in the grass"],
]
TRAINING = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.8, 0.2], [0.0, 2.0]])


def test_the_nearest_picture_lends_its_first_caption_whatever_the_length_of_features():
    features = torch.tensor([[7.0, 0.1], [0.001, 0.1]])
    assert nearest_captions(features, TRAINING, CAPTIONS) == [CAPTIONS[0][0], CAPTIONS[3][0]]


def test_the_consensus_is_the_caption_of_neighbours_that_agrees_best():
    chosen = consensus_captions(torch.tensor([[1.0, 0.1]]), TRAINING, CAPTIONS, k=3)
    assert chosen == ["a red boat on the sea"]
    assert consensus_captions(torch.tensor([[0.0, 1.0]]), TRAINING, CAPTIONS, k=1)[0] in CAPTIONS[3]
    with pytest.raises(UserError, match=r"4 training pictures.* 5 neighbours"):
        consensus_captions(TRAINING, TRAINING, CAPTIONS, k=5)
    with pytest.raises(UserError, match=r"captions of 4 .of 3 at least one"):
        nearest_captions(TRAINING, TRAINING, [*CAPTIONS[:3], []])


def test_the_constant_caption_suits_most_pictures():
    names = range(len(CAPTIONS))
    best = constant_caption(CAPTIONS)
    assert best.startswith("a red boat")
    worst = score(dict.fromkeys(names, "ship"), dict(enumerate(CAPTIONS)))["cider"]
    assert score(dict.fromkeys(names, best), dict(enumerate(CAPTIONS)))["cider"] > worst
    with pytest.raises(UserError, match="no caption to choose from"):
        constant_caption([])


def test_a_person_is_scored_against_the_other_people_only():
    same = {i: [f"caption number {i}"] * 3 for i in range(4)}
    assert one_against_others(same)["cider"] == pytest.approx(
        score({i: t[0] for i, t in same.items()}, same)["cider"]
    )
    apart = {i: [f"{word} {i}" for word in ("one", "two", "three")] for i in range(4)}
    assert one_against_others(apart)["bleu_2"] < 0.01
    with pytest.raises(UserError, match="no picture has two captions"):
        one_against_others({1: ["a"]})
