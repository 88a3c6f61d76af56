"""The Transformer of the house: configuration, embeddings, block, encoder.

Reads top to bottom. With `norm="post"` it is BERT (Devlin et al. 2019) or, with a position offset, RoBERTa
(Liu et al. 2019); with `norm="pre"` and `causal=True` the order of GPT-2. The systems of the course add
streams, memories, masks and heads to these parts; `checkpoints.py` loads and saves public weights.

Differs from the original code of BERT: no pooler inside (it is a head, `heads.py`), boolean masks, fused
attention kernels, and attention maps from the same forward pass.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from vlpnb.errors import UserError
from vlpnb.nn.attention import Attention, Keys
from vlpnb.nn.cache import Cache, LayerCache
from vlpnb.nn.masks import causal_mask, combine, padding_mask

ACTIVATIONS = {
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "relu": F.relu,
    "silu": F.silu,
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),  # CLIP's
}


@dataclass(frozen=True)
class TransformerConfig:
    """Shape of a Transformer; the defaults are BERT base (Devlin et al. 2019, section 3)."""

    vocab_size: int = 30522
    """V, number of word pieces."""
    hidden: int = 768
    """D, width of the residual stream."""
    layers: int = 12
    """L, number of blocks."""
    heads: int = 12
    """H, attention heads per block; must divide `hidden`."""
    ffn: int = 3072
    """Width inside the feed-forward layer."""
    max_positions: int = 512
    """Rows of the position table; `max_positions - position_offset` tokens fit."""
    type_vocab: int = 2
    """Number of segment types; 0 leaves the type embedding out."""
    dropout: float = 0.1
    """Dropout of embeddings and residual branches, in training mode only."""
    attention_dropout: float = 0.1
    """Dropout of attention weights, in training mode only."""
    norm_eps: float = 1e-12
    """Epsilon of every layer norm."""
    norm: str = "post"
    """Layer norm after the residual sum ("post", BERT) or before each branch and at the end ("pre", GPT)."""
    activation: str = "gelu"
    """A key of `ACTIVATIONS`, the non-linearity of the feed-forward layers; "gelu" is the exact (erf) one."""
    pad_id: int = 0
    """Id of the padding token; RoBERTa counts positions by it."""
    position_offset: int = 0
    """0: positions are 0, 1, 2, … (BERT). Otherwise real tokens count from here (RoBERTa: `pad_id + 1`)."""
    causal: bool = False
    """Each position sees only itself and earlier ones."""

    def __post_init__(self) -> None:
        if self.hidden % self.heads:
            raise UserError(
                f"hidden = {self.hidden} cannot be split into heads = {self.heads} of equal width"
            )
        if self.activation not in ACTIVATIONS:
            raise UserError(f"activation = {self.activation!r}; expected one of {', '.join(ACTIVATIONS)}")
        if self.norm not in ("post", "pre"):
            raise UserError(f"norm = {self.norm!r}; expected 'post' or 'pre'")
        if self.position_offset >= self.max_positions:
            raise UserError(
                f"max_positions = {self.max_positions}; expected > position_offset = {self.position_offset}"
            )

    @classmethod
    def of(cls, shape: Any, **others: Any) -> "TransformerConfig":
        """What a model's configuration says under the same names, and others."""
        given = {f.name: getattr(shape, f.name) for f in fields(cls) if hasattr(shape, f.name)}
        return cls(**given | others)

    @property
    def max_tokens(self) -> int:
        """Longest sequence that the position table allows."""
        return self.max_positions - self.position_offset


def check_numbers(shape: Any, ids: Iterable[str] = (), **least: int) -> None:
    """UserError names a whole number of a model's configuration that is too small, or an id beyond its `vocab_size`.

    Args:
        ids: fields that are ids of the vocabulary.
        least: the smallest number of a field; of those not named 1.
    """
    name_of = type(shape).__name__
    for name, value in vars(shape).items():
        if type(value) is int and value < least.get(name, 1):
            raise UserError(f"{name_of}.{name} = {value}; expected at least {least.get(name, 1)}")
    for name in ids:
        if getattr(shape, name) >= shape.vocab_size:
            raise UserError(
                f"{name_of}.{name} = {getattr(shape, name)}; expected below vocab_size = {shape.vocab_size}"
            )


