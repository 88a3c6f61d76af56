"""What fine-tuning on questions and statements about pictures reads: sentences, regions, and what is left out.

Papers: LXMERT (Tan and Bansal 2019), section 4.2; VLP (Zhou et al. 2020). Differs from both originals:
batches are padded to their own longest sentence; a control sees no picture (`blind`); a subset of the pictures is
drawn by their names, not by their place in a file.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from jaxtyping import Int, Integer
from pydantic import Field
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from vlpnb.config import Name
from vlpnb.data.region_store import RegionStore
from vlpnb.downstream.finetuning import FineTuningConfig
from vlpnb.errors import UserError
from vlpnb.stage import StageContext
from vlpnb.text.pieces import Pieces
from vlpnb.text.tokenizers import plain_pieces

TRAIN = "train"  # the split to train on
Example = TypeVar("Example")


class PicturedConfig(FineTuningConfig):
    """What fine-tuning on examples with pictures asks, whatever the system."""

    best: bool = True
    """Keep the weights of the epoch with the highest validation score, as the original does; that score is then a
    little too high. False: keep the last ones, and validate once.
    """
    blind: bool = False
    """Without pictures: one region of zeros in their place. What is then reached was guessed from the words."""
    limit_images: int | None = Field(None, ge=1)
    """Only so many pictures of each training and validation split, chosen by their names, with all asked of them."""
    valid: Name = "valid"
    """Split to validate on; trained is on `train`."""
    test: tuple[Name, ...] = ("test",)
    """Splits to answer when all is done."""


def something_to_answer_with(config: Any) -> Any:
    """A check of a configuration with `epochs` and `model`: without a training there must be a fine-tuned model."""
    if not config.epochs and not config.model:
        raise ValueError("epochs: 0 trains nothing; name a fine-tuned model in `model`")
    return config


class Sentences:
    """Sentences as token ids, padded batch by batch."""

    def __init__(self, pieces: Iterable[Integer[np.ndarray, " _"]], pad: int):
        """`pieces`: the ids of each sentence; `pad`: the id behind the last one."""
        pieces = list(pieces)
        self.lengths = np.array([len(piece) for piece in pieces], np.int64)
        self._starts = np.concatenate([[0], self.lengths.cumsum()])
        self._ids = np.concatenate(pieces) if pieces else np.zeros(0, np.int32)
        self._pad = pad

    @classmethod
    def of(cls, texts: Sequence[str], tokenizer: PreTrainedTokenizerFast, max_length: int) -> "Sentences":
        """With the tokenizer's special tokens, which count for `max_length`."""
        pieces = []
        for first in range(
            0, len(texts), 10_000
        ):  # whose lists take ten times as much memory as their arrays
            made = tokenizer(
                [text.strip() for text in texts[first : first + 10_000]],
                truncation=True, max_length=max_length, return_attention_mask=False, return_token_type_ids=False,
            )  # fmt: skip
            pieces += [np.array(ids, np.int32) for ids in made["input_ids"]]
        return cls(pieces, tokenizer.pad_token_id)

    @classmethod
    def of_pieces(
        cls,
        texts: Sequence[str],
        pieces: Pieces,
        max_words: int = 40,
        max_tokens: int = 40,
        question: bool = False,
    ) -> "Sentences":
        """Cleaned, cut and with their two ends. UserError for a sentence without a word that is no question."""
        return cls(pieces.encode(texts, max_words, max_tokens, question), pieces.pad_id)

    def __len__(self) -> int:
        return len(self.lengths)

    @classmethod
    def closed(cls, texts: Sequence[str], tokenizer: PreTrainedTokenizerFast, length: int) -> "Sentences":
        """As up to `length` word pieces and a [SEP]; special tokens that a text spells out are left out."""
        end = np.array([tokenizer.sep_token_id], np.int32)
        pieces = plain_pieces(tokenizer, list(texts), length)
        return cls((np.concatenate([ids, end]) for ids in pieces), tokenizer.pad_token_id)

    def batch(self, rows: Sequence[int] | np.ndarray) -> dict[str, Tensor]:
        """`ids` [B T] and `mask` [B T] of some sentences, T the length of the longest."""
        rows = np.asarray(rows)
        mask = np.arange(self.lengths[rows].max()) < self.lengths[rows, None]
        ids = np.full(mask.shape, self._pad, np.int64)
        ids[mask] = np.concatenate([self._ids[self._starts[row] : self._starts[row + 1]] for row in rows])
        return {"ids": torch.from_numpy(ids), "mask": torch.from_numpy(mask)}


