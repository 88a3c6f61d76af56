"""The course's own picture classifier: to the visual world what ImageNet pre-training is to the papers.

A residual network (He et al., CVPR 2016, basic blocks from torchvision) that is small enough to train from
scratch on two CPU cores within a minute. It differs from ResNet-18 in a 3×3 stem, one block per resolution,
narrower layers, and in pooling: the mean and the maximum of the last map side by side, because a picture of
several things is badly told by the mean alone.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock


class SmallResNet(nn.Module):
    """`widths[0]` channels in the stem (a quarter of the resolution), then one block per further width,
    each halving it.

    The first block keeps the resolution; `2 · widths[-1]` features before `fc`.
    """

    def __init__(self, widths: Sequence[int], classes: int):
        super().__init__()
        c_in = widths[0]
        self.stem = nn.Sequential(
            nn.Conv2d(3, c_in, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(c_in),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2, padding=1),
        )
        blocks = []
        for i, width in enumerate(widths[1:]):
            stride = 1 if i == 0 else 2
            shortcut = nn.Sequential(nn.Conv2d(c_in, width, 1, stride, bias=False), nn.BatchNorm2d(width))
            blocks.append(BasicBlock(c_in, width, stride, shortcut))
            c_in = width
        self.blocks = nn.Sequential(*blocks)
        self.fc = nn.Linear(2 * c_in, classes)

    def feature_map(self, pixels: Float[Tensor, "B 3 S S2"]) -> Float[Tensor, "B C h w"]:
        return self.blocks(self.stem(pixels))

    def forward(self, pixels: Float[Tensor, "B 3 S S2"]) -> Float[Tensor, "B classes"]:
        features = self.feature_map(pixels)  # (B, C, h, w)
        return self.fc(torch.cat([features.mean((2, 3)), features.amax((2, 3))], 1))
