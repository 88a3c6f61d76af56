"""Perplexity by token, word and byte, and LAMBADA's last word."""

import math

import numpy as np
import pytest

from vlpnb.errors import UserError
from vlpnb.metrics.language import last_words, passage, perplexities


def test_one_cost_three_units():
    found = perplexities(
        [np.full(4, math.log(2))], ["a bé"]
    )  # 3 pieces and the end; 2 words and the end; 5 bytes
    assert found["perplexity"] == pytest.approx(2)
    assert found["bits"] == pytest.approx(1)
    assert found["word_perplexity"] == pytest.approx(2 ** (4 / 3))
    assert found["bits_per_byte"] == pytest.approx(4 / 6)
    assert (found["tokens"], found["words"], found["bytes"]) == (4, 3, 6)


def test_without_the_ends():
    found = perplexities([np.array([1.0, 3.0, 9.0])], ["two words"], ends=False)
    assert found["perplexity"] == pytest.approx(math.exp(2))
    assert (found["tokens"], found["words"], found["bytes"]) == (2, 2, 9)


def test_long_texts_weigh_by_their_tokens():
    found = perplexities([np.zeros(9), np.array([10.0])], ["nine", "one"])
    assert found["perplexity"] == pytest.approx(math.e)
    with pytest.raises(UserError, match="2 scores of 1 texts"):
        perplexities([np.zeros(1)] * 2, ["x"])
    with pytest.raises(UserError, match="no token"):
        perplexities([], [])


def test_a_word_counts_when_all_of_its_pieces_do():
    found = last_words([[True, True], [False, True], [True, False], [False]])
    assert (found["word"], found["piece"]) == (0.25, 0.5)
    with pytest.raises(UserError, match="without a piece"):
        last_words([[]])


def test_a_passage_is_cut_before_its_last_word():
    assert passage("“No,” said\n\nHelen ") == ('"No," said', "Helen")
    assert passage("`` I ‘can’ '' Shane") == ("\" I 'can' \"", "Shane")
    with pytest.raises(UserError, match="expected several words"):
        passage("Helen")
