"""Faster dense layers on a CPU: PyTorch's other library for matrix products, oneDNN.

PyTorch multiplies float32 matrices on a CPU with MKL, which leaves AVX-512 unused on processors of other makers than
its own; oneDNN, which PyTorch brings as well, uses it (twice as fast on an AMD EPYC). Results are equal to rounding.
"""

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

# PyTorch's own operator, which its compiler calls; where it has none of the name, all is computed as ever.
AVAILABLE = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def _product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x.contiguous(), weight.contiguous(), bias, "none", [], "")


class _Linear(torch.autograd.Function):
    """A dense layer whose product and both products of its gradients are oneDNN's."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _product(x, weight, bias)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        rows, inputs = gradient.flatten(0, -2), x.flatten(0, -2)  # (n, out), (n, in)
        of_x, of_weight, of_bias = ctx.needs_input_grad
        return (
            _product(rows, weight.T).view_as(x) if of_x else None,
            _product(rows.T, inputs.T) if of_weight else None,
            rows.sum(0) if of_bias else None,
        )


class OneDnnLinear(TorchFunctionMode):
    """Within `with OneDnnLinear():` dense layers of float32 on a CPU are oneDNN's, and so are their gradients.

    Everything else, and all of it where PyTorch was built without oneDNN, is computed as ever.
    """

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if func is F.linear and not kwargs and _fits(*args):
            x, weight, bias = (*args, None)[:3]
            wanted = (t is not None and t.requires_grad for t in (x, weight, bias))
            product = _Linear.apply if torch.is_grad_enabled() and any(wanted) else _product
            return product(x, weight, bias)
        return func(*args, **(kwargs or {}))


def _fits(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> bool:
    here = (
        x.device.type == "cpu" and x.dtype == weight.dtype == torch.float32 and x.numel() > 0 and x.ndim > 1
    )
    return here and not torch.is_autocast_enabled("cpu") and AVAILABLE


WIDE = 256  # narrower layers gain less than what a look at every call costs …
MANY = 2**15  # … unless so many numbers go through them


def quick_products(x: Tensor) -> AbstractContextManager:
    """`OneDnnLinear()` where it pays for dense layers of this input, on a CPU; else nothing."""
    pays = x.device.type == "cpu" and (x.shape[-1] >= WIDE or x.numel() >= MANY)
    return OneDnnLinear() if pays else nullcontext()


def quick_on_cpu(method: Callable) -> Callable:
    """A method that runs `with OneDnnLinear()` where that pays; of a model with `config` and `word_weight`."""

    @functools.wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self.config.hidden < WIDE or self.word_weight.device.type != "cpu":
            return method(self, *args, **kwargs)
        with OneDnnLinear():
            return method(self, *args, **kwargs)

    return call
