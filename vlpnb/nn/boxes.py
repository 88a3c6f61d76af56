"""Losses of predicted boxes: the distance of four numbers, and generalised intersection over union.

Paper: X-VLM (Zeng et al., ICML 2022), section 3.2, which CCLM's 4M variant takes over. Differs from the original: a
degenerate box loses its own GIoU, not that of the whole batch, and a batch without boxes counts nothing (CCL-14,
`box_losses(faithful=True)`).
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def corners(boxes: Float[Tensor, "N 4"]) -> Float[Tensor, "N 4"]:
    """(cx, cy, w, h) → (left, top, right, bottom)."""
    middle, half = boxes[:, :2], boxes[:, 2:] / 2
    return torch.cat([middle - half, middle + half], 1)


def giou(a: Float[Tensor, "N 4"], b: Float[Tensor, "N 4"]) -> Float[Tensor, " N"]:
    """Generalised intersection over union, pair by pair, of boxes (cx, cy, w, h): in (−1, 1], 1 for equal ones.

    Rezatofighi et al., CVPR 2019: IoU − (hull − union) / hull. NaN for two boxes without an area.
    """
    one, other = corners(a), corners(b)
    inner = (torch.minimum(one[:, 2:], other[:, 2:]) - torch.maximum(one[:, :2], other[:, :2])).clamp_min(0)
    outer = torch.maximum(one[:, 2:], other[:, 2:]) - torch.minimum(one[:, :2], other[:, :2])
    areas = (box[:, 2:] - box[:, :2] for box in (one, other))
    intersection, hull = inner.prod(1), outer.prod(1)
    union = sum(area.prod(1) for area in areas) - intersection
    return intersection / union - (hull - union) / hull


def box_losses(
    predicted: Float[Tensor, "B 4"],
    boxes: Float[Tensor, "B 4"],
    whole: Bool[Tensor, " B"],
    count_whole: bool = False,
    faithful: bool = False,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""], Int[Tensor, ""]]:
    """Sums over the boxes of |difference| (four numbers each) and of 1 − GIoU, and how many boxes count.

    Args:
        whole: texts about the whole picture, whose box says nothing; counted only with `count_whole`.
        faithful: one box without an area takes the GIoU of all away (CCL-14), instead of its own.
    """
    counted = torch.ones_like(whole) if count_whole else ~whole
    distance = ((predicted - boxes).abs().sum(1) * counted).sum()
    proper = (predicted[:, 2:] > 0).all(1) & (boxes[:, 2:] > 0).all(1)
    if faithful:
        proper = proper.all().expand_as(proper)
    # Where a box has no area the division must not happen: a NaN times zero is a NaN, in the gradient too.
    safe = torch.where(proper[:, None], predicted, torch.full_like(predicted, 0.5))
    target = torch.where(proper[:, None], boxes, torch.full_like(boxes, 0.5))
    overlap = ((1 - giou(safe, target)) * (counted & proper)).sum()
    return distance, overlap, counted.sum()
