"""Checks of notebook 12: the solutions pass, stubs and typical mistakes are named."""

import numpy as np
import pytest

from vlpnb.course.checks import Wrong, nb12


def balanced(length, limit):
    if length == 0:
        return []
    count = -(-length // limit)
    size, rest = divmod(length, count)
    return [size + 1] * rest + [size] * (count - rest)


def original(length, limit):
    count = -(-length // limit)
    size, rest = divmod(length, count)
    return [size] * count + [rest] * (rest > 0)


def filled(length, limit):
    return [limit] * (length // limit) + [length % limit] * (length % limit > 0)


def sentence_of(offsets, positions):
    return np.searchsorted(offsets, positions, side="right") - 1


def test_right_answers_pass(capsys):
    nb12.check_balanced(balanced)
    nb12.check_sentence_of(sentence_of)
    assert capsys.readouterr().out.count("Correct") == 2


def test_stubs_fail():
    with pytest.raises(Wrong, match="nothing came back yet"):
        nb12.check_balanced(lambda length, limit: ...)
    with pytest.raises(Wrong, match="nothing came back yet"):
        nb12.check_sentence_of(lambda offsets, positions: None)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (original, "VOK-09"),
        (filled, "crumb"),
        (lambda length, limit: balanced(length, limit)[::-1], "longer pieces come first"),
        (lambda length, limit: [length // -(-length // limit)] * -(-length // limit), "add up to"),
        (lambda length, limit: [length], "above the limit"),
        (lambda length, limit: balanced(length, limit) or [0], "no tokens give no piece"),
    ],
)
def test_slips_of_the_pieces_are_named(answer, message):
    with pytest.raises(Wrong, match=message):
        nb12.check_balanced(answer)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda offsets, positions: np.searchsorted(offsets, positions) - 1, "sentence before"),
        (lambda offsets, positions: np.searchsorted(offsets, positions, side="right"), "start at 1"),
        (lambda offsets, positions: np.searchsorted(offsets, positions), "insertion points"),
    ],
)
def test_slips_of_positions_are_named(answer, message):
    with pytest.raises(Wrong, match=message):
        nb12.check_sentence_of(answer)


def place(i, n, block):
    number, offset = divmod(i, block)
    return (number, offset + 1) if number < n // block else None


def test_the_place_in_a_block(capsys):
    nb12.check_place_in_block(place)
    assert "Correct" in capsys.readouterr().out
    with pytest.raises(Wrong, match="nothing came back yet"):
        nb12.check_place_in_block(lambda i, n, block: None)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda i, n, block: divmod(i, block) if i // block < n // block else None, r"\[CLS\]"),
        (lambda i, n, block: (i // (block + 2), i % (block + 2) + 1), "special tokens are added"),
        (lambda i, n, block: place(i, n, block) and place(i, n, block)[::-1], "exchanged"),
        (lambda i, n, block: (i // block + 1, i % block + 1), "counted from 0"),
        (lambda i, n, block: (i // block, i % block + 1), "read by no block"),
        (lambda i, n, block: place(i, n, block) if i // block < -(-n // block) - 2 else None, "VOK-14"),
    ],
)
def test_slips_of_places_are_named(answer, message):
    with pytest.raises(Wrong, match=message):
        nb12.check_place_in_block(answer)
