"""Spans of sentences read in foreign company: what makes a token's hidden state stand for its own words.

A matcher rewards every token of a caption for finding the caption's picture, so a token gains by telling of the
*whole* caption: "red" in "a red car and two swans on the beach" may as well ask for swans. Where captions are read
whole nothing speaks against it; in other text such a token asks for whatever stands in the sentence. Cut spans of
captions of several pictures and join them into one row, let every token keep the picture of its own span, and what
the rest of the row says is worth nothing: only what belongs to a token's own words helps.

    captions   [a red car and two swans .]      [a small blue box in a room .]
    row        [CLS] red car and two  blue box in a room [SEP]
    picture          └──── first ──┘  └──── second ────┘

The idea is CutMix's (Yun et al. 2019), which cuts and pastes patches of pictures so that features become localisable;
spans of text were mixed by Yoon et al. (2021, SSMix). The paper has no such step (`features.splice: 0`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SPAN = (2, 8)  # tokens of a span, at least and at most
ROW = (2, 3)  # spans of a row, likewise


@dataclass(frozen=True)
class Span:
    """Tokens [start, end) of row number `row`, cut from sentence number `sentence`."""

    sentence: int
    row: int
    start: int
    end: int


def splice(
    sentences: Sequence[Sequence[int]], spans: int, random: np.random.Generator
) -> tuple[list[list[int]], list[Span]]:
    """Cut `spans` spans from every sentence of ids and join them, mixed, into rows; spans in order of sentences.

    A span has 2 to 8 tokens, or all where the sentence has fewer, and stands anywhere in its sentence; a row has two
    or three spans, the last one possibly one. Sentences without tokens give none.
    """
    rows: list[list[int]] = []
    found: list[Span] = []
    full = [i for i, ids in enumerate(sentences) if len(ids)]
    order = [int(i) for _ in range(spans) for i in random.permutation(full)]
    wanted = 0
    for i in order:
        if not wanted:
            wanted = int(random.integers(ROW[0], ROW[1] + 1))
            rows.append([])
        length = min(int(random.integers(SPAN[0], SPAN[1] + 1)), len(sentences[i]))
        first = int(random.integers(len(sentences[i]) - length + 1))
        start = len(rows[-1])
        rows[-1] += sentences[i][first : first + length]
        found.append(Span(i, len(rows) - 1, start, start + length))
        wanted -= 1
    return rows, sorted(found, key=lambda span: span.sentence)
