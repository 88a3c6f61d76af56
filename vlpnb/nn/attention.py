"""Multi-head scaled dot-product attention (Vaswani et al. 2017, section 3.2), the one attention module here.

    Attention(Q, K, V) = softmax(Q Kᵀ / √d) V,   heads side by side

The queries come from `x`; keys and values come from `x` too (self-attention) or from `memory`
(cross-attention, as in LXMERT's cross-modality layers), which may have another length and another width.

Two ways of computing the same numbers. Without `weights` PyTorch's fused kernel is used and the (T, S) map
never exists in memory. With `weights` the map is computed in the open and returned, *by the same call that
produces the output*: the map one looks at is the one that was used, not the result of a second pass. Both
agree to float rounding.

With a `cache` the keys and values of earlier positions are looked at too and the new ones are kept (`cache.py`); rows
that share a prefix are computed in the open.

Keys and values of a memory depend on the memory alone. `memory_keys` makes them once, for a memory that many queries
meet (a picture and all sentences that it may belong to), and `cached` takes them back.

Differs from BERT's original code: boolean masks (`masks.py`) instead of adding -10000, and a query that may
look nowhere gives zeros. In training the returned map is the one before dropout, so that its rows still sum
to one.
"""

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from vlpnb.errors import UserError
from vlpnb.nn.cache import LayerCache, mix, scores_of
from vlpnb.nn.masks import causal_mask

Keys = tuple[Float[Tensor, "N H S d"], Float[Tensor, "N H S d"]]
"""Keys and values of a memory, by head."""


class Attention(nn.Module):
    """Projections to queries, keys and values, attention in H heads, projection back.

    Args:
        hidden: width D of the queries' stream and of the output.
        heads: H; must divide D.
        dropout: probability of dropping an attention weight, in training mode only.
        memory: width M of the keys' and values' stream; D when None.
    """

    def __init__(self, hidden: int, heads: int, dropout: float = 0.0, memory: int | None = None):
        super().__init__()
        if hidden % heads:
            raise UserError(f"hidden = {hidden} cannot be split into heads = {heads} of equal width")
        self.heads = heads
        self.dropout = dropout
        self.query = nn.Linear(hidden, hidden)
        self.key = nn.Linear(memory or hidden, hidden)
        self.value = nn.Linear(memory or hidden, hidden)
        self.out = nn.Linear(hidden, hidden)

    def memory_keys(self, memory: Float[Tensor, "N S M"]) -> Keys:
        """Keys and values of a memory, to be given to `forward` as `cached`, as often as one likes."""
        k, v = (
            rearrange(made(memory), "n s (h d) -> n h s d", h=self.heads) for made in (self.key, self.value)
        )
        return k, v

    def forward(
        self,
        x: Float[Tensor, "B T D"],
        mask: Bool[Tensor, "_ #H #T #S"] | None = None,
        memory: Float[Tensor, "B N M"] | None = None,
        *,
        causal: bool = False,
        weights: bool = False,
        cache: LayerCache | None = None,
        cached: Keys | None = None,
        queries: Float[Tensor, "B T D"] | None = None,
    ) -> tuple[Float[Tensor, "B T D"], Float[Tensor, "B H T S"] | None]:
        """Attend from `x` to `memory` (to `x` itself when None).

        Args:
            x: the queries' stream.
            mask: True where a query may look at a key; None lets everybody see everybody.
            memory: the keys' and values' stream.
            causal: position t sees positions 0…t, as under `causal_mask`, half of which is not computed then; in
                place of a mask, a memory and a cache.
            weights: also return the attention map.
            cache: earlier positions, which come first among the S keys (else S is N); the new ones are added to it.
            cached: `memory_keys` of a memory, in place of it and of a cache. Of fewer rows than `x` has, each belongs
                to equally many rows of `x`, which lie side by side; nothing is copied then. A mask may have the rows of
                either.
            queries: `query(x)`, where it is made already.

        Raises:
            UserError: the rows cannot be shared out evenly among those of `cached`.

        Returns:
            The attended stream, and the attention map or None; its rows sum to one, or to zero where nothing
            may be seen.
        """
        q = rearrange(self.query(x) if queries is None else queries, "b t (h d) -> b h t d", h=self.heads)
        k, v = self.memory_keys(x if memory is None else memory) if cached is None else cached
        sharing = 1  # rows that share a memory
        if len(k) < len(q):
            q, mask = share_memory(q, mask, len(k))
            sharing = len(x) // len(q)
        dropout = self.dropout if self.training else 0.0
        prefix = None, None
        if cache is not None:
            prefix = cache.prefix or prefix
            k, v = cache.extend(k, v)

        if not weights and prefix[0] is None:
            mixed = F.scaled_dot_product_attention(
                q, k, v, attn_mask=mask, dropout_p=dropout, is_causal=causal
            )
            return self.out(rearrange(mixed, "b h (n t) d -> (b n) t (h d)", n=sharing)), None

        if causal:
            mask = causal_mask(q.shape[2], q.device)
        scores = scores_of(q, k, prefix[0]) / q.shape[-1] ** 0.5  # (B, H, T, S)
        if mask is not None:
            scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
        attention = scores.softmax(dim=-1)
        if mask is not None:
            attention = attention.masked_fill(~mask, 0.0)  # matters only for rows that may look nowhere
        mixed = mix(F.dropout(attention, dropout).to(v.dtype), v, prefix[1])
        out = self.out(rearrange(mixed, "b h (n t) d -> (b n) t (h d)", n=sharing))
        if not weights:
            return out, None
        return out, rearrange(attention, "b h (n t) s -> (b n) h t s", n=sharing)


def share_memory(
    q: Float[Tensor, "B H T d"], mask: Bool[Tensor, "_ #H #T S"] | None, memories: int
) -> tuple[Float[Tensor, "N H NT d"], Bool[Tensor, "#N #H _ S"] | None]:
    """Queries of the rows that share a memory, end to end, and their mask: B rows become N = `memories`."""
    rows, length = q.shape[0], q.shape[2]
    if not memories or rows % memories:
        raise UserError(f"{rows} rows do not share {memories} memories evenly")
    if mask is not None and mask.shape[0] > memories:
        mask = rearrange(mask.expand(-1, -1, length, -1), "(n k) h t s -> n h (k t) s", n=memories)
    elif mask is not None and mask.shape[2] > 1:
        mask = mask.repeat(1, 1, rows // memories, 1)
    return rearrange(q, "(n k) h t d -> n h (k t) d", n=memories), mask
