"""Picture → pixels: the training crops and the evaluation views of an image backbone.

The published views of Vokenization's matcher (random resized crop + flip for training; short
side to 256, centre crop 224 for evaluation), with two differences. Randomness comes from an explicit
generator, so a view is a function of (seed, picture, view number) and a cache of views can be rebuilt or
resumed bit for bit; torchvision's `RandomResizedCrop` draws from the global generator. And evaluation knows
more views than the centre crop, because an average over a few fixed views is a better picture vector at no
training cost (`EVAL_VIEWS`). `bounded_view` is the whole picture: uncut, of its own shape.
"""

import math

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

# name → (whole picture squeezed to a square instead of a centre crop?, mirrored?)
EVAL_VIEWS: dict[str, tuple[bool, bool]] = {
    "centre": (False, False),
    "centre_flip": (False, True),
    "whole": (True, False),
    "whole_flip": (True, True),
    "published": (False, False),  # "centre" in torchvision's two steps, each in whole pixels
}


def to_pixels(
    image: Image.Image,
    mean: tuple[float, ...] = IMAGENET_MEAN,
    std: tuple[float, ...] = IMAGENET_STD,
) -> Float[Tensor, "3 S S2"]:
    """RGB picture → float32 pixels `(value / 255 − mean) / std`, channels first."""
    values = torch.from_numpy(np.asarray(image, dtype=np.float32).transpose(2, 0, 1).copy())  # (3, S, S)
    return (values / 255 - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]


def random_crop_box(
    width: int,
    height: int,
    generator: torch.Generator,
    scale: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> tuple[int, int, int, int]:
    """Draw the box of a random resized crop: `(left, top, right, bottom)` in whole pixels.

    Area uniform in `scale` (share of the picture), aspect log-uniform in `ratio`; after ten boxes that do
    not fit, the largest central box whose aspect is within `ratio` (the rule of Inception training and of
    torchvision).
    """
    for _ in range(10):
        area_draw, aspect_draw, x_draw, y_draw = torch.rand(4, generator=generator).tolist()
        area = width * height * (scale[0] + (scale[1] - scale[0]) * area_draw)
        log_low, log_high = math.log(ratio[0]), math.log(ratio[1])
        aspect = math.exp(log_low + (log_high - log_low) * aspect_draw)
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            left, top = int(x_draw * (width - w + 1)), int(y_draw * (height - h + 1))
            return left, top, left + w, top + h
    aspect = min(max(width / height, ratio[0]), ratio[1])
    w, h = min(width, round(height * aspect)), min(height, round(width / aspect))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def train_view(
    image: Image.Image,
    size: int,
    generator: torch.Generator,
    scale: tuple[float, float] = (0.08, 1.0),
) -> Image.Image:
    """One training view: random resized crop to `size × size`, mirrored with probability ½."""
    box = random_crop_box(image.width, image.height, generator, scale)
    view = image.resize((size, size), Image.Resampling.BILINEAR, box=box)
    flip = bool(torch.rand((), generator=generator) < 0.5)
    return view.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flip else view


def published_view(image: Image.Image, size: int) -> Image.Image:
    """`Resize(size · 256/224)` of the short side, then `CenterCrop(size)`, to the byte as torchvision does it.

    "centre" does both in one step, without rounding in between: it may lie half a pixel beside this one.
    """
    short = round(size * 256 / 224)
    sides = (int(short * side / min(image.size)) for side in image.size)
    resized = image.resize(tuple(sides), Image.Resampling.BILINEAR)
    left, top = (round((side - size) / 2) for side in resized.size)
    return resized.crop((left, top, left + size, top + size))


def eval_view(image: Image.Image, size: int, view: str = "centre") -> Image.Image:
    """One evaluation view of `EVAL_VIEWS`, `size × size`.

    `centre`: the short side is scaled to `size · 256/224`, then the central square is cut; `whole`: the whole
    picture, squeezed to a square; `published`: see `published_view`. Raises KeyError for an unknown name.
    """
    if view == "published":
        return published_view(image, size)
    squeeze, flip = EVAL_VIEWS[view]
    if squeeze:
        result = image.resize((size, size), Image.Resampling.BILINEAR)
    else:
        side = min(image.width, image.height) * 224 / 256  # of the central square, in source pixels
        left, top = (image.width - side) / 2, (image.height - side) / 2
        box = (left, top, left + side, top + side)
        result = image.resize((size, size), Image.Resampling.BILINEAR, box=box)
    return result.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flip else result


def clip_view(image: Image.Image, size: int) -> Image.Image:
    """CLIP's view: the short side scaled to `size` by cubic interpolation, then the central square."""
    short = min(image.size)
    sides = (int(size * side / short) for side in image.size)
    resized = image.resize(tuple(sides), Image.Resampling.BICUBIC)
    left, top = (round((side - size) / 2) for side in resized.size)
    return resized.crop((left, top, left + size, top + size))


def squeezed_view(image: Image.Image, size: int) -> Image.Image:
    """CCLM's view for evaluation: the whole picture by cubic interpolation, whatever its shape."""
    return image.resize((size, size), Image.Resampling.BICUBIC)


def bounded_view(image: Image.Image, short: int = 400, long: int = 600, enlarge: bool = False) -> Image.Image:
    """The whole picture with its aspect ratio, scaled down until its short side has at most `short` pixels and its
    long side at most `long`. A picture within both bounds stays as it is, unless `enlarge` asks for one of them.
    """
    scale = min(short / min(image.size), long / max(image.size))
    if scale == 1 or (scale > 1 and not enlarge):
        return image
    width, height = (max(1, round(side * scale)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BILINEAR)
