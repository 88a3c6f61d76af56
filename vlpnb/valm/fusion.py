"""The joint attention of VaLM: words look at earlier words and, in the same softmax, at pictures of their own.

Paper: Wang et al., "Visually-Augmented Language Modeling" (ICLR 2023), the visual knowledge fusion layer.

    u = LN(h);  g = LN_img(z)                              z[t, k]: picture k of word t
    q = u Wq + bq;  K = u Wk + bk, V = u Wv + bv           of words
    Kᵢ = g Wk + bᵢk;  Vᵢ = g Wv + bᵢv                      of pictures: the words' matrices, biases of their own
    a[t] = softmax over (earlier words j, own pictures k) of c · [q_t·K_j | q_t·Kᵢ_tk]
    o[t] = Σ_j a[t, j] V_j + Σ_k a[t, k] Vᵢ_tk

Three ways of computing the same numbers:

| way | what it does | products for K pictures a word |
|---|---|---|
| `reference` | projects every picture, one softmax in the open | 2 K D² |
| `absorbed` | q·(g W + b) = (q Wᵀ)·g + q·b, one projection instead of K; softmax in the open | 2 D² + 2 H K D |
| `merged` | absorbed; words go through the fused kernel, all pictures of one as one key | the same |

Where a batch has no more distinct pictures than words, each is projected once instead and looked up (`sight`).
LN_img's scale and shift are folded into the matrices, so that what is left of it depends on a picture alone, has no
parameter and needs no gradient.

Differs from the original: pictures may be hidden and have another width than the model (VAL-03); the matrices that it
allocates for pictures and never uses are left out (VAL-01) unless `projection="separate"`; the scale of the scores
does not depend on whether there are pictures (VAL-02); keys and values of earlier words can be kept (VAL-08).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from vlpnb.errors import UserError
from vlpnb.nn.cache import LayerCache, mix, scores_of
from vlpnb.nn.decoding import precise
from vlpnb.nn.masks import causal_mask
from vlpnb.nn.places import Places, picked, pooled

Way = Literal["reference", "absorbed", "merged"]
Linear = tuple[Tensor, Tensor]
"""Weight and bias of a linear map."""
JOINT = ("shared_bias", "separate", "shared", "no_norm")
"""Projections of pictures inside the joint softmax; "gated" and stacked layers look at pictures apart from words."""
HIDDEN = -1e4
"""Logarithm of the weight of pictures that are all hidden: e to it is 0, and it is finite in every number type."""


@dataclass(frozen=True)
class Pictures:
    """The pictures of a batch of texts."""

    vectors: Float[Tensor, "B T K E"] | Float[Tensor, "U E"]
    """One for every place, or distinct ones, of which `rows` tells the places."""
    rows: Int[Tensor, "B T K"] | None = None
    seen: Bool[Tensor, "B T K"] | None = None
    """False where a picture is hidden; None: all are seen."""

    @property
    def count(self) -> int:
        """K."""
        return (self.vectors if self.rows is None else self.rows).shape[2]

    def at_places(self) -> Float[Tensor, "B T K E"]:
        """The vectors of every word."""
        return self.vectors if self.rows is None else F.embedding(self.rows, self.vectors)


def pictures_of(images: Tensor, mask: Tensor | None = None, rows: Tensor | None = None) -> Pictures:
    """Pictures from what `Valm.forward` takes; a row below 0 is a hidden picture."""
    if rows is None:
        return Pictures(images, None, mask)
    absent = rows < 0
    seen = ~absent if mask is None else mask & ~absent
    return Pictures(images, rows.clamp(min=0), seen)


class Reading(nn.Module):
    """How an image vector becomes what keys and values are made of: projected where its width differs, normalised.

    Args:
        width: E of the vectors.
        hidden: D.
        norm: with LN_img.
        mode: what a hidden picture is: "drop", nothing; "zero", a vector of zeros; "null", one that is learned.
    """

    def __init__(self, width: int, hidden: int, norm: bool = True, mode: str = "drop", eps: float = 1e-5):
        super().__init__()
        self.mode = mode
        self.project = nn.Linear(width, hidden) if width != hidden else None
        self.norm = nn.LayerNorm(hidden, eps) if norm else None
        self.null = nn.Parameter(torch.zeros(width)) if mode == "null" else None

    def forward(self, pictures: Pictures, dtype: torch.dtype) -> Pictures:
        """The pictures with vectors projected and normalised, without LN_img's scale and shift."""
        z, rows, seen = pictures.vectors.to(dtype), pictures.rows, pictures.seen
        if seen is not None and self.mode != "drop":
            fill = z.new_zeros(z.shape[-1]) if self.null is None else self.null.to(dtype)
            if rows is None:
                z = torch.where(seen[..., None], z, fill)
            else:
                z, rows = torch.cat([z, fill[None]]), torch.where(seen, rows, len(z))
            seen = None
        if self.project is not None:
            z = self.project(z)
        if self.norm is not None:
            z = F.layer_norm(z, z.shape[-1:], eps=self.norm.eps)
        return Pictures(z, rows, seen)

    def shifted(self, z: Float[Tensor, "*N D"]) -> Float[Tensor, "*N D"]:
        """With LN_img's scale and shift."""
        return z if self.norm is None else z * self.norm.weight + self.norm.bias

    def folded(
        self, weight: Float[Tensor, "D D"], bias: Float[Tensor, " D"]
    ) -> tuple[Float[Tensor, "D D"], Float[Tensor, " D"]]:
        """A linear map after scale and shift as one before them."""
        if self.norm is None:
            return weight, bias
        return weight * self.norm.weight, F.linear(self.norm.bias, weight, bias)


