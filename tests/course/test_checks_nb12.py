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
        (original, "Q-09"),
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
