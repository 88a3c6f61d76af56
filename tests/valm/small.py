"""A small VaLM and inputs, for the tests of `tests/valm`."""

import torch
from torch import Tensor

from vlpnb.valm.config import ValmConfig
from vlpnb.valm.fusion import JointAttention
from vlpnb.valm.objectives import ValmLM

V, D, B, T, K = 40, 32, 2, 9, 3


def config(**changes) -> ValmConfig:
    sizes = {
        "vocab_size": V,
        "hidden": D,
        "layers": 3,
        "heads": 4,
        "ffn": 48,
        "max_positions": 80,
        "image_width": D,
    }
    return ValmConfig(**(sizes | {"dropout": 0.0} | changes))


def model(seed: int = 0, **changes) -> ValmLM:
    """A model in float64, in evaluation mode, whose norms, biases and gates have no special values."""
    torch.manual_seed(seed)
    lm = ValmLM(config(**changes)).eval().double()
    with torch.no_grad():
        for name, parameter in lm.named_parameters():
            if parameter.ndim < 2:
                parameter.add_(torch.randn_like(parameter) * 0.3)
            elif "words" not in name:
                parameter.mul_(2.0)  # attention that is not flat
    return lm


def words(seed: int = 1, rows: int = B, length: int = T) -> Tensor:
    return torch.randint(4, V, (rows, length), generator=torch.Generator().manual_seed(seed))


def images(seed: int = 2, rows: int = B, length: int = T, count: int = K, width: int = D) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, length, count, width, generator=generator).double() * 3 + 1


def some_hidden(seed: int = 3) -> Tensor:
    """A mask in which some pictures are hidden, at one place all."""
    mask = torch.rand(B, T, K, generator=torch.Generator().manual_seed(seed)) > 0.4
    mask[0, 2] = False
    return mask


def use(lm: ValmLM, way: str) -> ValmLM:
    """The model with its joint attention computed in that way."""
    for part in lm.modules():
        if isinstance(part, JointAttention):
            part.way = way
    return lm


def close(one: Tensor, other: Tensor, atol: float = 1e-10) -> None:
    torch.testing.assert_close(one.double(), other.double(), rtol=0, atol=atol)
