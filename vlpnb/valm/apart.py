"""An attention of words to pictures alone, behind that to words: variants of VaLM's joint attention (`fusion.py`).

Not the paper's way. `projection="gated"` begins with a gate that is shut, so that a trained language model stays what
it was; the layers of a `stack` stand on top of a text model, as a circulating summary of the paper has them.
"""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from vlpnb.nn.attention import Attention
from vlpnb.nn.decoding import precise
from vlpnb.valm.fusion import Pictures, Reading, sight


class ImageAttention(nn.Module):
    """Words look at pictures alone, in an attention of its own behind that to words.

    Args:
        scope: "own", a word's own pictures; "past", also those of earlier words; "all", of the whole text.
        gate: multiply by the tanh of a learned number that begins at 0, so that a trained model stays what it was.
    """

    def __init__(
        self,
        hidden: int,
        heads: int,
        width: int,
        scope: str = "own",
        gate: bool = False,
        mode: str = "drop",
        dropout: float = 0.0,
        eps: float = 1e-5,
    ):
        super().__init__()
        self.scope = scope
        self.norm = nn.LayerNorm(hidden, eps)
        self.attention = Attention(hidden, heads, dropout)
        self.reading = Reading(width, hidden, True, mode, eps)
        self.gate = nn.Parameter(torch.zeros(())) if gate else None

    def forward(self, x: Float[Tensor, "B T D"], pictures: Pictures) -> Float[Tensor, "B T D"]:
        """What is added to the stream; 0 for a word that sees no picture."""
        own, u = self.attention, self.norm(x)
        read = self.reading(pictures, x.dtype)
        seen, none = read.seen, None
        if self.scope == "own":
            q = (
                rearrange(own.query(u), "b t (h d) -> b h t d", h=own.heads)
                * (x.shape[-1] // own.heads) ** -0.5
            )
            key, value = ((part.weight, part.bias) for part in (own.key, own.value))
            found = sight(self.reading, read, key, value, own.heads)
            attention = precise(found.scores(q)).softmax(-1)
            attention = F.dropout(attention, own.dropout if self.training else 0.0)
            out = own.out(rearrange(found.mixed(attention), "b h t d -> b t (h d)"))
            none = None if seen is None else ~seen.any(-1)  # (B, T)
        else:
            length, count = x.shape[1], read.count
            mask = torch.ones(1, length, length, dtype=torch.bool, device=x.device)
            mask = mask.tril() if self.scope == "past" else mask
            mask = mask.repeat_interleave(count, dim=2)[:, None]  # (1, 1, T, T K)
            if seen is not None:
                mask = mask & seen.flatten(1)[:, None, None]
                none = ~mask.any(-1)[:, 0]
            out, _ = own(u, mask, self.reading.shifted(read.at_places()).flatten(1, 2))
        if none is not None:
            out = out.masked_fill(none[..., None], 0.0)
        return out if self.gate is None else out * self.gate.tanh()
