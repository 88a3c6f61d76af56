"""The examples of LXMERT's pre-training: a flat table of (picture, sentence, answers), and the draws of an update.

Paper: LXMERT (Tan and Bansal 2019), sections 3.1 and 3.2. A sentence may be swapped for that of another picture (the
matching task), word pieces and object features are masked, and of several answers one is drawn by its score.

Differs from the original: everything is drawn for the whole update from (seed, update), so that neither the number
of processes nor the size of micro-batches changes it (the original draws example by example, in worker processes); a
random feature comes from one of the regions that its picture has (the original counts on 36, LXM-21); evaluation
draws from its own split (the original from the training split, LXM-22); pictures without regions are dropped as
there, but counted and listed.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Integer
from torch import Tensor

from vlpnb.errors import UserError
from vlpnb.nn.losses import IGNORE
from vlpnb.text.masking import mask_tokens
from vlpnb.text.packing import trimmed
from vlpnb.text.tokenizers import encode_lines
from vlpnb.train.sampling import EpochSampler, Update, seed_of, share

Task = Literal["words", "match", "objects", "answers"]
VisualLoss = Literal["obj", "attr", "feat"]
MOST_TRIES = 10_000  # draws of a sentence about another picture before giving up


class Captioned(Protocol):
    """What the table is made of (`data.lxmert.LxmertImage`)."""

    image_id: str
    sentences: Mapping[str, tuple[str, ...]]  # by source
    labels: Mapping[
        str, tuple[Mapping[str, float], ...]
    ]  # of the sources that ask, aligned with their sentences


@dataclass(frozen=True)
class Examples:
    """E sentences with their pictures, in the order of the files; ragged columns lie one after the other."""

    pictures: Int[np.ndarray, " E"]
    """Rows of the region store."""
    source: Int[np.ndarray, " E"]
    """Where a sentence comes from, as a number in `sources`."""
    sources: tuple[str, ...]
    asked: Bool[np.ndarray, " E"]
    """Whether it is a question; its answers may still be none."""
    tokens: Integer[np.ndarray, " N"]
    """Word pieces of all sentences, cut to the text length, without special tokens."""
    starts: Int[np.ndarray, " S"]
    """Where the word pieces of each sentence begin, and where the last ones end; S = E + 1."""
    answers: Int[np.ndarray, " M"]
    """Numbers in the answer table."""
    scores: Float[np.ndarray, " M"]
    answer_starts: Int[np.ndarray, " S"]
    without_regions: tuple[str, ...] = ()
    """Ids of the pictures that were dropped."""

    def __len__(self) -> int:
        return len(self.pictures)

    @property
    def lengths(self) -> Int[np.ndarray, " E"]:
        """Word pieces of each sentence, without the special tokens."""
        return np.diff(self.starts)

    def text(
        self, rows: Int[np.ndarray, " B"], length: int, tokenizer: Any
    ) -> tuple[Int[Tensor, "B T"], Bool[Tensor, "B T"]]:
        """`[CLS] pieces [SEP]` and padding of some sentences, T = `length`; and which are no padding."""
        counts = self.lengths[rows]
        at = np.arange(length - 2)
        inside = at < counts[:, None]  # (B, T - 2)
        pieces = self.tokens[np.where(inside, self.starts[rows][:, None] + at, 0)] if len(self.tokens) else 0
        ids = np.full((len(rows), length), tokenizer.pad_token_id, dtype=np.int64)
        ids[:, 0] = tokenizer.cls_token_id
        ids[:, 1:-1] = np.where(inside, pieces, tokenizer.pad_token_id)
        ids[np.arange(len(rows)), counts + 1] = tokenizer.sep_token_id
        return torch.from_numpy(ids), torch.from_numpy(np.arange(length) < counts[:, None] + 2)

    def answer_scores(
        self, rows: Int[np.ndarray, " B"]
    ) -> tuple[Int[np.ndarray, "B A"], Float[np.ndarray, "B A"]]:
        """Answers of some examples and their scores, A the most that one of them has; score 0 where there is none."""
        first = self.answer_starts[rows]
        counts = self.answer_starts[rows + 1] - first
        at = np.arange(max(int(counts.max(initial=0)), 1))
        inside = at < counts[:, None]
        if not len(self.answers):
            return np.zeros(inside.shape, np.int64), np.zeros(inside.shape, np.float32)
        index = np.where(inside, first[:, None] + at, 0)
        return np.where(inside, self.answers[index], 0), np.where(inside, self.scores[index], 0).astype(
            np.float32
        )


def flat_table(
    images: Iterable[Captioned],
    rows: Mapping[str, int],
    tokenizer: Any,
    prune: Callable[[Mapping[str, float]], Mapping[int, float]] = lambda labels: {},
    length: int = 20,
    where: str = "the sentences",
) -> Examples:
    """The table of some pictures' sentences, source by source.

    Args:
        rows: image id → its row in the region store; pictures that are not there, or have no region, are dropped.
        prune: an answer dictionary → its answers that are in the table, by their numbers.
        length: of the text with [CLS] and [SEP]; what is longer is cut.
        where: what to call the sentences in an error.
    Raises:
        UserError: there is no picture at all, or none with regions; labels and sentences of a source differ in number.
    """
    pictures, source, asked, lines, pruned = [], [], [], [], []
    numbers: dict[str, int] = {}
    dropped, seen = [], 0
    for image in images:
        seen += 1
        row = rows.get(image.image_id)
        if row is None:
            dropped.append(image.image_id)
            continue
        for name, sentences in image.sentences.items():
            labels = image.labels.get(name)
            if labels is not None and len(labels) != len(sentences):
                raise UserError(
                    f"{where}: picture {image.image_id} has {len(sentences)} sentences of the source '{name}' and "
                    f"{len(labels)} labels; expected one for each"
                )
            number = numbers.setdefault(name, len(numbers))
            for i, sentence in enumerate(sentences):
                pictures.append(row)
                source.append(number)
                asked.append(labels is not None)
                lines.append(sentence.strip())
                pruned.append(prune(labels[i]) if labels is not None and labels[i] else {})
    if not pictures:
        found = f"{seen:,} pictures, {len(dropped):,} of them without regions" if seen else "no picture"
        raise UserError(
            f"{where}: found {found}; expected sentences about pictures of the stage `regions`"
            + (f" (first without: {', '.join(dropped[:3])})" if dropped else "")
        )
    pieces = [ids[: length - 2] for ids in encode_lines(tokenizer, lines)]
    small = np.uint16 if len(tokenizer) <= 1 << 16 else np.int32
    return Examples(
        np.asarray(pictures, np.int64),
        np.asarray(source, np.int64),
        tuple(numbers),
        np.asarray(asked, bool),
        np.concatenate(pieces).astype(small),
        _offsets([len(ids) for ids in pieces]),
        np.asarray([answer for row in pruned for answer in row], np.int64),
        np.asarray([score for row in pruned for score in row.values()], np.float32),
        _offsets([len(row) for row in pruned]),
        tuple(dropped),
    )


def _offsets(counts: list[int]) -> Int[np.ndarray, " S"]:
    return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])


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
    visual: tuple[VisualLoss, ...] = ("obj", "attr", "feat")  # of the task `objects`
    labels_of: Literal["all", "masked"] = "all"  # regions whose object and attribute are to be told

    @property
    def objects(self) -> tuple[VisualLoss, ...]:
        """The visual losses; none without their task."""
        return self.visual if "objects" in self.tasks else ()


def tensors(
    examples: Examples, draws: Draws, part: Int[np.ndarray, " b"], store: Any, wanted: Wanted
) -> dict[str, Tensor]:
    """The arguments of `LxmertForPretraining.forward` for some of the examples of an update (positions in `draws`).

    Text is cut to the longest sentence of the part, regions to the picture with the most. Boxes are never masked, and
    the features to predict are the unmasked ones.

    Raises:
        UserError: a picture has a feature that is not a number.
    """
    pictures = examples.pictures[draws.rows[part]]
    found = store.batch(pictures)
    width = found.features.shape[1]
    hidden, zeroed, replaced = (
        torch.from_numpy(drawn[part][:, :width]) for drawn in (draws.hidden, draws.zeroed, draws.replaced)
    )
    if not found.features.isfinite().all():
        bad = np.flatnonzero(~found.features.isfinite().flatten(1).all(1).numpy())
        raise UserError(
            f"picture {store.ids[pictures[bad[0]]]}: its region features hold NaN or infinity; expected numbers. Make "
            "the stage `regions` again, or its source"
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
    if "words" in wanted.tasks:
        made["word_labels"] = text["word_labels"]
    if "match" in wanted.tasks:
        made["matched"] = torch.from_numpy(draws.matched[part].astype(np.int64))
    if "answers" in wanted.tasks:
        made["answer"] = torch.from_numpy(draws.answer[part])
    for kind, name in (("obj", "object"), ("attr", "attribute")):
        if kind in wanted.objects:
            ids, sure = getattr(found, f"{name}_ids"), getattr(found, f"{name}_conf")
            made[f"{name}_ids"] = ids.masked_fill(ids < 0, IGNORE)
            made[f"{name}_conf"] = sure * hidden if wanted.labels_of == "masked" else sure
    if "feat" in wanted.objects:
        made["targets"], made["object_masked"] = found.features, hidden
    return {name: value for name, value in made.items() if value is not None}


def target_counts(draws: Draws, wanted: Wanted) -> dict[str, int]:
    """What the sum of each loss is divided by: masked words, pairs, regions whether labelled or not, answers."""
    regions = int(draws.regions.sum())
    names = {"obj": "objects", "attr": "attributes", "feat": "features"}
    counts = {
        "words": int((draws.word_labels != IGNORE).sum()),
        "match": len(draws.rows),
        "answers": int((draws.answer != IGNORE).sum()),
    }
    counts = {name: count for name, count in counts.items() if name in wanted.tasks}
    return counts | {names[kind]: regions for kind in wanted.objects}


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
