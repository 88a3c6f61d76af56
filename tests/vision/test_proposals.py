"""Windows cover a picture, and the selection of boxes equals one that goes class by class."""

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou, nms, roi_align

from vlpnb.vision.proposals import recall, select, windows
from vlpnb.vision.regions import WindowPooling


def random_boxes(count: int, random: torch.Generator) -> torch.Tensor:
    corners = torch.rand(count, 2, 2, generator=random).sort(1).values
    return corners.reshape(count, 4)


def class_by_class(boxes, scores, least, most):
    """Bottom-up attention's rule, word for word: every class over all boxes."""
    best = torch.zeros(len(boxes))
    for kind in range(scores.shape[1]):
        kept = nms(boxes, scores[:, kind], 0.3)
        best[kept] = torch.maximum(best[kept], scores[kept, kind])
    wanted = int((best >= 0.2).sum().clamp(least, most))
    return best.sort(descending=True, stable=True).indices[:wanted], best


@pytest.mark.parametrize(
    ("count", "kinds", "least", "most"),
    [(60, 5, 10, 10), (40, 30, 2, 36), (200, 12, 36, 36), (20, 3, 1, 100)],
)
@pytest.mark.parametrize("sharpness", [0.5, 3.0])
def test_the_selection_equals_the_published_rule(count, kinds, least, most, sharpness):
    random = torch.Generator().manual_seed(count * kinds)
    for _ in range(5):
        boxes = random_boxes(count, random)
        scores = (sharpness * torch.randn(count, kinds + 1, generator=random)).softmax(1)[:, 1:]
        kept, certainty = select(boxes, scores, least, most)
        expected, best = class_by_class(boxes, scores, min(least, count), min(most, count))
        assert len(kept) == len(expected)
        torch.testing.assert_close(certainty, best[expected], rtol=0, atol=0)
        positive = best[expected] > 0  # boxes with nothing left are in no order
        assert kept[positive].tolist() == expected[positive].tolist()
        assert len(set(kept.tolist())) == len(kept)


def test_a_box_keeps_what_other_classes_leave_it():
    boxes = torch.tensor([[0, 0, 1, 1], [0, 0, 1, 0.9], [0.0, 0, 0.1, 0.1]])
    scores = torch.tensor([[0.9, 0.05], [0.6, 0.3], [0.1, 0.1]])
    kept, certainty = select(boxes, scores, 1, 3)  # the second loses its 0.6 to the first
    assert kept.tolist() == [0, 1]
    torch.testing.assert_close(certainty, torch.tensor([0.9, 0.3]))
    assert select(boxes, scores, 3, 3)[0].tolist() == [0, 1, 2]
    assert select(boxes, scores, 1, 1)[0].tolist() == [0]


def test_boxes_that_lose_everywhere_fill_up_what_is_wanted():
    boxes = torch.tensor([[0.0, 0, 1, 1]] * 4)
    kept, certainty = select(boxes, torch.tensor([[0.1], [0.8], [0.3], [0.2]]), 3, 3)
    assert kept[0] == 1
    assert len(set(kept.tolist())) == 3
    torch.testing.assert_close(certainty, torch.tensor([0.8, 0.0, 0.0]))


def test_windows_lie_in_the_picture_and_leave_nothing_out():
    found = windows()
    assert found.min() >= 0
    assert found.max() <= 1
    assert len(found.unique(dim=0)) == len(found)
    random = np.random.default_rng(0)
    side = random.uniform(0.2, 0.6, (500, 2))
    corner = random.random((500, 2)) * (1 - side)
    things = torch.from_numpy(np.concatenate([corner, corner + side], 1)).float()
    assert (box_iou(things, found).max(1).values > 0.5).float().mean() > 0.95
    assert windows((1.0,), (1.0,)).tolist() == [[0, 0, 1, 1]]


def test_each_true_box_is_looked_for_among_the_kept_ones():
    truth = torch.tensor([[0, 0, 0.5, 0.5], [0.5, 0.5, 1, 1]])
    kept = torch.tensor([[0.6, 0.6, 0.7, 0.7], [0, 0, 0.5, 0.45]])
    assert recall(kept, truth).tolist() == [1, -1]
    assert recall(kept[:0], truth).tolist() == [-1, -1]


def test_pooling_by_one_product_is_roi_align():
    boxes = windows((0.3, 0.8), (0.5, 1.0))
    pooling = WindowPooling(boxes, cells=2)
    maps = [torch.randn(3, 5, 12, 9), torch.randn(3, 4, 4, 4)]
    found = pooling(maps)
    parts = []
    for feature_map in maps:
        scale = torch.tensor([feature_map.shape[3], feature_map.shape[2]] * 2)
        pooled = roi_align(feature_map, [boxes * scale] * 3, 2, sampling_ratio=2, aligned=True)
        parts.append(pooled.flatten(2).transpose(1, 2).reshape(3, len(boxes), -1))
    torch.testing.assert_close(found, torch.cat(parts, 2), atol=1e-5, rtol=0)
