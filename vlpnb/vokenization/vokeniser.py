"""The vokeniser: sentences of token ids → for every token the picture that fits it best (section 3.1).

    voken[i] = argmax_j f(t_i; s) · K_j            exact, the lowest index on ties

Beside contextual tokens there are the two retrieval granularities that the paper compares (section 5): whole sentences,
and token types without context. `vokenize.py` takes a corpus through it.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from vlpnb.retrieval.exact import top_k
from vlpnb.train.loop import Precision, autocast
from vlpnb.vokenization.matcher import Matcher, content_mask

Granularity = Literal["token", "sentence", "term"]
# A batch of so many tokens (a GPU needs large ones) ends before padding makes it a twentieth larger.
FULL_BATCH, LARGE_BATCH, WASTE = 512, 4096, 1.05


def mark_sentence(voken: int, length: int) -> list[int]:
    """One voken for a whole sentence, its start marked: v at the first token, −v−1 at the others."""
    return [voken] + [-voken - 1] * (length - 1)


def decode_marks(
    vokens: np.ndarray, policy: Literal["first", "all"] = "first", ignore: int = -100
) -> np.ndarray:
    """Labels from marked vokens: "first" keeps the first token's and ignores the rest, "all" labels every
    token.
    """
    return np.where(vokens >= 0, vokens, ignore if policy == "first" else -vokens - 1)


class Vokeniser:
    """Sentences of token ids → vokens.

    Args:
        matcher: with its language backbone, in eval mode.
        keys: [V, d] unit rows; float32 is the conforming mode.
        token_budget: padded tokens per forward pass, at most; fewer where lengths begin to differ.
        precision: of the language backbone on a GPU; "float32" is the conforming mode. The heads and the search
            are in float32 in any case.
    """

    def __init__(
        self,
        matcher: Matcher,
        keys: Float[Tensor, "V d"],
        granularity: Granularity = "token",
        token_budget: int = 8192,
        precision: Precision = "float32",
    ):
        self.matcher, self.granularity, self.token_budget = matcher, granularity, token_budget
        self.precision: Precision = precision
        self.keys = keys.to(next(matcher.f.parameters()).device)
        self._terms: dict[int, int] = {}

    @torch.no_grad()
    def queries(self, sentences: Sequence[Sequence[int]]) -> list[Float[Tensor, "_ d"]]:
        """A unit vector for every token of each sentence (no special tokens); batched by length, order
        kept.
        """
        wrapped = [self.matcher.language.wrap(ids) for ids in sentences]
        order = sorted(range(len(wrapped)), key=lambda i: len(wrapped[i]))
        result: list[Tensor] = [torch.empty(0)] * len(wrapped)
        first, full = 0, FULL_BATCH if self.keys.device.type == "cpu" else LARGE_BATCH
        while first < len(order):
            last, real = first, 0
            while last < len(order):
                longest = len(wrapped[order[last]])
                padded = (last + 1 - first) * longest
                wasteful = padded > max(full, WASTE * (real + longest))
                if last > first and (padded > self.token_budget or wasteful):
                    break
                last, real = last + 1, real + longest
            chosen = order[first:last]
            for i, vectors in zip(chosen, self._encode([wrapped[i] for i in chosen]), strict=True):
                result[i] = vectors
            first = last
        return result

    def _encode(self, rows: Sequence[Sequence[int]]) -> list[Tensor]:
        try:
            language = self.matcher.language
            ids, mask = language.pad(rows)
            with autocast(ids.device, self.precision):
                hidden = language(ids, mask)
            hidden = hidden[content_mask(language, mask)]  # (n, F): f runs on real tokens only
            vectors = self.matcher.f(hidden.float())
        except torch.OutOfMemoryError:
            if len(rows) == 1:
                raise
            torch.cuda.empty_cache()
            half = len(rows) // 2
            return self._encode(rows[:half]) + self._encode(rows[half:])
        specials = len(language.prefix) + len(language.suffix)
        return list(vectors.split([len(row) - specials for row in rows]))

    def top(self, sentences: Sequence[Sequence[int]], k: int) -> list[tuple[Tensor, Tensor]]:
        """For every token of each sentence the k best pictures: (scores [n, k], ids [n, k]), on the host."""
        vectors = self.queries(sentences)
        scores, ids = top_k(torch.cat(vectors), self.keys, k)
        lengths = [len(v) for v in vectors]
        return list(zip(scores.cpu().split(lengths), ids.cpu().split(lengths), strict=True))

    def __call__(self, sentences: Sequence[Sequence[int]]) -> Int[np.ndarray, " N"]:
        """Vokens of all tokens of the sentences, one after the other (int32; marked if the granularity is
        "sentence").
        """
        if not sentences:
            return np.empty(0, np.int32)
        if self.granularity == "term":
            return self._vokens_of_terms(np.concatenate([np.asarray(ids) for ids in sentences]))
        vectors = self.queries(sentences)
        if self.granularity == "sentence":
            means = torch.stack([normalize(rows.mean(0), dim=0) for rows in vectors])
            best = top_k(means, self.keys)[1][:, 0].tolist()
            marked = [mark_sentence(v, len(ids)) for v, ids in zip(best, sentences, strict=True)]
            return np.array([v for row in marked for v in row], dtype=np.int32)
        return top_k(torch.cat(vectors), self.keys)[1][:, 0].cpu().numpy().astype(np.int32)

    def _vokens_of_terms(self, ids: np.ndarray) -> np.ndarray:
        new = [int(i) for i in np.unique(ids) if int(i) not in self._terms]
        if new:
            vectors = torch.cat(self.queries([[i] for i in new]))
            self._terms |= dict(zip(new, top_k(vectors, self.keys)[1][:, 0].tolist(), strict=True))
        return np.array([self._terms[int(i)] for i in ids], dtype=np.int32)
