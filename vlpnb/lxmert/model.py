"""LXMERT: a language stream and a vision stream that look at each other (Tan and Bansal 2019, section 2).

Reads top to bottom, from the layers of `vlpnb.nn`:

    words   → embedding        → N_L blocks ─┐
                                             ├─ N_X cross layers → text, visual, pooled ([CLS] of the text)
    regions → visual embedding → N_R blocks ─┘

A region is a feature and a box; regions have no order. A cross layer has *one* attention layer for both directions
(the paper draws two): as it is shared, a single pass over both streams laid end to end, under a mask that shows each
stream the other alone, gives both directions at once, and both attention maps.

Two things are computed less often than in the original, with equal results:

* the vision stream does not depend on the question: `see` runs once for a picture, `read` for each of its sentences;
* where only the pooled vector is wanted (`pooled_only`), the last cross layer computes [CLS] and leaves vision out.
  Its vision block then gets no gradient, as in the original;

Heads and losses are in `heads.py`. Row 0 of the tables of words, positions and token types gets no gradient from the
input side, as in the original (LXM-01).
"""

from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from vlpnb.nn.heads import Pooler
from vlpnb.nn.masks import padding_mask
from vlpnb.nn.onednn import quick_on_cpu
from vlpnb.nn.transformer import (
    AttentionLayer,
    Block,
    Embeddings,
    TransformerConfig,
    check_numbers,
    init_weights,
)

BOX = 4  # left, top, right, bottom, relative to the picture
EPSILON = 1e-12  # of every layer norm


@dataclass(frozen=True)
class LxmertConfig:
    """Shape of an LXMERT; the defaults are the paper's "9/5/5" (section 2.3 and appendix)."""

    vocab_size: int = 30522
    """V, number of word pieces."""
    hidden: int = 768
    """D, width of both streams."""
    heads: int = 12
    """Attention heads; must divide `hidden`."""
    ffn: int = 3072
    """Width inside the feed-forward layers."""
    text_layers: int = 9
    """N_L, blocks of the language stream; 0 or more."""
    visual_layers: int = 5
    """N_R, blocks of the vision stream; 0 or more."""
    cross_layers: int = 5
    """N_X, cross-modality layers; at least 1."""
    feature_width: int = 2048
    """F, numbers of a region's feature."""
    objects: int = 1600
    """Object classes of the detector."""
    attributes: int = 400
    """Attribute classes of the detector."""
    answers: int = 9500
    """Rows of the answer table."""
    max_positions: int = 512
    """Longest text."""
    type_vocab: int = 2
    """Token types; the first alone is used."""
    dropout: float = 0.1
    """Dropout of embeddings and residual branches, in training mode only."""
    attention_dropout: float = 0.1
    """Dropout of attention weights, in training mode only."""
    init_std: float = 0.02
    """Standard deviation of new weights."""

    def __post_init__(self) -> None:
        check_numbers(self, text_layers=0, visual_layers=0)
        _ = self.transformer  # refuses heads that do not divide the width

    @property
    def transformer(self) -> TransformerConfig:
        """The configuration of the layers that `vlpnb.nn` brings; BERT's, of this width."""
        return TransformerConfig.of(self, layers=self.text_layers, norm_eps=EPSILON)


# lxr955 is the paper's; the others are for two CPU cores.
SIZES: dict[str, dict[str, int]] = {
    "lxr955": {},
    "small": {
        "hidden": 256,
        "heads": 4,
        "ffn": 1024,
        "text_layers": 3,
        "visual_layers": 1,
        "cross_layers": 3,
    },
    "mini": {"hidden": 128, "heads": 4, "ffn": 512, "text_layers": 2, "visual_layers": 1, "cross_layers": 2},
    "tiny": {"hidden": 64, "heads": 4, "ffn": 256, "text_layers": 1, "visual_layers": 0, "cross_layers": 2},
}


