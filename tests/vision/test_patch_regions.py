"""Regions: patches, vectors, crops and texts."""

from pathlib import Path

import numpy as np
import pytest
import torch

from vlpnb.data.region_text import Region, RegionPicture
from vlpnb.errors import UserError
from vlpnb.vision.patch_regions import (
    Faithful,
    draw_crop,
    fill,
    masked_mean,
    patch_mask,
    placed,
    region_entries,
    region_text,
    region_views,
    sample_regions,
    says_side,
)


def picture(*boxes, captions=(), texts=None, attributes=None) -> RegionPicture:
    texts = texts or [{"en": f"thing {i}", "de": f"Ding {i}"} for i in range(len(boxes))]
    regions = tuple(Region(box, text, attributes or {}) for box, text in zip(boxes, texts, strict=True))
    return RegionPicture("a", Path("a.png"), 200, 150, tuple(captions), regions)


def columns_and_rows(mask: np.ndarray, grid: int) -> tuple[list[int], list[int]]:
    seen = mask[1:].reshape(grid, grid)
    return np.flatnonzero(seen.any(0)).tolist(), np.flatnonzero(seen.any(1)).tolist()


@pytest.mark.parametrize(
    ("box", "columns", "rows"),
    [
        ((0, 0, 33, 1), [0, 1], [0]),
        ((0, 0, 224, 224), [*range(7)], [*range(7)]),
        ((32, 64, 32, 32), [1], [2]),
        ((31.9, 31.9, 0.2, 0.2), [0, 1], [0, 1]),
        ((64, 0, 0, 0), [2], [0]),
        ((224, 224, 1, 1), [6], [6]),
        ((200, -5, 90, 20), [6], [0]),
    ],
)
def test_a_box_sees_the_patches_that_it_touches_one_at_least(box, columns, rows):
    mask = patch_mask(box, 224, 7)
    assert mask.shape == (50,)
    assert mask[0]
    assert columns_and_rows(mask, 7) == (columns, rows)


def test_a_mask_of_ones_gives_the_picture_and_of_one_patch_that_patch():
    views = torch.randn(2, 10, 4)
    views[:, 0] = views[:, 1:].mean(1)
    ones = torch.ones(2, 10, dtype=torch.bool)
    torch.testing.assert_close(region_views(views, torch.tensor([1, 0]), ones), views[[1, 0]])
    single = torch.zeros(1, 10, dtype=torch.bool)
    single[0, [0, 4]] = True
    region = region_views(views, torch.tensor([1]), single)
    assert torch.equal(region[0, 0], views[1, 4])
    assert torch.equal(region[0, 1:], views[1, 1:])


def test_a_mask_without_a_patch_gives_zeros_not_nan():
    assert (masked_mean(torch.ones(1, 3, 2), torch.zeros(1, 3, dtype=torch.bool)) == 0).all()


def test_crops_keep_their_box_whole_and_vary():
    rng, box = np.random.default_rng(0), (30.5, 20.0, 60.0, 50.5)
    crops = [draw_crop(box, 200, 150, rng) for _ in range(500)]
    assert all(0 <= a <= 30 and 0 <= b <= 20 and 91 <= c <= 200 and 71 <= d <= 150 for a, b, c, d in crops)
    assert {a for a, *_ in crops} == set(range(31))
    assert max(c for _, _, c, _ in crops) == 200
    assert min(c for _, _, c, _ in crops) == 91


def test_a_box_is_clipped_to_the_crop_and_mirrored_with_it():
    crop = (10, 0, 110, 50)
    box, share = placed((60, 10, 100, 20), crop, flip=False)
    assert (box, share) == ((0.5, 0.2, 0.5, 0.4), 0.5)
    assert placed((60, 10, 100, 20), crop, flip=True)[0] == (0.0, 0.2, 0.5, 0.4)
    assert placed((150, 0, 20, 20), crop, flip=False)[1] == 0.0


