"""Pictures as sequences of patches, whatever the backbone; the training view."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models.swin_transformer import SwinTransformer

from vlpnb.errors import UserError
from vlpnb.vision import augment
from vlpnb.vision.backbones import Backbone, load_backbone, save_backbone
from vlpnb.vision.patches import open_tower, patches, whole_pixels
from vlpnb.vision.small import SmallResNet
from vlpnb.vision.swin import Swin, SwinConfig
from vlpnb.vision.transforms import CLIP_MEAN, CLIP_STD, squeezed_view, to_pixels


def picture(width: int = 40, height: int = 30) -> Image.Image:
    values = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def small() -> Backbone:
    torch.manual_seed(0)
    return Backbone(SmallResNet((4, 8, 12), 3), 24, 64).eval()


def test_patches_of_a_small_backbone_are_its_map_row_by_row_after_the_mean():
    backbone, pixels = small(), torch.randn(2, 3, 64, 64)
    found, features = patches(backbone, pixels), backbone.feature_map(pixels)
    assert found.shape == (2, 1 + 8 * 8, 12)
    assert torch.equal(found[:, 1 + 8 * 2 + 5], features[:, :, 2, 5])
    assert torch.allclose(found[:, 0], features.mean((2, 3)), atol=1e-6)


def test_fewer_cells_are_averages_and_their_mean_comes_first():
    backbone, pixels = small(), torch.randn(2, 3, 64, 64)
    found, features = patches(backbone, pixels, cells=4), backbone.feature_map(pixels)
    assert found.shape == (2, 17, 12)
    assert torch.allclose(found[:, 2], features[:, :, :2, 2:4].mean((2, 3)), atol=1e-6)
    assert torch.allclose(found[:, 0], features.mean((2, 3)), atol=1e-6)


def test_patches_of_a_swin_and_of_torchvisions_are_alike_in_form():
    tower = Swin(SwinConfig(image_size=32, window=4, embed=8, depths=(2, 2), heads=(1, 2))).eval()
    pixels = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(patches(tower, pixels), tower(pixels))
        pooled = patches(tower, pixels, cells=2)
    assert pooled.shape == (1, 5, 16)
    net = SwinTransformer([4, 4], 8, [1, 1], [1, 2], [4, 4], num_classes=3)
    net.head = torch.nn.Identity()
    theirs = Backbone(net, 16).eval()
    with torch.no_grad():
        found = patches(theirs, torch.randn(1, 3, 32, 32))
    assert found.shape == (1, 1 + 4 * 4, 16)
    assert torch.allclose(found[:, 0], found[:, 1:].mean(1), atol=1e-6)


def test_a_folder_of_the_course_opens_as_a_frozen_tower(tmp_path):
    torch.manual_seed(0)
    save_backbone(tmp_path, SmallResNet((4, 8, 12), 2).eval(), (4, 8, 12), 64, ["a", "b"])
    tower = open_tower(tmp_path)
    assert not any(p.requires_grad for p in tower.parameters())
    pixels = whole_pixels(tower, picture())[None]
    with torch.no_grad():
        expected = load_backbone(tmp_path).feature_map(pixels).flatten(2).mT
        assert torch.allclose(patches(tower, pixels)[:, 1:], expected, atol=1e-5)


def test_random_weights_are_a_function_of_the_seed():
    towers = [open_tower("shufflenet_v2_x0_5", None, seed=seed) for seed in (1, 1, 2)]
    first = [next(iter(tower.parameters())) for tower in towers]
    assert torch.equal(first[0], first[1])
    assert not torch.equal(first[0], first[2])


def test_a_size_is_for_swins_alone():
    with pytest.raises(UserError, match="image_size: resnet18"):
        open_tower("resnet18", None, image_size=384)


def test_the_evaluation_view_of_a_swin_is_the_whole_picture_in_clips_colours():
    tower = Swin(SwinConfig(image_size=32, window=4, embed=8, depths=(2, 2), heads=(1, 2)))
    found = whole_pixels(tower, picture())
    assert torch.equal(found, to_pixels(squeezed_view(picture(), 32), CLIP_MEAN, CLIP_STD))
    assert found.shape == (3, 32, 32)


def test_a_training_view_is_a_function_of_its_generator():
    views = [
        np.asarray(augment.augmented_view(picture(), 24, torch.Generator().manual_seed(seed)))
        for seed in (5, 5, 6)
    ]
    assert views[0].shape == (24, 24, 3)
    assert (views[0] == views[1]).all()
    assert (views[0] != views[2]).any()


def test_views_without_changes_are_crops():
    generator = torch.Generator().manual_seed(0)
    whole = augment.augmented_view(picture(32, 32), 32, generator, (1.0, 1.0), flip=False, augment=False)
    shares = [
        augment.augmented_view(
            picture(), 8, torch.Generator().manual_seed(i), (1.0, 1.0), flip=True, augment=False
        )
        for i in range(40)
    ]
    assert whole.size == (32, 32)
    assert len({np.asarray(view).tobytes() for view in shares}) > 1  # mirrored or not


def test_each_change_happens_as_often_as_the_rule_says(monkeypatch):
    """Two draws of ten, each carried out half of the time: every change is seen in 10 % of pictures on average."""
    seen = dict.fromkeys([*augment.PHOTOMETRIC, *augment.GEOMETRIC], 0)

    def counting(name):
        def change(image, side):
            assert side in (-1.0, 1.0)
            seen[name] += 1
            return image

        return change

    for table in (augment.PHOTOMETRIC, augment.GEOMETRIC):
        for name in table:
            monkeypatch.setitem(table, name, counting(name))
    generator, image = torch.Generator().manual_seed(0), picture(4, 4)
    for _ in range(4000):
        augment.rand_augment(image, generator)
    assert all(320 < count < 480 for count in seen.values()), seen
    before = {name: seen[name] for name in augment.GEOMETRIC}
    for _ in range(100):
        augment.rand_augment(image, generator, geometric=False)
    assert {name: seen[name] for name in augment.GEOMETRIC} == before


def test_changes_do_what_their_names_say():
    image = picture(32, 32)
    plain = np.asarray(image).astype(int)
    assert augment.PHOTOMETRIC["identity"](image, 1.0) is image
    brighter = np.asarray(augment.PHOTOMETRIC["brightness"](image, 1.0)).astype(int)
    assert (abs(brighter - np.minimum(plain * 1.36, 255)) <= 1).all()
    moved = np.asarray(augment.GEOMETRIC["shift_x"](image, 1.0)).astype(int)
    assert (moved[:, :25] == plain[:, 7:]).all()
    assert (moved[:, 25:] == 128).all()
    turned = np.asarray(augment.GEOMETRIC["turn"](image, 1.0))
    assert (turned[0, 0] == 128).all()