def parameter_count(config: LxmertConfig) -> dict[str, int]:
    """Parameters of each part of the pre-training model, from the formula; their sum is 228,051,752 for lxr955."""
    d, norm = config.hidden, 2 * config.hidden
    dense = (d + 1) * d
    attention = 4 * dense + norm
    block = attention + (d + 1) * config.ffn + (config.ffn + 1) * d + norm
    tables = config.vocab_size + config.max_positions + config.type_vocab
    labels = config.objects + config.attributes + config.feature_width
    return {
        "text embedding": tables * d + norm,
        "visual embedding": (config.feature_width + 1) * d + (BOX + 1) * d + 2 * norm,
        "language layers": config.text_layers * block,
        "object-relationship layers": config.visual_layers * block,
        "cross-modality layers": config.cross_layers * (attention + 2 * block),
        "pooler": dense,
        "word and match heads": dense + norm + config.vocab_size + 2 * (d + 1),
        "region head": dense + norm + labels * (d + 1),
        "answer head": 2 * d * (d + 1) + 2 * (2 * d) + (2 * d + 1) * config.answers,
    }


@dataclass
class Stream:
    """One of the two streams before they meet. The vision stream of a picture serves all of its sentences."""

    states: Float[Tensor, "B N D"]
    mask: Bool[Tensor, "B N"] | None
    """False at padding; None where there is none."""
    hidden: list[Float[Tensor, "B N D"]] = field(default_factory=list)
    """When asked for: the embedding, then the output of every layer."""
    maps: list[Float[Tensor, "B H N N"]] = field(default_factory=list)
    """When asked for: the attention map of every layer."""

    def rows(self, index: Int[Tensor, " n"]) -> "Stream":
        """The streams of these rows of the batch, in this order; a row may be taken several times."""
        mask = None if self.mask is None else self.mask[index]
        hidden, maps = ([tensor[index] for tensor in kept] for kept in (self.hidden, self.maps))
        return Stream(self.states[index], mask, hidden, maps)


@dataclass
class LxmertMaps:
    """Attention maps of one pass (queries × keys, rows sum to one), a list of layers each."""

    text: list[Float[Tensor, "B H T T"]]
    """Words look at words, in the language layers."""
    visual: list[Float[Tensor, "B H R R"]]
    """Regions look at regions, in the object-relationship layers."""
    cross_text: list[Float[Tensor, "B H T R"]]
    """Words look at regions, in the cross layers."""
    cross_visual: list[Float[Tensor, "B H R T"]]
    """Regions look at words, in the cross layers."""
    inner_text: list[Float[Tensor, "B H T T"]]
    """Words look at words, in the cross layers."""
    inner_visual: list[Float[Tensor, "B H R R"]]
    """Regions look at regions, in the cross layers."""


@dataclass
class LxmertOutput:
    """What the backbone returns."""

    pooled: Float[Tensor, "B D"]
    """A vector for sentence and picture together."""
    text: Float[Tensor, "B T D"] | None = None
    """Hidden states of the words; None after `pooled_only`, as `visual`."""
    visual: Float[Tensor, "B R D"] | None = None
    """Hidden states of the regions."""
    maps: LxmertMaps | None = None
    """When asked for."""
    hidden_text: list[Float[Tensor, "B T D"]] | None = None
    """When asked for: the embedding and the output of the N_L + N_X layers; the last one is `text`."""
    hidden_visual: list[Float[Tensor, "B R D"]] | None = None
    """The same of the N_R + N_X layers."""


class VisualEmbedding(nn.Module):
    """Mean of the projected feature and the projected box, each through a layer norm of its own (equation 1)."""

    def __init__(self, config: LxmertConfig):
        super().__init__()
        self.feature = nn.Linear(config.feature_width, config.hidden)
        self.feature_norm = nn.LayerNorm(config.hidden, EPSILON)
        self.box = nn.Linear(BOX, config.hidden)
        self.box_norm = nn.LayerNorm(config.hidden, EPSILON)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self, features: Float[Tensor, "B R F"], boxes: Float[Tensor, "B R 4"]
    ) -> Float[Tensor, "B R D"]:
        """Regions as vectors of the streams' width."""
        return self.dropout((self.feature_norm(self.feature(features)) + self.box_norm(self.box(boxes))) / 2)


