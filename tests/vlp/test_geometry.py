"""What a region is told of itself: normalised, in its own row, and independent of the picture's unit."""

import pytest
import torch
from torch.nn import functional as F

from vlpnb.vlp.geometry import PLACE, region_geometry


def regions(seed=0, rows=2, boxes=7, classes=9):
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(rows, boxes, 4, generator=generator).sort(dim=-1).values * 400
    scores = torch.rand(rows, boxes, generator=generator)
    return (
        corners[..., [0, 1, 2, 3]],
        scores,
        torch.rand(rows, boxes, classes, generator=generator).softmax(-1),
    )


def test_both_parts_have_mean_zero_and_variance_one():
    found = region_geometry(*regions())
    assert found.shape == (2, 7, PLACE + 9)
    for part in (found[..., :PLACE], found[..., PLACE:]):
        torch.testing.assert_close(part.mean(-1), torch.zeros(2, 7), rtol=0, atol=1e-5)
    assert found[..., :PLACE].var(-1, correction=0).sub(1).abs().max() < 2e-3
    peaked = region_geometry(*regions()[:2], torch.eye(9)[torch.arange(14).view(2, 7) % 9])
    assert peaked[..., PLACE:].var(-1, correction=0).sub(1).abs().max() < 2e-3


def test_it_is_the_formula_of_one_box():
    boxes, scores, classes = regions(rows=1, boxes=3)
    w, h = boxes[..., [0, 2]].max() + 1e-5, boxes[..., [1, 3]].max() + 1e-5
    left, top, right, bottom = (boxes[0, 1] / torch.stack([w, h, w, h])).tolist()
    place = torch.tensor([left, top, right, bottom, (bottom - top) * (right - left), scores[0, 1].item()])
    expected = torch.cat([F.layer_norm(place, (6,)), F.layer_norm(classes[0, 1], (9,))])
    torch.testing.assert_close(region_geometry(boxes, scores, classes)[0, 1], expected)


def test_rows_follow_their_boxes_and_the_unit_does_not_matter():
    boxes, scores, classes = regions()
    found, order = region_geometry(boxes, scores, classes), torch.tensor([4, 2, 6, 0, 1, 3, 5])
    mixed = region_geometry(boxes[:, order], scores[:, order], classes[:, order])
    torch.testing.assert_close(mixed, found[:, order], rtol=0, atol=0)
    torch.testing.assert_close(region_geometry(boxes * 3.7, scores, classes), found, rtol=0, atol=1e-5)


def test_the_true_size_replaces_the_estimate():
    """VLP-04: boxes that stay away from the edges have another place with the true size, and the same in any unit."""
    boxes, scores, classes = regions()
    boxes = boxes * 0.5
    sizes = torch.tensor([[400.0, 300.0], [640.0, 480.0]])
    true = region_geometry(boxes, scores, classes, sizes)
    relative = region_geometry(boxes / sizes.repeat(1, 2)[:, None], scores, classes, torch.ones(2, 2))
    torch.testing.assert_close(true, relative)
    assert (true - region_geometry(boxes, scores, classes)).abs().max() > 0.05


def test_a_box_inside_out_has_no_area():
    boxes = torch.tensor([[[5.0, 1.0, 2.0, 9.0], [2.0, 1.0, 5.0, 9.0]]])
    found = region_geometry(boxes, torch.ones(1, 2), torch.rand(1, 2, 4), torch.full((1, 2), 10.0))
    place = torch.tensor([0.5, 0.1, 0.2, 0.9, 0.0, 1.0])
    torch.testing.assert_close(found[0, 0, :PLACE], F.layer_norm(place, (6,)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_it_is_float32_whatever_it_is_made_of(dtype):
    boxes, scores, classes = regions()
    assert region_geometry(boxes, scores, classes.to(dtype)).dtype == torch.float32


def test_a_batch_without_regions_has_rows_of_the_same_width():
    boxes, scores, classes = (part[:, :0] for part in regions())
    assert region_geometry(boxes, scores, classes).shape == (2, 0, PLACE + 9)
