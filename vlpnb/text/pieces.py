"""Sentences of all languages as ids of one vocabulary, in XLM-R's order; cleaning is part of it.

Paper: CCLM (Zeng et al. 2023), section 4.1: XLM-R's vocabulary of 250,002 pieces. A vocabulary is of cleaned text, so
that a tokenizer goes together with the cleaning that it was trained with.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int
from transformers import PreTrainedTokenizerFast

from vlpnb.errors import UserError
from vlpnb.text.cleaning import Cleaning, clean_caption, clean_question
from vlpnb.text.tokenizers import encode_lines
from vlpnb.text.unigram import check_order

START, PAD, END = 0, 1, 2


class Pieces:
    """The pieces of all languages: `<s>` 0, `<pad>` 1, `</s>` 2, `<unk>` 3, …, `<mask>` last.

    Raises:
        UserError: the tokenizer has another order of ids.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, cleaning: Cleaning = "cclm_v1"):
        check_order(tokenizer, tokenizer.name_or_path or "the tokenizer")
        self.tokenizer, self.cleaning = tokenizer, cleaning
        self.size = len(tokenizer)
        self.start_id, self.pad_id, self.end_id, self.mask_id = START, PAD, END, self.size - 1

    def clean(self, text: str, max_words: int = 40, question: bool = False) -> str:
        """A sentence as models read it. UserError where nothing is left of one that is no question."""
        return (clean_question if question else clean_caption)(text, max_words, self.cleaning)

    def encode(
        self, texts: Sequence[str], max_words: int = 40, max_tokens: int = 40, question: bool = False
    ) -> list[Int[np.ndarray, " _"]]:
        """Ids of sentences, cleaned and cut, `<s>` first and `</s>` last.

        Args:
            max_words: words of a sentence that are kept.
            max_tokens: ids at most, the two ends counted.
            question: cleaned as questions are; one without words is its two ends.
        Raises:
            UserError: a sentence without a word.
        """
        cleaned = [self.clean(text, max_words, question) for text in texts]
        return [framed(ids, max_tokens) for ids in encode_lines(self.tokenizer, cleaned)]


def framed(ids: Int[np.ndarray, " n"], max_tokens: int) -> Int[np.ndarray, " m"]:
    """The first pieces between `<s>` and `</s>`, `max_tokens` in all at most. UserError for fewer than the two ends."""
    if max_tokens < 2:
        raise UserError(f"max_tokens: found {max_tokens}, expected 2 or more: the ends are two")
    return np.concatenate([[START], ids[: max_tokens - 2], [END]]).astype(ids.dtype)
