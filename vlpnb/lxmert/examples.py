"""The examples of LXMERT's pre-training, as an update sees them: pairs swapped, words and regions masked.

Paper: LXMERT (Tan and Bansal 2019), sections 3.1 and 3.2. A sentence may be swapped for that of another picture (the
matching task), word pieces and object features are masked, and of several answers one is drawn by its score.

Differs from the original: everything is drawn for the whole update from (seed, update), so that neither the number
of processes nor the size of micro-batches changes it (the original draws example by example, in worker processes); a
random feature comes from one of the regions that its picture has (the original counts on 36, LXM-21); evaluation
draws from its own split (the original from the training split, LXM-21).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from vlpnb.errors import UserError
from vlpnb.lxmert.sentence_table import Examples
from vlpnb.nn.losses import IGNORE
from vlpnb.text.masking import mask_tokens
from vlpnb.text.packing import trimmed
from vlpnb.train.sampling import EpochSampler, Update, seed_of, share

Task = Literal["words", "match", "objects", "answers"]
VisualLoss = Literal["objects", "attributes", "features"]
MOST_TRIES = 10_000  # draws of a sentence about another picture before giving up


@dataclass(frozen=True)
class Masking:
    """How much is hidden. The paper's values: 0.5, 0.15 and 0.15."""

    mismatched: float = 0.5  # share of the sentences that are swapped
    words: float = 0.15
    objects: float = 0.15


@dataclass(frozen=True)
class Draws:
    """All that is random about the B examples of one update; R is the most regions that one of its pictures has."""

    rows: Int[np.ndarray, " B"]
    """The examples."""
    sentences: Int[np.ndarray, " B"]
    """The example whose sentence is read; another one's where the pair is mismatched."""
    matched: Bool[np.ndarray, " B"]
    ids: Int[Tensor, "B T"]
    """Masked."""
    mask: Bool[Tensor, "B T"]
    """False at padding."""
    word_labels: Int[Tensor, "B T"]
    """The piece to guess; -100 elsewhere."""
    regions: Int[np.ndarray, " B"]
    """Regions of each picture."""
    hidden: Bool[np.ndarray, "B R"]
    """The masked regions: their features become 0, another region's, or stay."""
    zeroed: Bool[np.ndarray, "B R"]
    replaced: Bool[np.ndarray, "B R"]
    other_pictures: Int[np.ndarray, "B R"]
    """Where `replaced`, the row of the store that the random feature comes from; 0 elsewhere."""
    other_regions: Int[np.ndarray, "B R"]
    answer: Int[np.ndarray, " B"]
    """The answer to guess; -100 where there is none or the pair is mismatched."""


def draw(
    examples: Examples,
    rows: Int[np.ndarray, " B"],
    counts: Callable[[Int[np.ndarray, " _"]], Int[np.ndarray, " _"]],
    tokenizer: Any,
    masking: Masking,
    length: int,
    *seed: int,
) -> Draws:
    """What happens to the examples `rows` of an update: a pure function of its arguments.

    Args:
        counts: rows of the store → regions of each.
        seed: (run seed, update).
    """
    random = np.random.default_rng(seed)
    size, pictures = len(rows), examples.pictures[rows]
    swapped = random.random(size) < masking.mismatched
    sentences = (
        np.where(swapped, _about_other_pictures(examples, pictures, random), rows) if swapped.any() else rows
    )

    ids, mask = examples.text(sentences, length, tokenizer)
    special = ~mask
    special[:, 0] = True
    special[torch.arange(size), mask.sum(1) - 1] = True
    generator = torch.Generator().manual_seed(seed_of(*seed))
    ids, labels = mask_tokens(ids, special, tokenizer.mask_token_id, len(tokenizer), generator, masking.words)

    regions = counts(pictures)
    dice = random.random((size, int(regions.max(initial=0))))  # one draw: hidden or not, and how
    dice[np.arange(dice.shape[1]) >= regions[:, None]] = 1.0
    zeroed, hidden = dice < 0.8 * masking.objects, dice < masking.objects
    replaced = ~zeroed & (dice < 0.9 * masking.objects)
    other_pictures, other_regions = (np.zeros(dice.shape, np.int64) for _ in range(2))
    taken = examples.pictures[random.integers(len(examples), size=int(replaced.sum()))]
    other_pictures[replaced] = taken
    other_regions[replaced] = (random.random(len(taken)) * counts(taken)).astype(np.int64)

    answers, scores = examples.answer_scores(rows)
    running = scores.cumsum(1)
    total = running[:, -1]
    picked = (running > (random.random(size) * total)[:, None]).argmax(1)
    answer = np.where((total > 0) & ~swapped, answers[np.arange(size), picked], IGNORE)
    return Draws(
        rows, sentences, ~swapped, ids, mask, labels, regions, hidden, zeroed, replaced, other_pictures, other_regions,
        answer,
    )  # fmt: skip


def _about_other_pictures(
    examples: Examples, pictures: Int[np.ndarray, " B"], random: np.random.Generator
) -> Int[np.ndarray, " B"]:
    """For each picture an example about another one, uniformly. UserError where the table has one picture alone."""
    drawn = random.integers(len(examples), size=len(pictures))
    for _ in range(MOST_TRIES):
        own = np.flatnonzero(examples.pictures[drawn] == pictures)
        if not len(own):
            return drawn
        drawn[own] = random.integers(len(examples), size=len(own))
    raise UserError(
        "sentences of other pictures are needed to tell whether a pair matches, and there is only one picture; "
        "use more pictures, or leave `match` out of the tasks"
    )


