"""VLP: one Transformer that reads and writes (Zhou, Palangi, Zhang, Hu, Corso and Gao, AAAI 2020).

Reads top to bottom, from the layers of `vlpnb.nn`:

    [CLS] ─────────────── word ──┐
    regions ─ φ(feature) + ψ(geometry) ─┤
    [SEP] ─────────────── word ──┼─ + segment, norm → L blocks under one of the masks of `masks.py` → states
    words, [SEP] ─ word + position ─┘

φ stands in the place of the word's embedding, ψ in that of its position. There is one encoder and no decoder: with the
bidirectional mask it understands, with the seq2seq mask it writes, and a row of the segment table tells it which.

Differs from the original: any number of regions up to `VlpConfig.regions` (VLP-10; text counts its positions behind
that many whatever the batch holds, so that a picture with fewer regions meets the positions that were trained), none
for text alone; masks are made on the device; where few rows of the last block are read, it computes no others. Heads
and losses are in `heads.py`, weights in files in `original/weights.py`.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from vlpnb.errors import UserError
from vlpnb.nn.cache import Cache
from vlpnb.nn.heads import Pooler
from vlpnb.nn.onednn import quick_products
from vlpnb.nn.transformer import (
    Block,
    Embeddings,
    EncoderOutput,
    TransformerConfig,
    check_numbers,
    init_weights,
)
from vlpnb.vlp.geometry import EPSILON, PLACE
from vlpnb.vlp.masks import EDGES, segment_ids, sequence_mask


@dataclass(frozen=True)
class VlpConfig:
    """Shape of a VLP; the defaults are the paper's, a cased BERT base."""

    vocab_size: int = 28996
    """V, number of word pieces."""
    hidden: int = 768
    """D, width of the stream."""
    layers: int = 12
    """L, blocks."""
    heads: int = 12
    """Attention heads; must divide `hidden`."""
    ffn: int = 3072
    """Width inside the feed-forward layers."""
    max_positions: int = 512
    """Rows of the position table."""
    segments: int = 6
    """Rows of the segment table: 6 tells seq2seq from bi, 2 does not."""
    regions: int = 100
    """R, most regions of a picture; the text's positions begin at R + 2."""
    text_length: int = 20
    """Most word pieces of a text, without the closing [SEP]."""
    feature_width: int = 2048
    """F, numbers of a region's feature."""
    visual_hidden: int = 0
    """Width between φ's two layers; 0: F, the paper's."""
    classes: int = 1601
    """C, class probabilities of a region, the background first."""
    slots: int = 1
    """Slots of the word head's transform: 1, or 4 (one for each of UniLM's objectives; VLP uses two of them)."""
    joint_norm: bool = False
    """One layer norm over all slots, as the original trains and does not decode (VLP-08)."""
    answers: int = 3129
    """A, rows of the answer table of VQA; row 0 is "no answer of the table"."""
    dropout: float = 0.1
    """Dropout of embeddings, residual branches and attention weights, in training mode only."""
    attention_dropout: float | None = None
    """That of attention weights where it is another."""
    norm_eps: float = EPSILON
    """Epsilon of every layer norm; BERT's is 1e-12."""
    init_std: float = 0.02
    """Standard deviation of new weights of the trunk and the word head."""
    calm: float = 1.0
    """Factor on new weights of where the trunk looks, and of what its feed-forward adds (`nn.init_weights`)."""
    pad_id: int = 0
    """Ids of the tokenizer: padding,"""
    unk_id: int = 100
    """unknown word,"""
    cls_id: int = 101
    """[CLS],"""
    sep_id: int = 102
    """[SEP],"""
    mask_id: int = 103
    """[MASK]."""

    def __post_init__(self) -> None:
        ids = ("pad_id", "unk_id", "cls_id", "sep_id", "mask_id")
        zero = dict.fromkeys((*ids, "regions", "visual_hidden", "dropout"), 0)
        check_numbers(self, ids, segments=2, **zero)
        if self.slots not in (1, 4):
            raise UserError(f"VlpConfig.slots = {self.slots}; expected 1 or 4")
        if 2 < self.segments < 6:
            raise UserError(f"VlpConfig.segments = {self.segments}; expected 2, or at least 6")
        if self.max_positions < self.length:
            raise UserError(
                f"VlpConfig.max_positions = {self.max_positions}; expected at least {self.length}: "
                f"{self.regions} regions, {self.text_length} word pieces, [CLS] and two [SEP]"
            )
        _ = self.transformer  # refuses heads that do not divide the width

    @property
    def prefix(self) -> int:
        """Position of the first word: regions, [CLS] and [SEP] stand before it."""
        return self.regions + EDGES

    @property
    def length(self) -> int:
        """Positions in all: the prefix, the longest text, its [SEP]."""
        return self.prefix + self.text_length + 1

    @property
    def transformer(self) -> TransformerConfig:
        """The configuration of the layers that `vlpnb.nn` brings; BERT's, of this width."""
        looks = self.dropout if self.attention_dropout is None else self.attention_dropout
        return TransformerConfig.of(self, type_vocab=self.segments, attention_dropout=looks)


