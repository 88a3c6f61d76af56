"""Captions as flat arrays of word pieces, picture by picture: of pictures with regions, or of text alone.

Special tokens that a caption spells out, such as "[SEP]", are left out of it; captions without a word piece and
pictures without regions are counted and listed.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int, Integer

from vlpnb.errors import UserError
from vlpnb.text.tokenizers import plain_pieces

NO_PICTURE = -1  # in place of a row of the store


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
    kept, pieces = [], []
    encoded = plain_pieces(tokenizer, [text for _, text in lines], length)
    for row, (name, text), ids in zip(pictures, lines, encoded, strict=True):
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


def text_of(tokenizer: Any, ids: Sequence[int], sep_id: int, pad_id: int) -> str:
    """Words of a caption, a space between them: pieces before the first [SEP] or [PAD], those with ## joined on.

    Punctuation stays a word of its own, and a ## at the very beginning keeps its marks, as in the original. Without a
    tokenizer "".
    """
    if tokenizer is None:
        return ""
    ids = list(ids)
    ends = [place for place, word in enumerate(ids) if word in (sep_id, pad_id)]
    words: list[str] = []
    for piece in tokenizer.convert_ids_to_tokens(ids[: ends[0]] if ends else ids):
        if piece.startswith("##") and words:
            words[-1] += piece[2:]
        else:
            words.append(piece)
    return " ".join(words)
