"""Losses of boxes: generalised intersection over union, and what counts."""

import torch

from vlpnb.nn.boxes import box_losses, giou


def test_giou_is_1_for_equal_boxes_and_below_0_for_disjoint_ones():
    a = torch.tensor([[0.5, 0.5, 0.4, 0.4], [0.3, 0.3, 0.2, 0.2], [0.5, 0.5, 1.0, 1.0]])
    b = torch.tensor([[0.5, 0.5, 0.4, 0.4], [0.7, 0.7, 0.2, 0.2], [0.5, 0.5, 0.5, 0.5]])
    found = giou(a, b)
    torch.testing.assert_close(found, torch.tensor([1.0, 0.08 / 0.36 - 1, 0.25]))
    torch.testing.assert_close(giou(b, a), found)


def test_losses_of_boxes_leave_whole_pictures_out():
    predicted = torch.tensor([[0.5, 0.5, 0.5, 0.5], [0.4, 0.5, 0.2, 0.2]])
    boxes = torch.tensor([[0.5, 0.5, 1.0, 1.0], [0.5, 0.5, 0.2, 0.2]])
    whole = torch.tensor([True, False])
    distance, overlap, count = box_losses(predicted, boxes, whole)
    torch.testing.assert_close(distance, torch.tensor(0.1))
    torch.testing.assert_close(overlap, 1 - giou(predicted[1:], boxes[1:])[0])
    assert count == 1
    every = box_losses(predicted, boxes, whole, count_whole=True)
    torch.testing.assert_close(every[0], torch.tensor(1.1))
    assert every[2] == 2


def test_no_region_counts_nothing_and_is_no_nan():
    predicted = torch.full((2, 4), 0.5, requires_grad=True)
    distance, overlap, count = box_losses(predicted, torch.ones(2, 4), torch.ones(2, dtype=torch.bool))
    assert (distance.item(), overlap.item(), count.item()) == (0, 0, 0)
    (distance + overlap).backward()
    assert (predicted.grad == 0).all()


def test_a_box_without_an_area_loses_its_own_giou_alone():
    predicted = torch.tensor([[0.5, 0.5, 0.4, 0.4], [0.4, 0.5, 0.2, 0.2]], requires_grad=True)
    boxes = torch.tensor([[0.5, 0.5, 0.0, 0.0], [0.5, 0.5, 0.2, 0.2]])
    whole = torch.zeros(2, dtype=torch.bool)
    distance, overlap, count = box_losses(predicted, boxes, whole)
    torch.testing.assert_close(overlap, 1 - giou(predicted[1:], boxes[1:])[0])
    assert count == 2
    (distance + overlap).backward()
    assert torch.isfinite(predicted.grad).all()
    assert box_losses(predicted, boxes, whole, faithful=True)[1] == 0  # of the whole batch (CCL-14)