def test_entries_are_the_whole_first_then_those_of_which_more_than_half_is_left_five_in_all():
    boxes = [(10, 10, 20, 20), (60, 10, 100, 20), (0, 0, 200, 150), *[(20, 20, 10, 10)] * 6]
    crop = (10, 0, 110, 50)  # half of the second box, a sixth of the third
    found = region_entries(picture(*boxes, captions=[{"en": "all"}]), crop, False, range(9), 224, 7)
    assert [element for element, _, _ in found] == [-1, 0, 3, 4, 5]
    assert found[0][1] == (0.5, 0.5, 1.0, 1.0)
    assert found[0][2].all()
    assert found[1][1] == pytest.approx((0.1, 0.4, 0.2, 0.4))
    columns, rows = columns_and_rows(found[1][2], 7)
    assert (columns, rows) == ([0, 1], [1, 2, 3, 4])
    without = region_entries(picture(*boxes), crop, False, [8, 0], 224, 7)
    assert [element for element, _, _ in without] == [8, 0]


@pytest.mark.parametrize(
    ("text", "named"),
    [("the LEFT one", True), ("das linke Auto", True), ("à gauche", True), ("di kanan", True), ("在左边", True),
     ("bright leftovers", False), ("ein roter Ball", False)],
)  # fmt: skip
def test_sides_are_found_in_texts_not_in_names_of_languages(text, named):
    assert says_side([{"xx": text}]) == named
    assert not says_side([{"xx": text}], faithful=True)  # CCL-12


def test_pictures_whose_texts_name_a_side_are_never_mirrored():
    left = picture((10, 10, 50, 50), texts=[{"en": "the left thing"}])
    rng = np.random.default_rng(0)
    flips = [sample_regions(left, rng, ["en"], 224, 7)[1] for _ in range(60)]
    assert not any(flips)
    always = Faithful(mirrors_always=True)
    faithful = [sample_regions(left, rng, ["en"], 224, 7, faithful=always)[1] for _ in range(60)]
    assert 10 < sum(faithful) < 50


def test_attributes_stand_before_the_text_whole_or_by_their_first_character():
    rng = np.random.default_rng(0)
    caption, attributes = {"en": "car", "de": "Auto"}, {"en": "red", "de": "rot"}
    assert region_text(caption, attributes, ["en"], rng) == ("red car", "en")
    assert region_text(caption, {}, ["de"], rng) == ("Auto", "de")
    texts = {region_text(caption, attributes, ["en", "de"], rng)[0] for _ in range(60)}
    assert texts == {"red car", "rot Auto"}
    mixed = {region_text(caption, attributes, ["en", "de"], rng, code_switch=True)[0] for _ in range(60)}
    assert mixed == {"red car", "rot Auto", "red Auto", "rot car"}
    first = {region_text(caption, attributes, ["en"], rng, True, faithful=True)[0] for _ in range(9)}
    assert first == {"r car"}  # CCL-13
    with pytest.raises(UserError, match=r"in en, de; expected one of fr"):
        region_text(caption, attributes, ["fr"], rng)


def test_patches_that_were_computed_once_are_neither_cropped_nor_mirrored():
    rng = np.random.default_rng(1)
    shown = picture((0, 0, 100, 75), (100, 75, 100, 75), captions=[{"en": "all", "de": "alles"}])
    crop, flip, entries = sample_regions(shown, rng, ["de"], 64, 4, crop=False)
    assert (crop, flip) == ((0, 0, 200, 150), False)
    assert {entry.text: (entry.box, entry.whole) for entry in entries} == {
        "alles": ((0.5, 0.5, 1.0, 1.0), True),
        "Ding 0": ((0.25, 0.25, 0.5, 0.5), False),
        "Ding 1": ((0.75, 0.75, 0.5, 0.5), False),
    }
    assert sample_regions(shown, rng, ["fr"], 64, 4)[2] == []


def test_a_sample_is_a_function_of_its_generator():
    shown = picture(*[(i * 10, i * 10, 30, 30) for i in range(8)])
    samples = [sample_regions(shown, np.random.default_rng(s), ["en", "de"], 224, 7) for s in (1, 1, 2)]
    assert [e.text for e in samples[0][2]] == [e.text for e in samples[1][2]]
    assert samples[0][0] == samples[1][0] != samples[2][0]
    assert all(len(entries) <= 5 for _, _, entries in samples)


def test_a_batch_has_exactly_as_many_texts_as_wanted():
    rng = np.random.default_rng(0)
    assert fill(9, 4, rng).tolist() == sorted(set(fill(9, 4, np.random.default_rng(0)).tolist()))
    more = fill(3, 8, rng)
    assert more[:3].tolist() == [0, 1, 2]
    assert len(more) == 8
    assert set(more.tolist()) <= {0, 1, 2}
    with pytest.raises(UserError, match="no text"):
        fill(0, 4, rng)
