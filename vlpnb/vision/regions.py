"""Region features: what a backbone's feature map shows inside given boxes (RoIAlign, He et al., ICCV 2017).

Region models such as LXMERT read one vector per box. Here the boxes are given (of a detector, of
annotations, or a grid) and the vector is the mean of the map inside the box, sampled bilinearly, so that
boxes need not fit the map's cells.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.ops import roi_align

from vlpnb.errors import UserError
from vlpnb.vision.backbones import Backbone

SAMPLES = 2  # per cell and direction


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
    pooled = roi_align(feature_map, pixel_boxes, output_size=cells, sampling_ratio=SAMPLES, aligned=True)
    return list(pooled.mean((2, 3)).split([len(picture) for picture in boxes]))


def region_features(
    backbone: Backbone, pixels: Float[Tensor, "B 3 S S2"], boxes: list[Float[Tensor, "_ 4"]]
) -> list[Float[Tensor, "_ C"]]:
    """`pool_regions` over the backbone's last feature map; no gradient when it is frozen.

    The pixels must show the whole picture (evaluation view "whole"), because boxes are relative to it.
    """
    with torch.set_grad_enabled(torch.is_grad_enabled() and not backbone.frozen):
        return pool_regions(backbone.feature_map(pixels), boxes)


def feature_maps(
    backbone: Backbone, pixels: Float[Tensor, "B 3 S S2"], levels: int
) -> list[Float[Tensor, "B _ _ _"]]:
    """The last maps of a backbone at its last `levels` resolutions, fine to coarse; no gradient when it is frozen.

    Raises:
        UserError: the backbone has fewer resolutions.
    """
    found: dict[
        int, Tensor
    ] = {}  # by height: hooks fire inside out, so the outermost of the last maps remains

    def keep(module: nn.Module, inputs: object, output: object) -> None:
        if isinstance(output, Tensor) and output.ndim == 4 and min(output.shape[2:]) > 1:
            found.pop(output.shape[2], None)
            found[output.shape[2]] = output

    handles = [m.register_forward_hook(keep) for m in backbone.net.modules() if m is not backbone.net]
    try:
        backbone(pixels)
    finally:
        for handle in handles:
            handle.remove()
    if len(found) < levels:
        raise UserError(
            f"the vision backbone has maps of {len(found)} resolutions for {pixels.shape[3]} × {pixels.shape[2]} "
            f"pixels; expected {levels}: choose a convolutional network or fewer levels"
        )
    return list(found.values())[-levels:]


class WindowPooling:
    """`pool_regions` with the same boxes for every picture of one size: one sparse product a map.

    RoIAlign is linear in the map, so its weights are found once, by pooling maps that are 1 in one cell. The cells of a
    box are kept apart, not averaged.
    """

    def __init__(self, boxes: Float[Tensor, "W 4"], cells: int):
        self.boxes, self.cells = boxes, cells
        self._weights: dict[tuple[int, int, torch.device], Tensor] = {}

    def __call__(self, maps: list[Float[Tensor, "B _ _ _"]]) -> Float[Tensor, "B W D"]:
        """D = cells² · ΣC over the maps."""
        parts = []
        for feature_map in maps:
            batch, channels, height, width = feature_map.shape
            weights = self._of(height, width, feature_map.device)
            flat = feature_map.permute(2, 3, 0, 1).reshape(height * width, batch * channels)
            pooled = torch.sparse.mm(weights, flat)  # (W cells², B C)
            pooled = pooled.reshape(len(self.boxes), self.cells**2, batch, channels)
            parts.append(pooled.permute(2, 0, 1, 3).reshape(batch, len(self.boxes), -1))
        return torch.cat(parts, 2)

    def _of(self, height: int, width: int, device: torch.device) -> Float[Tensor, "N M"]:
        key = (height, width, device)
        if key not in self._weights:
            one = torch.eye(height * width).reshape(1, height * width, height, width)
            boxes = self.boxes * torch.tensor([width, height] * 2)
            pooled = roi_align(
                one, [boxes], self.cells, sampling_ratio=SAMPLES, aligned=True
            )  # (W, hw, c, c)
            dense = pooled.flatten(2).transpose(1, 2).reshape(-1, height * width)
            self._weights[key] = dense.to_sparse_coo().coalesce().to(device)
        return self._weights[key]
