"""Tokens of two tokenizers against a plain sweep, on text that is hard for tokenizers."""

import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.text.sweeping import sweep
from vlpnb.text.alignment import Speller, align, byte_spans, same_tokenizer
from vlpnb.text.tokenizers import load_tokenizer, train_byte_bpe, train_wordpiece

TEXT = [
    "The café's naïve señor paid 3.50 € !",
    "die Äpfel, 苹果 и яблоки 🍎🍏 e\u0301tude",
    "the cat sat on a mat .",
]
ODD = st.text(
    st.one_of(
        st.sampled_from("aet c.,'\n\t€é\u0301\u200d🍎👩苹ß\ufffd\x00­"),
        st.characters(exclude_categories=("Cs",)),
    ),
    max_size=40,
)


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory):
    root = tmp_path_factory.mktemp("tokenizers")
    return {
        "wordpiece": train_wordpiece(TEXT * 3, 150, root / "wordpiece"),
        "bpe": train_byte_bpe(TEXT * 3, 400, root / "bpe"),
    }


def spans_from(steps):
    """Intervals with ascending starts and ends out of (gap, length, overlap with the one before)."""
    made, end = [], 0
    for gap, length, back in steps:
        start = max(made[-1][0] if made else 0, end + gap - back)
        end = max(end, start + length)
        made.append((start, end))
    return np.array(made)


SPANS = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 5), st.integers(0, 2)), min_size=1, max_size=12
).map(spans_from)


def test_golden_vector_6():
    forward, backward = [(0, 2), (2, 6), (7, 11)], [(0, 5), (5, 6), (6, 10), (10, 11)]
    assert sweep(forward, backward) == [1, 1, 2, 2]
    assert align(np.array(forward), np.array(backward)).tolist() == [1, 1, 2, 2]


@pytest.mark.slow
@given(st.lists(st.tuples(SPANS, SPANS), min_size=1, max_size=4))
@settings(max_examples=200, deadline=None)
def test_alignment_equals_the_sweep(sentences):
    forward, backward = zip(*sentences, strict=True)
    sizes = [len(spans) for spans in forward], [len(spans) for spans in backward]
    found = align(np.concatenate(forward), np.concatenate(backward), *sizes)
    firsts = np.cumsum([0, *sizes[0][:-1]])
    expected = [i + first for (f, b), first in zip(sentences, firsts, strict=True) for i in sweep(f, b)]
    assert found.tolist() == expected


@given(st.lists(st.integers(1, 5), min_size=1, max_size=20))
def test_equal_spans_align_with_themselves(lengths):
    ends = np.cumsum(lengths)
    spans = np.stack([ends - lengths, ends], axis=1)
    assert align(spans, spans).tolist() == list(range(len(lengths)))


def test_bytes_cover_the_characters_they_touch():
    """A space counts as a character; a token that ends or begins inside a character covers it."""
    apple = "🍎".encode()
    text, spans = byte_spans([b"an", b" ", apple[:2], apple[2:], b" e"])
    assert text == "an 🍎 e"
    assert spans.tolist() == [[0, 2], [2, 3], [3, 4], [3, 4], [4, 6]]
    text, spans = byte_spans([apple[2:], b"a", b"", apple[:2]])  # a sentence cut inside two characters
    assert text == "\ufffd\ufffda\ufffd"
    assert spans.tolist() == [[0, 2], [2, 3], [3, 3], [3, 4]]
    assert byte_spans([])[1].shape == (0, 2)


@given(st.lists(st.binary(max_size=4), max_size=12))
def test_broken_bytes_read_as_python_reads_them(pieces):
    text, spans = byte_spans(pieces)
    assert text == b"".join(pieces).decode("utf-8", "replace")
    assert len(spans) == len(pieces)
    assert (spans[:, 0] <= spans[:, 1]).all()
    assert all(0 <= a <= b <= len(text) for a, b in spans)
    covered = {c for a, b in spans for c in range(a, b)}
    assert covered == set(range(len(text)))


