"""Revokenisation against a plain sweep, on text that is hard for tokenizers (paper, section 3.3)."""

import itertools
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlpnb.data.store import attributes, mapped
from vlpnb.foundations.corpus import CORPUS, CorpusStageConfig
from vlpnb.text.corpora import TokenCorpus
from vlpnb.text.tokenizers import load_tokenizer, train_byte_bpe, train_wordpiece
from vlpnb.vokenization import pretraining
from vlpnb.vokenization.benchmark import BENCHMARK, BenchmarkConfig
from vlpnb.vokenization.keys import load_keys
from vlpnb.vokenization.matcher import load_matcher
from vlpnb.vokenization.pretraining import PRETRAINING, PretrainingConfig
from vlpnb.vokenization.revokeniser import (
    Revokeniser,
    Speller,
    align,
    byte_spans,
    for_tokenizer,
    same_tokenizer,
)
from vlpnb.vokenization.vokeniser import Vokeniser
from vlpnb.vokenization.vokens import VOKENS, VokensConfig

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


def sweep(forward, backward) -> list[int]:
    """The alignment in words: for every span the overlapping one of greatest IoU, never going back."""
    at, chosen = 0, []
    for b0, b1 in backward:
        best, best_overlap = None, -1.0
        while True:
            f0, f1 = forward[at]
            shared = max(0, min(f1, b1) - max(f0, b0))
            overlap = shared / max((f1 - f0) + (b1 - b0) - shared, 1)
            if overlap > best_overlap:
                best, best_overlap = at, overlap
            if f1 >= b1 or at == len(forward) - 1:
                break
            at += 1
        chosen.append(best)
    return chosen


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


@pytest.fixture(scope="module")
def bpe_corpus(small):
    folder = small.root / "corpus-bpe"
    config = CorpusStageConfig(tokenizer="byte-bpe", vocab_size=300)
    metrics = small.run(CORPUS, config, folder, features=small.features, **small.data)
    assert metrics["train_tokens"] > 0
    return TokenCorpus(folder / "train.hdf5")


def inherited(vokens, forward, backward) -> list[int]:
    return [vokens[i] for i in sweep(forward, backward)]


def test_tokens_inherit_from_the_matchers_tokens(small, bpe_corpus):
    matcher, keys = load_matcher(small.matching), load_keys(small.keys).vectors
    own = Vokeniser(matcher, keys)
    lm = load_tokenizer(bpe_corpus.path.parent / "tokenizer")
    revokenise = for_tokenizer(own, lm)
    assert isinstance(revokenise, Revokeniser)
    assert for_tokenizer(own, load_tokenizer(small.language)) is own
    sentences = [bpe_corpus.sentence(s).tolist() for s in range(4)]
    expected = []
    for ids in sentences:
        text = lm.decode(ids, clean_up_tokenization_spaces=False)
        read = matcher.language.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        spans, at = [], 0
        for token in lm.convert_ids_to_tokens(ids):  # ASCII here: one character per byte
            spans.append((at, at + len(token)))
            at += len(token)
        expected += inherited(own([read["input_ids"]]).tolist(), read["offset_mapping"], spans)
    assert revokenise(sentences).tolist() == expected
    assert revokenise.vokenise is own
    top = revokenise.top(sentences, 2)
    assert [len(ids) for _, ids in top] == [len(ids) for ids in sentences]
    assert [i for _, ids in top for i in ids[:, 0].tolist()] == expected


def test_long_rows_nothing_to_read_and_sentence_marks(small, bpe_corpus):
    matcher, keys = load_matcher(small.matching), load_keys(small.keys).vectors
    lm = load_tokenizer(bpe_corpus.path.parent / "tokenizer")
    seen = []

    class Watching(Vokeniser):
        def __call__(self, sentences):
            seen.extend(map(len, sentences))
            return super().__call__(sentences)

    nothing = lm("\x00\x01", add_special_tokens=False)["input_ids"]
    sentences = [bpe_corpus.sentence(0).tolist(), nothing, bpe_corpus.sentence(1).tolist()]
    marked = Revokeniser(Watching(matcher, keys, "sentence"), lm, limit=4)(sentences)
    assert max(seen) <= 4
    assert len(marked) == sum(map(len, sentences))
    first = np.cumsum([0] + [len(ids) for ids in sentences[:-1]])
    assert (marked[first] >= 0).all()
    assert (marked >= 0).sum() == len(seen)  # one start per piece that was encoded
    assert (marked[first[1] + 1 : first[2]] == -marked[first[1]] - 1).all()
    assert Revokeniser(Vokeniser(matcher, keys), lm)([]).size == 0


def test_the_stages_revokenise_when_tokenizers_differ(small, bpe_corpus, tmp_path):
    inputs = {"matching": small.matching, "keys": small.keys, **small.data}
    inputs["corpus"] = bpe_corpus.path.parent
    metrics = small.run(VOKENS, VokensConfig(page_tokens=40), tmp_path / "vokens", **inputs)
    assert metrics["train_tokens"] == len(bpe_corpus)
    assert attributes(tmp_path / "vokens" / "train.hdf5")["revokenised"] is True
    vokens = mapped(tmp_path / "vokens" / "train.hdf5", "vokens")
    own = Vokeniser(load_matcher(small.matching), load_keys(small.keys).vectors)
    lm = load_tokenizer(bpe_corpus.path.parent / "tokenizer")
    pairs = itertools.pairwise(bpe_corpus.sentences.tolist())
    whole = Revokeniser(own, lm)([bpe_corpus.tokens[a:b].tolist() for a, b in pairs])
    assert (np.asarray(vokens) == whole).all()
    small.run(BENCHMARK, BenchmarkConfig(), tmp_path / "benchmark", **inputs)

    config = PretrainingConfig(size="micro", block=14, batch=4, micro_batch=4, updates=2, warmup=1, seed=0)
    found = small.run(
        PRETRAINING, config, tmp_path / "vlm", corpus=inputs["corpus"], vokens=tmp_path / "vokens"
    )
    assert found["voken_loss"] > 0
    (snapshot,) = pretraining.snapshot_folders(tmp_path / "vlm")
    assert '"roberta"' in (snapshot / "config.json").read_text()