@dataclass(frozen=True)
class Wanted:
    """Which losses there are. What is masked does not depend on it, but pairs are only mismatched to be told apart."""

    tasks: tuple[Task, ...] = ("words", "match", "objects", "answers")
    visual: tuple[VisualLoss, ...] = ("objects", "attributes", "features")  # of the task `objects`
    labels_of: Literal["all", "masked"] = "all"  # regions whose object and attribute are to be told

    @property
    def losses(self) -> tuple[str, ...]:
        """The names of the losses: a task is one, but for `objects`, which has up to three."""
        return (
            *(task for task in self.tasks if task != "objects"),
            *(self.visual if "objects" in self.tasks else ()),
        )


def tensors(
    examples: Examples, draws: Draws, part: Int[np.ndarray, " b"], store: Any, wanted: Wanted
) -> dict[str, Tensor]:
    """The arguments of `LxmertForPretraining.forward` for some of the examples of an update (positions in `draws`).

    Text is cut to the longest sentence of the part, regions to the picture with the most. Boxes are never masked, and
    the features to predict are the unmasked ones.

    Raises:
        UserError: a picture has a feature that is not a number (the store says so).
    """
    found = store.batch(examples.pictures[draws.rows[part]])
    width = found.features.shape[1]
    hidden, zeroed, replaced = (
        torch.from_numpy(drawn[part][:, :width]) for drawn in (draws.hidden, draws.zeroed, draws.replaced)
    )
    features = found.features.masked_fill(zeroed[..., None], 0.0)
    if replaced.any():
        other = (
            drawn[part][:, :width][replaced.numpy()] for drawn in (draws.other_pictures, draws.other_regions)
        )
        features[replaced] = store.features_of(*other)
    text = trimmed({name: getattr(draws, name)[part] for name in ("ids", "mask", "word_labels")})
    made = {
        "ids": text["ids"], "mask": text["mask"], "features": features, "boxes": found.boxes,
        "visual_mask": found.mask,
    }  # fmt: skip
    labels = {
        "words": {"word_labels": text["word_labels"]},
        "match": {"matched": torch.from_numpy(draws.matched[part].astype(np.int64))},
        "objects": _labels("object", found, hidden, wanted),
        "attributes": _labels("attribute", found, hidden, wanted),
        "features": {"targets": found.features, "object_masked": hidden},
        "answers": {"answer": torch.from_numpy(draws.answer[part])},
    }
    for loss in wanted.losses:
        made |= labels[loss]
    return {name: value for name, value in made.items() if value is not None}


def _labels(kind: str, found: Any, hidden: Bool[Tensor, "b R"], wanted: Wanted) -> dict[str, Tensor]:
    """What the detector saw in each region, and how sure it was; it counts for nothing where nobody asks."""
    ids, sure = getattr(found, f"{kind}_ids"), getattr(found, f"{kind}_conf")
    sure = sure * hidden if wanted.labels_of == "masked" else sure
    return {f"{kind}_ids": ids.masked_fill(ids < 0, IGNORE), f"{kind}_conf": sure}


def target_counts(draws: Draws, wanted: Wanted) -> dict[str, int]:
    """What the sum of each loss is divided by: masked words, pairs, regions whether labelled or not, answers."""
    counts = {
        "words": int((draws.word_labels != IGNORE).sum()),
        "match": len(draws.rows),
        **dict.fromkeys(("objects", "attributes", "features"), int(draws.regions.sum())),
        "answers": int((draws.answer != IGNORE).sum()),
    }
    return {name: counts[name] for name in wanted.losses}


class Batches:
    """Update number → its examples, drawn and masked for all processes, cut into this one's micro-batches."""

    def __init__(
        self,
        examples: Examples,
        store: Any,
        tokenizer: Any,
        wanted: Wanted,
        masking: Masking,
        *,
        batch: int = 256,
        micro_batch: int = 256,
        length: int = 20,
        seed: int = 0,
        by_length: bool = False,
        rank: int = 0,
        world_size: int = 1,
    ):
        self.examples, self.store, self.tokenizer, self.wanted = examples, store, tokenizer, wanted
        self.masking, self.length, self.seed = masking, length, seed
        self.rank, self.world_size = rank, world_size
        self.sampler = EpochSampler(
            len(examples), min(batch, len(examples)), seed, drop_last=True,
            lengths=examples.lengths if by_length else None,
        )  # fmt: skip
        self.micro = max(1, -(-self.sampler.batch // (world_size * micro_batch)))

    def draws(self, rows: Int[np.ndarray, " B"], *seed: int) -> Draws:
        """What happens to some examples."""
        return draw(self.examples, rows, self.store.counts, self.tokenizer, self.masking, self.length, *seed)

    def __call__(self, update: int) -> Update:
        draws = self.draws(self.sampler(update), self.seed, update)
        parts = share(np.arange(len(draws.rows)), self.rank, self.world_size, self.micro)
        micro = [tensors(self.examples, draws, part, self.store, self.wanted) for part in parts]
        return Update(micro, target_counts(draws, self.wanted), int(draws.mask.sum()))
