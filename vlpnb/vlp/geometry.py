"""What VLP is told of a region beside its appearance: place, score and class probabilities.

    g = LayerNorm(left, top, right, bottom, area, score);   c = LayerNorm(class probabilities);   [g, c]

Coordinates and area are shares of the picture's. Neither norm has weights.

Differs from the paper: the score is a sixth number (VLP-15). Differs from the original where sizes are given: it does
not know the picture's size and takes the farthest edge of any box for it (VLP-04).
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

PLACE = 6  # left, top, right, bottom, area, score
EPSILON = 1e-5


def region_geometry(
    boxes: Float[Tensor, "B R 4"],
    scores: Float[Tensor, "B R"],
    probabilities: Float[Tensor, "B R C"],
    sizes: Float[Tensor, "B 2"] | None = None,
) -> Float[Tensor, "B R 6+C"]:
    """Place and classes of each region, each normalised, side by side; float32.

    Args:
        boxes: left, top, right, bottom, in any unit.
        scores: of each box's best class.
        probabilities: of all classes, the background first.
        sizes: width and height of each picture in the unit of the boxes (ones for relative boxes); None estimates them
            from the boxes, which published weights expect (VLP-04).
    """
    boxes, scores, probabilities = boxes.float(), scores.float(), probabilities.float()
    if not boxes.shape[1]:
        return torch.cat([boxes.new_zeros(len(boxes), 0, PLACE), probabilities], dim=-1)
    if sizes is None:
        sizes = boxes.unflatten(-1, (2, 2)).amax(dim=(1, 2)) + 1e-5  # (B, 2): the farthest x and y
    left, top, right, bottom = (boxes / sizes.float().repeat(1, 2)[:, None]).unbind(-1)
    area = ((bottom - top) * (right - left)).clamp(min=0)
    place = torch.stack([left, top, right, bottom, area, scores], dim=-1)  # (B, R, 6)
    parts = [F.layer_norm(part, part.shape[-1:], eps=EPSILON) for part in (place, probabilities)]
    return torch.cat(parts, dim=-1)
