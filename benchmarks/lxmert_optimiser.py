"""A step of BertAdam over the weights of LXMERT, beside the plain loop over tensors that the original has.

Ours takes AdamW's fused kernel: one pass over memory in place of a dozen, one call in place of a dozen a tensor. The
first tells in a large model, the second in a small one. Neither side clips or clears gradients, which the training loop
does with PyTorch's own functions.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks import inputs
from benchmarks.measure import Row, agree, compare
from vlpnb.lxmert.heads import LxmertForPretraining
from vlpnb.lxmert.model import SIZES, LxmertConfig
from vlpnb.train.optim import BertAdam, learning_rate

LAPTOP = LxmertConfig(
    **SIZES["tiny"], vocab_size=700, feature_width=128, objects=60, attributes=20, answers=60
)


@dataclass(frozen=True)
class Size:
    """Models by name, with the updates that are timed at once: one of a small model is too short."""

    models: tuple[tuple[str, LxmertConfig, int], ...] = (
        (
            "half LXMERT",
            inputs.HALF_LXMERT,
            1,
        ),  # at the published width; all with both sides' moments is 7 GB
        ("laptop's LXMERT", LAPTOP, 10),
    )
    rounds: int = 9


class PlainBertAdam:
    """The update as the original writes it: tensor by tensor, each with its own count and rate."""

    def __init__(self, params: list[Tensor], rate: Callable[[int], float], decay: float = 0.01):
        self.params, self.rate, self.decay = params, rate, decay
        self.states = [[0, torch.zeros_like(p), torch.zeros_like(p)] for p in params]

    @torch.no_grad()
    def step(self) -> None:
        """One update of all parameters."""
        for p, state in zip(self.params, self.states, strict=True):
            done, m, v = state
            m.mul_(0.9).add_(p.grad, alpha=0.1)
            v.mul_(0.999).addcmul_(p.grad, p.grad, value=0.001)
            change = m / (v.sqrt() + 1e-6)
            change += self.decay * p
            change_at_rate = self.rate(done) * change
            p.add_(-change_at_rate)
            state[0] = done + 1


def ours(optimiser: BertAdam, weights: list[Tensor], updates: int) -> list[Tensor]:
    """The weights after some updates."""
    for _ in range(updates):
        optimiser.step()
    return [p.detach() for p in weights]


def peer(optimiser: PlainBertAdam, weights: list[Tensor], updates: int) -> list[Tensor]:
    """The weights after some updates."""
    for _ in range(updates):
        optimiser.step()
    return [p.detach() for p in weights]


def same_weights(first: list[Tensor], second: list[Tensor]) -> str:
    """Equal to float rounding."""
    gap = max((one - other).abs().max().item() for one, other in zip(first, second, strict=True))
    agree(gap < 1e-6, f"weights differ by {gap:.2g}")
    return f"{sum(p.numel() for p in first) / 1e6:.3g} M weights in {len(first)} tensors"


def run(size: Size = Size(), device: str = "cpu") -> list[Row]:
    """One row a model."""
    return [measure(*model, size.rounds, device) for model in size.models]


def measure(name: str, config: LxmertConfig, updates: int, rounds: int, device: str) -> Row:
    """The row of one model."""
    torch.manual_seed(0)
    params = list(LxmertForPretraining(config).to(device).parameters())
    for p in params:
        p.grad = torch.randn_like(p) * 1e-3
    copies = [p.detach().clone() for p in params]
    for copy, p in zip(copies, params, strict=True):
        copy.grad = p.grad  # a step only reads it
    peak, total = 1e-4, 1000

    def rate(done: int) -> float:  # from the schedule's second update on: the rate of the first is 0
        return learning_rate(done + 1, total, peak, 0.1 * total, "bert")

    plain, fused = PlainBertAdam(copies, rate), BertAdam(params, peak, rate=rate)
    return compare(
        f"optimiser step, BertAdam, {name}" + f", {updates} updates" * (updates > 1),
        lambda: ours(fused, params, updates),
        lambda: peer(plain, copies, updates),
        same_weights,
        rounds=rounds,
        device=device,
        target=10.0,
    )
