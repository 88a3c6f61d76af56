"""The examples of VLP's pre-training and captioning, as an update sees them: captions laid out, words hidden.

Paper: VLP (Zhou et al. 2020). An example is a picture and a sentence, read from left to right
(seq2seq) or both ways (bi), drawn anew every time. Targets are up to `most` of its n word pieces and the closing [SEP]
(so that the model learns to stop): min(most, max(1, round(rate · n))), of which 80 % become [MASK], 10 % another piece.

Differs from the original:

* Everything is drawn for the whole update from (seed, update): neither the number of processes nor the size of
  micro-batches changes it.
* `targets: every` (VLP-05): a seq2seq caption stays as it is, and after it stands one [MASK] for every word and the
  [SEP], a *query*. Query i sees the picture, the words before i and itself, and nobody sees a query: each is asked what
  decoding asks, and one pass asks all of them, where the original asks three and hides words that others need.
* `packed` (VLP-06): all captions of a picture stand behind one picture. They do not see each other, and in seq2seq the
  picture sees none of them.
* A random piece is an ordinary one; `any_random` allows special and unused ones too (VLP-12).
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from vlpnb.errors import UserError
from vlpnb.nn.losses import IGNORE
from vlpnb.text.caption_table import CaptionTable
from vlpnb.text.masking import Words, hide
from vlpnb.train.sampling import EpochSampler, Update, share
from vlpnb.vlp.pictures import Pictures, no_pictures

Targets = Literal["masked", "every"]


@dataclass(frozen=True)
class Hiding:
    """What is asked of a caption. The paper's values: 0.75 in pre-training, 0.15 and 3."""

    s2s: float = 0.75
    """Share of the examples that are read from left to right; the others are read both ways."""
    rate: float = 0.15
    """Share of the word pieces that are to be guessed …"""
    most: int = 3
    """… but at most so many, and at least one; 0: none."""
    targets: Targets = "masked"
    """Of seq2seq examples: "masked" or "every" word; what is read both ways is always masked."""
    region_rate: float = 0.0
    """Share of the regions that are hidden, to be recognised among all (the pretext of no recipe)."""


@dataclass(frozen=True)
class Layout:
    """The B rows of an update; T text positions follow each picture, of which a row may use fewer."""

    pictures: Int[np.ndarray, " B"]
    s2s: Bool[np.ndarray, " B"]
    ids: Int[np.ndarray, "B T"]
    place: Int[np.ndarray, "B T"]
    """Where in its caption a position stands, from 0; a query where the word that it asks for does."""
    owner: Int[np.ndarray, "B T"]
    """Which of its picture's captions a position belongs to; −1 at padding."""
    query: Bool[np.ndarray, "B T"]
    """A [MASK] that nobody else sees."""
    labels: Int[np.ndarray, "B T"]
    """The piece to guess; −100 elsewhere."""
    hidden: Bool[np.ndarray, "B R"] | None = None
    """Hidden regions."""


def lay_out(
    table: CaptionTable,
    groups: Int[np.ndarray, " U"],
    units: Int[np.ndarray, " B"],
    vocabulary: Words,
    hiding: Hiding,
    counts: Int[np.ndarray, " B"] | None,
    *seed: int,
) -> Layout:
    """The rows of an update: a pure function of its arguments.

    Args:
        groups: where the captions of each unit begin in the table, and where the last ones end.
        units: which of them; each becomes a row.
        counts: regions of each row's picture, where some are to be hidden.
        seed: (run seed, update).
    """
    random = np.random.default_rng(seed)
    first, many = groups[units], groups[units + 1] - groups[units]
    row = np.repeat(np.arange(len(units)), many)
    owner = np.arange(len(row)) - np.repeat(np.cumsum(many) - many, many)
    words, n = table.words(first[row] + owner)
    s2s = random.random(len(units)) < hiding.s2s
    every = s2s[row] & (hiding.targets == "every")
    ids, labels = hide(words, n, vocabulary, hiding.rate, hiding.most, random)
    at = np.arange(ids.shape[1])
    whole = np.pad(words, ((0, 0), (0, 1)))
    whole[at == n[:, None]] = vocabulary.sep
    ids = np.where(every[:, None], whole, ids)
    labels = np.where(every[:, None], IGNORE, labels)
    used = at < n[:, None] + ~every[:, None]  # a [SEP] that is only asked for need not be there
    parts = [(used, ids, labels, False)]
    if every.any():
        parts.append((every[:, None] & (at <= n[:, None]), np.full_like(ids, vocabulary.mask), whole, True))

    used, ids, labels = (np.concatenate([part[i] for part in parts], 1) for i in range(3))
    query = np.concatenate([np.full(part[0].shape, part[3]) for part in parts], 1)
    place = np.tile(np.broadcast_to(at, (len(row), len(at))), len(parts))
    caption, position = np.nonzero(used)  # caption by caption, and so row by row
    rows = row[caption]
    sizes = np.bincount(rows, minlength=len(units))
    column = np.arange(len(rows)) - np.repeat(np.cumsum(sizes) - sizes, sizes)

    def packed(values: np.ndarray, empty: int) -> np.ndarray:
        made = np.full((len(units), int(sizes.max(initial=1))), empty, values.dtype)
        made[rows, column] = values[caption, position]
        return made

    hidden = None
    if hiding.region_rate and counts is not None:
        order = random.random((len(units), int(counts.max(initial=0))))
        order[np.arange(order.shape[1]) >= counts[:, None]] = 2.0
        hidden = np.argsort(np.argsort(order, 1), 1) < np.floor(counts * hiding.region_rate)[:, None]
    return Layout(
        table.pictures[first], s2s, packed(ids, 0), packed(place, 0),
        packed(np.broadcast_to(owner[:, None], ids.shape), -1), packed(query, 0), packed(labels, IGNORE), hidden,
    )  # fmt: skip


