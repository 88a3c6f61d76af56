"""Hard negatives of a batch of CCLM: one draw for each direction beside one for each row.

The plain way, the original's, draws row by row and takes each number to Python, twice the batch in an update; it draws
from other random numbers than ours. So what is compared is that nothing without weight is drawn: nobody's own, and
nothing of the same identity; and that what is drawn has the weight that was told with it.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.measure import Row, agree, compare
from vlpnb.nn.contrastive import draw_negatives, negative_weights


@dataclass(frozen=True)
class Size:
    """Rows of a batch, numbers of a vector, and how many rows are of one picture."""

    batch: int = 128
    width: int = 256
    alike: int = 2
    rounds: int = 7


def ours(weights: Tensor) -> tuple[Tensor, Tensor]:
    """The negatives of both directions, (2, B), and their weights."""
    drawn = torch.stack([draw_negatives(weights), draw_negatives(weights.T)])
    return drawn, weights_of(weights, drawn)


def peer(weights: Tensor) -> tuple[Tensor, Tensor]:
    """The same, row by row."""
    rows = [[int(torch.multinomial(row, 1)) for row in each] for each in (weights, weights.T)]
    drawn = torch.tensor(rows, device=weights.device)
    return drawn, weights_of(weights, drawn)


def weights_of(weights: Tensor, drawn: Tensor) -> Tensor:
    """The weight of each negative, (2, B)."""
    return torch.stack([weights, weights.T]).gather(2, drawn[..., None].clamp(0, len(weights) - 1))[..., 0]


def run(size: Size = Size(), device: str = "cpu") -> list[Row]:
    """One batch."""
    torch.manual_seed(0)
    one, other = (F.normalize(torch.randn(size.batch, size.width, device=device), dim=1) for _ in range(2))
    identity = torch.arange(size.batch, device=device) // size.alike
    weights = negative_weights(one, other, 0.07, identity)

    def allowed(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> None:
        for drawn, told in (first, second):
            found = weights_of(weights, drawn)
            agree(bool((found == told).all() and (found > 0).all()), "one of the same, or another, is drawn")

    return [
        compare(
            f"CCLM hard negatives, {size.batch} pairs, both directions",
            lambda: ours(weights),
            lambda: peer(weights),
            allowed,
            rounds=size.rounds,
            device=device,
            note="beside a draw for each row",
        )
    ]