# base is the paper's; small and tiny are for two CPU cores.
SIZES: dict[str, dict[str, int]] = {
    "base": {},
    "large": {"hidden": 1024, "layers": 24, "heads": 16, "ffn": 4096},
    "small": {"hidden": 128, "layers": 3, "heads": 4, "ffn": 512},
    "tiny": {"hidden": 128, "layers": 2, "heads": 4, "ffn": 512},
}


def parameter_count(config: VlpConfig) -> dict[str, int]:
    """Parameters of each part, from the formula; of the paper's 121,929,853, and without answers 115,939,396."""
    d, f, norm = config.hidden, config.feature_width, 2 * config.hidden
    inside = config.visual_hidden or f
    dense = (d + 1) * d
    block = 4 * dense + norm + (d + 1) * config.ffn + (config.ffn + 1) * d + norm
    tables = config.vocab_size + config.max_positions + config.segments
    return {
        "embedding": tables * d + norm,
        "blocks": config.layers * block,
        "pooler": dense,
        "φ, features": (f + 1) * inside + (inside + 1) * d,
        "ψ, geometry": (PLACE + config.classes + 1) * d,
        "word head": config.slots * (dense + norm) + config.vocab_size,
        "answer head": (d + 1) * 2 * d + (2 * d + 1) * config.answers,
    }


