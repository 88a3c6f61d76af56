"""Options of the original that no published recipe uses: a word head with four slots, the pretext of masked regions.

The head is called "relaxed projection" there. Of the pretext, the features are masked, not the geometry, and each
masked feature is to be found among those of its picture.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from vlpnb.nn.labelled import full_precision
from vlpnb.nn.transformer import init_weights
from vlpnb.vlp.model import VlpConfig


class RelaxedWordHead(nn.Module):
    """`heads.WordHead` with a transform for each kind of example, its slot.

    The original trains it with one norm over the four slots and decodes with a norm for each (VLP-08); here it is a
    norm for each, unless the configuration's `joint_norm`.
    """

    def __init__(self, config: VlpConfig):
        super().__init__()
        self.slots, self.joint = config.slots, config.joint_norm
        self.dense = nn.Linear(config.hidden, config.slots * config.hidden)
        self.norm = nn.LayerNorm(config.slots * config.hidden, config.norm_eps)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))
        init_weights(self, config.init_std)

    def forward(
        self, hidden: Float[Tensor, "*N D"], slot: int | Int[Tensor, "*N"] = 0
    ) -> Float[Tensor, "*N D"]:
        """The transformed states, before the decoder."""
        x = F.gelu(self.dense(hidden))
        split = (self.slots, -1)
        if self.joint:
            return _pick(self.norm(x).unflatten(-1, split), slot)
        x = _pick(x.unflatten(-1, split), slot)
        weight, bias = (p.unflatten(0, split)[slot] for p in (self.norm.weight, self.norm.bias))
        return F.layer_norm(x, x.shape[-1:], eps=self.norm.eps) * weight + bias


def _pick(x: Float[Tensor, "*N S D"], slot: int | Int[Tensor, "*N"]) -> Float[Tensor, "*N D"]:
    """One slot of each row."""
    if isinstance(slot, int):
        return x[..., slot, :]
    return x.take_along_dim(slot[..., None, None].long(), dim=-2)[..., 0, :]


def region_loss(
    seen: tuple[Float[Tensor, "B R D"], Float[Tensor, "B R D"]],
    pooled: Float[Tensor, "B D"],
    masked: Bool[Tensor, "B R"],
) -> Float[Tensor, ""]:
    """Which of the masked features belongs to a masked geometry: mean over a picture's, summed over pictures.

    Of masked regions a and b the score is (ψ_a + pooled) · φ_b, with φ and ψ as they were before masking; the loss is
    the cross-entropy of b = a among the masked regions of the picture. A picture without any counts 0.
    """
    phi, psi = (part.float() for part in seen)
    with full_precision(phi.device):  # a loss is in float32
        scores = (psi + pooled.float()[:, None]) @ phi.transpose(1, 2)  # (B, R, R)
    scores = scores.masked_fill(~masked[:, None], torch.finfo(scores.dtype).min)
    right = scores.diagonal(dim1=1, dim2=2) - scores.logsumexp(dim=2)  # (B, R)
    return -((right * masked).sum(dim=1) / masked.sum(dim=1).clamp(min=1)).sum()
