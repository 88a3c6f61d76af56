"""Whether captions are true of scenes of the world."""

import pytest

from vlpnb.errors import UserError
from vlpnb.world.grammar import caption
from vlpnb.world.scene import Scene, Thing, make_scene
from vlpnb.world.truth import caption_truth, judged


def thing(kind, colour):
    return Thing(kind, colour, "big", "plain", 0.5, 0.5, 0.2, 0.2)


SCENE = Scene(0, "test", "beach", (thing("car", "red"), thing("ball", "blue"), thing("banana", "yellow")))


def test_kinds_colours_and_bound_pairs_are_judged_one_by_one():
    found = judged("A blue automobile and a red car next to a green dogless boat , pink .", SCENE)
    assert found["kinds"] == [("car", True), ("car", True), ("boat", False)]
    assert found["colours"] == [("blue", True), ("red", True), ("green", False), ("pink", False)]
    assert found["bound"][:2] == [("blue car", False), ("red car", True)]


def test_the_colour_of_a_category_counts_as_bound_but_is_no_kind():
    assert judged("a red vehicle", SCENE) == {
        "kinds": [], "colours": [("red", True)], "bound": [("red vehicle", True)],
    }  # fmt: skip
    assert judged("the ball on the beach is blue .", SCENE)["bound"] == [("blue ball", True)]


def test_shares_are_over_all_that_is_said_and_recall_over_all_that_is_there():
    scenes = {"a": SCENE, "b": Scene(1, "test", "room", (thing("car", "green"), thing("car", "white")))}
    found = caption_truth({"a": "a red car and a boat", "b": "a red car"}, scenes)
    assert found["kinds"] == pytest.approx(2 / 3)
    assert found["colours"] == found["bound"] == pytest.approx(1 / 2)
    assert found["recall"] == pytest.approx(2 / 4)  # car, ball, banana; car
    assert (found["said_kinds"], found["said_colours"]) == (1.5, 1)


def test_captions_that_say_nothing_are_true_of_nothing():
    found = caption_truth({"a": "."}, {"a": SCENE})
    assert set(found.values()) == {0}


def test_the_worlds_own_captions_are_true():
    scenes = {str(i): make_scene(0, "valid", i) for i in range(60)}
    found = caption_truth({name: caption(scene, "en", 1) for name, scene in scenes.items()}, scenes)
    assert found["kinds"] == found["colours"] == found["bound"] == 1
    assert 0.5 < found["recall"] <= 1


def test_a_picture_without_a_scene_is_named():
    with pytest.raises(UserError, match=r"1 of 2 captioned pictures have no scene \(photo"):
        caption_truth({"a": "a car", "photo": "a dog"}, {"a": SCENE})
    with pytest.raises(UserError, match="at least one"):
        caption_truth({}, {"a": SCENE})