@dataclass
class EncoderOutput:
    """What an encoder returns."""

    last: Float[Tensor, "B T D"]
    """Hidden states after the last block (after the final norm, with `norm="pre"`)."""
    hidden_states: list[Float[Tensor, "B T D"]] | None = None
    """L + 1 tensors when asked for: the embeddings, then every block's output; the last one is `last`."""
    attentions: list[Float[Tensor, "B H T S"]] | None = None
    """L attention maps when asked for; row t says where token t looked. S is T but with a cache (`encode`)."""


class Embeddings(nn.Module):
    """Word + position + segment type, then layer norm (post-norm models only) and dropout."""

    def __init__(self, config: TransformerConfig):
        super().__init__()
        self.config = config
        self.words = nn.Embedding(config.vocab_size, config.hidden)
        self.positions = nn.Embedding(config.max_positions, config.hidden)
        self.types = nn.Embedding(config.type_vocab, config.hidden) if config.type_vocab else None
        self.norm = nn.LayerNorm(config.hidden, config.norm_eps) if config.norm == "post" else None
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self, ids: Int[Tensor, "B T"], types: Int[Tensor, "B T"] | None = None
    ) -> Float[Tensor, "B T D"]:
        """Embed token ids; `types` None means all zero. Raises UserError for sequences that are too long."""
        x = self.words(ids) + self.positions(self.position_ids(ids))
        if self.types is not None:
            # All-zero types are one row that broadcasts: (D,)
            x = x + (self.types.weight[0] if types is None else self.types(types))
        if self.norm is not None:
            x = self.norm(x)
        return self.dropout(x)

    def position_ids(self, ids: Int[Tensor, "B T"]) -> Int[Tensor, "#B T"]:
        """Row of the position table for every token.

        BERT numbers the columns. RoBERTa (fairseq) numbers the tokens that are not padding, starting at
        `pad_id + 1`, and gives all padding the position `pad_id`.
        """
        if ids.shape[1] > self.config.max_tokens:
            raise UserError(
                f"{ids.shape[1]} tokens do not fit into the {self.config.max_tokens} of this model; "
                "truncate the text or raise max_positions"
            )
        if self.config.position_offset == 0:
            return torch.arange(ids.shape[1], device=ids.device)[None]
        real = (ids != self.config.pad_id).long()
        return real.cumsum(dim=1) * real + self.config.position_offset - 1


class AttentionLayer(nn.Module):
    """Attention as a residual branch: `norm(x + attention(x))`, or `x + attention(norm(x))` with pre-norm."""

    def __init__(self, config: TransformerConfig, memory: int | None = None):
        super().__init__()
        self.pre_norm = config.norm == "pre"
        self.attention = Attention(config.hidden, config.heads, config.attention_dropout, memory)
        self.norm = nn.LayerNorm(config.hidden, config.norm_eps)
        self.dropout = nn.Dropout(config.dropout)

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
        """Arguments and results as in `Attention.forward`; `queries` are of what it is given, after a pre-norm."""
        branch, attention = self.attention(
            self.norm(x) if self.pre_norm else x,
            mask,
            memory,
            causal=causal,
            weights=weights,
            cache=cache,
            cached=cached,
            queries=queries,
        )
        x = x + self.dropout(branch)
        return (x if self.pre_norm else self.norm(x)), attention


class FeedForward(nn.Module):
    """Two linear maps with a non-linearity between, at every position alone, as a residual branch."""

    def __init__(self, config: TransformerConfig):
        super().__init__()
        self.pre_norm = config.norm == "pre"
        self.activation = ACTIVATIONS[config.activation]
        self.inner = nn.Linear(config.hidden, config.ffn)
        self.outer = nn.Linear(config.ffn, config.hidden)
        self.norm = nn.LayerNorm(config.hidden, config.norm_eps)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Float[Tensor, "*B T D"]) -> Float[Tensor, "*B T D"]:
        """`norm(x + ffn(x))`, or `x + ffn(norm(x))` with pre-norm."""
        branch = self.outer(self.activation(self.inner(self.norm(x) if self.pre_norm else x)))
        x = x + self.dropout(branch)
        return x if self.pre_norm else self.norm(x)


