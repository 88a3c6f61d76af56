"""BERT's masking of a whole batch at once (Devlin et al. 2019, section 3.1), CCLM's of spans, VLP's of a few pieces.

Of BERT's, one uniform draw per position decides both whether it is selected and what becomes of it, so a batch costs
two calls of the generator and no loop. The generator lives on the device of the ids and makes the masks
repeatable (the reference's evaluation masks are not: quirk VOK-22).
"""

import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from vlpnb.nn.losses import IGNORE

SPAN_RATE, SPANS = (
    0.2,
    (2, 3),
)  # how often a span is selected in place of a word, and how long it is, equally often
UNUSED = re.compile(r"\[unused\d+\]")


def mask_tokens(
    ids: Int[Tensor, "B T"],
    special_mask: Bool[Tensor, "B T"],
    mask_id: int,
    vocab_size: int,
    generator: torch.Generator | None = None,
    rate: float = 0.15,
    starts: Bool[Tensor, "B T"] | None = None,
) -> tuple[Int[Tensor, "B T"], Int[Tensor, "B T"]]:
    """Select ordinary positions with probability `rate`: 80 % become [MASK], 10 % a random id, 10 % stay.

    Args:
        ids: token ids, any integer type.
        special_mask: True at [CLS], [SEP] and padding, which are never selected.
        vocab_size: random ids are uniform over the whole vocabulary.
        generator: on the device of `ids`; None uses the global one.
        starts: True where a word begins, False at its further pieces: words are then selected whole.

    Returns:
        inputs and labels, int64 [B, T]; labels are the original id at selected positions, -100 elsewhere.
    """
    ids = ids.long()
    draw = torch.rand(ids.shape, generator=generator, device=ids.device)
    if starts is not None:
        word = starts.long().cumsum(1) - starts[:, :1].long()  # which word a piece belongs to
        draw = draw.gather(1, word.clamp(min=0))
    random_ids = torch.randint(vocab_size, ids.shape, generator=generator, device=ids.device)
    draw = draw.masked_fill(special_mask, 1.0)
    labels = ids.masked_fill(draw >= rate, IGNORE)
    inputs = torch.where(draw < 0.9 * rate, random_ids, ids)
    return inputs.masked_fill(draw < 0.8 * rate, mask_id), labels


def selected_count(lengths: Int[Tensor, " B"], rate: float = 0.4, most: int = 12) -> Int[Tensor, " B"]:
    """How many tokens `mask_spans` selects of sentences of so many, two or more, both ends counted."""
    return (lengths.double() * rate).round().long().clamp(1, most).minimum(lengths - 1)


