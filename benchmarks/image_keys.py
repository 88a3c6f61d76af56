"""Image features for keys, 32 pictures at a time: the house's backbone beside plain torchvision.

Ours has batch norm folded into the convolutions and channels last; the peer is the same network as torchvision
builds it. Decoding and the two-layer head on top are the same on both sides and left out.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchvision.models import get_model

from benchmarks.measure import Row, agree, compare
from vlpnb.foundations.features import picture_features
from vlpnb.vision.backbones import Backbone, remove_classifier


@dataclass(frozen=True)
class Size:
    """The paper's network is resnext101_32x8d at 224 pixels, ten times the work of these."""

    networks: tuple[str, ...] = ("resnet18", "resnext50_32x4d")
    images: int = 32
    pixels: int = 128
    rounds: int = 3


def ours(backbone: Backbone, pixels: Tensor) -> Tensor:
    """Features [N, D] on the host."""
    return picture_features(backbone, list(pixels), batch=32)


@torch.no_grad()
def peer(net: nn.Module, pixels: Tensor) -> Tensor:
    """Features [N, D] on the host."""
    device = next(net.parameters()).device
    return torch.cat([net(part.to(device)).flatten(1).cpu() for part in pixels.split(32)])


def same_features(first: Tensor, second: Tensor) -> None:
    """Equal to a thousandth of the largest feature: folding changes the order of rounding."""
    agree(first.shape == second.shape, f"features {tuple(first.shape)} beside {tuple(second.shape)}")
    gap, scale = (first - second).abs().max().item(), second.abs().max().item()
    agree(gap <= 1e-3 * scale, f"features differ by up to {gap:.1e} of {scale:.1e}")


def network(name: str) -> nn.Module:
    """A torchvision network without its classifier, random weights and random statistics of batch norm."""
    torch.manual_seed(0)
    net = get_model(name, weights=None).eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    remove_classifier(net)
    return net.requires_grad_(False)


def run(size: Size = Size(), device: str = "cpu") -> list[Row]:
    """A row per network."""
    torch.manual_seed(1)
    pixels = torch.randn(size.images, 3, size.pixels, size.pixels)
    rows = []
    for name in size.networks:
        plain, width = network(name).to(device), 0
        fused = network(name)
        backbone = Backbone(fused, width, size.pixels).fuse().to(device)
        row = compare(
            f"image features, {name}, {size.pixels} px",
            lambda backbone=backbone: ours(backbone, pixels),
            lambda plain=plain: peer(plain, pixels),
            same_features,
            rounds=size.rounds,
            device=device,
        )
        rows.append(row)
    return rows
