"""The captions that VLP learns from, as flat arrays: of pictures with regions, or of text alone.

Paper: VLP (Zhou et al. 2020): pairs of Conceptual Captions, one caption a picture; COCO and Flickr30k with
five. Text alone is where UniLM, the paper's starting point, learned.

Differs from the original: special tokens that a caption spells out, such as "[SEP]", are left out of it; captions
without a word piece and pictures without regions are counted and listed (the original stops); of text alone the
sentences about pictures that are to be captioned later are left out.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, Integer
from transformers import PreTrainedTokenizerFast

from vlpnb.data.description import CaptionData, TextData
from vlpnb.data.text_files import lines_of
from vlpnb.errors import UserError
from vlpnb.stage import StageContext
from vlpnb.text.lines import keeps
from vlpnb.text.tokenizers import MASKED, encode_lines, load_tokenizer, train_wordpiece
from vlpnb.train.distributed import barrier

OWN = "captions"  # the tokenizer that is learned from what is trained on
NO_PICTURE = -1  # in place of a row of the store
FLICKR8K = re.compile(r"(\d+)_[0-9a-f]+")  # Flickr30k calls the same photograph by the number alone


@dataclass(frozen=True)
class CaptionTable:
    """E captions, picture by picture, as word pieces without special tokens."""

    pictures: Int[np.ndarray, " E"]
    """Rows of the region store; −1: a text without a picture."""
    tokens: Integer[np.ndarray, " N"]
    starts: Int[np.ndarray, " S"]
    """Where the word pieces of each caption begin, and where the last ones end; S = E + 1."""
    left_out: tuple[str, ...] = ()
    """Captions and pictures that are not there, and why."""

    def __len__(self) -> int:
        return len(self.pictures)

    @property
    def lengths(self) -> Int[np.ndarray, " E"]:
        """Word pieces of each caption."""
        return np.diff(self.starts)

    def words(self, rows: Int[np.ndarray, " M"]) -> tuple[Int[np.ndarray, "M T"], Int[np.ndarray, " M"]]:
        """The word pieces of some captions, 0 behind the last one, and how many there are of each."""
        counts = self.lengths[rows]
        at = np.arange(int(counts.max(initial=1)))
        inside = at < counts[:, None]
        found = self.tokens[np.where(inside, self.starts[rows][:, None] + at, 0)].astype(np.int64)
        return np.where(inside, found, 0), counts

    def together(self) -> Int[np.ndarray, " S"]:
        """Where the captions of each picture begin, and where the last ones end."""
        changes = np.flatnonzero(np.diff(self.pictures)) + 1
        return np.concatenate([[0], changes, [len(self)]]).astype(np.int64)


def caption_table(
    captioned: Iterable[tuple[str, Sequence[str]]],
    rows: Mapping[str, int] | None,
    tokenizer: Any,
    length: int = 20,
    where: str = "the captions",
) -> CaptionTable:
    """The table of some pictures' captions.

    Args:
        captioned: (image id, captions) of each picture.
        rows: image id → its row in the region store; None: the texts have no pictures.
        length: word pieces of a caption without the closing [SEP]; what is longer is cut at its tail.
        where: what to call the captions in an error.
    Raises:
        UserError: no caption is left.
    """
    pictures, lines, left_out = [], [], []
    for name, texts in captioned:
        row = NO_PICTURE if rows is None else rows.get(name)
        if row is None:
            left_out.append(f"{name}: no regions")
            continue
        lines += [(name, text) for text in texts]
        pictures += [row] * len(texts)
    special = np.array([i for i in tokenizer.all_special_ids if i != tokenizer.unk_token_id])
    kept, pieces = [], []
    encoded = encode_lines(tokenizer, [text for _, text in lines])
    for row, (name, text), ids in zip(pictures, lines, encoded, strict=True):
        ids = ids[~np.isin(ids, special)][:length]
        if not len(ids):
            left_out.append(f"{name}: a caption without a word piece: {text[:40]!r}")
            continue
        kept.append(row)
        pieces.append(ids)
    if not pieces:
        raise UserError(
            f"{where}: found {'no caption' if not left_out else f'{left_out[0]} …'}; expected captions with words "
            "about pictures of the stage `regions`"
        )
    small = np.uint16 if len(tokenizer) <= 1 << 16 else np.int32
    starts = np.concatenate([[0], np.cumsum([len(ids) for ids in pieces])]).astype(np.int64)
    return CaptionTable(
        np.asarray(kept, np.int64), np.concatenate(pieces).astype(small), starts, tuple(left_out)
    )


Captioned = list[tuple[str, Sequence[str]]]
"""(image id, captions) of each picture; of text alone "" and a sentence."""


def read_captions_of(data: CaptionData, names: Sequence[str]) -> Captioned:
    """The captions of some splits or sets, whether the pictures' files are there or not."""
    return [(image.image_id, image.sentences) for name in names for image in data.annotated(name)]


def held_out(data: CaptionData) -> set[str]:
    """The photographs to be captioned: ids of the splits but `train`, and Flickr30k's names of Flickr8k's."""
    found = set()
    for split in (name for name in data.splits.annotations if name != "train"):
        for image in data.annotated(split):
            same = FLICKR8K.fullmatch(image.image_id)
            found |= {image.image_id, same[1]} if same else {image.image_id}
    return found


def read_sentences(text: TextData, split: str, unseen: set[str], most: int | None = None) -> Iterator[str]:
    """The lines of some text, but those about `unseen` photographs, which its lists of images name; `most` of them.

    UserError where a list does not go with its file.
    """
    lists = text.images if split == "train" else ()
    given = 0
    for number, path in enumerate(getattr(text, split)):
        about = (
            [Path(line.text.strip()).stem for line in lines_of(lists[number], "images")] if lists else None
        )
        count = 0
        for count, line in lines_of(path, "sentences, one a line"):
            if about is not None and count > len(about):
                break
            if not keeps(line, text.rules) or (about is not None and about[count - 1] in unseen):
                continue
            if given == most:
                return
            given += 1
            yield line
        if about is not None and count != len(about):
            raise UserError(
                f"{path}: has {'more than ' if count > len(about) else ''}{min(count, len(about)):,} lines, and "
                f"{lists[number]} names {len(about):,} images; expected an image for each line"
            )


def open_tokenizer(context: StageContext, lines: Iterable[str]) -> PreTrainedTokenizerFast:
    """The configured tokenizer; one of the captions' own is that of the training on text that this one starts from, or
    is learned by process 0 and lies in `tokenizer`.
    """
    config = context.config
    if config.tokenizer != OWN or "start" in context.inputs:
        start = context.inputs.get("start" if config.tokenizer == OWN else "language", Path())
        known = start / "model" if config.tokenizer in ("", OWN) else config.tokenizer
        return load_tokenizer(known, (*MASKED, "unk"))
    folder = context.folder / "tokenizer"
    if context.rank == 0 and not (folder / "tokenizer.json").is_file():
        train_wordpiece(lines, config.vocab_size, folder)
    barrier(context.world_size)
    return load_tokenizer(folder, (*MASKED, "unk"))
