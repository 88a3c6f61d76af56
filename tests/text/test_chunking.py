"""Where texts are cut for the tower: the original's rule as it was recorded, and rules that know the past alone."""

import hashlib
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from vlpnb.foundations.tower_pair import words_of
from vlpnb.text.binarised import Binarised
from vlpnb.text.chunking import (
    END,
    SEPARATORS,
    causal_lengths,
    compat_lengths,
    read_before,
    read_chunks,
    read_windows,
    same_pieces,
    sentence_marks,
    separators_of,
)
from vlpnb.text.vocabulary import open_vocabulary

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "valm" / "chunker.json").read_text())
SAME = same_pieces(np.arange(100))


@pytest.mark.parametrize("item", GOLDEN["items"], ids=lambda item: f"{len(item['clip_ids'])} ids")
def test_the_rule_of_the_original_cuts_as_recorded(item):
    ids = np.array(item["clip_ids"], np.int64)
    found = compat_lengths(ids, GOLDEN["separators_in_order"], GOLDEN["longest"])
    assert found == item["lengths"]
    assert sum(found) == len(ids)


def test_the_rule_of_the_original_cuts_whole_blocks_as_recorded(shared_data):
    recorded = GOLDEN["wikitext_blocks"]
    tokens = Binarised(shared_data / recorded["file"]).tokens.astype(np.int64)
    clip = np.where(tokens == 2, 49407, tokens - 4)
    step = recorded["block"]
    lengths = [
        compat_lengths(clip[i : i + step], GOLDEN["separators_in_order"]) for i in range(0, len(clip), step)
    ]
    lengths = lengths[: recorded["blocks"]]
    assert lengths[:12] == recorded["lengths_of_first_blocks"]
    assert sum(map(len, lengths)) == recorded["total_chunks"]
    text = json.dumps(lengths, separators=(",", ":"))
    assert hashlib.sha256(text.encode()).hexdigest() == recorded["sha256_of_all_lengths"]


def test_separators_are_found_by_their_text(shared_data):
    words = open_vocabulary(shared_data / "vocab" / "clip")
    tower = SimpleNamespace(tokenizer=words.tokenizer, end_id=49407, pad_id=0, causal=True, longest=75)
    tower.lookup = lambda tokenizer: np.arange(words.size)
    found = words_of(words, tower)
    assert list(found.separators) == GOLDEN["separators_in_order"]
    assert (found.pad, found.eos) == (1, 2)
    stop, comma = (words.encode([mark])[0][0] for mark in (".", ","))
    assert stop == 4 + 269
    assert stop in found.marks
    assert comma not in found.marks


def test_separators_of_other_pieces_have_no_mark_of_the_words_end():
    assert separators_of(["[PAD]", "a", ".", ",", "[SEP]"], 4, 0) == (4, 0, 2, 3)
    assert len(SEPARATORS) == 13


def test_a_chunk_ends_with_what_closes_or_when_it_is_full():
    closes = np.zeros(10, bool)
    closes[[0, 4]] = True
    assert causal_lengths(closes, 3) == [1, 3, 1, 3, 2]
    assert causal_lengths(closes, None) == [1, 4, 5]
    assert causal_lengths(closes[:5], 4) == [1, 4]
    assert causal_lengths(closes[:0]) == []


def test_the_ends_of_chunks_are_those_of_every_beginning_of_the_text():
    closes = np.random.default_rng(0).random(400) < 0.03
    whole = np.cumsum(causal_lengths(closes, 20)).tolist()
    for length in range(0, 400, 7):
        ends = np.cumsum(causal_lengths(closes[:length], 20)).tolist()
        assert ends[:-1] == whole[: max(0, len(ends) - 1)]


def test_marks_of_sentences_are_stops_with_what_is_around_them():
    pieces = ["a", ".", '."', "!", "?!", ".)", ",", '"', "", "e.g", ";"]
    assert [pieces[i] for i in sentence_marks(pieces)] == [".", '."', "!", "?!", ".)", ";"]


def test_each_token_of_a_chunk_asks_at_its_own_place():
    reading = read_chunks(np.arange(10, 16), [2, 4], SAME)
    assert [text.tolist() for text in reading.texts] == [[10, 11], [12, 13, 14, 15]]
    assert reading.text.tolist() == [0, 0, 1, 1, 1, 1]
    assert reading.place.tolist() == [1, 2, 1, 2, 3, 4]


@pytest.mark.parametrize(("window", "stride"), [(6, 1), (6, 4), (6, 6), (20, 3)])
def test_a_window_has_the_last_tokens_and_at_least_what_is_left_of_it(window, stride):
    ids = np.arange(20, 60)
    reading = read_windows(ids, [3, 30, 7], SAME, window, stride)
    starts = np.repeat([0, 3, 33], [3, 30, 7])
    for at, (text, place) in enumerate(zip(reading.text, reading.place, strict=True)):
        read = reading.texts[text]
        assert len(read) <= window
        assert read[place - 1] == ids[at]
        first = at - (place - 1)
        assert first >= starts[at]
        assert first == starts[at] or place > window - stride


def test_the_end_of_a_text_is_asked_for_what_comes_after_it():
    reading = read_before(np.arange(30, 40), [2, 5], np.zeros(10, np.int64), SAME)
    assert [text.tolist() for text in reading.texts] == [[30, 31, 32], [30, 31, 32, 33, 34, 35]]
    assert reading.text.tolist() == [-1, -1, -1, 0, 0, 0, 1, 1, 1, 1]
    assert set(reading.place[3:].tolist()) == {END}
