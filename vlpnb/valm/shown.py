"""Which vectors stand beside the words: of found pictures, of random ones, of captions' words, of the query itself.

Paper: Wang et al., "Visually-Augmented Language Modeling" (ICLR 2023), and its controls. A *variant* is what a model is
trained with:

| variant | K vectors of a word |
|---|---|
| `none` | none |
| `random` | of pictures drawn evenly |
| `self` | one: the query itself ("Blind-VaLM", Azkune et al. 2024) |
| `captions` | of the words of the found pictures' captions, no picture in them |
| `retrieved` | of the found pictures: VaLM |
| `oracle` | as `retrieved`; a text that describes a picture is shown that one |

A *setting* is what it is tested with: "trained", as it was trained; "hidden", no pictures; "random"; "oracle", pictures
known to show what is asked. What caption words are is in `retrieval/readers.py`.
"""

import os
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from vlpnb.errors import UserError
from vlpnb.files import read_back, write_json
from vlpnb.foundations.blocks import Corpus, load_corpus
from vlpnb.retrieval.readers import Read, caption_words, distinct, standardised
from vlpnb.retrieval.store import VectorStore
from vlpnb.retrieval.tables import QueryTable, open_table
from vlpnb.text.blocks import LanguageBlocks
from vlpnb.text.paragraphs import rows_of_pictures
from vlpnb.text.vocabulary import Vocabulary
from vlpnb.valm.objectives import query_ids
from vlpnb.valm.queries import open_retriever
from vlpnb.valm.retriever import Retriever, rows_at

Variant = Literal["none", "random", "self", "captions", "oracle", "retrieved"]
Setting = Literal["trained", "hidden", "random", "oracle"]
SAID: Mapping[Variant, str] = {
    "none": "nothing",
    "random": "random pictures",
    "self": "the query itself",
    "captions": "words of the found pictures' captions",
    "oracle": "found pictures, and its own beside a caption",
    "retrieved": "found pictures",
}
STAGES = {"corpus": "blocks", "images": "picture_vectors", "queries": "valm.queries"}
LOOKS, MODEL, HELD_OUT = "looks.json", "model", "held_out.json"  # in the folder of a pre-training


@dataclass(frozen=True)
class Look:
    """How a model looks at pictures."""

    variant: Variant
    words_width: int = 256
    """Numbers of a vector of caption words."""
    standardise: bool = False
    """Every number of an image vector less its mean over the store, divided by its spread."""


@dataclass(frozen=True)
class Looks:
    """What a model of a variant is shown beside the texts of a corpus."""

    variant: Variant
    count: int
    """K."""
    width: int
    """Of the vectors."""
    read: Read | None = None
    """The vectors of some rows of the store."""
    rows: int = 0
    """Of the store."""
    tables: Callable[[str], QueryTable] | None = None
    """What the words of a split found."""
    rows_of: Callable[[Sequence[str]], Int[np.ndarray, " P"]] | None = None
    """Rows of pictures by their ids, −1 where the store has one not."""
    own: Int[np.ndarray, " P"] | None = None
    """Row of each picture that the corpus describes, −1 where the store has it not."""
    retriever: Retriever | None = None
    """Finds live."""

    def shown(self, split: str, setting: Setting = "trained") -> "Shown | None":
        """The pictures of a split's examples, as the model was trained or in another setting; None: of text alone."""
        if self.variant == "none":
            return None
        if setting == "hidden":
            return Nothing(self.width)
        if self.variant == "self":
            return TableVectors(self.tables(split))
        if setting == "random" or (setting, self.variant) == ("trained", "random"):
            return TablePictures(self, None)
        return TablePictures(self, self.tables(split), "oracle" in (setting, self.variant))

    def settings(self, texts: Iterable[LanguageBlocks]) -> tuple[Setting, ...]:
        """Those in which a model of this variant can be tested on some texts: "oracle" where the store has pictures
        that these describe.
        """
        if self.variant == "none":
            return ("trained",)
        if self.variant == "self":
            return ("trained", "hidden")
        described = [blocks.pictures[blocks.pictures >= 0] for blocks in texts if blocks.pictures is not None]
        known = any((self.own[pictures] >= 0).any() for pictures in described)
        return ("trained", "hidden", "random", "oracle") if known else ("trained", "hidden", "random")

    def live(self, words: Vocabulary) -> "Shown | None":
        """The pictures of texts of which words are masked."""
        if self.variant in ("none", "random"):
            return self.shown("train")
        return LivePictures(self, words)


