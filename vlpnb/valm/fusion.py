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

LN_img's scale and shift are folded into the matrices, so that what is left of it depends on a picture alone, has no
parameter and needs no gradient.

Differs from the original: pictures may be hidden and have another width than the model (VAL-03); the matrices that it
allocates for pictures and never uses are left out (VAL-01) unless `projection="separate"`; the scale of the scores
does not depend on whether there are pictures (VAL-02); keys and values of earlier words can be kept (VAL-08).
"""

from dataclasses import dataclass
from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from vlpnb.errors import UserError
from vlpnb.nn.attention import Attention
from vlpnb.nn.cache import LayerCache, mix, scores_of

Way = Literal["reference", "absorbed", "merged"]
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

    def forward(
        self, pictures: Pictures, dtype: torch.dtype
    ) -> tuple[Float[Tensor, "B T K D"], Bool[Tensor, "B T K"] | None]:
        """Vectors as normalised as they are without LN_img's scale and shift, and which are seen (None: all)."""
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
        return (z if rows is None else F.embedding(rows, z)), seen

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


def look(
    q: Float[Tensor, "B H T d"],
    z: Float[Tensor, "B T K D"],
    weight: Float[Tensor, "D D"],
    bias: Float[Tensor, " D"],
    seen: Bool[Tensor, "B T K"] | None,
) -> Float[Tensor, "B H T K"]:
    """Scores q · (z W + b) of a word's own pictures without projecting them; −∞ (the least number) where hidden."""
    heads = q.shape[1]
    per_head = rearrange(weight, "(h d) e -> h d e", h=heads)
    absorbed = rearrange(torch.einsum("bhtd,hde->bthe", q, per_head), "b t h e -> (b t) h e")
    scores = rearrange(absorbed @ z.flatten(0, 1).transpose(1, 2), "(b t) h k -> b h t k", b=len(q))
    scores = scores + torch.einsum("bhtd,hd->bht", q, rearrange(bias, "(h d) -> h d", h=heads))[..., None]
    if seen is not None:
        scores = scores.masked_fill(~seen[:, None], torch.finfo(scores.dtype).min)
    return scores


def gather(
    weights: Float[Tensor, "B H T K"],
    z: Float[Tensor, "B T K D"],
    weight: Float[Tensor, "D D"],
    bias: Float[Tensor, " D"],
) -> Float[Tensor, "B H T d"]:
    """Σ_k w[k] (z[k] W + b), the pictures mixed before they are projected."""
    per_head = rearrange(weight, "(h d) e -> h d e", h=weights.shape[1])
    mixed = rearrange(weights, "b h t k -> (b t) h k").to(z.dtype) @ z.flatten(0, 1)
    mixed = rearrange(mixed, "(b t) h e -> b h t e", b=len(weights))
    out = torch.einsum("bhte,hde->bhtd", mixed, per_head)
    total = weights.sum(-1, keepdim=True).to(out.dtype)
    return out + total * rearrange(bias, "(h d) -> h 1 d", h=weights.shape[1])


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


def _precise(x: Tensor) -> Tensor:
    """In float32 at least, whatever a model computes in."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


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

    def image_maps(self) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
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
        z, seen = (None, None) if pictures is None else self.reading(pictures, x.dtype)
        if z is not None and z.shape[2] == 0:
            z = None
        dropout = self.dropout if self.training else 0.0
        if way == "merged":
            mixed, share = self._merged(q, k, v, z, seen, mask, causal, dropout)
            return self.out(rearrange(mixed, "b h t d -> b t (h d)")), share, None

        if causal and cache is None:
            mask = torch.ones(k.shape[2], k.shape[2], dtype=torch.bool, device=x.device).tril()[None, None]
        scores = scores_of(q, k, prefix[0])  # (B, H, T, S)
        if mask is not None:
            scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
        words = scores.shape[-1]
        if z is not None:
            key, value = self.image_maps()
            if way == "reference":
                g = self.reading.shifted(z)
                keys, values = (
                    rearrange(F.linear(g, *part), "b t k (h d) -> b h t k d", h=self.heads)
                    for part in (key, value)
                )
                to_images = torch.einsum("bhtd,bhtkd->bhtk", q, keys)
                if seen is not None:
                    to_images = to_images.masked_fill(~seen[:, None], torch.finfo(scores.dtype).min)
            else:
                to_images = look(q, z, *self.reading.folded(*key), seen)
            scores = torch.cat([scores, to_images], dim=-1)  # (B, H, T, S + K)
        attention = _precise(scores).softmax(dim=-1)
        dropped = F.dropout(attention, dropout).to(v.dtype)
        mixed = mix(dropped[..., :words], v, prefix[1])
        share = None
        if z is not None:
            share = attention[..., words:].sum(-1).mean(1)
            if way == "reference":
                mixed = mixed + torch.einsum("bhtk,bhtkd->bhtd", dropped[..., words:], values)
            else:
                mixed = mixed + gather(dropped[..., words:], z, *self.reading.folded(*value))
        out = self.out(rearrange(mixed, "b h t d -> b t (h d)"))
        return out, share, attention if weights else None

    def _merged(self, q, k, v, z, seen, mask, causal, dropout) -> tuple[Tensor, Tensor | None]:
        if z is None:
            mask = None if causal else mask
            options = {"attn_mask": mask, "dropout_p": dropout, "is_causal": causal, "scale": 1.0}
            return F.scaled_dot_product_attention(q, k, v, **options), None
        key, value = self.image_maps()
        scores = _precise(look(q, z, *self.reading.folded(*key), seen))
        other = scores.logsumexp(-1).clamp(min=HIDDEN)
        within = scores.softmax(-1)
        mixed, share = merge(q, k, v, other, mask, causal=causal, dropout=dropout)
        images = gather(within, z, *self.reading.folded(*value))
        return mixed + share[..., None] * images, _precise(share).mean(1)


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
        own = self.attention
        u = self.norm(x)
        z, seen = self.reading(pictures, x.dtype)
        if self.scope == "own":
            q = (
                rearrange(own.query(u), "b t (h d) -> b h t d", h=own.heads)
                * (x.shape[-1] // own.heads) ** -0.5
            )
            key, value = (self.reading.folded(part.weight, part.bias) for part in (own.key, own.value))
            attention = _precise(look(q, z, *key, seen)).softmax(-1)
            if seen is not None:
                attention = attention.masked_fill(~seen[:, None], 0.0)
            attention = F.dropout(attention, own.dropout if self.training else 0.0)
            out = own.out(rearrange(gather(attention, z, *value), "b h t d -> b t (h d)"))
            none = None if seen is None else ~seen.any(-1)  # (B, T)
        else:
            length, count = z.shape[1:3]
            mask = torch.ones(1, length, length, dtype=torch.bool, device=x.device)
            mask = mask.tril() if self.scope == "past" else mask
            mask = mask.repeat_interleave(count, dim=2)[:, None]  # (1, 1, T, T K)
            if seen is not None:
                mask = mask & seen.flatten(1)[:, None, None]
            out, _ = own(u, mask, self.reading.shifted(z).flatten(1, 2))
            none = None if seen is None else ~mask.any(-1)[:, 0]
        if none is not None:
            out = out.masked_fill(none[..., None], 0.0)
        return out if self.gate is None else out * self.gate.tanh()