@pytest.mark.parametrize(("ours", "theirs"), [("bpe", "wordpiece"), ("wordpiece", "bpe")])
@given(sentences=st.lists(ODD, min_size=1, max_size=3), cut=st.integers(0, 3))
@settings(max_examples=150, deadline=None)
def test_odd_unicode_between_two_tokenizers(tokenizers, ours, theirs, sentences, cut):
    """One span per id, whatever the text and wherever a sentence was cut, and spans in order inside the text."""
    backward, forward = Speller(tokenizers[ours]), Speller(tokenizers[theirs])
    ids = [found[cut:] for found, _ in backward.read(sentences)]
    spelled = backward.spell(ids)
    assert [len(spans) for _, spans in spelled] == [len(row) for row in ids]
    for (text, spans), (found, read) in zip(
        spelled, forward.read([text for text, _ in spelled]), strict=True
    ):
        assert len(found) == len(read)
        for part in (spans, read):
            assert all(0 <= a <= b <= len(text) for a, b in part)
            assert (np.diff(part[:, 1]) >= 0).all()
        if len(spans) and len(read):
            assert align(read, spans).tolist() == sweep(read, spans)


@given(ODD)
@settings(max_examples=150, deadline=None)
def test_byte_level_ids_spell_the_text_itself(tokenizers, text):
    speller = Speller(tokenizers["bpe"])
    ((ids, spans),) = speller.read([text])
    ((spelled, again),) = speller.spell([ids])
    assert spelled == text
    assert np.array_equal(spans, again)
    whole_characters = [text[a:b] for (a, b), i in zip(spans, ids, strict=True) if speller.bytes[i].isascii()]
    assert whole_characters == [speller.bytes[i].decode() for i in ids if speller.bytes[i].isascii()]


def test_offsets_with_a_space_in_front_and_words_that_grow(tokenizers):
    from tokenizers import pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    backend = tokenizers["bpe"].backend_tokenizer.from_str(tokenizers["bpe"].backend_tokenizer.to_str())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    ((ids, spans),) = Speller(PreTrainedTokenizerFast(tokenizer_object=backend)).read(["the cat"])
    assert Speller(tokenizers["bpe"]).spell([ids])[0][0] == " the cat"
    assert spans[0][0] == 0
    assert spans[-1][1] == 7


def test_cut_words_are_spelled_without_shifting_a_label(tokenizers):
    """The original cut or filled the list; "##s" at the start then moved all labels of the sentence."""
    wordpiece = tokenizers["wordpiece"]
    ids = wordpiece("cats and mats", add_special_tokens=False)["input_ids"][1:]
    assert wordpiece.convert_ids_to_tokens(ids)[0].startswith("##")
    ((text, spans),) = Speller(wordpiece).spell([ids])
    pieces = [t.removeprefix("##") for t in wordpiece.convert_ids_to_tokens(ids)]
    assert [text[a:b] for a, b in spans] == pieces


def test_same_tokenizers_are_recognised(tokenizers, tmp_path):
    copy = load_tokenizer(train_and_save(tmp_path))
    assert same_tokenizer(copy, tokenizers["wordpiece"])
    assert not same_tokenizer(tokenizers["bpe"], tokenizers["wordpiece"])


def train_and_save(folder):
    train_wordpiece(TEXT * 3, 150, folder)
    return folder


def test_byte_bpe_training_is_repeatable_and_complete(tokenizers, tmp_path):
    again = train_byte_bpe(TEXT * 3, 400, tmp_path)
    assert again.get_vocab() == tokenizers["bpe"].get_vocab()
    assert same_tokenizer(load_tokenizer(tmp_path), again)
    assert (again.cls_token_id, again.pad_token_id, again.sep_token_id) == (0, 1, 2)
    assert again.mask_token_id == len(again) - 1
    text = "".join(chr(i) for i in range(1, 0x3000) if unicodedata.category(chr(i)) != "Cs")
    assert again.decode(again(text, add_special_tokens=False)["input_ids"]) == text
