"""The stage `region_text`: the world's boxes in five languages, and real lines in its place."""

import json

import numpy as np
import pytest
from PIL import Image

from tests.small import run_stage
from vlpnb.errors import UserError
from vlpnb.foundations.region_text import REGION_TEXT, RegionTextConfig, load_region_text
from vlpnb.world.grammar import LANGUAGES
from vlpnb.world.render import pixel_box
from vlpnb.world.scene import KINDS
from vlpnb.world.writers import load_scenes
from vlpnb.world.writers.regions import region_plan, region_rows


@pytest.fixture(scope="module")
def world_regions(small_world, tmp_path_factory):
    folder = tmp_path_factory.mktemp("region_text")
    metrics = run_stage(REGION_TEXT, RegionTextConfig(), folder, world=small_world.world)
    return metrics, load_region_text(folder), load_scenes(small_world.world)


def test_the_worlds_regions_are_its_boxes(world_regions, small_world):
    metrics, regions, scenes = world_regions
    assert regions.splits == ("train", "valid")
    pictures = regions.pictures("train")
    assert metrics["train_images"] == len(pictures) == 60
    assert metrics["train_regions"] == sum(len(picture.regions) for picture in pictures)
    assert metrics["left_out"] == 0
    for picture in pictures:
        scene = scenes[picture.id]  # the ids of every other stage that names the world's pictures
        assert picture.path.is_file()
        assert (picture.width, picture.height) == (48, 48)
        boxes = [pixel_box(thing, 48) for thing in scene.things]
        assert [r.box for r in picture.regions] == [(a, b, c - a, d - b) for a, b, c, d in boxes]


def test_texts_of_a_box_are_translations_that_keep_canonical_colours_unsaid(world_regions):
    _, _, scenes = world_regions
    chosen = [scene for scene in scenes.values() if scene.split == "train"][:40]
    for row, scene in zip(region_rows(chosen, 48, [*LANGUAGES]), chosen, strict=True):
        assert row["caption"].keys() == LANGUAGES.keys()
        for number, (element, thing) in enumerate(zip(row["elems"], scene.things, strict=True)):
            assert element["caption"].keys() == LANGUAGES.keys()
            assert len(set(element["caption"].values())) == 5
            (phrase,) = region_plan(scene, number).phrases
            assert phrase.kind in (thing.kind, KINDS[thing.kind].category)
            assert phrase.colour in (None, thing.colour)
            assert KINDS[thing.kind].colour is None or phrase.colour is None


def test_real_lines_take_the_worlds_place(tmp_path):
    (tmp_path / "coco").mkdir()
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(tmp_path / "coco" / "a.jpg")
    element = {"bb": [1, 2, 3, 4], "caption": {"en": "a corner"}, "attributes": {"en": "dark"}}
    lines = [{"binary": "a.jpg", "elems": [element]}, {"binary": "b.jpg", "elems": [element]}]
    (tmp_path / "regions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    settings = {"root": str(tmp_path), "files": {"train": "regions.jsonl"}, "images": "coco"}
    metrics = run_stage(REGION_TEXT, RegionTextConfig(**settings), tmp_path / "out")
    assert metrics == {"train_images": 1, "train_regions": 1, "left_out": 1}
    assert "b.jpg does not exist" in (tmp_path / "out" / "left_out.txt").read_text()
    regions = load_region_text(tmp_path / "out")
    (picture,) = regions.pictures("train")
    assert picture.path == tmp_path / "coco" / "a.jpg"
    assert picture.regions[0].attributes == {"en": "dark"}
    with pytest.raises(UserError, match="no regions for split 'valid'; there are train"):
        regions.pictures("valid")


def test_lines_none_of_which_can_be_used_are_an_error(tmp_path):
    (tmp_path / "regions.jsonl").write_text('{"binary": "b.jpg", "elems": []}\n')
    settings = {"root": str(tmp_path), "files": {"train": "regions.jsonl"}, "images": ""}
    with pytest.raises(UserError, match=r"no line can be used.*elems: empty"):
        run_stage(REGION_TEXT, RegionTextConfig(**settings), tmp_path / "out")
