"""Promises of the pictures: deterministic, and every attribute of a scene can be read off the pixels."""

import hashlib
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from vlpnb.world.render import pixel_box, render
from vlpnb.world.scene import (
    COLOURS,
    KINDS,
    PATTERNS,
    SETTINGS,
    Scene,
    Thing,
    make_scene,
)
from vlpnb.world.shapes import DRAWINGS

PALETTE = np.array(list(COLOURS.values()), dtype=float)


def one_thing(kind: str, colour: str, setting: str = "beach", pattern: str = "plain", extent: float = 0.5):
    """A scene with one thing in the middle."""
    aspect = KINDS[kind].aspect
    thing = Thing(kind, colour, "big", pattern, 0.5, 0.5, extent * aspect**0.5, extent / aspect**0.5)
    return Scene(0, "train", setting, (thing,))


def drawn_pixels(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """The picture and a mask of the pixels that differ from the empty background."""
    picture = np.asarray(render(scene)).astype(int)
    empty = np.asarray(render(replace(scene, things=()))).astype(int)
    return picture, np.abs(picture - empty).max(-1) > 3


def dominant_colour(scene: Scene) -> str:
    """The palette colour that most drawn pixels inside the box are nearest to."""
    picture, mask = drawn_pixels(scene)
    left, top, right, bottom = pixel_box(scene.things[0], 128)
    inside = picture[top:bottom, left:right][mask[top:bottom, left:right]]
    nearest = ((inside[:, None] - PALETTE) ** 2).sum(-1).argmin(-1)
    return list(COLOURS)[Counter(nearest.tolist()).most_common(1)[0][0]]


def test_every_kind_has_a_drawing():
    assert set(DRAWINGS) == set(KINDS)


def test_pictures_are_equal_in_another_process():
    code = (
        "import hashlib; from vlpnb.world.scene import make_scene; from vlpnb.world.render import render;"
        "data = b''.join(render(make_scene(0, 'valid', i)).tobytes() for i in range(20));"
        "print(hashlib.sha256(data).hexdigest())"
    )
    command = [sys.executable, "-c", code]
    there = {
        subprocess.run(command, capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": h}).stdout
        for h in ("1", "2")
    }
    # Rendered in the opposite order: caches must not matter.
    pictures = [render(make_scene(0, "valid", i)).tobytes() for i in reversed(range(20))]
    assert there == {hashlib.sha256(b"".join(reversed(pictures))).hexdigest() + "\n"}


def test_seed_varies_the_picture_and_size_its_pixels():
    scene = make_scene(0, "train", 1)
    assert render(scene, seed=1).tobytes() != render(scene).tobytes()
    for size in (32, 64, 224):
        picture = render(scene, size=size)
        assert picture.size == (size, size)
        assert picture.mode == "RGB"


def test_rendering_does_not_change_the_cached_background():
    scene = make_scene(0, "train", 2)
    empty = render(replace(scene, things=())).tobytes()
    render(scene)
    assert render(replace(scene, things=())).tobytes() == empty


@pytest.mark.parametrize("kind", KINDS)
def test_dominant_colour_in_the_box_is_the_colour_of_the_thing(kind: str):
    """Canonical kinds show their canonical colour; free kinds every palette colour, in every setting."""
    canonical = KINDS[kind].colour
    for i, colour in enumerate([canonical] if canonical else COLOURS):
        for setting in SETTINGS if canonical else (SETTINGS[i % 4],):
            assert dominant_colour(one_thing(kind, colour, setting)) == colour


def test_patterns_leave_the_colour_dominant_and_differ_from_each_other():
    for colour in COLOURS:
        pictures = [render(one_thing("ball", colour, pattern=pattern)) for pattern in PATTERNS]
        assert len({picture.tobytes() for picture in pictures}) == len(PATTERNS)
        for pattern in PATTERNS:
            assert dominant_colour(one_thing("ball", colour, pattern=pattern)) == colour, (colour, pattern)


@pytest.mark.parametrize("kind", KINDS)
def test_box_fits_the_drawn_pixels(kind: str):
    """The drawing touches all four sides of its box (the shadow may stick out below)."""
    for colour in ("white", "red") if KINDS[kind].colour is None else (KINDS[kind].colour,):
        scene = one_thing(kind, colour, "night", extent=0.45)
        _, mask = drawn_pixels(scene)
        left, top, right, bottom = pixel_box(scene.things[0], 128)
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        assert abs(columns[0] - left) <= 1
        assert abs(columns[-1] + 1 - right) <= 1
        assert abs(rows[0] - top) <= 1
        assert -1 <= rows[-1] + 1 - bottom <= 3


def test_kinds_look_different():
    """No two silhouettes at equal size agree in more than nine tenths of their union."""
    masks = {}
    for kind in KINDS:
        thing = Thing(kind, KINDS[kind].colour or "red", "big", "plain", 0.5, 0.3, 0.4, 0.4)
        masks[kind] = drawn_pixels(Scene(0, "train", "night", (thing,)))[1]
    kinds = list(KINDS)
    for i, a in enumerate(kinds):
        for b in kinds[i + 1 :]:
            if "square" in (KINDS[a].shape, KINDS[b].shape):
                continue  # boxes, shelves and pianos differ inside
            union = (masks[a] | masks[b]).sum()
            assert (masks[a] & masks[b]).sum() / union < 0.93, (a, b)


def test_things_of_a_crowded_scene_are_all_visible():
    scenes = [scene for i in range(200) if len((scene := make_scene(0, "train", i)).things) == 4]
    for scene in scenes:
        _, mask = drawn_pixels(scene)
        for thing in scene.things:
            left, top, right, bottom = pixel_box(thing, 128)
            assert mask[top:bottom, left:right].mean() > 0.15