class Vlp(nn.Module):
    """The backbone: a picture and a text → hidden states of both.

    New weights are N(0, `init_std`), those of φ and ψ PyTorch's, as in the original. The pooler stands in checkpoints
    and has no loss but the region pretext's; it is frozen, as the original's optimiser, without a gradient, leaves it.
    """

    def __init__(self, config: VlpConfig):
        super().__init__()
        self.config, layer = config, config.transformer
        self.embeddings = Embeddings(layer)
        self.blocks = nn.ModuleList(Block(layer) for _ in range(config.layers))
        self.pooler = Pooler(config.hidden)
        init_weights(self, config.init_std, config.calm)
        self.pooler.requires_grad_(False)
        f, d = config.feature_width, config.hidden
        inside = config.visual_hidden or f
        self.features = nn.Sequential(
            nn.Linear(f, inside), nn.ReLU(), nn.Linear(inside, d), nn.ReLU(), nn.Dropout(config.dropout)
        )
        self.geometry = nn.Sequential(
            nn.Linear(PLACE + config.classes, d), nn.ReLU(), nn.Dropout(config.dropout)
        )

    @property
    def word_weight(self) -> Float[Tensor, "V D"]:
        """The word table, which is the decoder of the word head too."""
        return self.embeddings.words.weight

    def look(
        self, features: Float[Tensor, "B R F"], geometry: Float[Tensor, "B R G"]
    ) -> tuple[Float[Tensor, "B R D"], Float[Tensor, "B R D"]]:
        """φ of the features and ψ of the geometry, which `region_geometry` makes."""
        with quick_products(features):
            return self.features(features), self.geometry(geometry)

    def assemble(
        self,
        seen: tuple[Float[Tensor, "B R D"], Float[Tensor, "B R D"]],
        segment: int | Int[Tensor, " B"],
        masked: Bool[Tensor, "B R"] | None = None,
    ) -> Float[Tensor, "B R+2 D"]:
        """[CLS], regions that `look` saw, [SEP]: embedded. Of the regions in `masked` the segment alone is left."""
        regions = seen[0] + seen[1]
        if masked is not None:
            regions = regions.masked_fill(masked[..., None], 0.0)
        two = torch.arange(2, device=regions.device)
        words = self.config.cls_id + two * (self.config.sep_id - self.config.cls_id)
        places = self.embeddings.positions.weight[two * (self.config.prefix - 1)]
        edges = (self.word_weight[words] + places).to(regions.dtype)  # (2, D)
        first, last = edges[:, None, None].expand(2, len(regions), 1, -1)  # (B, 1, D) each
        return self._embed(torch.cat([first, regions, last], dim=1), segment)

    def prefix(
        self,
        features: Float[Tensor, "B R F"],
        geometry: Float[Tensor, "B R G"],
        segment: int | Int[Tensor, " B"],
    ) -> Float[Tensor, "B R+2 D"]:
        """The embedded prefix of pictures, before the blocks; `segment` is 4 for seq2seq and 0 for bi."""
        return self.assemble(self.look(features, geometry), segment)

    def words(
        self,
        ids: Int[Tensor, "B T"],
        segment: int | Int[Tensor, " B"] | Int[Tensor, "B T"],
        positions: Int[Tensor, "#B T"] | None = None,
    ) -> Float[Tensor, "B T D"]:
        """Embedded words at R + 2, R + 3, … or at the positions given; `segment` is 5 for seq2seq and 1 for bi."""
        if positions is None:
            positions = self.config.prefix + torch.arange(ids.shape[1], device=ids.device)[None]
        return self._embed(self.embeddings.words(ids) + self.embeddings.positions(positions), segment)

    def _embed(self, x: Float[Tensor, "B N D"], segment: int | Tensor) -> Float[Tensor, "B N D"]:
        """Add segments, normalise, drop out. With a table of two, seq2seq has the segments of bi."""
        if self.config.segments == 2:
            segment = segment % 4
        of_all = isinstance(segment, int)
        kinds = self.embeddings.types.weight[segment] if of_all else self.embeddings.types(segment)
        # (D,), (B, D) or (B, N, D)
        if kinds.dim() == 2:
            kinds = kinds[:, None]
        return self.embeddings.dropout(self.embeddings.norm(x + kinds))

    def encode(
        self,
        x: Float[Tensor, "B L D"],
        mask: Bool[Tensor, "#B 1 #L S"] | None,
        rows: Int[Tensor, "B K"] | None = None,
        *,
        maps: bool = False,
        hidden_states: bool = False,
        cache: Cache | None = None,
    ) -> EncoderOutput:
        """The blocks over an embedded sequence, under a mask of `masks.py`; S is L.

        With `rows` the last block computes these positions alone, and the result's `last` is (B, K, D). With a `cache`
        the sequence follows what that holds, which the S keys begin with, and is added to it.
        """
        states, found = [x], []
        kept = [None] * len(self.blocks) if cache is None else cache.layers
        if rows is not None and (maps or hidden_states):
            raise ValueError("rows leave out most of the last block; ask for them or for maps and states")
        with quick_products(x):
            for block, layer in zip(self.blocks[: -1 if rows is not None else None], kept, strict=False):
                x, attention = block(x, mask, weights=maps, cache=layer)
                states.append(x)
                found.append(attention)
            if rows is not None:
                wanted = x.gather(1, rows[..., None].expand(-1, -1, x.shape[2]))  # (B, K, D)
                if mask is not None:
                    mask, at = mask.expand(len(x), 1, x.shape[1], -1), rows[:, None, :, None]
                    mask = mask.gather(2, at.expand(-1, 1, -1, mask.shape[3]))  # (B, 1, K, S)
                x = self.blocks[-1].think(self.blocks[-1].look(wanted, mask, x, cache=kept[-1])[0])
        return EncoderOutput(x, states if hidden_states else None, found if maps else None)

    def forward(
        self,
        features: Float[Tensor, "B R F"],
        geometry: Float[Tensor, "B R G"],
        ids: Int[Tensor, "B T"],
        lengths: Int[Tensor, " B"],
        s2s: Bool[Tensor, " B"],
        visual_mask: Bool[Tensor, "B R"] | None = None,
        *,
        maps: bool = False,
        hidden_states: bool = False,
    ) -> EncoderOutput:
        """States of [CLS], regions, [SEP], text (R + 2 + T of them), for one sentence beside each picture.

        Args:
            features: of the regions; R may be smaller than the configuration's, and 0.
            geometry: `region_geometry` of the same regions.
            ids: words, the closing [SEP], padding.
            lengths: word pieces of each sentence, without the closing [SEP].
            s2s: True where the sentence is to be written, False where it is to be understood.
            visual_mask: False where a picture has no further region; None where all have equally many.
            maps: also return the attention maps of this very pass.
            hidden_states: also return the embeddings and every block's output.
        Raises:
            UserError: more regions or words than the position table allows.
        """
        seen = self.look(features, geometry)
        return self.read(seen, ids, lengths, s2s, visual_mask, maps=maps, hidden_states=hidden_states)

    def read(
        self,
        seen: tuple[Float[Tensor, "B R D"], Float[Tensor, "B R D"]],
        ids: Int[Tensor, "B T"],
        lengths: Int[Tensor, " B"],
        s2s: Bool[Tensor, " B"],
        visual_mask: Bool[Tensor, "B R"] | None = None,
        *,
        masked: Bool[Tensor, "B R"] | None = None,
        rows: Int[Tensor, "B K"] | None = None,
        maps: bool = False,
        hidden_states: bool = False,
    ) -> EncoderOutput:
        """`forward` over regions that `look` saw; `masked` as in `assemble`, `rows` as in `encode`."""
        regions, length = seen[0].shape[1], ids.shape[1]
        self.refuse_too_long(regions, length)
        prefix = regions + EDGES
        segments = segment_ids(lengths, s2s, prefix, length, self.config.segments)
        mask = sequence_mask(lengths, s2s, prefix, length, visual_mask)
        x = [self.assemble(seen, segments[:, 0], masked), self.words(ids, segments[:, prefix:])]
        return self.encode(torch.cat(x, dim=1), mask, rows, maps=maps, hidden_states=hidden_states)

    def refuse_too_long(self, regions: int, length: int) -> None:
        """UserError for more regions than the configuration's, or more words than the position table has rows for."""
        if regions > self.config.regions:
            raise UserError(
                f"{regions} regions; this model takes at most {self.config.regions}. Choose `boxes` of the stage "
                "regions after the model, or the model's `regions` after the store"
            )
        if self.config.prefix + length > self.config.max_positions:
            raise UserError(
                f"{length} tokens of text behind {self.config.prefix} positions do not fit into the "
                f"{self.config.max_positions} of this model; cut the text or raise max_positions"
            )