class Sight(NamedTuple):
    """A word's own pictures as its attention meets them."""

    scores: Callable[[Tensor], Tensor]
    """Queries (B, H, T, d), scaled → products with the keys (B, H, T, K), the least number where hidden."""
    mixed: Callable[[Tensor], Tensor]
    """Weights (B, H, T, K) → Σ of the values (B, H, T, d)."""


def sight(
    reading: Reading, pictures: Pictures, key: Linear, value: Linear, heads: int, way: Way = "merged"
) -> Sight:
    """Keys z Wk + bk and values z Wv + bv of pictures that `reading` has read, by the cheapest products of a way.

    `reference` projects each picture at each place. Else each is projected once where the distinct ones are no more
    than the words, and none where they are more: queries and mixed pictures are.
    """
    z, rows, seen = pictures.vectors, pictures.rows, pictures.seen
    batch, length = (z if rows is None else rows).shape[:2]
    by_head = {"h": heads, "b": batch, "t": length}

    def hide(scores: Tensor) -> Tensor:
        return scores if seen is None else scores.masked_fill(~seen[:, None], torch.finfo(scores.dtype).min)

    if way == "reference":
        g = reading.shifted(pictures.at_places())
        keys, values = (
            rearrange(F.linear(g, *part), "b t k (h d) -> b h t k d", h=heads) for part in (key, value)
        )
        return Sight(
            lambda q: hide(torch.einsum("bhtd,bhtkd->bhtk", q, keys)),
            lambda weights: torch.einsum("bhtk,bhtkd->bhtd", weights.to(values.dtype), values),
        )
    key, value = reading.folded(*key), reading.folded(*value)
    if rows is not None and len(z) <= batch * length:
        tables = [rearrange(F.linear(z, *part), "u (h d) -> (h u) d", h=heads) for part in (key, value)]
        places = Places(rows.flatten(0, 1), heads, len(z))

        def scores(q: Tensor) -> Tensor:
            found = picked(rearrange(q, "b h t d -> (h b t) d"), tables[0], places)
            return hide(rearrange(found, "(h b t) k -> b h t k", **by_head))

        def mixed(weights: Tensor) -> Tensor:
            found = pooled(rearrange(weights, "b h t k -> (h b t) k"), tables[1], places)
            return rearrange(found, "(h b t) d -> b h t d", **by_head)

        return Sight(scores, mixed)

    if rows is None:
        rows = torch.arange(z[..., 0].numel(), device=z.device).view(z.shape[:3])
        z = z.flatten(0, 2)  # (B T K, D)
    places = Places(rows.flatten(0, 1), heads, len(z), shared=True)
    of_key, of_value = (rearrange(part[0], "(h d) e -> h d e", h=heads) for part in (key, value))
    key_bias, value_bias = (rearrange(part[1], "(h d) -> h 1 d", h=heads) for part in (key, value))

    def scores(q: Tensor) -> Tensor:
        absorbed = torch.bmm(rearrange(q, "b h t d -> h (b t) d"), of_key)  # (H, B T, D)
        found = rearrange(picked(absorbed.flatten(0, 1), z, places), "(h b t) k -> b h t k", **by_head)
        return hide(found + (q * key_bias).sum(-1, keepdim=True))

    def mixed(weights: Tensor) -> Tensor:
        found = pooled(rearrange(weights, "b h t k -> (h b t) k"), z, places)
        found = torch.bmm(found.unflatten(0, (heads, -1)), of_value.transpose(1, 2))  # (H, B T, d)
        total = weights.sum(-1, keepdim=True).to(found.dtype)
        return rearrange(found, "h (b t) d -> b h t d", b=batch) + total * value_bias

    return Sight(scores, mixed)


