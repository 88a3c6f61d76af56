"""CCLM: one model for pictures and sentences of many languages ("Cross-View Language Modeling", Zeng et al. 2023).

Reads top to bottom, from the layers of `vlpnb.nn`:

    picture  → patches, their mean first ─────────────┐ a view: (1 + P, D), or (T, D)
    sentence → embedding → text layers ───────────────┤
                               │                      │ keys and values, made once a view
                               └→ fusion layers ←─────┘ → match, words, box

A *view* is a picture or a sentence; both are sequences of the same width, so that the fusion layers read a sentence
with a picture or with its translation as memory, by the same weights, and the memory is never changed. The first vector
of a view alone, projected, is how it is found among many.

A fusion layer is self-attention, attention to the memory, feed-forward (section 3.1). Keys and values of a memory do
not depend on the sentence (`memory_keys`), and where few positions are read the last layer computes no others
(`places`): both give the same numbers for less.

Differs from the original: positions begin at 2, as XLM-R's (CCL-03); masks are boolean (CCL-04); pictures may also be
patches of a frozen network that ran before. Sizes are in `config.py`, losses in `objectives.py`, files in
`original/weights.py`.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from vlpnb.cclm.config import CclmConfig
from vlpnb.errors import UserError
from vlpnb.nn.attention import Keys
from vlpnb.nn.cache import LayerCache
from vlpnb.nn.heads import MLMHead
from vlpnb.nn.masks import padding_mask
from vlpnb.nn.onednn import quick_products
from vlpnb.nn.transformer import (
    AttentionLayer,
    Block,
    Embeddings,
    FeedForward,
    TransformerConfig,
    init_weights,
)

TEMPERATURES = 0.001, 0.5  # τ is kept within in pre-training


class ScoreHead(nn.Module):
    """Numbers from the state of a sentence's first position: dense to 2 D, layer norm, GELU, dense (section 3.2)."""

    def __init__(self, hidden: int, outputs: int):
        super().__init__()
        self.inner = nn.Linear(hidden, 2 * hidden)
        self.norm = nn.LayerNorm(2 * hidden)
        self.out = nn.Linear(2 * hidden, outputs)

    def forward(self, states: Float[Tensor, "B T D"]) -> Float[Tensor, "B C"]:
        """Scores of the first position."""
        return self.out(F.gelu(self.norm(self.inner(states[:, 0]))))


class PatchReader(nn.Module):
    """Patches of a frozen network as a view: projected, placed, normalised; their mean in front."""

    def __init__(self, config: CclmConfig):
        super().__init__()
        self.project = nn.Linear(config.image_width, config.hidden)
        self.places = None
        if config.image_patches:
            self.places = nn.Parameter(torch.randn(config.image_patches, config.hidden) * 0.02)
        self.dropout = nn.Dropout(config.patch_dropout)
        self.norm = nn.LayerNorm(config.hidden, config.norm_eps)

    def forward(self, patches: Float[Tensor, "G P1 F"]) -> Float[Tensor, "G P1 D"]:
        """The view. Row 0 of what is given, the network's own mean, is left out. UserError: other patches."""
        width, count = self.project.in_features, patches.shape[1] - 1
        if patches.shape[2] != width or (self.places is not None and count != len(self.places)):
            expected = f"{'' if self.places is None else f'{len(self.places)} '}patches of {width} numbers"
            raise UserError(
                f"a picture of {count} patches of {patches.shape[2]} numbers; this model reads {expected}. Choose the "
                "stage of patches that it was trained on"
            )
        x = self.project(self.dropout(patches[:, 1:]))
        if self.places is not None:
            x = x + self.places
        return with_mean(self.norm(x))


def with_mean(patches: Float[Tensor, "G P D"]) -> Float[Tensor, "G P1 D"]:
    """A view from patches: their mean, then they."""
    return torch.cat([patches.mean(dim=1, keepdim=True), patches], dim=1)


def embedded(table: Embeddings, ids: Int[Tensor, "B T"], start: int) -> Float[Tensor, "B T D"]:
    """Word + position + the one type, normalised, dropped out.

    Position t has row `start` + t whatever the ids are, so that a word piece which masking replaced by the padding's id
    moves no other. UserError: a text that is too long.
    """
    rows = table.positions.weight[start:]
    if ids.shape[1] > len(rows):
        raise UserError(
            f"{ids.shape[1]} word pieces do not fit into the {len(rows)} of this model; cut the text, or raise "
            "max_positions"
        )
    return table.dropout(table.norm(table.words(ids) + rows[: ids.shape[1]] + table.types.weight[0]))


