"""BLEU (Papineni et al. 2002) and ROUGE-L (Lin 2004) of captions, to the number of the COCO caption evaluation.

Both compare words in order: BLEU counts the hypothesis' runs of 1 to 4 words that some reference has, ROUGE-L the
longest series of words that it shares with a reference, gaps allowed.
"""

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from itertools import pairwise

LONGEST = 4
# The evaluation's guards against division by zero; they are seen in the last digits, and where nothing agrees.
_NOTHING, _ALMOST_NOTHING = 1e-15, 1e-9
RECALL_WEIGHT = 1.2  # ROUGE-L's beta

Words = Sequence[Hashable]


def runs(words: Words, n: int) -> Counter:
    """How often each run of n words occurs."""
    return Counter(zip(*(words[i:] for i in range(n)), strict=False))


def bleu(
    hypotheses: Sequence[Words], references: Sequence[Sequence[Words]]
) -> tuple[list[float], list[list[float]]]:
    """BLEU 1 to 4 of the whole, and those of each caption.

    A caption's reference length is the one nearest to its own, the shorter of two; the whole adds lengths and counts up
    before it divides.
    """
    rows = [_matches(hypothesis, those) for hypothesis, those in zip(hypotheses, references, strict=True)]
    totals = [sum(column) for column in zip(*rows, strict=True)] if rows else [0] * (2 + 2 * LONGEST)
    return _bleu(totals), [_bleu(row) for row in rows]


def _matches(hypothesis: Words, references: Sequence[Words]) -> list[int]:
    """Own length, reference length, then for n = 1 to 4 the runs that are right, then how many there are."""
    length = len(hypothesis)
    _, nearest = min((abs(len(reference) - length), len(reference)) for reference in references)
    right = []
    for n in range(1, LONGEST + 1):
        most: Counter = Counter()
        for reference in references:
            most |= runs(reference, n)
        right.append((runs(hypothesis, n) & most).total())
    return [length, nearest, *right, *(max(0, length - n) for n in range(LONGEST))]


def _bleu(row: Sequence[int]) -> list[float]:
    length, reference_length, *counts = row
    ratio = (length + _NOTHING) / (reference_length + _ALMOST_NOTHING)
    brevity = math.exp(1 - 1 / ratio) if ratio < 1 else 1.0
    product, scores = 1.0, []
    for n in range(LONGEST):
        product *= (counts[n] + _NOTHING) / (counts[LONGEST + n] + _ALMOST_NOTHING)
        scores.append(product ** (1 / (n + 1)) * brevity)
    return scores


def rouge_l(hypotheses: Sequence[Words], references: Sequence[Sequence[Words]]) -> tuple[float, list[float]]:
    """ROUGE-L of the whole (the mean), and of each caption: best precision and best recall over its references."""
    each = [_rouge_l(hypothesis, those) for hypothesis, those in zip(hypotheses, references, strict=True)]
    return (sum(each) / len(each) if each else float("nan")), each


def _rouge_l(hypothesis: Words, references: Sequence[Words]) -> float:
    shared = [common_words(hypothesis, reference) for reference in references]
    precision = max(n / max(1, len(hypothesis)) for n in shared)
    recall = max(n / max(1, len(those)) for n, those in zip(shared, references, strict=True))
    if not precision or not recall:
        return 0.0
    weight = RECALL_WEIGHT**2
    return (1 + weight) * precision * recall / (recall + weight * precision)


def common_words(one: Words, other: Words) -> int:
    """The length of the longest series of words that both have in this order."""
    row = [0] * (len(other) + 1)
    for word in one:
        above = row
        row = [0]
        for (diagonal, up), theirs in zip(pairwise(above), other, strict=True):
            row.append(diagonal + 1 if word == theirs else max(up, row[-1]))
    return row[-1]
