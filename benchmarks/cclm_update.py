"""Two pieces of an update of CCLM beside the plain way: hard negatives of a batch, and words guessed among 250,002.

The plain way of hard negatives draws row by row and takes each number to Python, as the original does, 2 B times an
update. That of masked words computes the scores of the whole vocabulary at every position, masked or not; ours at the
masked positions alone, and without holding them.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.measure import Row, agree, compare
from vlpnb.cclm.config import CclmConfig
from vlpnb.nn.contrastive import draw_negatives, negative_weights
from vlpnb.nn.heads import MLMHead
from vlpnb.nn.losses import IGNORE


@dataclass(frozen=True)
class Size:
    """Rows of a batch and numbers of a vector; sentences, word pieces and masked ones; width and words of the head."""

    batch: int = 128
    vector: int = 256
    sentences: int = 8
    tokens: int = 40
    masked: int = 5
    hidden: int = 256
    words: int = 250_002
    rounds: int = 3


def draw_one_by_one(weights: Tensor) -> Tensor:
    """A negative of each row, drawn and read back row by row."""
    return torch.tensor([int(torch.multinomial(row, 1)) for row in weights])


def both_directions(weights: Tensor, draw) -> Tensor:
    """One draw per direction, from the same random numbers every time."""
    torch.manual_seed(0)
    return torch.stack([draw(weights), draw(weights.T)])


def no_own(weights: Tensor):
    """Both draw what has weight, and never a row's own; the numbers differ, since random ones are used differently."""

    def check(ours: Tensor, peer: Tensor) -> None:
        rows = torch.arange(len(weights))
        for forth, back in (ours, peer):
            agree(
                bool((forth.cpu() != rows).all() and (back.cpu() != rows).all()), "a row is its own negative"
            )

    return check


def loss_at_all_positions(head: MLMHead, hidden: Tensor, table: Tensor, labels: Tensor) -> Tensor:
    """Sum of the losses, from the scores of all words at every position."""
    scores = head.logits(hidden, table)
    return F.cross_entropy(scores.flatten(0, 1), labels.flatten(), ignore_index=IGNORE, reduction="sum")


def loss_at_masked_ones(head: MLMHead, hidden: Tensor, table: Tensor, labels: Tensor) -> Tensor:
    """The same at masked positions alone, in pieces."""
    return head.loss(hidden, table, labels, reduction="sum")


def learned(loss: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
    """The loss and its gradient."""
    hidden.grad = None
    loss.backward()
    return loss.detach(), hidden.grad.clone()


def same_loss(ours: tuple[Tensor, Tensor], peer: tuple[Tensor, Tensor]) -> str:
    """Loss and gradient of both ways."""
    gap = abs(float(ours[0] - peer[0])) / float(peer[0])
    slope = float((ours[1] - peer[1]).abs().max() / peer[1].abs().max())
    agree(gap < 1e-5 and slope < 1e-4, f"losses differ by {gap:.0e} of them, gradients by {slope:.0e}")
    return f"losses differ by {gap:.0e} of them"


def run(size: Size = Size(), device: str = "cpu") -> list[Row]:
    """Negatives of a batch, and a head's loss with its gradient."""
    torch.manual_seed(0)
    one, other = (F.normalize(torch.randn(size.batch, size.vector, device=device), dim=1) for _ in range(2))
    weights = negative_weights(one, other, 0.07)
    shape = CclmConfig(vocab_size=size.words, hidden=size.hidden, heads=4, ffn=4, image_width=4).transformer
    head = MLMHead(shape).to(device)
    table = torch.randn(size.words, size.hidden, device=device) * 0.02
    hidden = torch.randn(size.sentences, size.tokens, size.hidden, device=device, requires_grad=True)
    labels = torch.full((size.sentences, size.tokens), IGNORE, device=device)
    labels[:, : size.masked] = torch.randint(size.words, (size.sentences, size.masked), device=device)
    return [
        compare(
            f"CCLM hard negatives, {size.batch} pairs, both directions",
            lambda: both_directions(weights, draw_negatives),
            lambda: both_directions(weights, draw_one_by_one),
            no_own(weights),
            rounds=size.rounds,
            device=device,
            note="beside a draw for each row",
        ),
        compare(
            f"CCLM words, {size.masked} of {size.tokens} masked, {size.words:,} words",
            lambda: learned(loss_at_masked_ones(head, hidden, table, labels), hidden),
            lambda: learned(loss_at_all_positions(head, hidden, table, labels), hidden),
            same_loss,
            rounds=size.rounds,
            device=device,
            note="loss and gradient, beside every position",
        ),
    ]
