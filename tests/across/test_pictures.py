"""Stage `across.pictures`: average precision, ranks both ways, what is centred, and the gallery."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.tiny_lm import context
from vlpnb.across import pictures
from vlpnb.across.pictures import (
    PICTURES,
    PicturesConfig,
    average_precision,
    gallery_of,
    open_found,
    phrase_of,
    words_shown,
)
from vlpnb.data.description import CaptionData, CaptionFiles
from vlpnb.errors import UserError
from vlpnb.world.scene import Scene, Thing


def test_average_precision_of_a_ranking_by_hand():
    scores = np.array([0.9, 0.1, 0.8, 0.4, 0.3])
    right = np.array([True, False, False, True, True])
    assert average_precision(scores, right) == pytest.approx((1 / 1 + 2 / 3 + 3 / 4) / 3)
    assert average_precision(scores, scores > 0.7) == 1
    with pytest.raises(UserError, match="no picture of the gallery is right"):
        average_precision(scores, np.zeros(5, bool))


def test_of_equal_scores_the_first_in_the_gallery_comes_first():
    assert average_precision(np.zeros(4), np.array([False, True, False, False])) == 0.5


NAMES = [f"world_test_{number:07}" for number in range(4)] + ["silent"]


def scene(number, *kinds):
    things = tuple(Thing(kind, "red", "big", "plain", 0.5, 0.5, 0.1, 0.1) for kind in kinds)
    return Scene(number, "test", "field", things)


@pytest.fixture
def data(tmp_path):
    """Four pictures: bananas in two, a swan in one, a box in all."""
    scenes = [scene(0, "banana", "box"), scene(1, "banana", "box"), scene(2, "swan", "box"), scene(3, "box")]
    (tmp_path / "scenes.jsonl").write_text("".join(each.to_json() + "\n" for each in scenes))
    said = [("a box", "a banana and a box"), ("two things",), ("a swan here",), (), ("a box alone",)]
    names = [each.image_id for each in scenes]
    names.insert(3, "silent")
    rows = [{"id": i, "file_name": f"{name}.png"} for i, name in enumerate(names)]
    texts = [{"image_id": i, "caption": text} for i, each in enumerate(said) for text in each]
    (tmp_path / "test.json").write_text(json.dumps({"images": rows, "annotations": texts}))
    for name in names:
        (tmp_path / f"{name}.png").write_bytes(b"")
    files = CaptionFiles("coco", {"test": (tmp_path / "test.json",)}, str(tmp_path))
    return CaptionData(tmp_path, files, scenes=tmp_path / "scenes.jsonl")


def test_the_gallery_is_of_captioned_pictures_and_words_are_of_kinds_that_tell_some_apart(data):
    images = gallery_of(data, "test", 9, NAMES)
    assert [image.image_id for image in images] == NAMES[:4]
    assert gallery_of(data, "test", 9, NAMES[1:3]) == images[1:3]
    shown = words_shown(data, images)
    assert {kind: right.tolist() for kind, right in shown.items()} == {
        "banana": [True, True, False, False],
        "swan": [False, False, True, False],
    }
    assert words_shown(replace(data, scenes=None), images) == {}
    assert (phrase_of("banana"), phrase_of("eggplant")) == ("a banana", "an eggplant")


def test_the_stage_ranks_both_ways_and_centres_likelihoods(data, tmp_path, monkeypatch):
    pairs = torch.tensor([[-1.0, -2, -3, -4], [-9, -8, -9, -9], [-5, -5, -4, -5], [-7, -7, -7, -6]])
    words = torch.tensor([[0.9, 0.1, 0.8, 0.0], [0.1, 0.2, 0.3, 0.0]])
    asked = []

    def score(sentences, images):
        asked.extend(sentences)
        return torch.cat([pairs, words])

    monkeypatch.setattr(pictures, "open_matcher", lambda *arguments: score)
    monkeypatch.setattr(pictures, "load_captions", lambda folder: data)
    monkeypatch.setattr(pictures, "load_regions", lambda folder: NAMES)
    folders = dict.fromkeys(("model", "captions", "regions"), tmp_path)
    plain = PICTURES.run(context(PicturesConfig(matcher="cclm"), tmp_path / "plain", folders))
    assert asked == ["a banana and a box", "two things", "a swan here", "a box alone", "a banana", "a swan"]
    assert plain["caption_r1"] == 1
    assert plain["picture_r1"] == 0.25  # the first sentence is likely with all pictures
    assert plain["chance_r1"] == 0.25
    assert plain["word_precision"] == pytest.approx(((1 + 2 / 3) / 2 + 1) / 2)
    centred = PICTURES.run(context(PicturesConfig(matcher="vlp"), tmp_path / "centred", folders))
    assert centred["caption_r1"] == 1
    assert centred["picture_r1"] == 1
    found = open_found(tmp_path / "centred")
    assert found.of_caption == (1, 1, 1, 1)
    assert found.chance == {"banana": 0.5, "swan": 0.25}
