"""Text in examples of inputs and next tokens: one flat stream, or line by line."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlpnb.errors import UserError
from vlpnb.text.blocks import LanguageBlocks

END, PAD = 2, 1


def corpus(*lines: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Ids of lines, each with the end token, and where they start."""
    rows = [np.array([*line, END]) for line in lines]
    return np.concatenate(rows), np.cumsum([0, *map(len, rows)])


def made(text, **how) -> LanguageBlocks:
    tokens, offsets = corpus(*text)
    return LanguageBlocks(tokens, offsets, end_id=END, pad_id=PAD, **how)


def test_blocks_of_the_stream_go_over_the_ends_of_lines():
    found = made([[5, 6], [7, 8, 9]], block=3).batch([0, 1, 2])
    assert found["ids"].tolist() == [[2, 5, 6], [2, 7, 8], [9, PAD, PAD]]
    assert found["targets"].tolist() == [[5, 6, 2], [7, 8, 9], [2, -100, -100]]


def test_a_line_is_an_example_and_a_long_one_several():
    blocks = made([[5, 6], [7, 8, 9]], block=3, lines=True)
    found = blocks.batch([0, 1, 2])
    assert found["ids"].tolist() == [[2, 5, 6], [2, 7, 8], [9, PAD, PAD]]
    assert len(made([[5, 6], [7, 8, 9]], block=3, lines=True, cut=True)) == 2
    assert made([[5], [6, 7]], block=9, lines=True)[0]["targets"].tolist() == [5, 2]


@given(
    st.lists(st.lists(st.integers(3, 99), max_size=9), min_size=1, max_size=6),
    st.integers(1, 7),
    st.booleans(),
)
def test_every_token_is_a_target_once_and_its_input_is_the_token_before(lines, block, by_line):
    tokens, offsets = corpus(*lines)
    blocks = LanguageBlocks(tokens, offsets, block=block, end_id=END, pad_id=PAD, lines=by_line)
    found = blocks.batch(range(len(blocks)))
    real = found["targets"] != -100
    assert found["targets"][real].tolist() == tokens.tolist()
    assert found["ids"][real].tolist() == [END, *tokens[:-1].tolist()]
    assert (found["ids"][~real] == PAD).all()


def test_each_target_keeps_the_picture_of_its_line():
    pictures = np.array([4, -1, 0])
    for by_line in (False, True):
        blocks = made([[5, 6], [7], [8, 9]], block=4, lines=by_line, pictures=pictures)
        found = blocks.batch(range(len(blocks)))
        real = found["targets"] != -100
        assert found["own"][real].tolist() == [4, 4, 4, -1, -1, 0, 0, 0]
        assert (found["own"][~real] == -1).all()


def test_what_cannot_be_read_is_said():
    with pytest.raises(UserError, match="0 tokens for blocks of 4"):
        LanguageBlocks(np.zeros(0, np.int64), np.zeros(1, np.int64), block=4, end_id=END, pad_id=PAD)
    with pytest.raises(UserError, match="2 lines, but pictures are given for 3"):
        made([[5], [6]], block=4, pictures=np.array([1, 2, 3]))
    with pytest.raises(UserError, match="where its lines start is not said"):
        LanguageBlocks(np.arange(9), block=4, end_id=END, pad_id=PAD, lines=True)
