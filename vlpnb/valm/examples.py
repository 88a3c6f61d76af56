"""The examples of VaLM's pre-training, as an update sees them: blocks of text, what is hidden of them, their pictures.

Paper: Wang et al., "Visually-Augmented Language Modeling" (ICLR 2023): a block of text, its next words, K pictures for
each of its words. Three additions are this course's, all off in the paper: input words may be masked while every next
word stays to be guessed, masked words may be guessed in both directions, and pictures may be hidden.

Differs from the original: pictures come from tables made once (`queries.py`), where it searches anew at every step; and
everything is drawn for the whole update from (seed, update), so that neither the number of processes nor the size of
micro-batches changes it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from vlpnb.nn.losses import IGNORE
from vlpnb.text.blocks import LanguageBlocks
from vlpnb.text.masking import mask_tokens
from vlpnb.text.vocabulary import Vocabulary
from vlpnb.train.sampling import EpochSampler, Update, seed_of, share
from vlpnb.valm.objectives import hide_images

Objective = Literal["next", "masked", "both"]


@runtime_checkable
class Shown(Protocol):
    """Which pictures stand beside the words of some blocks."""

    count: int
    """K, of each word."""

    def __call__(
        self, numbers: Int[np.ndarray, " B"], batch: Mapping[str, Tensor], seed: tuple[int, ...]
    ) -> Mapping[str, Tensor]:
        """`images`, and `rows` where those are distinct vectors; a function of its arguments, block by block.

        Args:
            numbers: of the blocks.
            batch: their `ids` and, where it is known, which picture they describe, `own`, as `LanguageBlocks` has them.
        """


@dataclass(frozen=True)
class Hiding:
    """What is hidden of words and pictures; the paper hides nothing."""

    objective: Objective = "next"
    word_rate: float = 0.0
    """Share of the words that are read masked while the next words are guessed."""
    masked_rate: float = 0.15
    """Share of the words that are masked and guessed in both directions."""
    image_rate: float = 0.0
    """Share of the pictures that are hidden, each by itself."""
    all_rate: float = 0.0
    """Share of the words whose pictures are all hidden."""
    exclusive: bool = False
    """A masked word keeps one of its pictures at least."""


class Batches:
    """Update number → its blocks, hidden for all processes, cut into this one's micro-batches.

    Args:
        shown: the pictures of the words; None: a model of text alone.
        masked_shown: those of texts of which words are masked, where they are to be guessed: found without those words.
        by_length: batches of blocks of similar length, which have less padding.
    """

    def __init__(
        self,
        blocks: LanguageBlocks,
        words: Vocabulary,
        shown: Shown | None,
        hiding: Hiding,
        *,
        masked_shown: Shown | None = None,
        batch: int,
        micro_batch: int,
        seed: int = 0,
        by_length: bool = False,
        rank: int = 0,
        world_size: int = 1,
    ):
        self.blocks, self.words, self.hiding, self.seed = blocks, words, hiding, seed
        self.shown, self.masked_shown = shown, masked_shown
        self.rank, self.world_size = rank, world_size
        lengths = np.asarray(blocks.lengths) if by_length else None
        self.sampler = EpochSampler(len(blocks), min(batch, len(blocks)), seed, lengths=lengths)
        self.micro = max(1, -(-self.sampler.batch // (world_size * micro_batch)))

    def whole(self, update: int) -> tuple[dict[str, Tensor], Int[np.ndarray, " B"]]:
        """The texts of an update over all processes and their numbers; B rows, as wide as the longest.

        `ids`, as they are, and `targets`; `read`, the ids of which some may be masked; with masked words to guess
        `masked_ids` and `labels`; `own` where it is known; `image_mask`, `masked_image_mask` where pictures are hidden.
        """
        numbers, hiding = self.sampler(update), self.hiding
        batch = self.blocks.batch(numbers)
        ids = batch["ids"]
        made = {name: batch[name] for name in ("ids", "targets", "own") if name in batch}
        draw = torch.Generator().manual_seed(seed_of(self.seed, update))
        special = torch.isin(ids, torch.tensor(self.words.special))

        def masked(rate: float) -> tuple[Tensor, Tensor]:
            return mask_tokens(ids, special, self.words.mask_id, self.words.size, draw, rate)

        def seen(chosen: Tensor) -> Tensor:
            shape, spared = (*ids.shape, self.shown.count), chosen if hiding.exclusive else None
            return hide_images(shape, hiding.image_rate, hiding.all_rate, draw, spared=spared)

        hidden = self.shown is not None and bool(hiding.image_rate or hiding.all_rate)
        if hiding.objective != "masked":
            made["read"] = masked(hiding.word_rate)[0] if hiding.word_rate else ids
            if hidden:
                made["image_mask"] = seen(made["read"] != ids)
        if hiding.objective != "next":
            made["masked_ids"], made["labels"] = masked(hiding.masked_rate)
            if hidden:
                made["masked_image_mask"] = seen(made["labels"] != IGNORE)
        return made, numbers

    def __call__(self, update: int) -> Update:
        made, numbers = self.whole(update)
        parts = share(np.arange(len(numbers)), self.rank, self.world_size, self.micro)
        micro = [self._micro(made, numbers, part, update) for part in parts]
        counts = {}
        if "read" in made:
            counts["next"] = int((made["targets"] != IGNORE).sum())
        if "labels" in made:
            counts["masked"] = int((made["labels"] != IGNORE).sum())
        return Update(micro, counts, int((made["targets"] != IGNORE).sum()))

    def _micro(
        self,
        made: Mapping[str, Tensor],
        numbers: Int[np.ndarray, " B"],
        part: Int[np.ndarray, " b"],
        update: int,
    ) -> dict[str, Tensor]:
        """The arguments of `ValmLM.forward` for some rows of an update."""
        mine = {name: value[part] for name, value in made.items()}
        seed = (self.seed, update)  # not of the process: whatever their number, a block sees the same
        arguments = {
            name: mine[name]
            for name in ("image_mask", "masked_ids", "labels", "masked_image_mask")
            if name in mine
        }
        if "read" in mine:
            arguments |= {"ids": mine["read"], "targets": mine["targets"]}
            if self.shown is not None:
                arguments |= self.shown(numbers[part], mine, seed)
        if "labels" in mine and self.masked_shown is not None:
            found = self.masked_shown(numbers[part], {**mine, "ids": mine["masked_ids"]}, (*seed, 1))
            arguments |= {f"masked_{name}": value for name, value in found.items()}
        return arguments
