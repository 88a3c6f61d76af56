"""Which rows carry something to learn from: the one size in a loss that is data, and no shape.

Heads compute labelled rows alone, so somebody has to count them. On a GPU that is a wait for the device, once for each
head; nothing else in a training loss waits for it, and nothing in it is made on the CPU (`tests/device`).

A tensor without data (on the device "meta", or a fake one) cannot be counted. There all rows are labelled, or the share
that `assumed` says: that is how losses run on devices that nobody has, and operations are counted without computing.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from math import ceil

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

_SHARES: ContextVar[dict[str, float] | None] = ContextVar("shares", default=None)


def has_data(x: Tensor) -> bool:
    """Whether there are numbers behind a tensor, and not a shape alone."""
    return not (x.is_meta or isinstance(x, FakeTensor))


@contextmanager
def assumed(**shares: float) -> Iterator[None]:
    """Within it, of tensors without data so large a share is labelled; 1 of those that are not named.

    Names: "words" (masked, or to be written), "filled" (of VLP's rows, which have places for the most words of any),
    "next" (VaLM's next words), "vokens", "tokens" (of the matcher), "objects", "attributes", "features" (of regions).
    """
    token = _SHARES.set({**(_SHARES.get() or {}), **shares})
    try:
        yield
    finally:
        _SHARES.reset(token)


def assumed_of(count: int, name: str) -> int:
    """How many of so many rows without data are labelled."""
    return ceil(count * (_SHARES.get() or {}).get(name, 1.0))


def places_of(labelled: Bool[Tensor, "*N"], name: str = "words") -> Int[Tensor, " M"]:
    """Where in the flattened tensor the labelled rows are, in order. `name`: of `assumed`."""
    flat = labelled.flatten()
    if has_data(flat):
        return flat.nonzero()[:, 0]
    return torch.arange(assumed_of(len(flat), name), device=flat.device)


def full_precision(device: torch.device) -> AbstractContextManager:
    """Without autocast, where the device has one."""
    if not torch.amp.is_autocast_available(device.type):
        return nullcontext()
    return torch.autocast(device.type, enabled=False)
