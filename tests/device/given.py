"""What the cases of all systems are made of: a model and a batch of the right shapes, at toy size."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vlpnb.nn.losses import IGNORE
from vlpnb.train.optim import Optimiser

V, D, B, T, R, F, S = 90, 32, 4, 10, 5, 12, 32  # words, width, rows, tokens, regions, feature, pixels
SEEN = (5, 3, 4, 5)  # regions of each picture


@dataclass(frozen=True)
class Case:
    """A model, as `train.loop.fit` takes it, and a batch; made anew at each call."""

    model: Callable[[], nn.Module]
    batch: Callable[[], dict[str, Tensor]]
    optimiser: Optimiser = "adamw"
    """The stage's default."""


def ids(seed: int, *shape: int, least: int = 5) -> Tensor:
    return torch.randint(least, V, shape or (B, T), generator=torch.Generator().manual_seed(seed))


def numbers(seed: int, *shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def ragged(lengths: tuple[int, ...] = (10, 6, 8, 7), width: int = T) -> Tensor:
    """True at the first so many places of each row."""
    return torch.arange(width) < torch.tensor(lengths)[:, None]


def some(seed: int, values: Tensor, share: float) -> Tensor:
    """Labels: a share of the values, −100 elsewhere; the first of each row always."""
    kept = numbers(seed, *values.shape) < share
    kept[:, 0] = True
    return values.where(kept, IGNORE)
