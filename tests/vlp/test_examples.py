"""The examples of VLP: the rows of an update."""

import numpy as np
import pytest

from tests.vlp import small_captions as small
from vlpnb.errors import UserError
from vlpnb.text.caption_table import caption_table
from vlpnb.text.masking import Words
from vlpnb.text.tokenizers import train_wordpiece
from vlpnb.train.sampling import Update
from vlpnb.vlp.examples import Batches, Hiding, lay_out
from vlpnb.vlp.pictures import Pictures

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