class PictureStore(Protocol):
    """Pictures by rows, as `foundations.picture_store.PatchStore` has them."""

    def __contains__(self, name: object) -> bool: ...

    def rows(self, ids: Iterable[str]) -> np.ndarray:
        """The rows of some pictures. UserError for one that is not there."""

    def views(self, rows: np.ndarray) -> np.ndarray:
        """How many views some pictures have: the whole of it, then others, which are random of training pictures."""

    def eval_views(self, rows: np.ndarray) -> int:
        """How many views some pictures are evaluated by."""

    def gather(self, rows: np.ndarray, view: int | np.ndarray = 0) -> Tensor:
        """One view of each of some pictures, as the model takes them, [N …]."""


class Shown(Protocol):
    """The pictures that examples name, in a system's form."""

    rows: Int[np.ndarray, " N"]  # of the region store

    def batch(self, rows: np.ndarray) -> dict[str, Tensor]:
        """What the system's model takes of some pictures, by rows of the store."""


@dataclass(frozen=True)
class Chosen:
    """Some pictures of a system's own reader, by rows of the store (`Shown`)."""

    pictures: Any
    rows: Int[np.ndarray, " N"]

    def batch(self, rows: np.ndarray) -> dict[str, Tensor]:
        """What the reader gives of some pictures."""
        return self.pictures.batch(rows)


class Pictures:
    """The regions of the pictures that examples name; of a blind model one region of zeros each."""

    def __init__(self, store: RegionStore, names: Sequence[str], where: str, blind: bool = False):
        """UserError when the store lacks some of the names: `where` says who asks for them."""
        self.rows = rows_of(store, names, where)
        self.store, self.blind = store, blind

    def batch(self, rows: np.ndarray) -> dict[str, Tensor]:
        """`features` [B R F], `boxes` [B R 4] and, unless all have R, `visual_mask` [B R], by rows of the store."""
        if self.blind:
            width = self.store.feature_width
            return {"features": torch.zeros(len(rows), 1, width), "boxes": torch.zeros(len(rows), 1, 4)}
        found = self.store.batch(rows)
        mask = {} if found.mask is None else {"visual_mask": found.mask}
        return {"features": found.features, "boxes": found.boxes, **mask}


def rows_of(store: RegionStore, names: Sequence[str], where: str) -> Int[np.ndarray, " N"]:
    """The rows of some pictures. UserError when the store lacks some of them: `where` says who asks for them."""
    try:
        return store.rows(names)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error


def with_regions(
    examples: Sequence[Example], pictures: Callable[[Example], Sequence[str]], store: RegionStore
) -> tuple[list[Example], list[Example]]:
    """The examples all of whose pictures have regions, and those that are left out (LXM-20).

    UserError names pictures where no example is left.
    """
    kept, left_out = [], []
    for example in examples:
        (kept if all(name in store for name in pictures(example)) else left_out).append(example)
    if left_out and not kept:
        store.rows([name for example in left_out for name in pictures(example)])
    return kept, left_out


def tell_left_out(context: StageContext, lines: Iterable[str]) -> dict[str, float]:
    """List what was left out in `without_regions.txt`; its number as the metric `without_regions`."""
    lines = list(dict.fromkeys(lines))  # a split may be read twice
    context.list_left_out(
        "without_regions.txt", lines, "examples are left out, whose pictures have no regions"
    )
    return {"without_regions": float(len(lines))}
