"""Text assignment: a caption beside two pictures, of which the first, the second or neither is its own.

Paper: X-VLM (Zeng et al., ICML 2022), which CCLM takes over: optional, on captioned pictures, before NLVR2. The other
picture is one that looks alike: it is drawn by the contrastive vectors.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vlpnb.errors import UserError

TEMPERATURE = 0.07  # of the draw of a partner, whatever the model's
FIRST, SECOND, NEITHER = 0, 1, 2  # which picture is the caption's own
PAIRED = 2 / 3  # share of the captions that stand beside their own picture


def partner_weights(vectors: Float[Tensor, "B E"]) -> Float[Tensor, "B B"]:
    """How likely each picture is drawn beside another: the softmax of their cosines / 0.07, its own left out as 0."""
    weights = (vectors.float() @ vectors.float().T / TEMPERATURE).softmax(dim=1)
    return weights.fill_diagonal_(0)


def draw_assignment(
    vectors: Float[Tensor, "B E"], generator: torch.Generator | None = None
) -> tuple[Int[Tensor, " B"], Int[Tensor, " B"], Int[Tensor, " B"]]:
    """Two pictures for each caption of a batch, and which is its own: `FIRST`, `SECOND` or `NEITHER`.

    With probability 2/3 the caption's picture and a partner that looks like it, in random order; else two other ones.

    Args:
        vectors: unit vectors of the captions' pictures.
    Raises:
        UserError: fewer than three pictures, among which there are not two others.
    """
    count = len(vectors)
    if count < 3:
        raise UserError(f"text assignment needs at least 3 captioned pictures in a batch, found {count}")
    drawn = torch.multinomial(partner_weights(vectors), 2, generator=generator)  # (B, 2) different ones
    dice = torch.rand(2, count, generator=generator, device=vectors.device)
    own = torch.arange(count, device=vectors.device)
    paired, first = dice[0] < PAIRED, dice[1] < 0.5
    left = torch.where(paired & first, own, drawn[:, 0])
    right = torch.where(paired, torch.where(first, drawn[:, 0], own), drawn[:, 1])
    label = torch.where(paired, torch.where(first, FIRST, SECOND), NEITHER)
    return left, right, label
