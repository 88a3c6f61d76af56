"""Promises of the world's scenes: pure, balanced, disjoint, held-out pairs only where they belong."""

import hashlib
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from math import sqrt

import pytest
from scipy.stats import chisquare

from vlpnb.errors import UserError
from vlpnb.world.scene import (
    CANONICAL_KINDS,
    COLOURS,
    FREE_KINDS,
    HELD_OUT,
    KINDS,
    MATERIALS,
    PATTERNS,
    SETTINGS,
    SHAPES,
    SIZES,
    SPLITS,
    Scene,
    Thing,
    free_colours,
    make_scene,
)

N = {"train": 4000, "universe": 1500, "valid": 1000, "test": 1000}


@pytest.fixture(scope="module")
def scenes() -> dict[str, list[Scene]]:
    return {split: [make_scene(0, split, i) for i in range(n)] for split, n in N.items()}


def test_ontology_is_balanced():
    assert Counter(Counter(KINDS[k].colour for k in CANONICAL_KINDS).values()) == {2: 10}
    assert Counter(k.shape for k in KINDS.values() if k.shape) == dict.fromkeys(SHAPES, 6)
    assert Counter(k.material for k in KINDS.values() if k.material) == dict.fromkeys(MATERIALS, 4)
    assert sorted(k.size_rank for k in KINDS.values()) == list(range(len(KINDS)))
    assert not {word for kind in KINDS.values() for word in (kind.name, kind.category)} & set(COLOURS)


@pytest.mark.parametrize("attribute", ["colour", "shape", "material"])
def test_category_hardly_predicts_an_attribute(attribute: str):
    """Guessing the most frequent other value of the same category (the asked kind left out) stays weak."""
    asked = [kind for kind in KINDS.values() if getattr(kind, attribute)]
    right = 0.0
    for kind in asked:
        others = Counter(getattr(o, attribute) for o in asked if o.category == kind.category and o != kind)
        if others:
            best = [value for value, count in others.items() if count == max(others.values())]
            right += (getattr(kind, attribute) in best) / len(best)
    values = len({getattr(kind, attribute) for kind in asked})
    assert right / len(asked) <= 1 / values + 0.05


