"""Faster dense layers in inference on a CPU: PyTorch's other library for matrix products, oneDNN.

PyTorch multiplies float32 matrices on a CPU with MKL, which leaves AVX-512 unused on processors of other makers than
its own; oneDNN, which PyTorch brings as well, uses it (twice as fast on an AMD EPYC). Results are equal to rounding.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode


class OneDnnLinear(TorchFunctionMode):
    """Within `with OneDnnLinear():` dense layers of float32 on a CPU are oneDNN's, where no gradient is wanted.

    Everything else, and all of it where PyTorch was built without oneDNN, is computed as ever.
    """

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if func is F.linear and not kwargs and _fits(*args):
            weight, bias = args[1], args[2] if len(args) > 2 else None
            return torch.ops.mkldnn._linear_pointwise(args[0].contiguous(), weight, bias, "none", [], "")
        return func(*args, **(kwargs or {}))


def _fits(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> bool:
    here = x.device.type == "cpu" and x.dtype == weight.dtype == torch.float32 and x.numel() > 0
    plain = not torch.is_grad_enabled() and not torch.is_autocast_enabled("cpu")
    return here and plain and torch.backends.mkldnn.is_available()


WIDE = 256  # narrower layers gain less than what a look at every call costs


def quick_in_inference(method: Callable) -> Callable:
    """A method that runs `with OneDnnLinear()` where no gradient is wanted; of a model with `config`, `word_weight`."""

    @functools.wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        if torch.is_grad_enabled() or self.config.hidden < WIDE or self.word_weight.device.type != "cpu":
            return method(self, *args, **kwargs)
        with OneDnnLinear():
            return method(self, *args, **kwargs)

    return call
