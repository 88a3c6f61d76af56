"""Entailment from pictures: labels that are true of what can be seen, and nothing to guess from the words."""

from collections import Counter, defaultdict

import numpy as np
import pytest

from vlpnb.world.grammar import LANGUAGES
from vlpnb.world.questions.entailment_pictures import (
    ALIKE,
    curtain_of,
    curtained_id,
    picture_hypotheses,
    visible,
)
from vlpnb.world.render import Curtain, render
from vlpnb.world.scene import CANONICAL_KINDS, KINDS, make_scene


@pytest.fixture(scope="module")
def scenes():
    return [make_scene(0, "train", i) for i in range(400)]


@pytest.fixture(scope="module")
def found(scenes):
    return picture_hypotheses(scenes, 0, 900)


def is_shown(phrase, things):
    return any(
        phrase.kind in (t.kind, KINDS[t.kind].category)
        and phrase.colour in (None, t.colour)
        and phrase.pattern in (None, t.pattern)
        for t in things
    )


def test_labels_follow_from_what_can_be_seen(found):
    """An independent reading: by the boxes of things and the side of the curtain."""
    for h in found:
        (phrase,) = h.plan.phrases
        seen = [
            t
            for t in h.scene.things
            if h.curtain is None or t.box[2] <= h.curtain.left or t.box[0] >= h.curtain.right
        ]
        shown = is_shown(phrase, seen)
        right_place = h.plan.setting in (None, h.scene.setting)
        if h.label == "entailment":
            assert shown
            assert right_place
        elif h.label == "neutral":
            assert not shown
            assert right_place
            assert h.curtain is not None
        elif right_place:
            assert not shown
            assert h.curtain is None
        else:
            assert (h.plan.setting, h.scene.setting) not in ALIKE


def test_units_ask_one_hypothesis_of_three_pictures(found):
    assert 890 <= len(found) <= 900
    units = defaultdict(list)
    for h in found:
        units[h.group].append(h)
    for unit in units.values():
        assert Counter(h.label for h in unit) == {"entailment": 1, "neutral": 1, "contradiction": 1}
        assert len({h.plan for h in unit}) == 1
        assert len({h.image_id for h in unit}) == 3


@pytest.mark.parametrize("language", LANGUAGES)
def test_words_alone_are_at_chance_in_every_language(found, language):
    counts = defaultdict(Counter)
    for h in found:
        counts[LANGUAGES[language].realise(h.plan)][h.label] += 1
    assert sum(max(c.values()) for c in counts.values()) / len(found) == pytest.approx(1 / 3)


def test_the_curtain_alone_says_about_half(found):
    by_curtain = defaultdict(Counter)
    for h in found:
        by_curtain[h.curtain is not None][h.label] += 1
    assert sum(max(c.values()) for c in by_curtain.values()) / len(found) < 0.55
    hidden = [h for h in found if h.label == "neutral" and is_shown(h.plan.phrases[0], h.scene.things)]
    assert 0 < len(hidden) < 150  # what is asked for is behind the curtain now and then


def test_no_hypothesis_says_a_canonical_attribute_or_that_one_sees(found):
    for h in found:
        (phrase,) = h.plan.phrases
        assert phrase.count == 1
        assert phrase.size is None
        assert phrase.kind not in CANONICAL_KINDS or (phrase.colour, phrase.pattern) == (None, None)
        english = LANGUAGES["en"].realise(h.plan)
        assert not any(word in english for word in ("see", "picture", "photo", "shows"))
        assert not any(
            word in LANGUAGES["fr"].realise(h.plan).lower() for word in ("voici", "on voit", "image")
        )


def test_hypotheses_are_repeatable_and_few_scenes_give_few(scenes, found):
    assert picture_hypotheses(scenes, 0, 900) == found
    assert picture_hypotheses(scenes, 1, 900) != found
    assert picture_hypotheses(scenes[:1], 0, 30) == []
    assert picture_hypotheses([], 0, 30) == []
    few = picture_hypotheses(scenes, 0, 900, curtains=50)
    assert {h.scene.index for h in few if h.curtain} <= set(range(50))
    assert len(few) > 600


def test_a_curtain_cuts_nothing_and_is_always_the_same(scenes):
    curtains = [(scene, curtain_of(scene)) for scene in scenes]
    there = [(scene, curtain) for scene, curtain in curtains if curtain]
    assert len(there) > 200
    for scene, curtain in there:
        assert curtain == curtain_of(scene)
        assert curtain.left == 0 or curtain.right == 1
        assert 0.28 <= curtain.right - curtain.left <= 0.621
        for thing in scene.things:
            left, _, right, _ = thing.box
            behind = left >= curtain.left and right <= curtain.right
            beside = right <= curtain.left or left >= curtain.right
            assert behind != beside
            assert (thing in visible(scene, curtain)) == beside
    assert any(len(visible(scene, curtain)) < len(scene.things) for scene, curtain in there)
    assert visible(scenes[0], None) == scenes[0].things
    assert curtained_id(scenes[3]) == "world_train_0000003_curtain"


def test_a_curtain_changes_no_pixel_beside_it(scenes):
    for scene in scenes[:6]:
        plain = np.asarray(render(scene, 64))
        assert (np.asarray(render(scene, 64, curtain=None)) == plain).all()
        for curtain in (Curtain(0.0, 0.5), Curtain(0.5, 1.0)):
            drawn = np.asarray(render(scene, 64, curtain=curtain))
            left, right = round(64 * curtain.left), round(64 * curtain.right)
            rest = np.delete(np.arange(64), np.arange(left, right))
            assert (drawn[:, rest] == plain[:, rest]).all()
            behind = drawn[:, left:right].astype(int)
            assert (behind != plain[:, left:right]).any(axis=2).mean() > 0.95
            # cloth in folds: the same from below the rail to the floor, and not one colour
            assert (behind[8:] == behind[8]).all()
            assert len(np.unique(behind[20], axis=0)) > 8
