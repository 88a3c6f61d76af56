"""A corpus in pages: they tile its sentences, and long sentences are cut."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlpnb.text.pages import Pages, pieces_of


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.integers(0, 30), min_size=1, max_size=40),
    st.integers(1, 40),
    st.integers(1, 9),
    st.booleans(),
)
def test_pages_tile_the_pieces_and_are_as_long_as_they_may(lengths, tokens, limit, legacy):
    """However few sentences are looked at at a time."""
    sentences = np.concatenate([[0], np.cumsum(lengths)])
    pieces = pieces_of(sentences, limit, legacy)
    expected = [0]
    while expected[-1] < pieces[-1]:
        fit = pieces[(pieces > expected[-1]) & (pieces <= expected[-1] + tokens)]
        expected.append(int(fit[-1] if len(fit) else pieces[pieces > expected[-1]][0]))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("vlpnb.text.pages.CHUNK", 3)
        pages = Pages(sentences, tokens, limit, legacy)
    assert pages.starts.tolist() == expected
    found = [0] + [int(end) for page in range(len(pages)) for end in pages.pieces(page)[1:]]
    assert found == pieces.tolist()


def test_long_sentences_are_cut_in_balanced_pieces():
    assert pieces_of(np.array([0, 3, 3, 8]), 4).tolist() == [0, 3, 6, 8]
    assert pieces_of(np.array([0, 129]), 128).tolist() == [0, 65, 129]
    assert pieces_of(np.array([0, 2, 2, 5]), 9).tolist() == [0, 2, 5]