class FusionLayer(nn.Module):
    """A sentence looks at itself, then at the other view, then each word thinks alone. All post-norm."""

    def __init__(self, config: TransformerConfig):
        super().__init__()
        self.look = AttentionLayer(config)
        self.meet = AttentionLayer(config)
        self.think = FeedForward(config)

    def forward(
        self,
        x: Float[Tensor, "B T D"],
        mask: Bool[Tensor, "#B #H #K #L"] | None = None,
        memory: Float[Tensor, "N M D"] | None = None,
        memory_mask: Bool[Tensor, "_ #H #K #M"] | None = None,
        *,
        places: Int[Tensor, "B K"] | None = None,
        causal: bool = False,
        weights: bool = False,
        cache: LayerCache | None = None,
        cached: Keys | None = None,
    ) -> tuple[Float[Tensor, "B K D"], Float[Tensor, "B H K M"] | None]:
        """The new stream, and with `weights` where each position looked in the memory.

        Args:
            mask: who sees whom in the sentence.
            memory: the other view; without it, and without `cached`, that attention is skipped.
            memory_mask: which of its positions are seen.
            places: the positions to compute, K of T; None: all, K is T.
            causal, cache: as in `Attention.forward`, of the sentence's own attention.
            cached: `meet.attention.memory_keys` of the memory, in its place.
        """
        own = None
        if places is not None:
            own, x = x, x.gather(1, places[..., None].expand(-1, -1, x.shape[2]))
        x, _ = self.look(x, mask, own, causal=causal, cache=cache)
        met = None
        if memory is not None or cached is not None:
            x, met = self.meet(x, memory_mask, memory, weights=weights, cached=cached)
        return self.think(x), met


@dataclass(frozen=True)
class MemoryKeys:
    """Keys and values of N views, a pair for each fusion layer."""

    layers: tuple[Keys, ...]

    def __iter__(self) -> Iterator[Keys]:
        return iter(self.layers)

    def __len__(self) -> int:
        """N."""
        return len(self.layers[0][0])

    def rows(self, index: Int[Tensor, " n"] | slice) -> "MemoryKeys":
        """Those of these views, in this order; a view may be taken several times. A slice copies nothing.

        By `index_select`, whose gradients several threads add up in one order; those of `x[index]` in any.
        """
        if isinstance(index, slice):
            return MemoryKeys(tuple((k[index], v[index]) for k, v in self.layers))
        return MemoryKeys(tuple((k.index_select(0, index), v.index_select(0, index)) for k, v in self.layers))

    def with_first(self, first: "MemoryKeys") -> "MemoryKeys":
        """The same, but for the first position of each view: that of `first`, which has no other."""
        pairs = zip(self.layers, first.layers, strict=True)
        return MemoryKeys(
            tuple(
                tuple(torch.cat([b, a[:, :, 1:]], dim=2) for a, b in zip(*pair, strict=True))
                for pair in pairs
            )
        )

    def to(self, *what: torch.device | torch.dtype | str) -> "MemoryKeys":
        """On another device, or in another type."""
        return MemoryKeys(tuple((k.to(*what), v.to(*what)) for k, v in self.layers))


