"""Tokenizers as a language model uses them: CLIP's ids four higher, others as they are."""

import json

import numpy as np
import pytest
from tokenizers import Tokenizer, models
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import PreTrainedTokenizerFast

from vlpnb.errors import UserError
from vlpnb.text.clip import NAME
from vlpnb.text.tokenizers import load_tokenizer, train_wordpiece
from vlpnb.text.vocabulary import open_vocabulary


def saved(folder, pieces, **specials):
    """A tokenizer of whole words."""
    words = Tokenizer(models.WordLevel({piece: i for i, piece in enumerate(pieces)}, unk_token=pieces[0]))
    words.pre_tokenizer = WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=words, **specials).save_pretrained(folder)
    return folder


def test_a_bert_ends_lines_with_its_separator(tmp_path):
    train_wordpiece(["the red car is red ."] * 5, 100, tmp_path)
    words, tokenizer = open_vocabulary(tmp_path), load_tokenizer(tmp_path)
    assert (words.end_id, words.pad_id, words.mask_id) == (
        tokenizer.sep_token_id, tokenizer.pad_token_id, tokenizer.mask_token_id
    )  # fmt: skip
    (ids,) = words.encode(["the [SEP] red car [MASK]"])
    assert words.decode(ids) == "the red car"
    assert words.end_id not in ids
    (unknown,) = words.encode(["the щ"])
    assert tokenizer.unk_token_id in unknown


def test_clips_pieces_come_after_four_of_the_language_model(tmp_path):
    pieces = ("red", "car", "<|startoftext|>", "<|endoftext|>")
    marks = {"bos_token": pieces[2], "eos_token": pieces[3], "pad_token": pieces[3], "unk_token": pieces[3]}
    words = open_vocabulary(saved(tmp_path, pieces, **marks))
    assert (words.size, words.end_id, words.pad_id, words.first) == (8, 2, 1, 4)
    assert [ids.tolist() for ids in words.encode(["red car", "car"])] == [[4, 5], [5]]
    assert words.decode(np.array([2, 4, 5, 7, 1], np.uint16)) == "red car"


def test_a_tokenizer_without_an_end_is_refused(tmp_path):
    saved(tmp_path, ("[UNK]", "red"), unk_token="[UNK]", pad_token="[UNK]")
    with pytest.raises(UserError, match="neither \\[SEP\\] nor an end-of-text token"):
        open_vocabulary(tmp_path)


@pytest.fixture(scope="module")
def release(shared_data):
    """CLIP's word pieces, and what the release's own reader made of texts."""
    merges, golden = shared_data / "vocab" / "clip" / f"{NAME}.gz", shared_data.parent / "golden" / "valm"
    for path in (merges, golden / "prompts.json", golden / "binarised.json"):
        if not path.is_file():
            pytest.skip(f"{path} is not there")
    read = (json.loads((golden / f"{name}.json").read_text()) for name in ("prompts", "binarised"))
    return open_vocabulary(merges), *read


def test_prompts_and_labels_have_the_releases_ids(release):
    words, prompts, _ = release
    assert (words.size, words.end_id, words.pad_id) == (49_412, 2, 1)
    for about in (prompts["memory_colors"], prompts["color_terms"]):
        for example in about["examples"].values():
            assert words.encode([example["prompt"]])[0].tolist() == example["lm_ids"]
        for label, number in about["label_lm_ids"].items():
            assert words.encode([label])[0].tolist() == [number]
    for name, about in prompts.items():
        for label, pieces in about.get("label_pieces", {}).items():
            assert len(words.encode([label])[0]) == pieces, (name, label)


def test_the_releases_corpora_spell_the_words_that_give_their_ids(release):
    words, _, binarised = release
    for about in (value for value in binarised.values() if "picked_lines" in value):
        for number, ids in about["picked_lines"].items():
            whole = about["picked_lengths"][number] == len(ids)
            said = words.decode(ids)
            assert said.strip().startswith(about["picked_text"][number].strip()[:60])
            again = words.encode([said])[0].tolist()
            assert again == (ids[:-1] if whole else ids)
