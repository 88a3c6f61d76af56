"""Views of pictures: repeatable, in bounds, of the right size."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import CenterCrop, Compose, Resize

from vlpnb.vision import transforms


def picture(width: int = 40, height: int = 30) -> Image.Image:
    values = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


@pytest.mark.parametrize(("width", "height"), [(40, 30), (30, 40), (500, 20), (1, 1)])
def test_random_crop_boxes_lie_inside_and_vary(width, height):
    generator = torch.Generator().manual_seed(1)
    boxes = {transforms.random_crop_box(width, height, generator) for _ in range(200)}
    assert all(0 <= a < c <= width and 0 <= b < d <= height for a, b, c, d in boxes)
    if width == 40:
        assert len(boxes) > 100
        areas = [(c - a) * (d - b) / (width * height) for a, b, c, d in boxes]
        assert min(areas) < 0.15
        assert max(areas) > 0.8


def test_a_training_view_is_a_function_of_the_generator():
    views = [
        np.asarray(transforms.train_view(picture(), 16, torch.Generator().manual_seed(seed)))
        for seed in (3, 3, 4)
    ]
    assert views[0].shape == (16, 16, 3)
    assert (views[0] == views[1]).all()
    assert (views[0] != views[2]).any()


def test_evaluation_views():
    for name, (_, flip) in transforms.EVAL_VIEWS.items():
        view = np.asarray(transforms.eval_view(picture(), 16, name))
        assert view.shape == (16, 16, 3)
        if flip:
            plain = np.asarray(transforms.eval_view(picture(), 16, name.removesuffix("_flip")))
            assert (view == plain[:, ::-1]).all()
    centre = transforms.eval_view(Image.new("RGB", (256, 256)), 224)
    assert centre.size == (224, 224)


@pytest.mark.parametrize(
    ("width", "height"), [(640, 480), (427, 640), (256, 150), (500, 333), (224, 900), (256, 256)]
)
def test_the_published_view_is_torchvisions(width, height):
    """As published: Resize(256) of the short side, CenterCrop(224), byte for byte; "centre" is near it."""
    theirs = Compose([Resize(256), CenterCrop(224)])(picture(width, height))
    ours, near = (transforms.eval_view(picture(width, height), 224, name) for name in ("published", "centre"))
    assert (np.asarray(ours) == np.asarray(theirs)).all()
    assert near.size == ours.size


def test_pixels_are_normalised():
    white = transforms.to_pixels(Image.new("RGB", (2, 2), "white"))
    expected = (1 - torch.tensor(transforms.IMAGENET_MEAN)) / torch.tensor(transforms.IMAGENET_STD)
    torch.testing.assert_close(white[:, 0, 0], expected)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((800, 600), (533, 400)),
        ((600, 800), (400, 533)),
        ((1200, 600), (600, 300)),
        ((400, 600), (400, 600)),
        ((64, 48), (64, 48)),
        ((3, 30_000), (1, 600)),
    ],
)
def test_bounded_views_keep_their_shape(size, expected):
    """The whole picture: short side at most 400, long side at most 600."""
    assert transforms.bounded_view(Image.new("RGB", size)).size == expected
