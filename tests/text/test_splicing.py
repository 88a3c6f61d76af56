"""Spans of sentences in foreign company: every token of a span stands in its row as it stood in its sentence."""

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vlpnb.text.splicing import ROW, SPAN, splice

IDS = st.lists(st.lists(st.integers(5, 99), max_size=12), max_size=30)


@given(sentences=IDS, spans=st.integers(1, 3), seed=st.integers(0, 99))
def test_spans_are_pieces_of_their_sentences_and_fill_the_rows(sentences, spans, seed):
    rows, found = splice(sentences, spans, np.random.default_rng(seed))
    full = [i for i, ids in enumerate(sentences) if ids]
    assert [span.sentence for span in found] == [i for i in full for _ in range(spans)]
    for span in found:
        cut, whole = rows[span.row][span.start : span.end], sentences[span.sentence]
        assert min(SPAN[0], len(whole)) <= len(cut) <= SPAN[1]
        assert any(whole[i : i + len(cut)] == cut for i in range(len(whole)))
    for number, row in enumerate(rows):
        parts = sorted((span.start, span.end) for span in found if span.row == number)
        assert len(parts) <= ROW[1]
        assert len(parts) >= ROW[0] or number == len(rows) - 1
        assert [0, *(end for _, end in parts)] == [
            *(start for start, _ in parts),
            len(row),
        ]  # no gap, no overlap


def test_a_row_mixes_sentences_and_the_seed_decides_which():
    sentences = [[10 * i + k for k in range(9)] for i in range(1, 60)]
    rows, found = splice(sentences, 2, np.random.default_rng(1))
    alone = [
        number
        for number, spans in itertools.groupby(sorted(found, key=lambda s: s.row), lambda s: s.row)
        if len({span.sentence for span in spans}) == 1
    ]
    assert len(alone) <= 2  # the last row, and the one where the second round begins
    assert splice(sentences, 2, np.random.default_rng(1)) == (rows, found)
    assert splice(sentences, 2, np.random.default_rng(2))[0] != rows
