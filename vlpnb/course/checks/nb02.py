"""Checks of notebook 02, pictures to features: folded batch norm, nearest pictures, receptive fields."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from vlpnb.course.checks import Wrong, compare, passed
from vlpnb.retrieval.exact import top_k

EPS = 0.1  # large on purpose: an eps in the wrong place must show


def _layers() -> tuple[Tensor, nn.BatchNorm2d]:
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    norm = nn.BatchNorm2d(3, eps=EPS).eval()
    with torch.no_grad():
        norm.weight.copy_(draw(3))
        norm.bias.copy_(draw(3))
        norm.running_mean.copy_(draw(3))
        norm.running_var.copy_(draw(3).square() + 0.2)
    return draw(3, 4, 3, 3), norm


def _folded(kernel: Tensor, norm: nn.BatchNorm2d, slip: str = "") -> tuple[Tensor, Tensor]:
    weight, bias = norm.weight.detach(), norm.bias.detach()
    mean, var = norm.running_mean, norm.running_var
    scale = weight / (var + EPS).sqrt()
    if slip == "eps outside":
        scale = weight / (var.sqrt() + EPS)
    elif slip == "no eps":
        scale = weight / var.sqrt()
    elif slip == "variance":
        scale = weight / (var + EPS)
    shift = bias - (mean if slip == "mean unscaled" else mean * scale)
    if slip == "sign":
        shift = bias + mean * scale
    elif slip == "no mean":
        shift = bias
    return kernel * scale[:, None, None, None], shift


_FOLD_SLIPS = {
    "eps belongs under the root: sqrt(var + eps).": "eps outside",
    "eps is missing: divide by sqrt(var + eps).": "no eps",
    "divide by the standard deviation sqrt(var + eps), not by the variance.": "variance",
    "the mean passes through the scale, too: bias − mean · scale.": "mean unscaled",
    "the mean is subtracted: bias − mean · scale.": "sign",
    "the mean is missing: bias − mean · scale.": "no mean",
}


def check_fold(function: Callable[..., tuple[Tensor, Tensor]]) -> None:
    """Exercise 02.1: `function(kernel, weight, bias, mean, var, eps)` gives (kernel, bias) of one convolution."""
    kernel, norm = _layers()
    args = (norm.weight.detach(), norm.bias.detach(), norm.running_mean, norm.running_var)
    got = function(kernel, *args, EPS)
    if not isinstance(got, tuple) or len(got) != 2:
        raise Wrong("the folded layer: nothing came back yet. Return two tensors, the kernel and the bias.")
    new_kernel, new_bias = _folded(kernel, norm)
    wrong = {text: _folded(kernel, norm, slip) for text, slip in _FOLD_SLIPS.items()}
    slips = {text: value[0] for text, value in wrong.items() if not torch.equal(value[0], new_kernel)}
    scale = (new_kernel / kernel)[:, 0, 0, 0]
    slips["the scale belongs to the output channel, the kernel's first axis: scale[:, None, None, None]."] = (
        kernel * scale
    )
    slips["the kernel is unchanged; every output channel is multiplied by its scale."] = kernel
    compare("the kernel", got[0], new_kernel, slips)
    compare("the bias", got[1], new_bias, {text: value[1] for text, value in wrong.items()})
    pixels = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = norm(nn.functional.conv2d(pixels, kernel))
    compare("the output of the layer", nn.functional.conv2d(pixels, got[0], got[1]), expected)
    passed("one convolution gives what convolution and frozen batch norm gave.")


def _features() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    # long rows win a plain product
    lengths = torch.logspace(-1, 1, 12)[torch.randperm(12, generator=generator)]
    return (torch.randn(12, 5, generator=generator) + 0.3) * lengths[:, None]


def _neighbours(features: Tensor, k: int, slip: str = "") -> Tensor:
    unit = features if slip == "product" else nn.functional.normalize(features, dim=1)
    scores = unit @ unit.T
    if slip == "distance":
        scores = -torch.cdist(features, features)
    if slip == "columns":
        unit = nn.functional.normalize(features, dim=0)
        scores = unit @ unit.T
    if slip != "itself":
        scores = scores.masked_fill(torch.eye(len(features), dtype=torch.bool), -torch.inf)
    if slip == "farthest":
        scores = -scores.masked_fill(scores.isinf(), torch.inf)
    return scores.topk(k, dim=1).indices


_NEIGHBOUR_SLIPS = {
    "every picture found itself. Put −inf on the diagonal, or drop the first column.": "itself",
    "the rows are not unit vectors yet, so long vectors win: divide by the norm first.": "product",
    "these are neighbours by Euclidean distance of the raw features; the cosine was asked for.": "distance",
    "you normalised the columns; each picture's vector is a row (dim=1).": "columns",
    "these are the farthest pictures; the greatest cosine comes first.": "farthest",
}


def check_neighbours(function: Callable[[Tensor, int], Tensor]) -> None:
    """Exercise 02.2: `function(features [N D], k)` gives, per picture, the k others of greatest cosine [N k]."""
    features = _features()
    for k in (1, 3):
        unit = nn.functional.normalize(features, dim=1)
        found = top_k(unit, unit, k + 1)[1]
        # a picture is its own best key, whatever the rounding
        expected = torch.stack([row[row != i][:k] for i, row in enumerate(found)])
        slips = {text: _neighbours(features, k, slip) for text, slip in _NEIGHBOUR_SLIPS.items()}
        compare(f"the {k} nearest of 12 pictures", function(features, k), expected, slips)
    passed("equal to vlpnb.retrieval.exact.top_k without the picture itself.")


Layers = Sequence[tuple[int, int]]  # (kernel, stride) of each layer, the first one sees the pixels


def _receptive_field(layers: Layers, slip: str = "") -> int:
    field, jump = 0 if slip == "no start" else 1, 1
    for kernel, stride in layers:
        if slip == "own stride":
            jump *= stride
        field += (kernel if slip == "kernel" else kernel - 1) * (1 if slip == "no stride" else jump)
        if slip != "own stride":
            jump *= stride
    return jump if slip == "jump" else field


_FIELD_SLIPS = {
    "strides are missing: after a stride of 2 one step in the map is two pixels, and a kernel reaches twice as far.": (
        "no stride"
    ),
    "a layer's own stride acts on the layers after it, not on itself.": "own stride",
    "a kernel of k adds k − 1 steps, not k: one of them is the cell that was seen already.": "kernel",
    "begin with one pixel: without any layer a cell sees itself.": "no start",
    "this is the step between neighbouring cells (the product of the strides), not what one cell sees.": "jump",
}

_RESNET18 = [(7, 2), (3, 2), *[(3, 1)] * 4, *([(3, 2)] + [(3, 1)] * 3) * 3]


def check_receptive_field(function: Callable[[Layers], int]) -> None:
    """Exercise 02.3: `function(layers)` is the side, in pixels, of what one cell of the last map sees."""
    for what, layers in (
        ("two 3 × 3 convolutions", [(3, 1), (3, 1)]),
        ("a strided layer and a 5 × 5 convolution", [(3, 2), (5, 1)]),
        ("ResNet-18", _RESNET18),
        ("no layer", []),
    ):
        expected = _receptive_field(layers)
        slips = {text: _receptive_field(layers, slip) for text, slip in _FIELD_SLIPS.items()}
        slips = {text: slip for text, slip in slips.items() if slip != expected}
        compare(f"the receptive field of {what}", function(list(layers)), expected, slips)
    passed("a cell of ResNet-18's last map sees 435 pixels a side, more than the whole picture of 224.")
