"""A picture as a sequence: one vector per patch, row by row, with their mean before them.

CCLM (Zeng et al., ACL 2023, section 3.1) reads the last map of its picture tower this way, so that a picture and a
sentence are the same kind of thing to the layers that look at them. Any backbone with a map of features serves: a
Swin, a network of torchvision, EfficientNet-Lite0 (7 × 7 patches at 224 pixels) or the world's small one (4 × 4 at 64).
"""

import re
from pathlib import Path

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d
from torchvision.models import list_models

from vlpnb.errors import UserError
from vlpnb.vision.backbones import DESCRIPTION, Backbone, load_backbone
from vlpnb.vision.swin import Swin, is_swin, load_swin
from vlpnb.vision.transforms import to_pixels

Tower = Backbone | Swin

# name of a set view → (share of each side that is kept, around the middle; mirrored?)
SET_VIEWS: dict[str, tuple[float, bool]] = {
    "whole": (1.0, False),
    "whole_flip": (1.0, True),
    "inner": (0.8, False),
    "inner_flip": (0.8, True),
}


def patches(
    backbone: Tower, pixels: Float[Tensor, "B 3 S S2"], cells: int | None = None
) -> Float[Tensor, "B P1 F"]:
    """The patches of some pictures after their mean; with `cells`, the map averaged into so many a side.

    Raises:
        UserError: a backbone without a map of features (a plain vision transformer).
    """
    if isinstance(backbone, Swin):
        found = backbone(pixels)[:, 1:]
        side = backbone.grid
        features = found.mT.unflatten(2, (side, side)) if cells else None
    else:
        features = backbone.feature_map(pixels)  # (B, F, h, w)
    if features is not None:
        features = adaptive_avg_pool2d(features, cells) if cells else features
        found = features.flatten(2).mT  # (B, P, F)
    return torch.cat([found.mean(1, keepdim=True), found], 1)


def open_tower(
    name: str | Path, weights: str | Path | None = "DEFAULT", image_size: int | None = None, seed: int = 0
) -> Tower:
    """A frozen backbone for `patches`, in eval mode.

    Args:
        name: what `load_backbone` opens, or `load_swin`: a file of a Swin's weights, a HuggingFace folder or hub name.
        weights: of a torchvision model; None: random ones, a function of `seed`.
        image_size: of a Swin from a file or folder; the window follows it.

    Raises:
        UserError: an unknown name, weights that do not fit, or `image_size` for a network that has its own.
    """
    known = (Path(name) / DESCRIPTION).is_file() or str(name) in ("efficientnet_lite0", *list_models())
    if not known and (is_swin(name) or re.fullmatch(r"[\w.-]+/[\w.-]+", str(name))):
        return load_swin(name, image_size).requires_grad_(False)
    if image_size is not None:
        raise UserError(
            f"image_size: {name} reads pictures of its own size; expected none, or a Swin's file or folder"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return load_backbone(name, weights).fuse()


def whole_pixels(backbone: Tower, picture: Image.Image, view: str = "whole") -> Float[Tensor, "3 S S"]:
    """The whole picture, or another of `SET_VIEWS`, squeezed to a square, as a network takes it; in any thread."""
    share, mirrored = SET_VIEWS[view]
    if share < 1:
        left, top = (round(side * (1 - share) / 2) for side in picture.size)
        picture = picture.crop((left, top, picture.width - left, picture.height - top))
    if mirrored:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return backbone.pixels(picture) if isinstance(backbone, Swin) else backbone.eval_pixels(picture, "whole")


def view_pixels(backbone: Tower, view: Image.Image) -> Float[Tensor, "3 S S"]:
    """A view of a network's own size as its input."""
    return to_pixels(view, backbone.mean, backbone.std)
