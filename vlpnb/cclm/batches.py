"""What CCLM's losses read: sentences tokenised once, and batches that are pure functions of (seed, update).

Paper: CCLM (Zeng et al. 2023), sections 3 and 4: a picture comes with a caption in one of its languages, drawn
uniformly; a line of parallel text with its sides swapped half of the time; regions of pictures with their texts.

Everything is drawn for the whole update, and a process takes every W-th row: neither the number of processes nor a
restart changes what is drawn, and a pass sees every record once. The original's workers shuffle and share files each
with a state of its own, so that a pass repeats some and misses others (CCL-24). Batches are padded to their own longest
sentence; sentences that are equal are no negatives of each other (`identity`), where the original tells them apart.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from vlpnb.data.multilingual import Picture
from vlpnb.data.parallel import ParallelText
from vlpnb.downstream.pictured import Sentences
from vlpnb.errors import UserError
from vlpnb.foundations.picture_store import Frame, PatchStore
from vlpnb.foundations.region_text import RegionText
from vlpnb.nn.losses import IGNORE
from vlpnb.text.masking import mask_spans
from vlpnb.text.pieces import Pieces
from vlpnb.train.sampling import EpochSampler, seed_of
from vlpnb.vision.patch_regions import Entry, fill, sample_regions

SIZE = 224  # pixels of a side of a picture whose boxes are placed; what a box sees does not depend on it
PICTURES, PARALLEL, REGIONS = 1, 2, 3  # each kind of batch draws from a stream of its own


class Part(NamedTuple):
    """A batch of one kind."""

    batch: Mapping[str, Tensor]
    """The rows of this process."""
    counts: Mapping[str, int]
    """Targets of each loss in the whole update."""
    tokens: int
    """Of the whole update."""


@dataclass(frozen=True)
class Reading:
    """How sentences are read, what is hidden of them, and which rows of an update a process takes."""

    pieces: Pieces
    max_words: int = 40
    """Words of a sentence that are read."""
    max_tokens: int = 40
    """Its word pieces, the two ends counted."""
    rate: float = 0.4
    """Share of a sentence's tokens that are hidden …"""
    most: int = 12
    """… but at most so many."""
    fused: int | None = None
    """Words are hidden in, and pairs matched among, so many rows alone, the first ones; None: all."""
    seed: int = 0
    rank: int = 0
    world_size: int = 1

    def texts(self, said: Sequence[str]) -> Sentences:
        """Sentences as ids. UserError for one without a word."""
        return Sentences.of_pieces(said, self.pieces, self.max_words, self.max_tokens)

    def random(self, kind: int, update: int) -> np.random.Generator:
        """Draws what an update is made of."""
        return np.random.default_rng([self.seed, update, kind])

    def rows(self, count: int) -> Int[np.ndarray, " b"]:
        """Which of the first `count` rows this process takes."""
        return np.arange(count)[self.rank :: self.world_size]

    def part(
        self,
        kind: int,
        update: int,
        losses: tuple[str, str, str],
        text: Mapping[str, Tensor],
        more: Mapping[str, Tensor],
    ) -> Part:
        """This process's rows of an update, with words hidden.

        `losses`: the names of the contrastive one, of matching, and of words.
        """
        count = len(text["ids"])
        fused = count if self.fused is None else min(self.fused, count)
        generator = torch.Generator().manual_seed(seed_of(self.seed, update, kind))
        ids, places, labels = mask_spans(
            text["ids"][:fused], text["mask"][:fused].sum(1), self.pieces.mask_id, self.pieces.size, generator,
            self.rate, self.most,
        )  # fmt: skip
        hidden = {"masked_ids": ids, "masked_places": places, "masked_labels": labels}
        rows, first = self.rows(count), self.rows(fused)
        batch = {name: value[rows] for name, value in {**text, **more}.items()}
        batch |= {name: value[first] for name, value in hidden.items()}
        counts = (count, 3 * fused, int((labels != IGNORE).sum()))
        return Part(batch, dict(zip(losses, counts, strict=True)), int(text["mask"].sum()))


