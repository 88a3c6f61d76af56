"""Answering questions about pictures by ranking answers, each of which a decoder writes: CCLM's model for xGQA.

Paper: CCLM (Zeng et al., ACL 2023), section 4.1 (xGQA). All layers read the question beside its picture. A decoder
of the fusion layers, with words and a head of its own, looks back at the answer's earlier pieces and at the states of
the question; it learns to write the answer, in English whatever the question's language. A candidate's score is the
logarithm of the probability that it is written, `</s>` included.

The k candidates with the likeliest first pieces are scored, each once. All begin with `<s>`, which is computed once a
question, and so are the keys and values of the question's states, which its candidates share.

Differs from the original: the score counts every piece once. The original adds the first piece's logarithm to that of
the whole answer, which has it already (CCL-52, `first_twice`); candidates that are spelt with the same pieces are one;
equal scores go to the candidate that comes first in the list.
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from vlpnb.cclm.model import Cclm, embedded
from vlpnb.cclm.pairs import freeze_unread
from vlpnb.errors import UserError
from vlpnb.nn.attention import Keys
from vlpnb.nn.cache import Cache
from vlpnb.nn.losses import IGNORE
from vlpnb.nn.masks import causal_mask, padding_mask
from vlpnb.nn.onednn import quick_products

SCORES_AT_ONCE = 2**24  # words of the vocabulary × positions in memory


@dataclass(frozen=True)
class Answers:
    """Candidates as pieces `<s> … </s>`, padded; equal ones are one row of `ids`."""

    texts: tuple[str, ...]
    ids: Int[Tensor, "A L"]
    mask: Bool[Tensor, "A L"]
    first: tuple[int, ...]
    """Of each row the candidate in `texts` that comes first."""
    row: tuple[int, ...]
    """Of each candidate its row."""

    @classmethod
    def of(cls, texts: Sequence[str], pieces: Sequence[Sequence[int]], pad_id: int) -> "Answers":
        """From the pieces of each candidate with both special ones.

        Raises:
            UserError: no candidate, or one without a piece.
        """
        if not texts:
            raise UserError("there is no answer to choose from; expected a list of candidates")
        known: dict[tuple[int, ...], int] = {}
        first, row = [], []
        for place, (text, ids) in enumerate(zip(texts, map(tuple, pieces), strict=True)):
            if len(ids) < 3:
                raise UserError(f"answers[{place}]: {text!r} has no piece; expected a text with letters")
            if ids not in known:
                known[ids] = len(known)
                first.append(place)
            row.append(known[ids])
        longest = max(map(len, known))
        table = torch.tensor([[*ids, *[pad_id] * (longest - len(ids))] for ids in known])
        lengths = torch.tensor([len(ids) for ids in known])
        mask = torch.arange(longest) < lengths[:, None]
        return cls(tuple(texts), table, mask, tuple(first), tuple(row))

    def __len__(self) -> int:
        return len(self.ids)

    def to(self, device: str | torch.device) -> "Answers":
        """The same on a device."""
        return Answers(self.texts, self.ids.to(device), self.mask.to(device), self.first, self.row)


@dataclass(frozen=True)
class Ranked:
    """The candidates of each question that were scored, best first."""

    rows: Int[Tensor, "B k"]
    """Of `Answers.ids`."""
    scores: Float[Tensor, "B k"]
    """Logarithms of probabilities, higher is better."""


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

    def log_probs(self, hidden: Float[Tensor, "N D"], targets: Int[Tensor, " N"]) -> Float[Tensor, " N"]:
        """Of one word each, without the scores of all positions in memory at once."""
        parts = [
            -F.cross_entropy(self.logits(h).float(), t, reduction="none")
            for h, t in _chunks(hidden, targets, max(1, SCORES_AT_ONCE // len(self.word_weight)))
        ]
        return torch.cat(parts) if parts else hidden.new_zeros(0)


def _chunks(hidden: Tensor, targets: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    yield from zip(hidden.split(size), targets.split(size), strict=True)


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

    @torch.no_grad()
    def rank(
        self,
        states: Float[Tensor, "B T D"],
        mask: Bool[Tensor, "B T"],
        answers: Answers,
        k: int = 128,
        first_twice: bool = False,
    ) -> Ranked:
        """The best candidates of questions.

        Args:
            states: of `read`.
            k: how many candidates are scored, those whose first pieces are the likeliest; all where there are fewer.
            first_twice: count the first piece twice, as the original does (CCL-52).
        """
        first, cache, keys = self.first_pieces(states, mask, answers)
        k = min(k, len(answers))
        likely = first.sort(dim=1, descending=True, stable=True).indices[:, :k]  # (B, k)
        cache.share()
        ids, real = answers.ids[likely].flatten(0, 1), answers.mask[likely].flatten(0, 1)[:, 2:]  # (B k, L)
        hidden = self.decoder.hidden(ids[:, :-1], keys, padding_mask(mask), cache, skip=1)
        later = hidden.new_zeros(real.shape, dtype=torch.float32)
        later[real] = self.decoder.log_probs(hidden[real], ids[:, 2:][real])
        begun = first.gather(1, likely)
        scores = begun + later.sum(dim=1).view_as(begun)
        if first_twice:
            scores = scores + begun
        # Of equal scores the candidate that comes first in the list: rows are sorted by their number before.
        likely, order = likely.sort(dim=1)
        best = scores.gather(1, order).sort(dim=1, descending=True, stable=True)
        return Ranked(likely.gather(1, best.indices), best.values)

    @torch.no_grad()
    def first_pieces(
        self, states: Float[Tensor, "B T D"], mask: Bool[Tensor, "B T"], answers: Answers
    ) -> tuple[Float[Tensor, "B A"], Cache, list[Keys]]:
        """The logarithm of the probability of each candidate's first piece; the cache that holds `<s>`; the keys."""
        keys, cache = self.decoder.keys(states), Cache(len(self.decoder.layers))
        start = answers.ids[:1, :1].expand(len(states), 1)
        hidden = self.decoder.hidden(start, keys, padding_mask(mask), cache)
        return self.decoder.logits(hidden[:, 0]).float().log_softmax(-1)[:, answers.ids[:, 1]], cache, keys