def tensors(
    layout: Layout, part: Int[np.ndarray, " b"], pictures: Pictures | None, pad: int
) -> dict[str, Tensor]:
    """The arguments of `objectives.Guessing.forward` for some rows of an update, cut to the longest of them.

    Args:
        pictures: None where the texts have none.
        pad: the id at padding, which nobody sees.
    Raises:
        UserError: a picture has a feature that is not a number (the store says so).
    """
    used = layout.owner[part] >= 0
    longest = max(int(used.sum(1).max(initial=0)), 1)
    made = {
        name: torch.from_numpy(getattr(layout, name)[part][:, :longest])
        for name in ("ids", "place", "owner", "query", "labels")
    }
    made["ids"] = made["ids"].masked_fill(made["owner"] < 0, pad)
    if not layout.query.any():
        del made["query"]
    regions = no_pictures(len(part), 1, 1) if pictures is None else pictures.batch(layout.pictures[part])
    if layout.hidden is not None:
        made["hidden_regions"] = torch.from_numpy(layout.hidden[part][:, : regions["features"].shape[1]])
    return {**made, "s2s": torch.from_numpy(layout.s2s[part]), **regions}


class Batches:
    """Update number → its examples, drawn and hidden for all processes, cut into this one's micro-batches.

    Args:
        packed: all captions of a picture in a row.
        any_random: special and unused pieces may stand for a hidden word too (VLP-12).
        by_length: batches of rows of similar length.
        drop: share of the rows of a micro-batch with the greatest loss that is left out, after `drop_after` epochs.
    """

    def __init__(
        self,
        table: CaptionTable,
        pictures: Pictures | None,
        tokenizer: Any,
        hiding: Hiding,
        *,
        batch: int = 512,
        micro_batch: int = 512,
        packed: bool = False,
        any_random: bool = False,
        seed: int = 0,
        by_length: bool = False,
        drop: float = 0.0,
        drop_after: float = 0.0,
        rank: int = 0,
        world_size: int = 1,
    ):
        if packed and hiding.s2s < 1:
            raise UserError("packed captions are read from left to right alone: expected s2s = 1")
        self.table, self.pictures, self.hiding = table, pictures, hiding
        self.vocabulary, self.pad = Words.of(tokenizer, any_random), tokenizer.pad_token_id
        self.groups = table.together() if packed else np.arange(len(table) + 1)
        self.seed, self.rank, self.world_size = seed, rank, world_size
        self.drop, self.drop_after = drop, drop_after
        units = len(self.groups) - 1
        sizes = np.diff(table.starts[self.groups]) if by_length else None
        self.sampler = EpochSampler(units, min(batch, units), seed, lengths=sizes)
        self.micro = max(1, -(-self.sampler.batch // (world_size * micro_batch)))

    def layout(self, units: Int[np.ndarray, " B"], *seed: int, hiding: Hiding | None = None) -> Layout:
        """What some rows look like."""
        hiding, counts = hiding or self.hiding, None
        if hiding.region_rate and self.pictures is not None:
            counts = self.pictures.store.counts(self.table.pictures[self.groups[units]])
        return lay_out(self.table, self.groups, units, self.vocabulary, hiding, counts, *seed)

    def __call__(self, update: int) -> Update:
        layout = self.layout(self.sampler(update), self.seed, update)
        parts = share(np.arange(len(layout.pictures)), self.rank, self.world_size, self.micro)
        micro = [tensors(layout, part, self.pictures, self.pad) for part in parts]
        if self.drop and update >= self.drop_after * self.sampler.per_epoch:
            micro = [{**one, "drop": torch.tensor(self.drop)} for one in micro]
        counts = {"words": int((layout.labels != IGNORE).sum())}
        if layout.hidden is not None:
            counts["regions"] = len(layout.pictures)
        return Update(micro, counts, int((layout.owner >= 0).sum()))
