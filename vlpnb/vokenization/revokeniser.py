"""Revokenisation: vokens for a language model whose tokenizer is not the matcher's (paper, section 3.3).

The corpus holds *backward* ids (the language model's), the matcher reads *forward* ids (its own). Each
sentence is spelled out as text, read by the matcher's tokenizer, vokenised there, and every backward token
inherits the voken of the forward token that overlaps it most.

Which that is, `vlpnb.text.alignment` finds out.

Differs from the original, whose class was never wired in (VOK-13): every token has exactly one span of characters, so
that no list is ever cut or filled up to the right length; forward sentences beyond the length limit are cut like any
other; equal tokenizers give the identity by definition.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from vlpnb.text.alignment import Speller, align, same_tokenizer
from vlpnb.text.corpora import split_long

if TYPE_CHECKING:
    from vlpnb.vokenization.vokeniser import Vokeniser


class Revokeniser:
    """A vokeniser for sentences of another tokenizer's ids; takes the place of the `Vokeniser` that it wraps.

    Args:
        vokenise: of the matcher.
        tokenizer: of the ids that will come.
        limit: longest forward sentence in tokens; longer ones are cut in balanced pieces.
    """

    def __init__(self, vokenise: "Vokeniser", tokenizer: PreTrainedTokenizerFast, limit: int = 128):
        self.vokenise, self.limit = vokenise, limit
        self.forward, self.backward = Speller(vokenise.matcher.language.tokenizer), Speller(tokenizer)

    @property
    def granularity(self) -> str:
        return self.vokenise.granularity

    @property
    def keys(self) -> Tensor:
        return self.vokenise.keys

    def __call__(self, sentences: Sequence[Sequence[int]]) -> Int[np.ndarray, " N"]:
        """Vokens of all tokens, as `Vokeniser` gives them (int32; marked if the granularity is "sentence")."""
        if not any(len(ids) for ids in sentences):
            return np.empty(0, np.int32)
        rows, source = self._sources(sentences)
        vokens = self.vokenise(rows)
        if self.granularity != "sentence":
            return vokens[source]
        row = np.repeat(np.arange(len(rows)), [len(ids) for ids in rows])[source]
        plain = np.where(vokens < 0, -vokens - 1, vokens)[source]
        return np.where(np.diff(row, prepend=-1) != 0, plain, -plain - 1).astype(np.int32)

    def top(self, sentences: Sequence[Sequence[int]], k: int) -> list[tuple[Tensor, Tensor]]:
        """For every token of each sentence the k best pictures: (scores [n, k], ids [n, k]), on the host."""
        import torch

        rows, source = self._sources(sentences)
        scores, ids = (torch.cat(parts)[source] for parts in zip(*self.vokenise.top(rows, k), strict=True))
        lengths = [len(sentence) for sentence in sentences]
        return list(zip(scores.split(lengths), ids.split(lengths), strict=True))

    def _sources(self, sentences: Sequence[Sequence[int]]) -> tuple[list[list[int]], Int[np.ndarray, " N"]]:
        """Forward rows, and for every backward token the forward token (counted through all rows) it follows."""
        spelled = self.backward.spell([ids for ids in sentences if len(ids)])
        read = self.forward.read([text for text, _ in spelled])
        unknown = self.vokenise.matcher.language.tokenizer.unk_token_id or 0
        for i, (ids, _) in enumerate(read):
            if (
                not ids
            ):  # the matcher's tokenizer has nothing to say about this text, such as control characters
                read[i] = ([unknown], np.array([[0, len(spelled[i][0])]]))
        source = align(
            np.concatenate([spans for _, spans in read]),
            np.concatenate([spans for _, spans in spelled]),
            [len(ids) for ids, _ in read],
            [len(spans) for _, spans in spelled],
        )
        rows = []
        for ids, _ in read:
            at = 0
            for size in split_long(len(ids), self.limit):
                rows.append(ids[at : at + size])
                at += size
        return rows, source


def for_tokenizer(
    vokenise: "Vokeniser", tokenizer: PreTrainedTokenizerFast, limit: int = 128
) -> "Vokeniser | Revokeniser":
    """The vokeniser itself for ids of the matcher's tokenizer, else a revokeniser around it."""
    if same_tokenizer(vokenise.matcher.language.tokenizer, tokenizer):
        return vokenise
    return Revokeniser(vokenise, tokenizer, limit)