class ImageText:
    """Pictures with a caption each, in a language drawn among those trained."""

    def __init__(
        self,
        pictures: Sequence[Picture],
        store: PatchStore,
        reading: Reading,
        languages: Sequence[str] = ("en",),
        *,
        each: Literal["picture", "caption"] = "picture",
        batch: int = 128,
    ):
        """`each`: an epoch sees every picture once, or every caption. UserError where no picture has a caption."""
        self.languages = tuple(languages)
        kept = [picture for picture in pictures if any(picture.captions.get(name) for name in languages)]
        if not kept:
            raise UserError(
                f"no picture has a caption in {', '.join(languages) or 'no language'}; expected some to learn from"
            )
        said = [
            (i, name, text)
            for i, picture in enumerate(kept)
            for name in self.languages
            for text in picture.captions.get(name, ())
        ]
        self.store, self.stored = store, store.rows([picture.id for picture in kept])
        self.views = store.views(self.stored)
        self.texts = reading.texts([text for _, _, text in said])
        self.owner = np.array([i for i, _, _ in said])
        # where the captions of each picture in one language begin, and where each picture's languages do
        changes = [i for i in range(1, len(said)) if said[i][:2] != said[i - 1][:2]]
        self.spoken = np.array([0, *changes, len(said)])
        self.first = np.searchsorted(self.owner[self.spoken[:-1]], np.arange(len(kept) + 1))
        self.each, size = each, len(kept) if each == "picture" else len(said)
        self.sampler = EpochSampler(size, min(batch, size), reading.seed)
        self.per_epoch = self.sampler.per_epoch
        self.reading = reading

    def __len__(self) -> int:
        """Pictures."""
        return len(self.stored)

    def captions(self, update: int, random: np.random.Generator) -> Int[np.ndarray, " B"]:
        """The captions of an update: of each picture a language, then a caption in it."""
        rows = self.sampler(update)
        if self.each == "caption":
            return rows
        language = random.integers(self.first[rows], self.first[rows + 1])
        return random.integers(self.spoken[language], self.spoken[language + 1])

    def __call__(self, update: int) -> Part:
        random = self.reading.random(PICTURES, update)
        chosen = self.captions(update, random)
        pictures = self.owner[chosen]
        drawn = random.integers(1, np.maximum(self.views[pictures], 2))
        view = np.where(self.views[pictures] > 1, drawn, 0)  # the whole picture where there is no random view
        mine = self.reading.rows(len(chosen))
        more = {"identity": torch.from_numpy(pictures)}
        part = self.reading.part(PICTURES, update, ("itc", "itm", "words"), self.texts.batch(chosen), more)
        patches = self.store.gather(self.stored[pictures[mine]], view[mine])
        return part._replace(batch={"patches": patches, **part.batch})


class Parallel:
    """Pairs of sentences of one meaning, one of them English where that is trained; a coin says which comes first."""

    def __init__(self, text: ParallelText, reading: Reading, languages: Sequence[str], *, batch: int = 128):
        """UserError where no line is in two of the languages."""
        without = [name for name in text.languages if name not in languages]
        pairs = text.pairs("en" if "en" in languages else "", without)
        if not pairs:
            raise UserError(
                f"parallel text: no line is in two of the languages {', '.join(languages) or '(none)'}; it has "
                f"{', '.join(text.languages) or 'none'}"
            )
        wanted = sorted({(i, name) for i, one, other in pairs for name in (one, other)})
        said = [text.lines[i][name] for i, name in wanted]
        place = {key: number for number, key in enumerate(wanted)}
        self.texts = reading.texts(said)
        self.pairs = np.array([(place[i, one], place[i, other]) for i, one, other in pairs])
        self.meaning = np.unique([text.lines[i][one] for i, one, _ in pairs], return_inverse=True)[1]
        self.sampler = EpochSampler(len(pairs), min(batch, len(pairs)), reading.seed)
        self.per_epoch = self.sampler.per_epoch
        self.reading = reading

    def __len__(self) -> int:
        """Pairs."""
        return len(self.pairs)

    def __call__(self, update: int) -> Part:
        rows = self.sampler(update)
        swapped = self.reading.random(PARALLEL, update).random((len(rows), 1)) < 0.5
        pairs = np.where(swapped, self.pairs[rows, ::-1], self.pairs[rows])
        other = self.texts.batch(pairs[:, 1])
        more = {f"other_{name}": value for name, value in other.items()}
        more["identity"] = torch.from_numpy(self.meaning[rows])
        losses = ("ttc", "ttm", "parallel_words")
        part = self.reading.part(PARALLEL, update, losses, self.texts.batch(pairs[:, 0]), more)
        return part._replace(tokens=part.tokens + int(other["mask"].sum()))


