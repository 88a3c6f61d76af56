"""A few pieces of a caption hidden: how many, which, and what becomes of them (VLP)."""

import json
from pathlib import Path

import numpy as np
import pytest

from vlpnb.nn.losses import IGNORE
from vlpnb.text.masking import Words, hide, target_count
from vlpnb.text.tokenizers import train_wordpiece

GOLDEN = Path("../shared/golden/vlp/examples.json")


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    words = "red green blue white black cat dog car cup the is a here ."
    return train_wordpiece([words] * 5, 200, tmp_path_factory.mktemp("words"))


def test_halves_are_rounded_to_even_and_three_are_the_most():
    counts = target_count(np.arange(1, 21), 0.15, 3)
    assert counts.tolist() == [1] * 9 + [2] * 7 + [3] * 4
    assert target_count(np.array([10]), 0.25, 9).tolist() == [2]
    assert target_count(np.array([14]), 0.25, 9).tolist() == [4]
    assert target_count(np.array([5, 20]), 0.15, 0).tolist() == [0, 0]


def test_targets_are_as_many_as_the_originals():
    if not GOLDEN.is_file():
        pytest.skip(f"{GOLDEN} is not there: the original's numbers of targets are not compared")
    for said, counts in json.loads(GOLDEN.read_text())["target_counts_for_n_1_upwards"].items():
        rate, most = (float(part.split("=")[1]) for part in said.split(","))
        assert target_count(np.arange(1, len(counts) + 1), rate, int(most)).tolist() == counts, said


def test_targets_are_words_or_the_closing_sep_and_never_padding(tokenizer):
    random, words, n = np.random.default_rng(0), np.full((3000, 6), 20), np.tile([1, 3, 6], 1000)
    ids, labels = hide(words, n, Words.of(tokenizer), 0.5, 3, random)
    chosen = labels != IGNORE
    assert (chosen.sum(1) == target_count(n, 0.5, 3)).all()
    at = np.arange(7)
    assert not chosen[at > n[:, None]].any()
    is_end = at == n[:, None]
    assert (labels[chosen & is_end] == tokenizer.sep_token_id).all()
    for size in (1, 3, 6):  # each of the n + 1 equally often
        share = chosen[n == size].mean(0)[: size + 1]
        assert share == pytest.approx(
            np.full(size + 1, int(target_count(np.array([size]), 0.5, 3)[0]) / (size + 1)), abs=0.05
        )
    assert (ids[~chosen & (at < n[:, None])] == 20).all()


def test_eighty_percent_become_a_mask_ten_another_piece_ten_stay(tokenizer):
    vocabulary = Words.of(tokenizer)
    words, n = np.full((20_000, 3), 20), np.full(20_000, 3)
    ids, labels = hide(words, n, vocabulary, 0.9, 3, np.random.default_rng(1))
    chosen = labels == 20
    become = ids[chosen]
    assert (become == vocabulary.mask).mean() == pytest.approx(0.8, abs=0.01)
    assert (become == 20).mean() == pytest.approx(0.1, abs=0.01)
    others = become[(become != vocabulary.mask) & (become != 20)]
    assert len(others) / len(become) == pytest.approx(0.1, abs=0.01)
    assert not np.isin(others, tokenizer.all_special_ids).any()
    assert len(np.unique(others)) > 0.9 * (len(tokenizer) - 6)


def test_special_and_unused_pieces_may_replace_a_word_where_that_is_asked_for(tokenizer):
    anything = Words.of(tokenizer, any_random=True)
    assert anything.ordinary.tolist() == list(range(len(tokenizer)))
    ids, _ = hide(
        np.full((20_000, 1), 20), np.ones(20_000, np.int64), anything, 0.15, 3, np.random.default_rng(0)
    )
    assert np.isin(ids[:, 0], [tokenizer.pad_token_id, tokenizer.cls_token_id]).any()