class TablePictures:
    """Pictures of the words of blocks, by rows found beforehand (`examples.Shown`).

    Args:
        table: the rows that each word of each block found; None: K are drawn.
        own: a text that describes a picture is shown that one, in all places.
    """

    def __init__(self, looks: Looks, table: QueryTable | None, own: bool = False):
        self.looks, self.table, self.own, self.count = looks, table, own, looks.count

    def __call__(
        self, numbers: Int[np.ndarray, " B"], batch: Mapping[str, Tensor], seed: tuple[int, ...]
    ) -> Mapping[str, Tensor]:
        width = batch["ids"].shape[1]
        if self.table is None:
            rows = np.empty((len(numbers), width, self.count), np.int64)
            for row, number in zip(rows, numbers, strict=True):
                row[:] = np.random.default_rng((*seed, int(number))).integers(self.looks.rows, size=row.shape)
        else:
            rows = self.table.batch(numbers, width).numpy().astype(np.int64)
        if self.own and "own" in batch:
            own = np.append(self.looks.own, -1)[batch["own"].numpy()][..., None]  # (B, T, 1)
            rows = np.where(own >= 0, own, rows)
        return distinct(rows, self.looks.read)


class LivePictures:
    """Pictures of texts of which words are masked, found without those words while training runs."""

    def __init__(self, looks: Looks, words: Vocabulary):
        self.looks, self.count, self.words = looks, looks.count, words

    def __call__(
        self, numbers: Int[np.ndarray, " B"], batch: Mapping[str, Tensor], seed: tuple[int, ...]
    ) -> Mapping[str, Tensor]:
        kept, places = query_ids(batch["ids"], self.words.mask_id)
        ids = pad_sequence(kept, batch_first=True, padding_value=self.words.pad_id)
        if self.looks.variant == "self":
            found, _ = self.looks.retriever.images(ids)  # (B, S, 1, E)
            picked = found[torch.arange(len(ids))[:, None], places.clamp(min=0)]
            return {"images": picked, "image_mask": (places >= 0)[..., None]}
        rows = rows_at(self.looks.retriever.rows(ids).rows, places).long()
        return {"images": self.looks.read(rows.clamp(min=0).numpy()), "image_mask": rows >= 0}


class TableVectors:
    """For `self`: the queries themselves, from a table of them."""

    count = 1

    def __init__(self, table: QueryTable):
        self.table = table

    def __call__(
        self, numbers: Int[np.ndarray, " B"], batch: Mapping[str, Tensor], seed: tuple[int, ...]
    ) -> Mapping[str, Tensor]:
        return {"images": self.table.queries(numbers, batch["ids"].shape[1])[:, :, None]}


class Nothing:
    """No picture is seen, by a model that was trained with them."""

    def __init__(self, width: int):
        self.width, self.count = width, 1

    def __call__(
        self, numbers: Int[np.ndarray, " B"], batch: Mapping[str, Tensor], seed: tuple[int, ...]
    ) -> Mapping[str, Tensor]:
        rows = torch.full((*batch["ids"].shape, 1), -1, dtype=torch.int64)
        return {"images": torch.zeros(1, self.width), "rows": rows}


