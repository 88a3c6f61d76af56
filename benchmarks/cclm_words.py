"""Guessed words of CCLM among 250,002, loss and gradient: at masked positions alone beside every position.

The plain way computes the scores of the whole vocabulary at every position and leaves out those that are not asked for;
ours takes the masked ones, in pieces that are never held together (`nn.losses.linear_cross_entropy`).
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.measure import Row, agree, compare
from vlpnb.cclm.config import CclmConfig
from vlpnb.nn.heads import MLMHead
from vlpnb.nn.losses import IGNORE


@dataclass(frozen=True)
class Size:
    """Sentences, their word pieces and masked ones; width and words of the head."""

    sentences: int = 8
    tokens: int = 40
    masked: int = 5
    hidden: int = 256
    words: int = 250_002
    rounds: int = 3


def ours(head: MLMHead, hidden: Tensor, table: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The sum of the losses and its gradient."""
    return learned(head.loss(hidden, table, labels, reduction="sum"), hidden)


def peer(head: MLMHead, hidden: Tensor, table: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The same from the scores of all words at every position."""
    scores = head.logits(hidden, table).flatten(0, 1)
    return learned(F.cross_entropy(scores, labels.flatten(), ignore_index=IGNORE, reduction="sum"), hidden)


def learned(loss: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
    """A loss and its gradient."""
    hidden.grad = None
    loss.backward()
    return loss.detach(), hidden.grad.clone()


def same_loss(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> str:
    """Loss and gradient of both ways."""
    gap = abs(float(first[0] - second[0])) / float(second[0])
    slope = float((first[1] - second[1]).abs().max() / second[1].abs().max())
    agree(gap < 1e-5 and slope < 1e-4, f"losses differ by {gap:.0e} of them, gradients by {slope:.0e}")
    return f"losses differ by {gap:.0e} of them"


def run(size: Size = Size(), device: str = "cpu") -> list[Row]:
    """One batch."""
    torch.manual_seed(0)
    shape = CclmConfig(vocab_size=size.words, hidden=size.hidden, heads=4, ffn=4, image_width=4).transformer
    head = MLMHead(shape).to(device)
    table = torch.randn(size.words, size.hidden, device=device) * 0.02
    hidden = torch.randn(size.sentences, size.tokens, size.hidden, device=device, requires_grad=True)
    labels = torch.full((size.sentences, size.tokens), IGNORE, device=device)
    labels[:, : size.masked] = torch.randint(size.words, (size.sentences, size.masked), device=device)
    return [
        compare(
            f"CCLM words, {size.masked} of {size.tokens} masked, {size.words:,} words",
            lambda: ours(head, hidden, table, labels),
            lambda: peer(head, hidden, table, labels),
            same_loss,
            rounds=size.rounds,
            device=device,
            note="beside every position",
        )
    ]