def test_scenes_are_equal_in_another_process():
    code = (
        "import hashlib; from vlpnb.world.scene import make_scene;"
        "text = ''.join(make_scene(3, s, i).to_json() for s in ('train', 'test') for i in range(60));"
        "print(hashlib.sha256(text.encode()).hexdigest())"
    )
    command = [sys.executable, "-c", code]
    there = {
        subprocess.run(command, capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": h}).stdout
        for h in ("1", "2")
    }
    text = "".join(make_scene(3, split, i).to_json() for split in ("train", "test") for i in range(60))
    assert there == {hashlib.sha256(text.encode()).hexdigest() + "\n"}


def test_seed_split_and_index_matter():
    scenes = {make_scene(seed, split, i).content for seed in (0, 1) for split in SPLITS for i in range(25)}
    assert len(scenes) > 190


def test_splits_share_no_content(scenes: dict[str, list[Scene]]):
    contents = {split: {scene.content for scene in scenes[split]} for split in scenes}
    for a in contents:
        for b in contents:
            assert a == b or not contents[a] & contents[b]


def test_content_ignores_the_order_of_things():
    a = Thing("ball", "red", "big", "plain", 0.2, 0.8, 0.2, 0.2)
    b = Thing("car", "blue", "small", "plain", 0.7, 0.8, 0.3, 0.2)
    assert Scene(0, "train", "room", (a, b)).content == Scene(5, "test", "room", (b, a)).content


def test_held_out_pairs_appear_in_test_only(scenes: dict[str, list[Scene]]):
    assert {kind for _, kind in HELD_OUT} == set(FREE_KINDS)
    assert set(Counter(colour for colour, _ in HELD_OUT).values()) <= {2, 3}
    for split in ("train", "valid", "universe"):
        assert not any(scene.compositional for scene in scenes[split])
    share = sum(scene.compositional for scene in scenes["test"]) / N["test"]
    assert 0.19 < share < 0.31
    shown = {(t.colour, t.kind) for scene in scenes["test"] for t in scene.things} & HELD_OUT
    assert len(shown) == len(HELD_OUT)


def test_attributes(scenes: dict[str, list[Scene]]):
    things = [thing for scene in scenes["train"] for thing in scene.things]
    assert all(t.colour == KINDS[t.kind].colour for t in things if KINDS[t.kind].colour)
    assert all(t.pattern == "plain" for t in things if not KINDS[t.kind].patterns_allowed)
    assert {t.pattern for t in things} == set(PATTERNS)
    assert {t.kind for t in things} == set(KINDS)
    assert {scene.setting for scene in scenes["train"]} == set(SETTINGS)
    counts = Counter(len(scene.things) for scene in scenes["train"])
    assert 0.45 < counts[1] / N["train"] < 0.55
    assert set(counts) == {1, 2, 3, 4}
    words = Counter(t.size for t in things)
    assert all(0.45 < words[size] / len(things) < 0.55 for size in SIZES)


def test_free_kinds_take_every_other_colour_equally_often(scenes: dict[str, list[Scene]]):
    everything = [t for split in ("train", "valid", "universe") for s in scenes[split] for t in s.things]
    for kind in FREE_KINDS:
        counts = Counter(t.colour for t in everything if t.kind == kind)
        assert chisquare([counts[colour] for colour in free_colours(kind)]).pvalue > 1e-4, kind


def test_boxes_lie_in_the_picture_and_hardly_overlap(scenes: dict[str, list[Scene]]):
    for scene in scenes["train"]:
        boxes = scene.boxes()
        for left, top, right, bottom in boxes:
            assert 0 <= left < right <= 1
            assert 0 <= top < bottom <= 1
        for i, a in enumerate(boxes):
            for b in boxes[i + 1 :]:
                width = max(0, min(a[2], b[2]) - max(a[0], b[0]))
                height = max(0, min(a[3], b[3]) - max(a[1], b[1]))
                smaller = min((x[2] - x[0]) * (x[3] - x[1]) for x in (a, b))
                assert width * height <= 0.0601 * smaller


def test_drawn_size_follows_the_real_world_order(scenes: dict[str, list[Scene]]):
    for scene in scenes["train"]:
        things = sorted(scene.things, key=lambda t: (KINDS[t.kind].size_rank, t.w * t.h))
        for a, b in pairwise(things):
            assert sqrt(a.w * a.h) <= sqrt(b.w * b.h) + 1e-3
            if a.kind == b.kind and a.size != b.size:
                assert (a.size, b.size) == ("small", "big")


def test_relations_on_a_scene_by_hand():
    kite = Thing("kite", "red", "big", "plain", 0.3, 0.2, 0.2, 0.3)
    ball = Thing("ball", "blue", "big", "plain", 0.3, 0.8, 0.2, 0.2)
    car = Thing("car", "green", "big", "plain", 0.75, 0.8, 0.4, 0.25)
    assert set(Scene(0, "train", "field", (kite, ball, car)).relations()) == {
        (0, "above", 1),
        (1, "below", 0),
        (0, "left of", 2),
        (2, "right of", 0),
        (0, "above", 2),
        (2, "below", 0),
        (1, "left of", 2),
        (2, "right of", 1),
    }


def test_relations_come_in_pairs(scenes: dict[str, list[Scene]]):
    opposite = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
    for scene in scenes["valid"]:
        found = set(scene.relations())
        assert {(j, opposite[relation], i) for i, relation, j in found} == found


def test_json_round_trip(scenes: dict[str, list[Scene]]):
    for scene in scenes["test"][:100]:
        assert Scene.from_json(scene.to_json()) == scene
        assert "\n" not in scene.to_json()
    assert scenes["test"][7].image_id == "world_test_0000007"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"index": 1, "things": [{"kind": "ball"}]}'])
def test_json_that_is_no_scene_is_refused(text: str):
    with pytest.raises(UserError, match=r"scenes\.jsonl"):
        Scene.from_json(text)


def test_wrong_arguments_are_refused():
    with pytest.raises(UserError, match="train"):
        make_scene(0, "dev", 0)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="negative"):
        make_scene(0, "train", -1)
