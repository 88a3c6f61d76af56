"""CCLM's model for xGQA: the layers read a question beside its picture, and a decoder writes an answer.

Paper: CCLM (Zeng et al., ACL 2023), section 4.1 (xGQA). The decoder is a copy of the fusion layers, with words and a
head of its own; it looks back at the answer's earlier pieces and at the states of the question. It learns to write the
answer, in English whatever the question's language; candidates are ranked by how likely it writes them
(`downstream.answer_ranking`).
"""

import copy
from collections.abc import Sequence

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from vlpnb.cclm.model import Cclm, embedded
from vlpnb.cclm.pairs import freeze_unread
from vlpnb.nn.attention import Keys
from vlpnb.nn.cache import Cache
from vlpnb.nn.losses import IGNORE
from vlpnb.nn.masks import causal_mask, padding_mask
from vlpnb.nn.onednn import quick_products


class Decoder(nn.Module):
    """Fusion layers that write: causal among the answer's pieces, with the question's states as memory."""

    def __init__(self, backbone: Cclm, layers: int | None = None):
        super().__init__()
        self.start = backbone.config.position_start
        self.embeddings = copy.deepcopy(backbone.embeddings)
        self.layers = copy.deepcopy(backbone.fusion_layers[:layers])
        self.word_head = copy.deepcopy(backbone.word_head)
        self.requires_grad_(True)

    @property
    def word_weight(self) -> Float[Tensor, "V D"]:
        """The word table, which the head's scores are taken with."""
        return self.embeddings.words.weight

    def embed(self, ids: Int[Tensor, "N L"]) -> Float[Tensor, "N L D"]:
        """Pieces of answers, as the backbone embeds those of sentences."""
        return embedded(self.embeddings, ids, self.start)

    def keys(self, states: Float[Tensor, "B T D"]) -> list[Keys]:
        """Keys and values of the questions' states, for each layer."""
        return [layer.meet.attention.memory_keys(states) for layer in self.layers]

    def hidden(
        self,
        ids: Int[Tensor, "N L"],
        keys: Sequence[tuple[Tensor, Tensor]],
        seen: Bool[Tensor, "B 1 1 S"],
        cache: Cache | None = None,
        skip: int = 0,
    ) -> Float[Tensor, "N l D"]:
        """States of the pieces of answers from number `skip` on, those before being in the `cache`.

        `keys` and `seen` are those of the questions: a row for each of `ids`, or for equally many side by side.
        """
        x = self.embed(ids)[:, skip:]
        before = cache is not None and cache.width > 0
        mask = cache.mask(causal_mask(x.shape[1], x.device), len(x)) if before else None
        kept = [None] * len(self.layers) if cache is None else cache.layers
        with quick_products(x):
            for layer, known, own in zip(self.layers, keys, kept, strict=True):
                x, _ = layer(x, mask, memory_mask=seen, causal=not before, cache=own, cached=known)
        return x

    def logits(self, hidden: Float[Tensor, "*N D"]) -> Float[Tensor, "*N V"]:
        """Scores of all words."""
        return self.word_head.logits(hidden, self.word_weight)


class AnsweringModel(nn.Module):
    """The backbone as the reader of questions, and a decoder that writes answers."""

    def __init__(self, backbone: Cclm, layers: int | None = None):
        """`layers`: of the decoder; as many as the backbone has fusion layers where None."""
        super().__init__()
        self.config, self.backbone = backbone.config, backbone
        self.decoder = Decoder(backbone, layers)
        freeze_unread(backbone)

    def read(
        self,
        ids: Int[Tensor, "B T"],
        mask: Bool[Tensor, "B T"],
        views: Float[Tensor, "N S D"],
        picture: Int[Tensor, " B"],
    ) -> Float[Tensor, "B T D"]:
        """The states of questions about pictures, whose rows in `views` are `picture`."""
        text = self.backbone.text(ids, mask)
        return self.backbone.fuse(text, mask, cached=self.backbone.memory_keys(views).rows(picture))

    def forward(
        self,
        ids: Int[Tensor, "B T"],
        mask: Bool[Tensor, "B T"],
        patches: Float[Tensor, "N ..."],
        picture: Int[Tensor, " B"],
        answer_ids: Int[Tensor, "M L"],
        answer_mask: Bool[Tensor, "M L"],
        answer_of: Int[Tensor, " M"],
        answer_weight: Float[Tensor, " M"],
    ) -> dict[str, Float[Tensor, ""]]:
        """The loss "answers", summed over the questions: each answer's cross-entropies, summed, times its weight.

        Args:
            answer_ids: pieces of the questions' answers, with both special ones.
            answer_of: the question (its row) of each answer.
        """
        states = self.read(ids, mask, self.backbone.pictures(patches), picture)
        return {"answers": self.answer_loss(states, mask, answer_ids, answer_mask, answer_of, answer_weight)}

    def answer_loss(
        self,
        states: Float[Tensor, "B T D"],
        mask: Bool[Tensor, "B T"],
        answer_ids: Int[Tensor, "M L"],
        answer_mask: Bool[Tensor, "M L"],
        answer_of: Int[Tensor, " M"],
        answer_weight: Float[Tensor, " M"],
    ) -> Float[Tensor, ""]:
        """The loss from the states of the questions."""
        keys = [
            (k.index_select(0, answer_of), v.index_select(0, answer_of)) for k, v in self.decoder.keys(states)
        ]
        hidden = self.decoder.hidden(answer_ids[:, :-1], keys, padding_mask(mask)[answer_of])
        targets = answer_ids[:, 1:].where(answer_mask[:, 1:], IGNORE)
        factors = answer_weight[:, None].expand_as(targets)
        return self.decoder.word_head.loss(hidden, self.decoder.word_weight, targets, "sum", factors)
