"""Tables of captions: what is read of them, and what is left out."""

import pytest

from vlpnb.errors import UserError
from vlpnb.text.caption_table import caption_table
from vlpnb.text.tokenizers import train_wordpiece

ROWS = {"train0": 4}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return train_wordpiece(["the cat is red a dog"] * 5, 200, tmp_path_factory.mktemp("words"))


def test_captions_without_a_word_and_pictures_without_regions_are_counted(tokenizer):
    said = [("train0", ["the cat is red", " ", "[SEP] [MASK]"]), ("elsewhere", ["a dog"])]
    found = caption_table(said, ROWS, tokenizer)
    assert len(found) == 1
    assert len(found.left_out) == 3
    assert "elsewhere: no regions" in found.left_out
    assert any("without a word piece: '[SEP] [MASK]'" in line for line in found.left_out)
    with pytest.raises(UserError, match=r"the captions: found elsewhere: no regions …; expected captions"):
        caption_table(said[1:], ROWS, tokenizer)


def test_special_tokens_that_a_caption_spells_out_are_no_special_tokens(tokenizer):
    found = caption_table([("train0", ["the cat [SEP] is red"])], ROWS, tokenizer)
    plain = caption_table([("train0", ["the cat is red"])], ROWS, tokenizer)
    assert found.tokens.tolist() == plain.tokens.tolist()
