"""The examples of VLP: number, choice and corruption of targets, the rows of an update."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.vlp import small_captions as small
from vlpnb.errors import UserError
from vlpnb.nn.losses import IGNORE
from vlpnb.text.caption_table import caption_table
from vlpnb.text.tokenizers import train_wordpiece
from vlpnb.train.sampling import Update
from vlpnb.vlp.examples import Batches, Hiding, Words, hide, lay_out, target_count
from vlpnb.vlp.pictures import Pictures

GOLDEN = Path("../shared/golden/vlp/examples.json")
IDS = [f"train{i}" for i in range(12)]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    words = " ".join((*small.COLOURS, *small.KINDS, "the is a here ."))
    return train_wordpiece([words] * 5, 200, tmp_path_factory.mktemp("words"))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return Pictures(small.store(tmp_path_factory.mktemp("store"), IDS))


@pytest.fixture(scope="module")
def table(tokenizer, pictures):
    return caption_table([(name, small.sentences(name)) for name in IDS], pictures.by_name(), tokenizer)


def laid(table, tokenizer, hiding, seed=(0, 0), packed=False):
    groups = table.together() if packed else np.arange(len(table) + 1)
    return lay_out(table, groups, np.arange(len(groups) - 1), Words.of(tokenizer), hiding, None, *seed)


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
    ids, labels = hide(words, n, Words.of(tokenizer), Hiding(rate=0.5, most=3), random)
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
    ids, labels = hide(words, n, vocabulary, Hiding(rate=0.9, most=3), np.random.default_rng(1))
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
        np.full((20_000, 1), 20), np.ones(20_000, np.int64), anything, Hiding(), np.random.default_rng(0)
    )
    assert np.isin(ids[:, 0], [tokenizer.pad_token_id, tokenizer.cls_token_id]).any()


def test_the_rows_are_a_pure_function_of_seed_and_update(table, tokenizer):
    one, again, other = (laid(table, tokenizer, Hiding(0.5), seed) for seed in ((3, 1), (3, 1), (3, 2)))
    assert all(
        np.array_equal(getattr(one, name), getattr(again, name)) for name in ("ids", "labels", "s2s", "owner")
    )
    assert not np.array_equal(one.ids, other.ids)


def test_modes_are_drawn_by_their_share(table, tokenizer):
    shares = [laid(table, tokenizer, Hiding(0.75), (0, i)).s2s.mean() for i in range(100)]
    assert np.mean(shares) == pytest.approx(0.75, abs=0.03)
    assert laid(table, tokenizer, Hiding(1.0)).s2s.all()
    assert not laid(table, tokenizer, Hiding(0.0)).s2s.any()


def test_every_word_has_a_query_at_its_place_and_stands_unhidden_before_it(table, tokenizer):
    layout = laid(table, tokenizer, Hiding(1.0, targets="every"))
    for row, (words, n) in enumerate(zip(*table.words(np.arange(len(table))), strict=True)):
        used = layout.owner[row] >= 0
        assert used.sum() == 2 * n + 1
        assert layout.ids[row][used][:n].tolist() == words[:n].tolist()
        assert layout.ids[row][used][n:].tolist() == [tokenizer.mask_token_id] * (n + 1)
        assert layout.labels[row][used][n:].tolist() == [*words[:n], tokenizer.sep_token_id]
        assert layout.place[row][used].tolist() == [*range(n), *range(n + 1)]
        assert layout.query[row][used].tolist() == [False] * n + [True] * (n + 1)
        assert not layout.query[row][~used].any()


def test_packed_captions_stand_one_after_the_other_without_a_gap(table, tokenizer):
    layout = laid(table, tokenizer, Hiding(1.0, targets="every"), packed=True)
    assert len(layout.pictures) == len(IDS)
    lengths = table.lengths.reshape(-1, 2)
    for row, sizes in enumerate(lengths):
        used = int((2 * sizes + 1).sum())
        assert layout.owner[row].tolist() == (
            [0] * (2 * sizes[0] + 1) + [1] * (2 * sizes[1] + 1) + [-1] * (layout.owner.shape[1] - used)
        )


def test_processes_and_micro_batches_share_an_update(table, pictures, tokenizer):
    def rows(update: Update):
        return sorted(
            tuple(ids[owner >= 0].tolist())
            for micro in update.micro
            for ids, owner in zip(micro["ids"], micro["owner"], strict=True)
        )

    whole = Batches(table, pictures, tokenizer, Hiding(0.5), batch=8, seed=5)(3)
    parts = [
        Batches(
            table, pictures, tokenizer, Hiding(0.5), batch=8, micro_batch=2, seed=5, rank=r, world_size=2
        )(3)
        for r in range(2)
    ]
    assert all(part.counts == whole.counts for part in parts)
    assert [len(part.micro) for part in parts] == [2, 2]
    assert sorted(rows(parts[0]) + rows(parts[1])) == rows(whole)


def test_captions_that_are_read_both_ways_cannot_be_packed(table, pictures, tokenizer):
    with pytest.raises(UserError, match="from left to right alone"):
        Batches(table, pictures, tokenizer, Hiding(0.75), packed=True)


def test_long_captions_lose_their_tail_and_the_table_stays_as_it_is(pictures, tokenizer):
    found = caption_table([("train0", ["the cat is red " * 9])], pictures.by_name(), tokenizer, length=6)
    assert found.lengths.tolist() == [6]
    before = found.tokens.copy()
    laid(found, tokenizer, Hiding(1.0))
    assert np.array_equal(found.tokens, before)


def test_hidden_regions_are_a_share_of_those_that_a_picture_has(table, pictures, tokenizer):
    batches = Batches(table, pictures, tokenizer, Hiding(0.5, region_rate=0.5), batch=24)
    layout = batches.layout(np.arange(24), 0, 0)
    counts = pictures.store.counts(layout.pictures)
    assert layout.hidden.sum(1).tolist() == (counts // 2).tolist()
    assert not layout.hidden[np.arange(layout.hidden.shape[1]) >= counts[:, None]].any()
    assert batches(0).counts["regions"] == 24