class Live:
    """Pictures beside any texts, found when they are read: what `scoring.See` is.

    Args:
        seed: of random pictures.
    """

    def __init__(self, looks: Looks, setting: Setting, pad_id: int, seed: int = 0):
        self.looks, self.setting, self.pad_id, self.seed = looks, setting, pad_id, seed

    def rows(
        self, ids: Int[Tensor, "B T"], given: Int[Tensor, "B J"] | None = None
    ) -> Int[np.ndarray, "B T K"]:
        """Rows of the store beside each word; −1: nothing."""
        looks, shape = self.looks, (*ids.shape, self.looks.count)
        if self.setting == "hidden":
            return np.full(shape, -1, np.int64)
        if self.setting == "oracle" and given is not None:
            rows = np.full(shape, -1, np.int64)
            first = given[:, : looks.count].numpy()
            rows[:, :, : first.shape[1]] = first[:, None]
        elif "random" in (self.setting, looks.variant):
            rows = np.stack([self._drawn(text) for text in ids.numpy()])
        else:
            return looks.retriever.rows(ids).rows.numpy().astype(np.int64)
        rows[(ids == self.pad_id).numpy()] = -1
        return rows

    def _drawn(self, text: Int[np.ndarray, " T"]) -> Int[np.ndarray, "T K"]:
        """Random rows, at each word a function of the words up to it."""
        found, so_far = np.empty((len(text), self.looks.count), np.int64), 0
        for row, word in zip(found, text.astype(np.int32), strict=True):
            so_far = zlib.crc32(word.tobytes(), so_far)
            row[:] = np.random.default_rng((self.seed, so_far)).integers(self.looks.rows, size=len(row))
        return found

    def __call__(
        self, ids: Int[Tensor, "B T"], given: Int[Tensor, "B J"] | None = None
    ) -> Mapping[str, Tensor]:
        """Arguments of `Valm.forward` beside the words, which are padded on the right.

        Args:
            given: rows that each text shall see in the setting "oracle", −1 where there are fewer.
        """
        if self.looks.variant == "none":
            return {}
        if self.setting == "hidden":
            return {"images": torch.zeros(1, self.looks.width), "rows": torch.full((*ids.shape, 1), -1)}
        if self.looks.variant == "self":
            images, there = self.looks.retriever.images(ids)
            return {"images": images, "image_mask": there}
        return distinct(self.rows(ids, given), self.looks.read)


def read_looks(folders: Mapping[str, Path], look: Look, corpus: Corpus, device: str) -> Looks:
    """What a model is shown, from the folders of the stages that find it.

    Args:
        folders: `images` and `queries`, unless nothing is shown.
        corpus: what the tables were made for.
        device: of the search.

    Raises:
        UserError: the tables are of another store or another corpus (when they are opened).
    """
    variant = look.variant
    if variant == "none":
        return Looks(variant, 0, 1)
    store = VectorStore(folders["images"])
    retriever = open_retriever(folders["queries"], device=device)

    def tables(split: str) -> QueryTable:
        table = open_table(folders["queries"], split)
        table.check_store(store)
        examples = len(corpus.blocks(split))
        if len(table) != examples:
            raise UserError(
                f"{table.path}: has pictures for {len(table):,} examples, and the corpus {corpus.folder} has "
                f"{examples:,} of '{split}': they are of another text. Run the stage `valm.queries` on this one"
            )
        return table

    width, read = store.value_width, store.gather
    if variant == "self":
        width = retriever.value_width
    elif variant == "captions":
        width, words = look.words_width, caption_words(store, look.words_width)

        def read(rows: np.ndarray) -> Tensor:
            return words[torch.from_numpy(np.asarray(rows, np.int64))]

    elif look.standardise:
        read = standardised(store)

    return Looks(
        variant,
        retriever.k,
        width,
        read,
        len(store),
        tables,
        store.rows_or_none,
        rows_of_pictures(corpus.pictures, store.ids),
        retriever,
    )


def save_looks(folder: Path, folders: Mapping[str, Path], look: Look) -> None:
    """Note beside a model what it was shown, so that it can be shown the same: places are relative to the folder."""
    places = {
        role: os.path.relpath(folders[role], folder)
        for role in ("corpus", "images", "queries")
        if role in folders
    }
    write_json(folder / LOOKS, asdict(look) | {"folders": places})


def load_looks(folder: Path, device: str = "cpu") -> tuple[Looks, Corpus]:
    """What a finished pre-training was shown, and its corpus. UserError where a folder that it names is gone."""
    about = read_back(folder / LOOKS)
    folders = {role: (folder / place).resolve() for role, place in about.pop("folders").items()}
    for role, path in folders.items():
        if not path.is_dir():
            raise UserError(
                f"{folder / LOOKS}: names {path} as its {role}, which is not there; run the stage "
                f"`{STAGES[role]}` again, or move both folders together"
            )
    corpus = load_corpus(folders["corpus"])
    return read_looks(folders, Look(**about), corpus, device), corpus