class CrossLayer(nn.Module):
    """Each stream looks at the other with shared weights, then runs a block of its own (section 2.1)."""

    def __init__(self, config: TransformerConfig):
        super().__init__()
        self.cross = AttentionLayer(config)
        self.text = Block(config)
        self.visual = Block(config)

    def forward(
        self,
        text: Float[Tensor, "B T D"],
        visual: Float[Tensor, "B R D"],
        text_mask: Bool[Tensor, "B 1 1 T"] | None,
        visual_mask: Bool[Tensor, "B 1 1 R"] | None,
        across: Bool[Tensor, "#B 1 N N"],
        *,
        weights: bool = False,
    ) -> tuple[Float[Tensor, "B T D"], Float[Tensor, "B R D"], list[Tensor]]:
        """Both streams, and with `weights` the maps text → regions, regions → text, text → text, regions → regions.

        `across` is `look_across` of the masks, N = T + R.
        """
        words = text.shape[1]
        # Both directions read this layer's inputs, so one pass over (B, T + R, D) serves them.
        both, maps = self.cross(torch.cat([text, visual], dim=1), across, weights=weights)
        text, inner_text = self.text(both[:, :words], text_mask, weights=weights)
        visual, inner_visual = self.visual(both[:, words:], visual_mask, weights=weights)
        if not weights:
            return text, visual, []
        return text, visual, [maps[..., :words, words:], maps[..., words:, :words], inner_text, inner_visual]

    def first_word(
        self,
        text: Float[Tensor, "B T D"],
        visual: Float[Tensor, "B R D"],
        text_mask: Bool[Tensor, "B 1 1 T"] | None,
        visual_mask: Bool[Tensor, "B 1 1 R"] | None,
    ) -> Float[Tensor, "B 1 D"]:
        """What `forward` gives the first word, without what it does not depend on."""
        text, _ = self.cross(text, visual_mask, visual)
        first, _ = self.text.look(text[:, :1], text_mask, text)
        return self.text.think(first)


def _run(
    blocks: nn.ModuleList, x: Float[Tensor, "B N D"], mask: Bool[Tensor, "B N"] | None, maps: bool
) -> Stream:
    """A stream through its own blocks."""
    stream = Stream(x, mask, [x])
    for block in blocks:
        x, attention = block(x, None if mask is None else padding_mask(mask), weights=maps)
        stream.hidden.append(x)
        stream.maps += [attention] if maps else []
    stream.states = x
    return stream


def look_across(
    text: Float[Tensor, "B T D"],
    visual: Float[Tensor, "B R D"],
    text_mask: Bool[Tensor, "B T"] | None,
    visual_mask: Bool[Tensor, "B R"] | None,
) -> Bool[Tensor, "#B 1 N N"]:
    """The mask over both streams laid end to end (N = T + R): each sees what is real of the other."""
    words = torch.arange(text.shape[1] + visual.shape[1], device=text.device) < text.shape[1]  # (N,)
    other = (words[:, None] != words)[None, None]
    if text_mask is None and visual_mask is None:
        return other
    streams = (text, text_mask), (visual, visual_mask)
    real = [x.new_ones(x.shape[:2], dtype=torch.bool) if mask is None else mask for x, mask in streams]
    return other & padding_mask(torch.cat(real, dim=1))


