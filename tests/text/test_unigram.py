"""Pieces for many languages: XLM-R's order of ids, the same every time, nothing of the text unknown."""

import json
import shutil
import subprocess
import sys

import pytest
from transformers import AutoTokenizer

from vlpnb.errors import UserError
from vlpnb.text.tokenizers import load_tokenizer, train_byte_bpe, vocabulary_hash
from vlpnb.text.unigram import check_order, train_unigram

LINES = [
    f"{article} {adjective} {noun} on the {place}"
    for article in ("a", "the") for adjective in ("red", "small", "striped") for noun in ("ball", "dogs", "tree")
    for place in ("beach", "table")
]  # fmt: skip
LINES += [
    "der rote Ball",
    "ein gestreifter Hund am Strand",
    "沙滩上的一只小狗",
    "桌子上有一个红色的球",
    "桌子上有一只狗",
]


def test_ids_are_in_the_order_of_xlmr_and_text_comes_back(tmp_path):
    trained = train_unigram(LINES, 150, tmp_path)
    for tokenizer in (trained, load_tokenizer(tmp_path), AutoTokenizer.from_pretrained(tmp_path)):
        check_order(tokenizer, tmp_path)
        assert len(tokenizer) <= 150
        assert tokenizer.convert_tokens_to_ids(["<s>", "<pad>", "</s>", "<unk>"]) == [0, 1, 2, 3]
        assert tokenizer.mask_token_id == len(tokenizer) - 1
        for line in LINES:
            ids = tokenizer(line)["input_ids"]
            assert (ids[0], ids[-1]) == (0, 2)
            assert 3 not in ids
            assert tokenizer.decode(ids, skip_special_tokens=True) == line
        pair = tokenizer("a ball", "a tree")["input_ids"]
        assert [i for i in pair if i in (0, 2)] == [0, 2, 2, 2]
        assert tokenizer("a ☃")["input_ids"].count(3) == 1


def test_frequent_words_are_pieces_of_their_own(tmp_path):
    tokenizer = train_unigram(LINES, 150, tmp_path)
    assert tokenizer.tokenize("the striped dogs on the beach") == [
        "▁the",
        "▁striped",
        "▁dogs",
        "▁on",
        "▁the",
        "▁beach",
    ]
    assert len(tokenizer.tokenize("桌子上有一只狗")) <= 4, "what two lines begin with is one piece"


def test_a_small_vocabulary_still_has_every_character(tmp_path):
    tokenizer = train_unigram(LINES, 10, tmp_path)
    assert {character for line in LINES for character in line} - {" "} <= set(tokenizer.get_vocab())
    assert not any(3 in tokenizer(line)["input_ids"] for line in LINES)


@pytest.mark.slow
def test_two_trainings_in_two_processes_give_one_vocabulary(tmp_path):
    script = "import json, sys; from vlpnb.text.unigram import train_unigram; "
    script += "from vlpnb.text.tokenizers import vocabulary_hash; "
    script += "print(vocabulary_hash(train_unigram(json.load(sys.stdin), 120, sys.argv[1])))"
    command = [sys.executable, "-c", script, str(tmp_path / "a")]
    run = subprocess.run(command, input=json.dumps(LINES), capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    here = train_unigram(LINES, 120, tmp_path / "b")
    assert run.stdout.strip().splitlines()[-1] == vocabulary_hash(here)
    names = ("tokenizer.json", "tokenizer_config.json")
    assert all((tmp_path / "a" / n).read_bytes() == (tmp_path / "b" / n).read_bytes() for n in names)


def test_other_orders_of_ids_and_no_text_are_refused(tmp_path):
    with pytest.raises(UserError, match="no text to train a tokenizer on"):
        train_unigram([" ", ""], 100, tmp_path)
    bpe = train_byte_bpe(LINES, 300, tmp_path / "bpe")
    check_order(bpe, "roberta's is the same")
    text = (tmp_path / "bpe/tokenizer.json").read_text()
    shutil.copytree(tmp_path / "bpe", tmp_path / "other")
    (tmp_path / "other/tokenizer.json").write_text(text.replace("<s>", "[CLS]"))
    with pytest.raises(UserError, match=r"found the ids <s> 300.*expected XLM-R's order, <s> 0"):
        check_order(AutoTokenizer.from_pretrained(tmp_path / "other"), "x")


def test_long_words_do_not_stop_the_training(tmp_path):
    tokenizer = train_unigram(["x" * 50_000, *LINES], 120, tmp_path)
    assert len(tokenizer) <= 120
