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
known to show what is asked.

Caption words are vectors that nobody trained: each word has a fixed random direction, a caption is the unit sum of its
words', a picture the mean of its captions. Whatever a caption says can be read from them, and nothing else.
"""

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from vlpnb.retrieval.store import VectorStore
from vlpnb.valm.objectives import query_ids
from vlpnb.valm.queries import QueryTable
from vlpnb.valm.retriever import Retriever, rows_at

Variant = Literal["none", "random", "self", "captions", "oracle", "retrieved"]
Setting = Literal["trained", "hidden", "random", "oracle"]
WORD = re.compile(r"\w+")
READS_VALUES = ("random", "oracle", "retrieved")


def word_direction(word: str, width: int) -> Float[np.ndarray, " W"]:
    """A direction that is the word's alone, the same on every machine."""
    seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "little")
    return np.random.default_rng(seed).standard_normal(width).astype(np.float32)


def caption_words(store: VectorStore, width: int) -> Float[Tensor, "N W"]:
    """One vector for each picture of a store: the words of its captions."""
    directions: dict[str, np.ndarray] = {}
    found = np.zeros((len(store), width), np.float32)
    for row in range(len(store)):
        for caption in store.captions(row):
            words = WORD.findall(caption.lower())
            for word in words:
                if word not in directions:
                    directions[word] = word_direction(word, width)
            said = np.sum([directions[word] for word in words], axis=0) if words else np.zeros(width, np.float32)
            found[row] += said / max(float(np.linalg.norm(said)), 1e-12)
    return torch.from_numpy(found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12))


def distinct(
    rows: Int[np.ndarray, "B T K"], read: Callable[[Int[np.ndarray, " U"]], Float[Tensor, "U F"]]
) -> dict[str, Tensor]:
    """The distinct vectors of some rows, `images` (U, F), and which of them each place has, `rows` (−1: none)."""
    found, places = np.unique(rows, return_inverse=True)
    places = places.reshape(rows.shape)
    if found[0] < 0:
        found, places = found[1:], places - 1
    vectors = read(found if len(found) else np.zeros(1, np.int64))
    return {"images": vectors, "rows": torch.from_numpy(places)}


@dataclass(frozen=True)
class Looks:
    """What a model of a variant is shown beside the blocks of a corpus."""

    variant: Variant
    count: int
    """K."""
    width: int
    """Of the vectors."""
    read: Callable[[Int[np.ndarray, " U"]], Float[Tensor, "U F"]] | None
    """The vectors of some rows of the store."""
    rows: int
    """Of the store."""
    tables: Mapping[str, QueryTable]
    """What the words of each split found."""
    own: Int[np.ndarray, " P"]
    """Row of each picture that the corpus describes, −1 where the store has it not."""
    retriever: Retriever | None = None
    """Finds live, for texts of which words are masked."""

    def shown(self, split: str, setting: Setting = "trained") -> "Shown | None":
        """The pictures of a split's blocks, as the model was trained or in another setting; None: of text alone."""
        if self.variant == "none":
            return None
        if setting == "hidden":
            return Nothing(self.width)
        if setting == "random" or (setting, self.variant) == ("trained", "random"):
            return TablePictures(self, None)
        if self.variant == "self":
            return TableVectors(self.tables[split])
        return TablePictures(self, self.tables[split], "oracle" in (setting, self.variant))


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
            draws = (np.random.default_rng((*seed, int(number))) for number in numbers)
            rows = np.stack([draw.integers(self.looks.rows, size=(width, self.count)) for draw in draws])
        else:
            rows = np.asarray(self.table.rows(numbers)[:, :width], np.int64)
        if self.own and "own" in batch:
            own = np.append(self.looks.own, -1)[batch["own"].numpy()][..., None]  # (B, T, 1)
            rows = np.where(own >= 0, own, rows)
        return distinct(rows, self.looks.read)


class LivePictures:
    """Pictures of texts of which words are masked: found without those words, while training runs (`examples.Shown`)."""

    def __init__(self, looks: Looks, mask_id: int, pad_id: int):
        self.looks, self.count, self.mask_id, self.pad_id = looks, looks.count, mask_id, pad_id

    def __call__(
        self, numbers: Int[np.ndarray, " B"], batch: Mapping[str, Tensor], seed: tuple[int, ...]
    ) -> Mapping[str, Tensor]:
        kept, places = query_ids(batch["ids"], self.mask_id)
        ids = pad_sequence(kept, batch_first=True, padding_value=self.pad_id)
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
        vectors = np.asarray(self.table.vectors(numbers)[:, : batch["ids"].shape[1]], np.float32)
        return {"images": torch.from_numpy(vectors)[:, :, None]}


class Nothing:
    """No picture is seen, by a model that was trained with them."""

    def __init__(self, width: int):
        self.width, self.count = width, 1

    def __call__(
        self, numbers: Int[np.ndarray, " B"], batch: Mapping[str, Tensor], seed: tuple[int, ...]
    ) -> Mapping[str, Tensor]:
        rows = torch.full((*batch["ids"].shape, 1), -1, dtype=torch.int64)
        return {"images": torch.zeros(1, self.width), "rows": rows}
