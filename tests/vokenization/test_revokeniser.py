"""Revokenisation against a plain sweep (paper, section 3.3)."""

import itertools

import numpy as np
import pytest

from tests.text.sweeping import sweep
from vlpnb.data.store import attributes, mapped
from vlpnb.foundations.corpus import CORPUS, CorpusStageConfig
from vlpnb.text.corpora import TokenCorpus
from vlpnb.text.tokenizers import load_tokenizer
from vlpnb.vokenization import pretraining
from vlpnb.vokenization.benchmark import BENCHMARK, BenchmarkConfig
from vlpnb.vokenization.keys import load_keys
from vlpnb.vokenization.matcher import load_matcher
from vlpnb.vokenization.pretraining import PRETRAINING, PretrainingConfig
from vlpnb.vokenization.revokeniser import Revokeniser, for_tokenizer
from vlpnb.vokenization.vokeniser import Vokeniser
from vlpnb.vokenization.vokens import VOKENS, VokensConfig


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
