"""Region features: what a backbone's feature map shows inside given boxes (RoIAlign, He et al., ICCV 2017).

Region models such as LXMERT read one vector per box. Here the boxes are given (of a detector, of
annotations, or a grid) and the vector is the mean of the map inside the box, sampled bilinearly, so that
boxes need not fit the map's cells.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torchvision.ops import roi_align

from vlpnb.vision.backbones import Backbone


def pool_regions(
    feature_map: Float[Tensor, "B C h w"], boxes: list[Float[Tensor, "_ 4"]], cells: int = 2
) -> list[Float[Tensor, "_ C"]]:
    """One vector per box: RoIAlign to `cells × cells` samples, then their mean.

    Args:
        feature_map: one map per picture, covering the whole picture.
        boxes: per picture `(left, top, right, bottom)` relative to the picture, in [0, 1]; some or none.

    Raises:
        ValueError: as many lists of boxes as maps are needed.
    """
    if len(boxes) != len(feature_map):
        raise ValueError(f"{len(feature_map)} feature maps but boxes of {len(boxes)} pictures")
    height, width = feature_map.shape[2:]
    scale = torch.tensor([width, height, width, height], dtype=feature_map.dtype, device=feature_map.device)
    pixel_boxes = [picture.to(scale) * scale for picture in boxes]
    # (ΣR, C, 2, 2)
    pooled = roi_align(feature_map, pixel_boxes, output_size=cells, sampling_ratio=2, aligned=True)
    return list(pooled.mean((2, 3)).split([len(picture) for picture in boxes]))


def region_features(
    backbone: Backbone, pixels: Float[Tensor, "B 3 S S2"], boxes: list[Float[Tensor, "_ 4"]]
) -> list[Float[Tensor, "_ C"]]:
    """`pool_regions` over the backbone's last feature map; no gradient when it is frozen.

    The pixels must show the whole picture (evaluation view "whole"), because boxes are relative to it.
    """
    with torch.set_grad_enabled(torch.is_grad_enabled() and not backbone.frozen):
        return pool_regions(backbone.feature_map(pixels), boxes)
