"""A step of BertAdam over the weights of LXMERT, beside the plain loop over tensors that the original has.

Ours corrects rate, epsilon and decay of AdamW, and takes its fused kernel: one pass over memory in place of a dozen.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks import inputs
from benchmarks.measure import Row, agree, compare
from vlpnb.lxmert.heads import LxmertForPretraining
from vlpnb.lxmert.model import LxmertConfig
from vlpnb.train.optim import BertAdam, learning_rate


@dataclass(frozen=True)
class Size:
    """Half of the published layers, at their width: the whole model and both sides' moments are 7 GB."""

    config: LxmertConfig = inputs.HALF_LXMERT
    updates: int = 100
    rounds: int = 3


class PlainBertAdam:
    """The formulas, tensor by tensor."""

    def __init__(self, params: list[Tensor], rate: Callable[[int], float], decay: float = 0.01):
        self.params, self.rate, self.decay, self.done = params, rate, decay, 0
        self.moments = [(torch.zeros_like(p), torch.zeros_like(p)) for p in params]

    @torch.no_grad()
    def step(self) -> None:
        """One update of all parameters."""
        rate = self.rate(self.done)
        for p, (m, v) in zip(self.params, self.moments, strict=True):
            m.mul_(0.9).add_(p.grad, alpha=0.1)
            v.mul_(0.999).addcmul_(p.grad, p.grad, value=0.001)
            change = m / (v.sqrt() + 1e-6)
            change += self.decay * p
            p.add_(-rate * change)
        self.done += 1


def ours(optimiser: BertAdam) -> list[Tensor]:
    """A step; the weights after it."""
    optimiser.step()
    return [p.detach() for p in optimiser.param_groups[0]["params"]]


def peer(optimiser: PlainBertAdam) -> list[Tensor]:
    """A step; the weights after it."""
    optimiser.step()
    return [p.detach() for p in optimiser.params]


def same_weights(first: list[Tensor], second: list[Tensor]) -> str:
    """Equal to float rounding."""
    gap = max((one - other).abs().max().item() for one, other in zip(first, second, strict=True))
    agree(gap < 1e-6, f"weights differ by {gap:.2g}")
    return f"{sum(p.numel() for p in first) / 1e6:.0f} M weights"


def run(size: Size = Size(), device: str = "cpu") -> list[Row]:
    """One row."""
    torch.manual_seed(0)
    params = list(LxmertForPretraining(size.config).to(device).parameters())
    for p in params:
        p.grad = torch.randn_like(p) * 1e-3
    copies = [p.detach().clone() for p in params]
    for copy, p in zip(copies, params, strict=True):
        copy.grad = p.grad  # a step only reads it
    peak = 1e-4

    def rate(done: int) -> float:  # from the schedule's second update on: the rate of the first is 0
        return learning_rate(done + 1, size.updates, peak, 0.1 * size.updates, "bert")

    plain, fused = PlainBertAdam(copies, rate), BertAdam(params, peak, rate=rate)
    return [
        compare(
            "optimiser step, BertAdam",
            lambda: ours(fused),
            lambda: peer(plain),
            same_weights,
            rounds=size.rounds,
            device=device,
            target=10.0,
        )
    ]
