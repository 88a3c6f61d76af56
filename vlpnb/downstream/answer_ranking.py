"""Answers ranked by the probability that a decoder writes them, `</s>` included.

Paper: CCLM (Zeng et al., ACL 2023), section 4.1 (xGQA); the way of X-VLM and ALBEF before it. The k candidates with the
likeliest first pieces are scored, each once. All begin with `<s>`, which is computed once a question, and so are the
keys and values of the question's states, which its candidates share.

Differs from the original: the score counts every piece once. The original adds the first piece's logarithm to that of
the whole answer, which has it already (CCL-52, `first_twice`); candidates that are spelt with the same pieces are one;
equal scores go to the candidate that comes first in the list.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from vlpnb.errors import UserError
from vlpnb.nn.attention import Keys
from vlpnb.nn.cache import Cache
from vlpnb.nn.masks import padding_mask

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


@runtime_checkable
class Writer(Protocol):
    """A decoder, such as `cclm.answering.Decoder`."""

    @property
    def word_weight(self) -> Tensor:
        """The word table, [V, D]."""

    def keys(self, states: Tensor) -> list[Keys]:
        """Keys and values of the questions' states, for each layer."""

    def hidden(
        self, ids: Tensor, keys: Sequence[Keys], seen: Tensor, cache: Cache | None = None, skip: int = 0
    ) -> Tensor:
        """States of the pieces of answers from number `skip` on, those before being in the `cache`."""

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores of all words."""


@torch.no_grad()
def rank(
    writer: Writer,
    states: Float[Tensor, "B T D"],
    mask: Bool[Tensor, "B T"],
    answers: Answers,
    k: int = 128,
    first_twice: bool = False,
) -> Ranked:
    """The best candidates of questions.

    Args:
        states: of the questions.
        mask: their real pieces.
        k: how many candidates are scored, those whose first pieces are the likeliest; all where there are fewer.
        first_twice: count the first piece twice, as the original does (CCL-52).
    """
    first, cache, keys = first_pieces(writer, states, mask, answers)
    k = min(k, len(answers))
    likely = first.sort(dim=1, descending=True, stable=True).indices[:, :k]  # (B, k)
    cache.share()
    ids, real = answers.ids[likely].flatten(0, 1), answers.mask[likely].flatten(0, 1)[:, 2:]  # (B k, L)
    hidden = writer.hidden(ids[:, :-1], keys, padding_mask(mask), cache, skip=1)
    later = hidden.new_zeros(real.shape, dtype=torch.float32)
    later[real] = log_probs(writer, hidden[real], ids[:, 2:][real])
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
    writer: Writer, states: Float[Tensor, "B T D"], mask: Bool[Tensor, "B T"], answers: Answers
) -> tuple[Float[Tensor, "B A"], Cache, list[Keys]]:
    """The logarithm of the probability of each candidate's first piece; the cache that holds `<s>`; the keys."""
    keys = writer.keys(states)
    cache = Cache(len(keys))
    start = answers.ids[:1, :1].expand(len(states), 1)
    hidden = writer.hidden(start, keys, padding_mask(mask), cache)
    return writer.logits(hidden[:, 0]).float().log_softmax(-1)[:, answers.ids[:, 1]], cache, keys


def log_probs(
    writer: Writer, hidden: Float[Tensor, "N D"], targets: Int[Tensor, " N"]
) -> Float[Tensor, " N"]:
    """Of one word each, without the scores of all positions in memory at once."""
    rows = max(1, SCORES_AT_ONCE // len(writer.word_weight))
    parts = [
        -F.cross_entropy(writer.logits(some).float(), wanted, reduction="none")
        for some, wanted in zip(hidden.split(rows), targets.split(rows), strict=True)
    ]
    return torch.cat(parts) if parts else hidden.new_zeros(0)
