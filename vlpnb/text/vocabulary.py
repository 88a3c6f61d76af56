"""The word pieces that a VaLM reads: a tokenizer, its end, padding and mask tokens, and where its ids begin.

Paper: CLIP's own pieces (section 3.1 of Wang et al. 2023), so that the language model and the tower that makes its
queries read the same sequence. The release numbers them four higher, for `bos 0, pad 1, eos 2, unk 3` come first; any
other tokenizer keeps its ids, and its [SEP] or end-of-text token ends lines.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int, Integer
from transformers import PreTrainedTokenizerFast

from vlpnb.errors import UserError
from vlpnb.text.clip import MARKS, is_clip
from vlpnb.text.tokenizers import encode_lines, load_tokenizer

FIRST_CLIP_ID = 4  # what the release puts before CLIP's pieces: bos, pad, eos, unk
PAD, END, UNKNOWN = 1, 2, 3


@dataclass(frozen=True)
class Vocabulary:
    """A tokenizer as a language model uses it. `first`: what its ids are raised by; `size` counts what is below."""

    tokenizer: PreTrainedTokenizerFast
    size: int
    end_id: int
    pad_id: int
    mask_id: int
    special: tuple[int, ...]
    first: int = 0

    @property
    def silent(self) -> frozenset[int]:
        """Ids that stand for no text: the special ones but that of an unknown word."""
        unknown = UNKNOWN if self.first else self.tokenizer.unk_token_id
        return frozenset(self.special) - {unknown}

    def encode(self, texts: Sequence[str]) -> list[Int[np.ndarray, " _"]]:
        """Ids of some texts, int32 [n] each; no end token, and none of the special tokens that a text spells out."""
        silent = np.array(sorted(self.silent), np.int32)
        found = [ids + np.int32(self.first) for ids in encode_lines(self.tokenizer, texts)]
        if not found or not np.isin(np.concatenate(found), silent).any():
            return found
        return [ids[~np.isin(ids, silent)] for ids in found]

    def decode(self, ids: Sequence[int] | Integer[np.ndarray, " n"]) -> str:
        """The text of some ids."""
        kept = [int(i) - self.first for i in ids if int(i) not in self.silent]
        return self.tokenizer.decode([i for i in kept if i >= 0], clean_up_tokenization_spaces=False)


def open_vocabulary(name_or_folder: str | Path) -> Vocabulary:
    """The vocabulary of a tokenizer's folder or name.

    Raises:
        UserError: no token to end a line with.
    """
    tokenizer = load_tokenizer(name_or_folder)
    pieces = tokenizer.get_vocab()
    if is_clip(tokenizer):
        size = max(pieces.values()) + 1 + FIRST_CLIP_ID
        return Vocabulary(
            tokenizer, size, END, PAD, UNKNOWN, (*range(FIRST_CLIP_ID), *_ids(tokenizer, MARKS, FIRST_CLIP_ID)),
            FIRST_CLIP_ID,
        )  # fmt: skip
    end = tokenizer.sep_token_id if tokenizer.sep_token_id is not None else tokenizer.eos_token_id
    if end is None:
        raise UserError(
            f"{name_or_folder}: the tokenizer has neither [SEP] nor an end-of-text token; lines of text must end "
            "with one."
        )
    unknown = next(i for i in (tokenizer.mask_token_id, tokenizer.unk_token_id, end) if i is not None)
    size = max(pieces.values()) + 1
    return Vocabulary(
        tokenizer, size, end, tokenizer.pad_token_id, unknown, tuple(sorted(tokenizer.all_special_ids))
    )


def _ids(tokenizer: PreTrainedTokenizerFast, pieces: Sequence[str], first: int) -> tuple[int, ...]:
    return tuple(tokenizer.convert_tokens_to_ids(piece) + first for piece in pieces)
