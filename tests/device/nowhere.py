"""Ways of running a loss where nothing can be computed, so that all that leans on the CPU in secret is found out.

* On the device "meta" a tensor has a shape and no numbers: what asks for a number (`.item()`, `if`, a mask as an index)
  fails.
* Fake tensors say that they are on a GPU: what is only done there is done, and tensors of two devices do not mix.
  PyTorch makes them on a machine that has none, forwards alone: its backward pass asks for the GPU itself.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests.device.given import Case


class OnTheHost(AssertionError):
    """Something was made on the CPU, or of Python's numbers, which a GPU would be waited for to get."""


class NothingOnTheCpu(TorchDispatchMode):
    """Within it no operation may take or give a tensor on the CPU, forwards or backwards."""

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for x in tree_leaves((args, kwargs, out)):
            if isinstance(x, Tensor) and x.device.type == "cpu":
                raise OnTheHost(f"{func} with a tensor {list(x.shape)} on the CPU")
        return out


class NothingFromTheHost(TorchFunctionMode):
    """Within it no tensor is made of Python's numbers, which a GPU would get by a copy that it is waited for."""

    COPIES = (torch.tensor, torch.as_tensor, torch.from_numpy, Tensor.new_tensor)

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if func in self.COPIES and not isinstance(args[0], Tensor):
            raise OnTheHost(f"torch.{func.__name__} of {args[0]!r}")
        if func is Tensor.__getitem__:
            index = args[1] if isinstance(args[1], tuple) else (args[1],)
            if any(isinstance(part, list) for part in index):
                raise OnTheHost(f"an index that is a list: {args[1]}")
        return func(*args, **(kwargs or {}))


def learn(model: nn.Module, batch: Mapping[str, Tensor], backwards: bool = True) -> dict[str, Tensor]:
    """The losses, forwards and backwards, under both."""
    with NothingFromTheHost(), NothingOnTheCpu():
        losses = model(**batch)
        if backwards:
            sum(losses.values()).backward()
    return losses


def on_meta(case: Case) -> tuple[nn.Module, dict[str, Tensor]]:
    """A case's model and batch on the device "meta"."""
    return case.model().train().to("meta"), {name: x.to("meta") for name, x in case.batch().items()}


def on_fake_gpu(case: Case, mode: FakeTensorMode) -> tuple[nn.Module, dict[str, Tensor]]:
    """A case's model and batch as fake tensors on a GPU, to be used within the mode."""
    model, batch = case.model().train(), case.batch()

    def moved(x: Tensor) -> Tensor:
        fake = mode.from_tensor(x.detach())
        with mode:
            return fake.to("cuda")

    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                module._parameters[name] = nn.Parameter(moved(parameter), parameter.requires_grad)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = moved(buffer)
    return model, {name: moved(x) for name, x in batch.items()}
