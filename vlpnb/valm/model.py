"""VaLM: a causal language model that looks at pictures ("Visually-Augmented Language Modeling", Wang et al. 2023).

Reads top to bottom, from the layers of `vlpnb.nn`:

    words ─ √D · embedding + position → L pre-norm blocks → norm → scores, by the table of the embedding
                                          │
                    block L − 2: words and each word's own pictures in one softmax (`fusion.py`)

The pictures are vectors of a frozen network that a search found for each word; pixels are never seen. Which they are is
not this file's business: `forward` takes vectors (B, T, K, E), or distinct ones with the rows that each word found.

The model also reads in both directions (`causal=False`), for words that are masked, and takes GPT-2's form: learned
positions, no scale of the embedding (`config.SIZES["gpt2"]`; weights: `original/weights.py`).

Differs from the original: hidden pictures, other widths of image vectors and several fusion layers are possible
(VAL-03, VAL-06); keys and values can be kept (VAL-08); "stack" layers on top look at pictures apart from words. Sizes
are in `config.py`, objectives in `objectives.py`.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from vlpnb.errors import UserError
from vlpnb.nn.cache import Cache, LayerCache
from vlpnb.nn.masks import padding_mask
from vlpnb.nn.onednn import quick_products
from vlpnb.nn.transformer import AttentionLayer, Block, FeedForward
from vlpnb.valm.apart import ImageAttention
from vlpnb.valm.config import ValmConfig
from vlpnb.valm.fusion import JointAttention, Pictures, pictures_of


def sinusoids(rows: int, width: int, zero: int | None = None) -> Float[Tensor, "P D"]:
    """Positions 0 … rows − 1: sines in the first half, cosines in the second, of frequencies 10000^(−i / (D/2 − 1)).

    Args:
        zero: a row of zeros, that of padding.
    """
    half = width // 2
    frequencies = torch.exp(torch.arange(half) * -(torch.log(torch.tensor(10000.0)) / max(half - 1, 1)))
    angles = torch.arange(rows)[:, None] * frequencies
    table = torch.cat([angles.sin(), angles.cos()], dim=1)
    if zero is not None:
        table[zero] = 0.0
    return table


class Embeddings(nn.Module):
    """Words, scaled, and positions, which count the words that are not padding."""

    def __init__(self, config: ValmConfig):
        super().__init__()
        self.config = config
        padding = None if config.pad_id < 0 else config.pad_id
        self.words = nn.Embedding(config.vocab_size, config.hidden, padding_idx=padding)
        self.first = 0  # position of the first word; the original's is that behind the padding's row
        if config.positions == "learned":
            self.positions = nn.Embedding(config.max_positions, config.hidden)
        else:
            self.first = config.pad_id + 1
            table = sinusoids(self.first + config.max_positions, config.hidden, padding)
            self.register_buffer("sinusoids", table, persistent=False)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self,
        ids: Int[Tensor, "B T"],
        real: Bool[Tensor, "B T"] | None = None,
        before: int | Int[Tensor, "B 1"] = 0,
    ) -> Float[Tensor, "B T D"]:
        """Embed. `real` is False at padding, where None: where an id is `pad_id`; `before`: words that came earlier."""
        x = self.words(ids)
        if self.config.embed_scale:
            x = x * self.config.hidden**0.5
        return self.dropout(x + self.positions_of(ids, real, before).to(x.dtype))

    def positions_of(
        self, ids: Int[Tensor, "B T"], real: Bool[Tensor, "B T"] | None = None, before: int | Tensor = 0
    ) -> Float[Tensor, "B T D"]:
        """The vectors of the positions; padding has zeros, or of learned ones the first."""
        real = ids != self.config.pad_id if real is None else real
        places = before + real.cumsum(dim=1) - 1 + self.first
        if self.config.positions == "learned":
            return self.positions(places.clamp(min=0) * real)
        return self.sinusoids[places * real + (~real) * max(self.config.pad_id, 0)] * real[..., None]


class JointLayer(nn.Module):
    """The joint attention as a residual branch, pre-norm: x + attention(norm(x), pictures)."""

    def __init__(self, config: ValmConfig):
        super().__init__()
        self.attention = JointAttention(
            config.hidden, config.heads, config.image_width, config.projection, config.scale, config.image_mode,
            config.dropout, config.norm_eps,
        )  # fmt: skip
        self.norm = nn.LayerNorm(config.hidden, config.norm_eps)
        self.dropout = nn.Dropout(config.dropout)


class FusionBlock(nn.Module):
    """A block whose words look at words and at their own pictures: in one softmax, or at pictures apart.

    Apart (`projection="gated"`, and the layers of a stack) means an attention to pictures alone between the block's two
    halves.
    """

    def __init__(self, config: ValmConfig, joint: bool = True, gate: bool = False, scope: str = "own"):
        super().__init__()
        self.look = JointLayer(config) if joint else AttentionLayer(config.transformer)
        self.see = None
        if not joint:
            self.see = ImageAttention(
                config.hidden, config.heads, config.image_width, scope, gate, config.image_mode, config.dropout,
                config.norm_eps,
            )  # fmt: skip
        self.dropout = nn.Dropout(config.dropout)
        self.think = FeedForward(config.transformer)

    def forward(
        self,
        x: Float[Tensor, "B T D"],
        pictures: Pictures | None,
        mask: Bool[Tensor, "#B #H #T #S"] | None = None,
        *,
        causal: bool = False,
        weights: bool = False,
        cache: LayerCache | None = None,
    ) -> tuple[Float[Tensor, "B T D"], Float[Tensor, "B T"] | None, Float[Tensor, "B H T S"] | None]:
        """The stream, what share of the joint attention went to pictures, and the map when `weights`."""
        if self.see is None:
            branch, share, attention = self.look.attention(
                self.look.norm(x), pictures, mask, causal=causal, weights=weights, cache=cache
            )
            return self.think(x + self.look.dropout(branch)), share, attention
        x, attention = self.look(x, mask, causal=causal, weights=weights, cache=cache)
        if pictures is not None:
            x = x + self.dropout(self.see(x, pictures))
        return self.think(x), None, attention


@dataclass
class ValmOutput:
    """What a VaLM returns."""

    last: Float[Tensor, "B T D"]
    """States after the final norm."""
    image_mass: Float[Tensor, "B T"] | None = None
    """Share of the joint attention that went to pictures, mean over heads and fusion layers; None without pictures."""
    maps: list[Float[Tensor, "B H T _"]] | None = None
    """A map of each block when asked for; words first, then in fusion layers the K pictures."""
    hidden_states: list[Float[Tensor, "B T D"]] | None = None
    """The embeddings and what each block returned, before the final norm, when asked for."""


class Valm(nn.Module):
    """The decoder: words and the pictures found for them → states. New weights are the original's kind (fairseq's)."""

    def __init__(self, config: ValmConfig):
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config)
        gated = config.projection == "gated"
        blocks: list[nn.Module] = [
            FusionBlock(config, not gated, gated) if layer in config.fused else Block(config.transformer)
            for layer in range(config.layers)
        ]
        blocks += [FusionBlock(config, False, False, config.scope) for _ in range(config.stack)]
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(config.hidden, config.norm_eps)
        self._new_weights()

    def _new_weights(self) -> None:
        """Embeddings N(0, 1/√D), projections of attention Xavier-uniform; all else as PyTorch makes it."""
        nn.init.normal_(self.embeddings.words.weight, std=self.config.hidden**-0.5)
        if self.config.pad_id >= 0:
            nn.init.zeros_(self.embeddings.words.weight[self.config.pad_id].data)
        if self.config.positions == "learned":
            nn.init.normal_(self.embeddings.positions.weight, std=0.02)
        for name, layer in self.named_modules():
            if name.endswith(
                ("attention.query", "attention.key", "attention.value", "image_key", "image_value")
            ):
                nn.init.xavier_uniform_(layer.weight, gain=2**-0.5)
            elif name.endswith("attention.out"):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)

    @property
    def word_weight(self) -> Float[Tensor, "V D"]:
        """The word table, which scores the words too."""
        return self.embeddings.words.weight

    def new_cache(self) -> Cache:
        """An empty cache for `forward`."""
        return Cache(len(self.blocks))

    def forward(
        self,
        ids: Int[Tensor, "B T"],
        images: Float[Tensor, "B T K E"] | Float[Tensor, "U E"] | None = None,
        image_mask: Bool[Tensor, "B T K"] | None = None,
        *,
        rows: Int[Tensor, "B T K"] | None = None,
        real: Bool[Tensor, "B T"] | None = None,
        causal: bool = True,
        maps: bool = False,
        hidden_states: bool = False,
        cache: Cache | None = None,
    ) -> ValmOutput:
        """Read words and their pictures.

        Args:
            ids: word pieces.
            images: the vectors of each word's pictures, of any float type; with `rows` distinct vectors. None: a text
                without pictures.
            image_mask: False where a picture is hidden; None: all are seen.
            rows: which of the distinct vectors each word found; a row below 0 is a hidden picture.
            real: False at padding; None: where an id is `pad_id`.
            causal: a word sees earlier ones alone; False: all words, but padding.
            maps, hidden_states: return these of this very pass.
            cache: earlier words (`new_cache`), which the new ones are added to.

        Raises:
            UserError: the text is longer than the model, or the vectors have another width, or pictures are missing or
                too many.
        """
        config, caches, before = self.config, [None] * len(self.blocks), 0
        self._refuse(ids, images, rows, causal, cache)
        if cache is not None:
            caches, before = cache.layers, cache.length + cache.width
            if cache.seen is not None:
                before = cache.length + cache.seen.sum(1, keepdim=True)
                before = before.repeat_interleave(len(ids) // len(before), dim=0)
        pictures = None if images is None else pictures_of(images, image_mask, rows)
        x = self.embeddings(ids, real, before)
        mask = None
        if cache is not None:
            total = cache.length + ids.shape[1]
            own = torch.ones(ids.shape[1], total, dtype=torch.bool, device=ids.device).tril(cache.length)
            mask, causal = cache.mask(own[None, None], len(ids)), False
        elif not causal:
            real = ids != config.pad_id if real is None else real
            mask = padding_mask(real)
        states, shares, found = [x], [], []
        with quick_products(x):
            for block, kept in zip(self.blocks, caches, strict=True):
                share = None
                if isinstance(block, FusionBlock):
                    x, share, attention = block(x, pictures, mask, causal=causal, weights=maps, cache=kept)
                else:
                    x, attention = block(x, mask, causal=causal, weights=maps, cache=kept)
                states.append(x)
                found.append(attention)
                shares += [] if share is None else [share]
        mass = torch.stack(shares).mean(0) if shares else None
        return ValmOutput(self.norm(x), mass, found if maps else None, states if hidden_states else None)

    def _refuse(
        self, ids: Tensor, images: Tensor | None, rows: Tensor | None, causal: bool, cache: Cache | None
    ) -> None:
        """UserError for what this model cannot read."""
        config = self.config
        length = ids.shape[1] + (0 if cache is None else cache.length + cache.width)
        if length > config.max_positions:
            raise UserError(
                f"{length} tokens do not fit into the {config.max_positions} of this model; cut the text (or split it) "
                "or raise max_positions"
            )
        if images is None:
            return
        if not config.fused and not config.stack:
            raise UserError("this model has no fusion layer; expected a text without pictures")
        if images.shape[-1] != config.image_width:
            raise UserError(
                f"image vectors have {images.shape[-1]} numbers; this model expects {config.image_width}: those of the "
                "network that it was trained with"
            )
        if (rows is None) != (images.ndim == 4):
            raise UserError(
                f"images have the shape {list(images.shape)}; expected (B, T, K, E), or (U, E) together with `rows`"
            )
        if config.stack and config.scope != "own" and cache is not None:
            raise UserError(
                f'scope = {config.scope!r} cannot be written with step by step; expected scope = "own"'
            )
        if config.stack and config.scope == "all" and causal:
            raise UserError(
                'scope = "all" shows words the pictures of later ones; expected it with masked words alone'
            )
