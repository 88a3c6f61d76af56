"""A tokenised corpus as it is read: one stream of token ids with line and sentence offsets."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import h5py
import numpy as np
from transformers import PreTrainedTokenizerFast

from vlpnb.data.store import attributes, mapped, open_checked
from vlpnb.data.text_files import require
from vlpnb.errors import UserError
from vlpnb.text.tokenizers import vocabulary_hash

CHECKED = 1 << 20  # offsets that are checked at a time


class TokenCorpus:
    """A tokenised corpus on disk, opened at first use in each process; safe to send to workers.

    `path` is a store of `write_corpus`, or the original project's `<file>.<tok>.hdf5` with `<file>.<tok>.line`
    and `.sent` beside it. UserError if the file is damaged, or offsets do not tile the tokens.
    """

    def __init__(self, path: Path):
        self.path = Path(path)
        with open_checked(self.path, ["tokens"]) as file:
            self._native = "lines" in file
            self._length = len(file["tokens"])

    def __len__(self) -> int:
        return self._length

    def __getstate__(self) -> dict:
        return {key: self.__dict__[key] for key in ("path", "_native", "_length")}

    @cached_property
    def tokens(self) -> np.ndarray | h5py.Dataset:
        """[N] ids; a memory map for stores written here."""
        return mapped(self.path, "tokens")

    @cached_property
    def lines(self) -> np.ndarray:
        """int64 [L + 1] offsets of the lines, first 0, last N; a memory map for stores written here."""
        return self._offsets("lines", ".line")

    @cached_property
    def sentences(self) -> np.ndarray:
        """int64 [S + 1] offsets of the sentences, first 0, last N; a memory map for stores written here."""
        return self._offsets("sentences", ".sent")

    @cached_property
    def attributes(self) -> dict:
        """What the store says of itself: tokenizer, rules, sources."""
        return attributes(self.path)

    def line(self, index: int) -> np.ndarray:
        """Ids of one line."""
        return np.asarray(self.tokens[self.lines[index] : self.lines[index + 1]])

    def sentence(self, index: int) -> np.ndarray:
        """Ids of one sentence."""
        return np.asarray(self.tokens[self.sentences[index] : self.sentences[index + 1]])

    def first_sentences(
        self, lines: int | None = None, sentences: int | None = None, longest: int = 128
    ) -> list[list[int]]:
        """Ids of the first sentences, in so many of the first lines; none: all. Sentences end after `longest` ids."""
        count = len(self.sentences) - 1
        if lines is not None and lines < len(self.lines) - 1:
            count = int(np.searchsorted(self.sentences, self.lines[lines], side="right")) - 1
        if sentences is not None:
            count = min(count, sentences)
        return [self.sentence(s).tolist()[:longest] for s in range(count)]

    def _offsets(self, name: str, suffix: str) -> np.ndarray:
        if self._native:
            return checked_offsets(mapped(self.path, name), len(self), self.path)
        path = self.path.with_suffix(suffix)
        require(
            path, f"the {name}' start offsets and the corpus length, as text (`add_sentences` writes them)"
        )
        try:
            offsets = np.array(path.read_text(encoding="utf-8").split(), dtype=np.int64)
        except ValueError as error:
            raise UserError(f"{path}: expected whole numbers ({error}).") from error
        return checked_offsets(offsets, len(self), path)


def check_tokenizer(corpus: TokenCorpus, tokenizer: PreTrainedTokenizerFast, whose: str) -> None:
    """UserError unless the ids of `corpus` are ids of `tokenizer`, which is that of `whose` (a few words).

    Corpora of other projects do not name their vocabulary; of those the largest id is checked.
    """
    about, size = corpus.attributes, len(tokenizer)
    again = f"Tokenise the text again with the tokenizer of {whose} (stage `corpus`)."
    if "vocabulary" in about:
        if about["vocabulary"] != vocabulary_hash(tokenizer):
            raise UserError(
                f"{corpus.path} was written with another tokenizer ({about['vocab_size']:,} word pieces) than that "
                f"of {whose} ({size:,}). {again}"
            )
        return
    pieces = (corpus.tokens[start : start + (1 << 24)] for start in range(0, len(corpus), 1 << 24))
    top = max((int(np.max(piece)) for piece in pieces), default=0)
    if top >= size:
        raise UserError(f"{corpus.path} holds token id {top:,}; {whose} has {size:,} word pieces. {again}")


def checked_offsets(offsets: np.ndarray, n: int, path: Path) -> np.ndarray:
    """The offsets themselves; UserError naming the file if they do not run from 0 to `n` without going back."""
    ends = f"{offsets[0]} … {offsets[-1]}" if len(offsets) else "nothing"
    pieces = (
        offsets[at : at + CHECKED + 1] for at in range(0, len(offsets), CHECKED)
    )  # one in memory at a time
    if ends != f"0 … {n}" or not all((np.diff(piece) >= 0).all() for piece in pieces):
        raise UserError(f"{path}: offsets {ends} do not run from 0 to the {n:,} tokens; write it again.")
    return offsets