class Block(nn.Module):
    """One layer of the Transformer: tokens look at each other, then each thinks alone."""

    def __init__(self, config: TransformerConfig):
        super().__init__()
        self.look = AttentionLayer(config)
        self.think = FeedForward(config)

    def forward(
        self,
        x: Float[Tensor, "B T D"],
        mask: Bool[Tensor, "#B #H #T #S"] | None = None,
        *,
        causal: bool = False,
        weights: bool = False,
        cache: LayerCache | None = None,
    ) -> tuple[Float[Tensor, "B T D"], Float[Tensor, "B H T S"] | None]:
        """The new stream, and the attention map when `weights`. S is T, or with a cache what is in it then."""
        x, attention = self.look(x, mask, causal=causal, weights=weights, cache=cache)
        return self.think(x), attention


class Encoder(nn.Module):
    """Embeddings and L blocks: ids in, hidden states out. New ones are initialised with N(0, 0.02)."""

    def __init__(self, config: TransformerConfig):
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.hidden, config.norm_eps) if config.norm == "pre" else None
        init_weights(self)

    @property
    def word_weight(self) -> Float[Tensor, "V D"]:
        """The word embedding table, which language-model heads use as their decoder (tied weights)."""
        return self.embeddings.words.weight

    def forward(
        self,
        ids: Int[Tensor, "B T"],
        mask: Bool[Tensor, "B T"] | Int[Tensor, "B T"] | Bool[Tensor, "#B #H T T"] | None = None,
        types: Int[Tensor, "B T"] | None = None,
        *,
        hidden_states: bool = False,
        attentions: bool = False,
    ) -> EncoderOutput:
        """Encode a batch.

        Args:
            ids: token ids.
            mask: the tokenizer's attention mask (1 real, 0 padding), or a full mask from `masks.py`, or None
                when nothing is padded (the fastest).
            types: segment ids; None means all zero.
            hidden_states: also return the embeddings and every block's output.
            attentions: also return every block's attention map, from this very pass.
        """
        if mask is not None and mask.dim() == 2:
            mask = padding_mask(mask)
        if self.config.causal:
            mask = combine(mask, causal_mask(ids.shape[1], ids.device))
        return self.encode(
            self.embeddings(ids, types), mask, hidden_states=hidden_states, attentions=attentions
        )

    def encode(
        self,
        x: Float[Tensor, "B T D"],
        mask: Bool[Tensor, "#B #H #T #S"] | None = None,
        *,
        hidden_states: bool = False,
        attentions: bool = False,
        cache: Cache | None = None,
    ) -> EncoderOutput:
        """Run the blocks over vectors that are embedded already (words, image regions, or both).

        With a `cache` they follow the positions that it holds, which the mask's S keys then begin with, and are added
        to it.
        """
        states, maps = [x], []
        caches = [None] * len(self.blocks) if cache is None else cache.layers
        for block, kept in zip(self.blocks, caches, strict=True):
            x, attention = block(x, mask, weights=attentions, cache=kept)
            if hidden_states:
                states.append(x)
            if attentions:
                maps.append(attention)
        if self.norm is not None:
            x = self.norm(x)
            states[-1] = x
        return EncoderOutput(x, states if hidden_states else None, maps if attentions else None)


def init_weights(module: nn.Module, std: float = 0.02, calm: float = 1.0) -> None:
    """BERT's initialisation of all layers inside: weights N(0, std), biases 0, layer norms 1 and 0.

    Where a block looks (queries and keys) and what its feed-forward adds begin `calm` times as large: with a small
    factor a state begins as the mean of all that is seen, which little data teaches fastest.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Embedding):
            nn.init.normal_(layer.weight, std=std)
        if isinstance(layer, nn.LayerNorm):
            nn.init.ones_(layer.weight)
        if isinstance(layer, nn.Linear | nn.LayerNorm) and layer.bias is not None:
            nn.init.zeros_(layer.bias)
    for block in module.modules() if calm != 1 else ():
        if isinstance(block, Block):
            for part in (block.look.attention.query, block.look.attention.key, block.think.outer):
                part.weight.data.mul_(calm)