class Regions:
    """Texts about regions of pictures; several of one picture, which is read once."""

    def __init__(
        self,
        text: RegionText,
        store: PatchStore,
        reading: Reading,
        languages: Sequence[str],
        *,
        batch: int = 128,
        pictures: int = 48,
    ):
        """`batch`: texts of an update, about so many `pictures`. UserError where no picture has a region."""
        self.pictures = [p for p in text.pictures("train") if p.id in store and p.regions]
        if not self.pictures:
            raise UserError("region lines: no picture with regions has patches; expected some to learn from")
        self.store, self.stored = store, store.rows([picture.id for picture in self.pictures])
        self.languages = tuple(languages)
        self.batch = batch
        self.sampler = EpochSampler(len(self.pictures), min(pictures, len(self.pictures)), reading.seed)
        self.per_epoch = self.sampler.per_epoch
        self.reading = reading
        self.known: dict[str, Int[np.ndarray, " _"]] = {}  # texts repeat: each is tokenised once

    def encoded(self, text: str) -> Int[np.ndarray, " _"]:
        """Ids of a text."""
        if text not in self.known:
            reading = self.reading
            self.known[text] = reading.pieces.encode([text], reading.max_words, reading.max_tokens)[0]
        return self.known[text]

    def entries(
        self, update: int, random: np.random.Generator
    ) -> tuple[list[tuple[int, Entry]], dict[int, Frame]]:
        """The texts of an update, each with the picture that it is about, in random order; what of each is seen."""
        found, frames = [], {}
        for number in map(int, self.sampler(update)):
            *frame, entries = sample_regions(
                self.pictures[number], random, self.languages, SIZE, self.store.grid, crop=self.store.frames
            )
            frames[number] = Frame(*frame)
            found += [(number, entry) for entry in entries]
        order = random.permutation(len(found))
        return [found[order[i]] for i in fill(len(found), self.batch, random)], frames

    def __call__(self, update: int) -> Part:
        kept, frames = self.entries(update, self.reading.random(REGIONS, update))
        texts = Sentences([self.encoded(entry.text) for _, entry in kept], self.reading.pieces.pad_id)
        more = {
            "identity": torch.from_numpy(np.unique([e.text for _, e in kept], return_inverse=True)[1]),
            "group": torch.tensor([number for number, _ in kept]),
            "patch_mask": torch.from_numpy(np.stack([entry.patch_mask for _, entry in kept])),
            "boxes": torch.tensor([entry.box for _, entry in kept], dtype=torch.float32),
            "whole": torch.tensor([entry.whole for _, entry in kept]),
        }
        part = self.reading.part(
            REGIONS, update, ("itc", "itm", "words"), texts.batch(range(len(kept))), more
        )
        boxes = int((~more["whole"]).sum())
        mine, group = part.batch["group"].unique(return_inverse=True)  # the pictures of this process's texts
        rows = self.stored[mine.numpy()]
        if self.store.frames:
            patches = self.store.framed(rows, [frames[number] for number in mine.tolist()], update)
        else:
            patches = self.store.gather(rows, 0)
        return part._replace(
            batch={**part.batch, "patches": patches, "group": group},
            counts={**part.counts, "boxes": boxes, "giou": boxes},
        )