def mask_spans(
    ids: Int[Tensor, "B T"],
    lengths: Int[Tensor, " B"],
    mask_id: int,
    vocab_size: int,
    generator: torch.Generator | None = None,
    rate: float = 0.4,
    most: int = 12,
) -> tuple[Int[Tensor, "B T"], Int[Tensor, "B M"], Int[Tensor, "B M"]]:
    """Select words and spans of two or three, as CCLM does: 80 % become [MASK], 10 % a random id, 10 % stay.

    Of a sentence of n tokens, both ends counted, min(most, max(1, round(rate · n))) are selected, never the first one
    (CCL-23). Positions are visited in random order; one that is not selected yet begins a span with probability 0.2,
    else it is selected alone. Spans grow to the right and stop at the sentence's end; what is too many is dropped at
    random.

    Args:
        ids: token ids, any integer type; the last one of a sentence may be selected.
        lengths: tokens of each sentence, two or more; what follows is padding.
        vocab_size: random ids are uniform over the whole vocabulary, special ones among them.
        generator: on the device of `ids`; None uses the global one.

    Returns:
        the ids with what is hidden, int64; the selected positions in ascending order, 0 behind the last; what stood
        there, -100 behind the last. M is the largest number of a sentence.
    """
    ids = ids.long()
    rows, longest, device = *ids.shape, ids.device
    # what each position does when it is visited, and when that is
    dice = torch.rand(3, rows, longest, generator=generator, device=device)
    drawn = (dice[0] / SPAN_RATE * len(SPANS)).long().clamp_max(len(SPANS))
    span = torch.tensor([*SPANS, 1], device=device)[drawn]
    at = torch.arange(longest, device=device)
    inside = (at > 0) & (at < lengths[:, None])
    visited = dice[1].masked_fill(~inside, 2.0)

    # A span's start is passed over when an earlier span has covered it; starts to its left alone can.
    covered = torch.full_like(visited, 3.0)  # when a position is selected
    for p in range(1, longest):
        starts = visited[:, p] < covered[:, p]
        for step in range(min(max(SPANS), longest - p)):
            reach = starts & (span[:, p] > step)
            covered[:, p + step] = torch.where(
                reach, torch.minimum(covered[:, p + step], visited[:, p]), covered[:, p + step]
            )
    covered = covered.masked_fill(~inside, 3.0)

    # The visits end when enough are selected, and the last one may bring too many.
    wanted = selected_count(lengths, rate, most)[:, None]
    enough = covered.sort(1).values.gather(1, wanted - 1)
    order = dice[2].masked_fill(covered > enough, 2.0).argsort(1)[:, : int(wanted.max())]
    kept = at[: order.shape[1]] < wanted
    places = order.masked_fill(~kept, longest).sort(1).values.masked_fill(~kept, 0)
    labels = ids.gather(1, places).masked_fill(~kept, IGNORE)

    random_ids = torch.randint(vocab_size, labels.shape, generator=generator, device=device)
    what = torch.rand(labels.shape, generator=generator, device=device)
    shown = torch.where(what < 0.9, random_ids, labels).masked_fill(what < 0.8, mask_id)
    hidden = torch.zeros_like(ids).scatter_add_(1, places, (shown - labels).masked_fill(~kept, 0))
    return ids + hidden, places, labels


@dataclass(frozen=True)
class Words:
    """The ids that hiding words needs, all from a tokenizer."""

    sep: int
    mask: int
    size: int
    """Ids are below it."""
    ordinary: Int[np.ndarray, " O"] = field(repr=False)
    """Those that may stand for a hidden word."""

    @classmethod
    def of(cls, tokenizer: Any, any_random: bool = False) -> "Words":
        """From a tokenizer; `any_random`: special and unused pieces may stand for a hidden word too (VLP-12)."""
        special = set(tokenizer.all_special_ids)
        special |= {i for piece, i in tokenizer.get_vocab().items() if UNUSED.fullmatch(piece)}
        size = len(tokenizer)
        allowed = np.array([i for i in range(size) if any_random or i not in special], np.int64)
        return cls(tokenizer.sep_token_id, tokenizer.mask_token_id, size, allowed)


def target_count(n: Int[np.ndarray, "*N"], rate: float, most: int) -> Int[np.ndarray, "*N"]:
    """How many of n word pieces and a [SEP] are to be guessed; halves are rounded to even."""
    return np.minimum(most, np.maximum(1, np.rint(n * rate))).astype(np.int64)


def hide(
    words: Int[np.ndarray, "M T"],
    n: Int[np.ndarray, " M"],
    vocabulary: Words,
    rate: float,
    most: int,
    random: np.random.Generator,
) -> tuple[Int[np.ndarray, "M S"], Int[np.ndarray, "M S"]]:
    """Captions with their [SEP] and some pieces hidden, and the pieces to guess (−100 elsewhere); S = T + 1.

    `target_count` of n pieces and the [SEP] are to be guessed, of which 80 % become [MASK], 10 % another piece.
    """
    at = np.arange(words.shape[1] + 1)
    ids = np.pad(words, ((0, 0), (0, 1)))
    ids[at == n[:, None]] = vocabulary.sep
    order = random.random(ids.shape)  # the k smallest of a caption are its targets
    order[at > n[:, None]] = 2.0
    k = target_count(n, rate, most)
    chosen = np.argsort(np.argsort(order, axis=1), axis=1) < k[:, None]
    dice = random.random(ids.shape)
    others = vocabulary.ordinary[random.integers(len(vocabulary.ordinary), size=ids.shape)]
    labels = np.where(chosen, ids, IGNORE)
    shown = np.where(dice < 0.8, vocabulary.mask, np.where(dice < 0.9, others, ids))
    return np.where(chosen, shown, ids), labels