class Cclm(nn.Module):
    """Three towers and their heads.

    New embeddings and layers are N(0, 0.02), as in the original; new projections and heads are PyTorch's.
    """

    def __init__(self, config: CclmConfig):
        super().__init__()
        self.config, layer = config, config.transformer
        self.embeddings = Embeddings(layer)
        self.text_layers = nn.ModuleList(Block(layer) for _ in range(config.text_layers))
        self.fusion_layers = nn.ModuleList(FusionLayer(layer) for _ in range(config.fusion_layers))
        init_weights(self)
        self.word_head = MLMHead(layer)
        if config.swin is None:
            self.vision: nn.Module = PatchReader(config)
        else:
            from vlpnb.vision.swin import Swin

            self.vision = Swin(config.swin)
        self.image_projection = nn.Linear(config.hidden, config.width)
        self.text_projection = nn.Linear(config.hidden, config.width)
        self.temperature = nn.Parameter(torch.tensor(config.temperature))
        self.match_head = ScoreHead(config.hidden, 2)
        self.box_head = ScoreHead(config.hidden, 4) if config.boxes else None

    @property
    def word_weight(self) -> Float[Tensor, "V D"]:
        """The word table, which is the decoder of the word head too."""
        return self.embeddings.words.weight

    def pictures(self, seen: Float[Tensor, "G P1 F"] | Float[Tensor, "G 3 S S"]) -> Float[Tensor, "G P1 D"]:
        """Views of pictures: the mean of the patches, then the patches row by row.

        Args:
            seen: patches of a frozen network, or normalised pixels, as the configuration's `vision` says.
        """
        with quick_products(seen):
            return self.vision(seen)

    def embed(self, ids: Int[Tensor, "B T"]) -> Float[Tensor, "B T D"]:
        """Word pieces as they enter the text layers (`embedded`). UserError: a text that is too long."""
        return embedded(self.embeddings, ids, self.config.position_start)

    def text(
        self, ids: Int[Tensor, "B T"], mask: Bool[Tensor, "B T"] | None = None
    ) -> Float[Tensor, "B T D"]:
        """Sentences by themselves: embedding and text layers. `mask` is True at real word pieces; None: at all."""
        x = self.embed(ids)
        mask = None if mask is None else padding_mask(mask)
        with quick_products(x):
            for layer in self.text_layers:
                x, _ = layer(x, mask)
        return x

    def memory_keys(self, memory: Float[Tensor, "N S D"]) -> MemoryKeys:
        """Keys and values of views, for every fusion layer: made once, for all sentences that meet the view."""
        with quick_products(memory):
            return MemoryKeys(tuple(layer.meet.attention.memory_keys(memory) for layer in self.fusion_layers))

    def fuse(
        self,
        states: Float[Tensor, "B T D"],
        mask: Bool[Tensor, "B T"] | None = None,
        memory: Float[Tensor, "B S D"] | None = None,
        memory_mask: Bool[Tensor, "N S"] | None = None,
        *,
        cached: MemoryKeys | None = None,
        places: Int[Tensor, "B K"] | None = None,
        maps: list[Tensor] | None = None,
    ) -> Float[Tensor, "B K D"]:
        """Sentences read with another view as memory.

        Args:
            states: of `text`.
            mask: of `text`.
            memory: the other view; None, and no `cached`: the attention to it is skipped.
            memory_mask: True where the memory is seen (a region's patches, a sentence's word pieces); None: all of it.
            cached: `memory_keys` of the memory, in its place. With N views for B sentences, each is that of the B / N
                sentences that stand side by side.
            places: the last layer computes these positions alone; None: all, K is T.
            maps: a list that is given the attention map (B, H, T, S) of every layer to the memory, of this very pass.
        """
        mask = None if mask is None else padding_mask(mask)
        memory_mask = None if memory_mask is None else padding_mask(memory_mask)
        keys: list[Keys | None] = [None] * len(self.fusion_layers) if cached is None else list(cached)
        with quick_products(states):
            for layer, known in zip(self.fusion_layers, keys, strict=True):
                last = places if layer is self.fusion_layers[-1] else None
                states, met = layer(
                    states, mask, memory, memory_mask, places=last, weights=maps is not None, cached=known
                )
                if maps is not None and met is not None:
                    maps.append(met)
        return states

    def image_vector(self, view: Float[Tensor, "B P1 D"]) -> Float[Tensor, "B E"]:
        """The unit vector by which a picture, or a region of one, is found."""
        return F.normalize(self.image_projection(view[:, 0]), dim=-1)

    def text_vector(self, states: Float[Tensor, "B T D"]) -> Float[Tensor, "B E"]:
        """The unit vector by which a sentence is found, from its states of `text`."""
        return F.normalize(self.text_projection(states[:, 0]), dim=-1)

    def match(self, fused: Float[Tensor, "B T D"]) -> Float[Tensor, "B 2"]:
        """Scores of "do not belong together" and "belong together", from states of `fuse`."""
        return self.match_head(fused)

    def words(self, fused: Float[Tensor, "*N D"]) -> Float[Tensor, "*N V"]:
        """A score of every word piece. For a loss use `word_head.loss`, which never holds them all."""
        with quick_products(fused):
            return self.word_head.logits(fused, self.word_weight)

    def boxes(self, fused: Float[Tensor, "B T D"]) -> Float[Tensor, "B 4"]:
        """Middle x, middle y, width and height of what a text is about, as shares of the picture."""
        if self.box_head is None:
            raise UserError("this CCLM has no box head; expected CclmConfig.boxes = True")
        return self.box_head(fused).sigmoid()

    @torch.no_grad()
    def clamp_temperature(self) -> None:
        """Keep τ between 0.001 and 0.5, as before each update of pre-training."""
        self.temperature.clamp_(*TEMPERATURES)
