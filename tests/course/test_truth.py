"""Ground truth where there is one, and one box where there is none."""

from types import SimpleNamespace

import pytest

from vlpnb.course import truth
from vlpnb.world.scene import make_scene


@pytest.fixture
def boxes(monkeypatch):
    found = []
    monkeypatch.setattr(truth, "display", lambda data, raw: found.append(data))
    return found


def universe(captions=()):
    """As much of a picture list as these functions ask for."""
    images = [SimpleNamespace(image_id=name, sentences=said) for name, said in captions]
    return SimpleNamespace(images=lambda: images)


def test_the_world_has_a_ground_truth(tmp_path, boxes):
    scene = make_scene(0, "universe", 3)
    (tmp_path / "scenes.jsonl").write_text(scene.to_json() + "\n", encoding="utf-8")
    world = SimpleNamespace(scenes=tmp_path / "scenes.jsonl")
    assert truth.ground_truth(world) == {scene.image_id: scene}
    assert boxes == []
    assert truth.examples(world).word == "car"
    words = truth.describer(world, universe())(scene.image_id)
    assert scene.setting in words
    assert all(f"{thing.colour} {thing.kind}" in words for thing in scene.things)


def test_photographs_have_a_box_and_captions(boxes):
    photographs = SimpleNamespace(scenes=None)
    assert truth.ground_truth(photographs) == {}
    assert len(boxes) == 1
    assert "photographs" in boxes[0]["text/plain"]
    assert 'role="note"' in boxes[0]["text/html"]
    describe = truth.describer(photographs, universe([("a", ("A dog runs.",)), ("b", ())]))
    assert (describe("a"), describe("b")) == ("A dog runs.", "b")
    assert truth.examples(photographs).word == "dog"


def test_examples_name_their_word_in_every_phrase_and_hide_one_word():
    for found in (truth.WORLD, truth.PHOTOGRAPHS):
        assert all(found.word in phrase.split() for phrase in found.phrases)
        assert found.question.count("[MASK]") == 1