class Lxmert(nn.Module):
    """The backbone: words and regions → hidden states of both, and a pooled vector. New weights are N(0, 0.02)."""

    def __init__(self, config: LxmertConfig):
        super().__init__()
        self.config, layer = config, config.transformer
        self.embeddings = Embeddings(layer)
        for table in (self.embeddings.words, self.embeddings.positions, self.embeddings.types):
            table.padding_idx = 0  # LXM-01: no gradient for row 0, which is drawn like the others
        self.visual_embedding = VisualEmbedding(config)
        self.text_blocks = nn.ModuleList(Block(layer) for _ in range(config.text_layers))
        self.visual_blocks = nn.ModuleList(Block(layer) for _ in range(config.visual_layers))
        self.cross_layers = nn.ModuleList(CrossLayer(layer) for _ in range(config.cross_layers))
        self.pooler = Pooler(config.hidden)
        init_weights(self, config.init_std)

    @property
    def word_weight(self) -> Float[Tensor, "V D"]:
        """The word table, which is the decoder of the word head too."""
        return self.embeddings.words.weight

    @quick_on_cpu
    def see(
        self,
        features: Float[Tensor, "B R F"],
        boxes: Float[Tensor, "B R 4"],
        mask: Bool[Tensor, "B R"] | None = None,
        *,
        maps: bool = False,
    ) -> Stream:
        """The vision stream up to where it meets the text: all that may be kept of a picture between sentences.

        Args:
            features: of the detector, not negative.
            boxes: left, top, right, bottom as shares of the picture's width and height.
            mask: False where a picture has no further region; None where all have equally many.
            maps: keep the attention maps.
        """
        return _run(self.visual_blocks, self.visual_embedding(features, boxes), mask, maps)

    @quick_on_cpu
    def listen(
        self, ids: Int[Tensor, "B T"], mask: Bool[Tensor, "B T"] | None = None, *, maps: bool = False
    ) -> Stream:
        """The language stream up to where it meets the picture; `mask` is False at padding."""
        # Types are looked up, not broadcast, because a look-up is what leaves row 0 without gradient.
        return _run(self.text_blocks, self.embeddings(ids, torch.zeros_like(ids)), mask, maps)

    @quick_on_cpu
    def meet(
        self, text: Stream, visual: Stream, *, pooled_only: bool = False, maps: bool = False
    ) -> LxmertOutput:
        """The cross layers over two streams of equal batch; arguments as in `read`."""
        if pooled_only and maps:
            raise ValueError("pooled_only leaves out maps of the last layer; ask for one of both")
        x, v = text.states, visual.states
        text_mask = None if text.mask is None else padding_mask(text.mask)
        visual_mask = None if visual.mask is None else padding_mask(visual.mask)
        across = look_across(x, v, text.mask, visual.mask)
        hidden_text, hidden_visual, kept = [*text.hidden], [*visual.hidden], []
        for layer in self.cross_layers[: -1 if pooled_only else None]:
            x, v, of_layer = layer(x, v, text_mask, visual_mask, across, weights=maps)
            hidden_text.append(x)
            hidden_visual.append(v)
            kept.append(of_layer)
        if pooled_only:
            return LxmertOutput(self.pooler(self.cross_layers[-1].first_word(x, v, text_mask, visual_mask)))
        found = LxmertMaps(text.maps, visual.maps, *map(list, zip(*kept, strict=True))) if maps else None
        return LxmertOutput(self.pooler(x), x, v, found, hidden_text, hidden_visual)

    def read(
        self,
        ids: Int[Tensor, "B T"],
        mask: Bool[Tensor, "B T"] | None,
        seen: Stream,
        *,
        pooled_only: bool = False,
        maps: bool = False,
    ) -> LxmertOutput:
        """Read sentences beside pictures that were seen before.

        Args:
            ids: [CLS] words [SEP] padding.
            mask: False at padding; None where there is none.
            seen: what `see` returned, a row for each sentence (`Stream.rows`).
            pooled_only: return the pooled vector alone, and compute nothing that it does not need.
            maps: also return the attention maps of this very pass, and every layer's output.
        """
        return self.meet(self.listen(ids, mask, maps=maps), seen, pooled_only=pooled_only, maps=maps)

    def forward(
        self,
        ids: Int[Tensor, "B T"],
        mask: Bool[Tensor, "B T"] | None,
        features: Float[Tensor, "B R F"],
        boxes: Float[Tensor, "B R 4"],
        visual_mask: Bool[Tensor, "B R"] | None = None,
        *,
        pooled_only: bool = False,
        maps: bool = False,
    ) -> LxmertOutput:
        """`see`, then `read`."""
        seen = self.see(features, boxes, visual_mask, maps=maps)
        return self.read(ids, mask, seen, pooled_only=pooled_only, maps=maps)
