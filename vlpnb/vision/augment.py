"""The training view of a vision-language model: random crop, mirror, and two random changes of the picture.

Random changes after RandAugment (Cubuk et al., 2020) with the operations and the strength of CCLM's pre-training (Zeng
et al., ACL 2023, and X-VLM before it): two draws with replacement, each carried out half of the time. Where boxes have
to stay where they are, the geometric ones are left out. The original worked in OpenCV; these are Pillow's, and every
view is a function of a generator.
"""

from collections.abc import Callable

import torch
from PIL import Image, ImageEnhance, ImageOps

from vlpnb.vision.transforms import random_crop_box

STRENGTH = 0.7  # magnitude 7 of 10
FACTOR = 0.1 + 1.8 * STRENGTH  # of brightness and sharpness; 1 changes nothing
SHEAR, SHIFT, TURN = 0.3 * STRENGTH, 10 * STRENGTH, 30 * STRENGTH  # slope, pixels, degrees: to either side
FILL = (128, 128, 128)  # where a geometric change leaves nothing
DRAWS, LIKELY = 2, 0.5

Change = Callable[[Image.Image, float], Image.Image]  # the second: −1 or 1


def _affine(image: Image.Image, matrix: tuple[float, ...]) -> Image.Image:
    return image.transform(
        image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR, fillcolor=FILL
    )


def _turn(image: Image.Image, side: float) -> Image.Image:
    return image.rotate(side * TURN, Image.Resampling.BILINEAR, fillcolor=FILL)


PHOTOMETRIC: dict[str, Change] = {
    "identity": lambda image, side: image,
    "auto_contrast": lambda image, side: ImageOps.autocontrast(image),
    "equalise": lambda image, side: ImageOps.equalize(image),
    "brightness": lambda image, side: ImageEnhance.Brightness(image).enhance(FACTOR),
    "sharpness": lambda image, side: ImageEnhance.Sharpness(image).enhance(FACTOR),
}
GEOMETRIC: dict[str, Change] = {
    "shear_x": lambda image, side: _affine(image, (1, side * SHEAR, 0, 0, 1, 0)),
    "shear_y": lambda image, side: _affine(image, (1, 0, 0, side * SHEAR, 1, 0)),
    "shift_x": lambda image, side: _affine(image, (1, 0, side * SHIFT, 0, 1, 0)),
    "shift_y": lambda image, side: _affine(image, (1, 0, 0, 0, 1, side * SHIFT)),
    "turn": _turn,
}


def rand_augment(image: Image.Image, generator: torch.Generator, geometric: bool = True) -> Image.Image:
    """Two changes of equal chance, with replacement, each carried out with probability ½; `geometric` ones too."""
    changes = [*PHOTOMETRIC.values(), *(GEOMETRIC.values() if geometric else ())]
    for _ in range(DRAWS):
        which, likely, side = torch.rand(3, generator=generator).tolist()
        if likely < LIKELY:
            image = changes[int(which * len(changes))](image, 1.0 if side < 0.5 else -1.0)
    return image


def augmented_view(
    image: Image.Image,
    size: int,
    generator: torch.Generator,
    scale: tuple[float, float] = (0.2, 1.0),
    flip: bool = True,
    augment: bool = True,
) -> Image.Image:
    """One training view, `size` × `size`: random resized crop (cubic), mirrored half of the time, RandAugment.

    Args:
        scale: share of the picture's area that the crop keeps; 0.5 to 1 in fine-tuning.
        flip: False where a text may say left or right.
        augment: False leaves RandAugment out.
    """
    box = random_crop_box(image.width, image.height, generator, scale)
    view = image.resize((size, size), Image.Resampling.BICUBIC, box=box)
    if flip and bool(torch.rand((), generator=generator) < 0.5):
        view = view.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return rand_augment(view, generator) if augment else view
