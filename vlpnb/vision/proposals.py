"""Where things may be in a picture, and which of many guesses to keep.

Windows of several sizes and shapes take the place of a region proposal network: a classifier looks into each. The
selection is that of bottom-up attention (Anderson et al., CVPR 2018; LXMERT, section 2.1): for every class, boxes that
overlap a more certain one are out of the running; the certainty of a box is the best that is left to it.

Differs from the original: not one class after the other over all boxes. Guesses are taken in order of certainty, as
many as it takes to find the wanted number of boxes, which gives the same boxes.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torchvision.ops import batched_nms, box_iou

OVERLAP = 0.3  # of two boxes of one class that may stay, both
CERTAIN = 0.2  # what a box needs, if there are enough of them


def windows(
    scales: Sequence[float] = (0.2, 0.3, 0.45, 0.65),
    ratios: Sequence[float] = (0.5, 1.0, 2.0),
    step: float = 0.5,
) -> Float[Tensor, "W 4"]:
    """Windows over a whole picture, relative to it, evenly spread, largest strides `step` of their own sides.

    Args:
        scales: the square root of a window's area, as a share of the picture's side.
        ratios: width / height; a window that is wider or higher than the picture is cut to it.
    """
    found: list[Tensor] = []
    for scale in scales:
        for ratio in ratios:
            width, height = min(1.0, scale * ratio**0.5), min(1.0, scale / ratio**0.5)
            left, top = (_starts(side, step) for side in (width, height))
            grid = torch.cartesian_prod(top, left)  # rows of windows, as one reads
            found.append(torch.stack([grid[:, 1], grid[:, 0], grid[:, 1] + width, grid[:, 0] + height], 1))
    return torch.cat(found).clamp(0, 1).unique_consecutive(dim=0)


def _starts(side: float, step: float) -> Float[Tensor, " n"]:
    room = 1 - side
    count = int(-(-room // (side * step))) + 1 if room > 1e-6 else 1
    return torch.linspace(0, max(room, 0.0), count)


def select(
    boxes: Float[Tensor, "N 4"],
    scores: Float[Tensor, "N C"],
    least: int,
    most: int,
    overlap: float = OVERLAP,
    certain: float = CERTAIN,
) -> tuple[Int[Tensor, " R"], Float[Tensor, " R"]]:
    """Which boxes to keep, most certain first, and their certainty.

    The certainty of a box is the highest score of a class in which no kept box with a higher score of that class
    overlaps it by more than `overlap` (intersection over union); 0 where there is none. All boxes with at least
    `certain` are kept; the best `least` or `most` where those are fewer or more.

    Args:
        scores: probabilities of the classes, that of the background left out.
    """
    least, most = min(least, len(boxes)), min(most, len(boxes))
    flat = scores.flatten()
    taken = min(len(flat), 8 * most)
    while True:
        order = _highest(flat, taken)
        which, kind = order // scores.shape[1], order % scores.shape[1]
        # In double precision, because each class is moved to a place of its own.
        kept = batched_nms(boxes[which].double(), flat[order].double(), kind, overlap)
        kept_boxes, confidence = which[kept], flat[order[kept]]
        first = _first_of_each(kept_boxes)
        kept_boxes, confidence = kept_boxes[first], confidence[first]
        complete = taken == len(flat) or len(kept_boxes) >= most or flat[order[-1]] < certain
        if complete and (len(kept_boxes) >= least or taken == len(flat)):
            break
        taken = min(len(flat), 4 * taken)
    wanted = int((confidence >= certain).sum().clamp(least, most))
    if len(kept_boxes) < wanted:  # those that overlap better ones in every class
        others = torch.ones(len(boxes), dtype=torch.bool, device=boxes.device)
        others[kept_boxes] = False
        kept_boxes = torch.cat([kept_boxes, others.nonzero()[:, 0]])
        confidence = torch.cat([confidence, confidence.new_zeros(len(kept_boxes) - len(confidence))])
    return kept_boxes[:wanted], confidence[:wanted]


def _highest(values: Float[Tensor, " n"], count: int) -> Int[Tensor, " m"]:
    """Places of the highest values in descending order, equal ones in order of their places; at least `count`."""
    if count < len(values):
        places = (values >= values.topk(count).values[-1]).nonzero()[:, 0]
    else:
        places = torch.arange(len(values), device=values.device)
    return places[values[places].sort(descending=True, stable=True).indices]


def _first_of_each(values: Int[Tensor, " n"]) -> Int[Tensor, " m"]:
    """Where each value is for the first time, in order."""
    _, inverse = values.unique(return_inverse=True)
    places = torch.arange(len(values), device=values.device)
    first = places.new_full((int(inverse.max()) + 1 if len(values) else 0,), len(values))
    return first.scatter_reduce(0, inverse, places, "amin").sort().values


def recall(
    boxes: Float[Tensor, "R 4"], truth: Float[Tensor, "K 4"], overlap: float = 0.5
) -> Int[Tensor, " K"]:
    """For each true box the kept one that overlaps it most, −1 where none overlaps by at least `overlap`."""
    if not len(boxes):
        return torch.full((len(truth),), -1)
    best, which = box_iou(truth, boxes).max(1)
    return torch.where(best >= overlap, which, -1)
