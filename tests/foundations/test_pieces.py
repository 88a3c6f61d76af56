"""The stage of pieces: trained on the training text of all languages, or taken as they are; cleaned, then cut."""

import json

import numpy as np
import pytest

from vlpnb.data.description import write_description
from vlpnb.errors import UserError
from vlpnb.foundations.pieces import PIECES, load_pieces
from vlpnb.stage import Run
from vlpnb.stage.definition import StageContext
from vlpnb.stage.profiles import Profile
from vlpnb.text.pieces import Pieces, framed
from vlpnb.text.tokenizers import load_tokenizer, train_wordpiece, vocabulary_hash

LINES = {"en": "A red ball, striped.", "de": "Ein roter Ball.", "zh": "一个红色的球"}


@pytest.fixture
def text(tmp_path):
    """A finished stage `multilingual` of one picture, a parallel line and a test picture in other words."""
    folder = tmp_path / "multilingual"
    folder.mkdir()
    for split, captions in (("train", {"en": [LINES["en"]]}), ("test", {"en": ["quixotic jazz"]})):
        (folder / f"{split}.jsonl").write_text(
            json.dumps({"id": split, "path": "x.png", "captions": captions}) + "\n"
        )
    (folder / "parallel_train.jsonl").write_text(json.dumps({"de": LINES["de"], "zh": LINES["zh"]}) + "\n")
    about = {
        "languages": list(LINES),
        "splits": ["train", "test"],
        "parallel": ["train"],
        "evaluated": [],
        "counts": {},
    }
    write_description(folder, "multilingual", tmp_path, about)
    return folder


def made(folder, text, **fields):
    folder.mkdir()
    config = PIECES.config(**{"tokenizer": "sentences", "vocab_size": 100, **fields})
    context = StageContext(config, folder, {"multilingual": text}, "cpu", say=lambda _: None)
    return PIECES.run(context)


def test_every_training_language_is_in_it_and_no_test_sentence(text, tmp_path):
    metrics = made(tmp_path / "pieces", text)
    pieces = load_pieces(tmp_path / "pieces")
    assert metrics == {"vocab_size": pieces.size}
    assert (pieces.cleaning, pieces.mask_id, pieces.pad_id) == ("cclm_v1", pieces.size - 1, 1)
    for ids in pieces.encode(list(LINES.values())):
        assert (ids[0], ids[-1]) == (0, 2)
        assert 3 not in ids
    assert 3 in pieces.encode(["quixotic jazz"])[0]
    assert pieces.tokenizer.decode(pieces.encode([LINES["en"]])[0][1:-1]) == "a red ball striped"


def test_another_cleaning_keeps_case(text, tmp_path):
    made(tmp_path / "pieces", text, cleaning="unicode")
    pieces = load_pieces(tmp_path / "pieces")
    assert pieces.tokenizer.decode(pieces.encode([LINES["en"]])[0][1:-1]) == "A red ball striped"


def test_sentences_are_cut_by_words_and_by_pieces_with_both_ends_kept(text, tmp_path):
    made(tmp_path / "pieces", text)
    pieces = load_pieces(tmp_path / "pieces")
    assert pieces.tokenizer.decode(pieces.encode(["a ball, a red ball"], max_words=2)[0][1:-1]) == "a ball"
    (ids,) = pieces.encode([LINES["en"] * 9], max_tokens=6)
    assert (len(ids), ids[0], ids[-1]) == (6, 0, 2)
    assert framed(np.array([7, 8, 9]), 2).tolist() == [0, 2]
    with pytest.raises(UserError, match="max_tokens: found 1, expected 2 or more"):
        framed(np.array([7]), 1)
    with pytest.raises(UserError, match="has no word"):
        pieces.encode(["!"])
    assert pieces.encode(["!"], question=True)[0].tolist() == [0, 2]


def test_pieces_that_are_there_are_taken_as_they_are(text, tmp_path):
    made(tmp_path / "pieces", text)
    there = tmp_path / "pieces/tokenizer"
    assert PIECES.inputs(PIECES.config(tokenizer=str(there))) == {}
    made(tmp_path / "again", text, tokenizer=str(there))
    again = load_pieces(tmp_path / "again")
    assert vocabulary_hash(again.tokenizer) == vocabulary_hash(load_tokenizer(there))
    train_wordpiece(LINES.values(), 100, tmp_path / "bert")
    with pytest.raises(UserError, match=r"found the ids <s> None.*expected XLM-R's order"):
        made(tmp_path / "wrong", text, tokenizer=str(tmp_path / "bert"))
    with pytest.raises(UserError, match=r"expected XLM-R's order"):
        Pieces(load_tokenizer(tmp_path / "bert"))
    with pytest.raises(UserError, match=r"the stage `pieces`"):
        load_pieces(tmp_path)


def test_the_papers_pieces_are_the_default_and_ask_for_no_text(tmp_path):
    opened = Run(tmp_path, "r", Profile("test"), (PIECES,), device="cpu", say=lambda _: None)
    assert opened.config("pieces").tokenizer == "xlm-roberta-large"
    assert PIECES.inputs(opened.config("pieces")) == {}
