"""Words of word pieces; what the rates of grounding are, `tests/foundations/test_vision.py` says on rendered scenes."""

from vlpnb.downstream.grounding import words_of
from vlpnb.text.tokenizers import load_tokenizer, piece_texts


def test_word_pieces_are_joined_to_words(small):
    tokenizer = load_tokenizer(small.language)
    ids = tokenizer("a reddish thing!", add_special_tokens=False)["input_ids"]
    words, owner = words_of(ids, tokenizer, piece_texts(tokenizer))
    assert words == ["a", "reddish", "thing", "!"]
    assert len(owner) == len(ids) > 4
    assert owner == sorted(owner)