def merge(
    q: Float[Tensor, "B H T d"],
    k: Float[Tensor, "B H S d"],
    v: Float[Tensor, "B H S d"],
    other: Float[Tensor, "B H T"],
    mask: Bool[Tensor, "#B #H #T #S"] | None = None,
    *,
    causal: bool = False,
    dropout: float = 0.0,
) -> tuple[Float[Tensor, "B H T d"], Float[Tensor, "B H T"]]:
    """Attention to words beside something else whose log-sum-exp of scores is `other`, by the fused kernel.

    σ(lse of words − other) would need the words' log-sum-exp, which the kernel has and does not give. Instead the
    other part enters it as one more key, before the first word: a further number of each query is its `other`, which
    meets a 1 in that key and a 0 in the others; one number of the values counts how much went to it. Two numbers, what
    half precision holds of `other` and the rest, keep it exact.

    Args:
        q: queries, scaled already.
        mask: True where a query sees a word. With `causal` the mask is the lower triangle, and T must be S.
        dropout: of attention weights; the other part falls out as one.
    Returns:
        Σ over words, and the other part's share of the attention.
    """
    width = q.shape[-1]
    coarse = other.detach().to(torch.bfloat16).to(q.dtype)
    extra = torch.stack([coarse, (other - coarse).to(q.dtype)], dim=-1)
    wide = -(-(width + 2) // 8) * 8  # a multiple of 8, for the kernels
    q = F.pad(torch.cat([q, extra], dim=-1), (0, wide - width - 2))
    k = F.pad(k, (0, wide - width, 1, 0))
    k[..., 0, width : width + 2] = 1.0
    v = F.pad(v, (0, wide - width, 1, 0))
    v[..., 0, width] = 1.0
    if causal:  # one more query before the first, so that the triangle stays one
        q = F.pad(q, (0, 0, 1, 0))
    elif mask is not None:
        mask = F.pad(mask.expand(*mask.shape[:3], k.shape[2] - 1), (1, 0), value=True)
    mixed = F.scaled_dot_product_attention(
        q, k, v, attn_mask=None if causal else mask, dropout_p=dropout, is_causal=causal, scale=1.0
    )
    mixed = mixed[:, :, 1:] if causal else mixed
    return mixed[..., :width], mixed[..., width]


class JointAttention(nn.Module):
    """Attention to earlier words and to a word's own pictures in one softmax (see above).

    Args:
        hidden, heads: D and H.
        width: E of the image vectors; where it is not D they are projected first.
        projection: one of `JOINT`: how keys and values of pictures are made.
        scale: "head" divides scores by √(D/H), as elsewhere; "model" by √D, as the original (VAL-02).
        mode: as in `Reading`.
    """

    def __init__(
        self,
        hidden: int,
        heads: int,
        width: int,
        projection: str = "shared_bias",
        scale: str = "head",
        mode: str = "drop",
        dropout: float = 0.0,
        eps: float = 1e-5,
    ):
        super().__init__()
        if hidden % heads:
            raise UserError(f"hidden = {hidden} cannot be split into heads = {heads} of equal width")
        self.heads, self.dropout, self.way = heads, dropout, "merged"
        self.scale = (hidden if scale == "model" else hidden // heads) ** -0.5
        self.query, self.key, self.value, self.out = (nn.Linear(hidden, hidden) for _ in range(4))
        self.reading = Reading(width, hidden, projection != "no_norm", mode, eps)
        self.image_key = self.image_value = None
        self.image_key_bias = self.image_value_bias = None
        if projection == "separate":
            self.image_key, self.image_value = nn.Linear(hidden, hidden), nn.Linear(hidden, hidden)
        elif projection != "shared":
            edge = hidden**-0.5
            self.image_key_bias = nn.Parameter(torch.empty(hidden).uniform_(-edge, edge))
            self.image_value_bias = nn.Parameter(torch.empty(hidden).uniform_(-edge, edge))

    def image_maps(self) -> tuple[Linear, Linear]:
        """Weight and bias of a picture's key, and of its value."""
        if self.image_key is not None:
            return (self.image_key.weight, self.image_key.bias), (
                self.image_value.weight,
                self.image_value.bias,
            )
        if self.image_key_bias is None:
            return (self.key.weight, self.key.bias), (self.value.weight, self.value.bias)
        return (self.key.weight, self.image_key_bias), (self.value.weight, self.image_value_bias)

    def forward(
        self,
        x: Float[Tensor, "B T D"],
        pictures: Pictures | None = None,
        mask: Bool[Tensor, "#B #H #T #S"] | None = None,
        *,
        causal: bool = False,
        weights: bool = False,
        cache: LayerCache | None = None,
        way: Way | None = None,
    ) -> tuple[Float[Tensor, "B T D"], Float[Tensor, "B T"] | None, Float[Tensor, "B H T S"] | None]:
        """Attend; returns the stream, the share of the attention that went to pictures (mean over heads), the map.

        Args:
            mask: True where a query may see a word; with `causal` it is not asked.
            weights: also return the map, whose columns are the words and then the pictures.
            cache: earlier words, which come first among the words.
            way: None takes `self.way`, or the softmax in the open where a map or a cache needs it.
        """
        q = rearrange(self.query(x), "b t (h d) -> b h t d", h=self.heads) * self.scale
        k = rearrange(self.key(x), "b s (h d) -> b h s d", h=self.heads)
        v = rearrange(self.value(x), "b s (h d) -> b h s d", h=self.heads)
        prefix = None, None
        if cache is not None:
            prefix = cache.prefix or prefix
            k, v = cache.extend(k, v)
        way = way or self.way
        if way == "merged" and (weights or cache is not None):
            way = "absorbed"
        seen = None
        if pictures is not None and pictures.count:
            seen = sight(self.reading, self.reading(pictures, x.dtype), *self.image_maps(), self.heads, way)
        dropout = self.dropout if self.training else 0.0
        if way == "merged":
            mixed, share = self._merged(q, k, v, seen, mask, causal, dropout)
            return self.out(rearrange(mixed, "b h t d -> b t (h d)")), share, None

        if causal and cache is None:
            mask = causal_mask(k.shape[2], x.device)
        scores = scores_of(q, k, prefix[0])  # (B, H, T, S)
        if mask is not None:
            scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
        words, share = scores.shape[-1], None
        if seen is not None:
            scores = torch.cat([scores, seen.scores(q)], dim=-1)  # (B, H, T, S + K)
        attention = precise(scores).softmax(dim=-1)
        dropped = F.dropout(attention, dropout).to(v.dtype)
        mixed = mix(dropped[..., :words], v, prefix[1])
        if seen is not None:
            share = attention[..., words:].sum(-1).mean(1)
            mixed = mixed + seen.mixed(dropped[..., words:])
        out = self.out(rearrange(mixed, "b h t d -> b t (h d)"))
        return out, share, attention if weights else None

    def _merged(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        seen: Sight | None,
        mask: Tensor | None,
        causal: bool,
        dropout: float,
    ) -> tuple[Tensor, Tensor | None]:
        if seen is None:
            mask = None if causal else mask
            options = {"attn_mask": mask, "dropout_p": dropout, "is_causal": causal, "scale": 1.0}
            return F.scaled_dot_product_attention(q, k, v, **options), None
        scores = precise(seen.scores(q))
        other = scores.logsumexp(-1).clamp(min=HIDDEN)
        mixed, share = merge(q, k, v, other, mask, causal=causal, dropout=dropout)
        within = (scores - other[..., None]).exp()  # 0 where all are hidden
        return mixed + share[..., None] * seen.mixed(within), precise(share).mean(1)
