"""The vokeniser is the brute-force argmax, sentence by sentence, whatever the batches and wherever it was killed."""

import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vlpnb.data.store import mapped, write_store
from vlpnb.foundations.corpus import CORPUS, CorpusStageConfig
from vlpnb.text.corpora import TokenCorpus
from vlpnb.vokenization import vokeniser
from vlpnb.vokenization.keys import load_keys
from vlpnb.vokenization.matcher import load_matcher
from vlpnb.vokenization.vokeniser import Vokeniser, decode_marks, mark_sentence
from vlpnb.vokenization.vokens import VOKENS, VokensConfig, distinct_vokens, vokenise_corpus


@pytest.fixture(scope="module")
def corpus(small):
    small.run(CORPUS, CorpusStageConfig(), small.root / "corpus", features=small.features, **small.data)
    return TokenCorpus(small.root / "corpus" / "train.hdf5")


def one_by_one(matcher, keys, corpus) -> np.ndarray:
    """The definition: every sentence alone, every score, the first maximum."""
    vokens = []
    for s in range(len(corpus.sentences) - 1):
        vectors, _ = matcher.queries([matcher.language.wrap(corpus.sentence(s).tolist())])
        vokens += (vectors[0, 1:-1] @ keys.T).argmax(1).tolist()
    return np.array(vokens)


def test_golden_vector_4_sentence_marks():
    assert mark_sentence(3, 2) == [3, -4]
    assert mark_sentence(0, 2) == [0, -1]
    marked = np.array([3, -4, 0, -1, -1])
    assert decode_marks(marked, "first").tolist() == [3, -100, 0, -100, -100]
    assert decode_marks(marked, "all").tolist() == [3, 3, 0, 0, 0]


@given(st.lists(st.tuples(st.integers(0, 99), st.integers(1, 9)), min_size=1))
@settings(max_examples=50, deadline=None)
def test_sentence_marks_decode_to_the_voken(sentences):
    marked = np.array([v for voken, length in sentences for v in mark_sentence(voken, length)])
    assert decode_marks(marked, "all").tolist() == [v for v, length in sentences for _ in range(length)]
    assert (decode_marks(marked, "first") != -100).sum() == len(sentences)


@pytest.mark.parametrize(("page_tokens", "token_budget"), [(1 << 15, 8192), (40, 60), (1, 1)])
def test_equal_to_brute_force(small, corpus, tmp_path, page_tokens, token_budget):
    matcher, keys = load_matcher(small.matching), load_keys(small.keys).vectors
    vokenise = Vokeniser(matcher, keys, token_budget=token_budget)
    vokenise_corpus(corpus, vokenise, tmp_path / "t.hdf5", "id", ids=["a"], page_tokens=page_tokens)
    vokens = mapped(tmp_path / "t.hdf5", "vokens")
    assert vokens.dtype == np.int32
    assert (np.asarray(vokens) == one_by_one(matcher, keys, corpus)).all()
    assert (tmp_path / "t.ids").read_text() == "a\n"


def test_random_queries_equal_brute_force(small):
    """Ten thousand queries against a thousand keys, through the vokeniser's own search."""
    from vlpnb.retrieval.exact import top_k

    normal = torch.nn.functional.normalize
    queries, keys = normal(torch.randn(10_000, 16), dim=1), normal(torch.randn(1000, 16), dim=1)
    assert (top_k(queries, keys, chunk=300, block=999)[1][:, 0] == (queries @ keys.T).argmax(1)).all()


@pytest.mark.slow
def test_ten_thousand_tokens_in_random_sentences_equal_brute_force(small):
    """The whole way, batches and padding and all, beside one sentence at a time and every score."""
    matcher = load_matcher(small.matching)
    random = torch.Generator().manual_seed(2)
    keys = torch.nn.functional.normalize(
        torch.randn(500, matcher.f[-1].out_features, generator=random), dim=1
    )
    lengths = torch.randint(1, 30, (750,), generator=random).tolist()
    vocabulary = len(matcher.language.tokenizer)
    sentences = [torch.randint(5, vocabulary, (n,), generator=random).tolist() for n in lengths]
    vokens = Vokeniser(matcher, keys, token_budget=700)(sentences)
    assert len(vokens) >= 10_000
    alone = torch.cat(
        [matcher.queries([matcher.language.wrap(ids)])[0][0, 1:-1] for ids in sentences]
    ).detach()
    scores = alone @ keys.T
    best = scores.max(dim=1)
    chosen = scores.gather(1, torch.from_numpy(vokens).long()[:, None])[:, 0]
    assert (best.values - chosen).max() < 1e-5  # the only other answers are those that rounding allows
    assert (best.indices.numpy() == vokens).mean() > 0.999


def test_killed_anywhere_the_array_is_the_same(small, corpus, tmp_path):
    """And with another number of processes afterwards; the rest is proved of all shards (tests/data/test_shards.py)."""
    vokenise = Vokeniser(load_matcher(small.matching), load_keys(small.keys).vectors)
    whole, target = tmp_path / "whole.hdf5", tmp_path / "t.hdf5"
    assert vokenise_corpus(corpus, vokenise, whole, "id", page_tokens=40) == 0

    def kill(done, total):
        if done >= total / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        vokenise_corpus(corpus, vokenise, target, "id", page_tokens=40, progress=kill)
    assert not target.exists()
    barrier = threading.Barrier(2)

    def process(rank):
        return vokenise_corpus(
            corpus, vokenise, target, "id", page_tokens=40, rank=rank, world_size=2,
            wait=lambda: barrier.wait(60),
        )  # fmt: skip

    with ThreadPoolExecutor(2) as pool:
        earlier = sum(pool.map(process, (0, 1)))
    assert len(corpus) / 2 <= earlier < len(corpus)
    assert target.read_bytes() == whole.read_bytes()
    assert vokenise_corpus(corpus, vokenise, target, "id", page_tokens=40) == len(corpus)
    assert not list(tmp_path.glob("checkpoint-*"))


@pytest.mark.slow
def test_memory_does_not_grow_with_the_corpus(tmp_path, monkeypatch):
    """Neither does that of its metrics."""
    count = 400_000
    sentences = np.arange(0, count + 1, 25)
    with write_store(tmp_path / "c.hdf5", "corpus") as file:
        file["tokens"] = np.zeros(count, np.uint16)
        file["lines"] = file["sentences"] = sentences
    monkeypatch.setattr("vlpnb.vokenization.vokens.CHUNK", 1 << 12)
    monkeypatch.setattr("vlpnb.text.pages.CHUNK", 1 << 12)
    monkeypatch.setattr("vlpnb.text.token_corpus.CHECKED", 1 << 12)

    class Constant(Vokeniser):
        def __init__(self):
            self.granularity, self.keys = "token", torch.zeros(7, 1)

        def __call__(self, sentences):
            return np.full(sum(map(len, sentences)), 6, np.int32)

    tracemalloc.start()
    try:
        vokenise_corpus(
            TokenCorpus(tmp_path / "c.hdf5"), Constant(), tmp_path / "t.hdf5", "id", page_tokens=1 << 12
        )
        assert distinct_vokens(mapped(tmp_path / "t.hdf5", "vokens"), 7) == 1
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < count  # less than a byte a token


@given(st.lists(st.integers(-9, 8), max_size=30))
def test_distinct_vokens_count_a_marked_one_as_itself(marked):
    expected = {v if v >= 0 else -v - 1 for v in marked}
    assert distinct_vokens(np.array(marked, np.int32), 9) == len(expected)


def test_sentence_and_term_granularity(small, corpus):
    matcher, keys = load_matcher(small.matching), load_keys(small.keys).vectors
    sentences = [corpus.sentence(s).tolist() for s in range(3)]
    marked = Vokeniser(matcher, keys, "sentence")(sentences)
    starts = np.cumsum([0] + [len(ids) for ids in sentences[:-1]])
    assert (np.flatnonzero(marked >= 0) == starts).all()
    tokens = np.concatenate(sentences)
    terms = Vokeniser(matcher, keys, "term")(sentences)
    alone, _ = matcher.queries([matcher.language.wrap([int(tokens[4])])])
    assert terms[4] == (alone[0, 1] @ keys.T).argmax()
    assert all(len(set(terms[tokens == token])) == 1 for token in tokens)  # one voken per type


def test_top_pictures_are_sorted(small, corpus):
    vokenise = Vokeniser(load_matcher(small.matching), load_keys(small.keys).vectors)
    ((scores, ids),) = vokenise.top([corpus.sentence(0).tolist()], 3)
    assert scores.shape == ids.shape == (len(corpus.sentence(0)), 3)
    assert (scores.diff(dim=1) <= 0).all()
    assert (ids[:, 0].numpy() == vokenise([corpus.sentence(0).tolist()])).all()


def test_half_precision_is_for_the_language_backbone_alone(small, corpus, tmp_path, monkeypatch):
    """float32 is the conforming mode and the default; bfloat16 changes a small share of the choices."""
    matcher, keys = load_matcher(small.matching), load_keys(small.keys).vectors
    sentences = [corpus.sentence(s).tolist() for s in range(30)]
    exact = Vokeniser(matcher, keys)
    seen = []

    def on_the_cpu(device, precision):
        seen.append(precision)
        return torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16")

    monkeypatch.setattr(vokeniser, "autocast", on_the_cpu)
    half = Vokeniser(matcher, keys, precision="bfloat16")
    vectors, rough = (torch.cat(v.queries(sentences)) for v in (exact, half))
    assert rough.dtype == torch.float32
    assert not torch.equal(vectors, rough)
    torch.testing.assert_close(rough.norm(dim=1), torch.ones(len(rough)))
    assert 0.9 < np.mean(exact(sentences) == half(sentences)) <= 1
    inputs = {
        "matching": small.matching,
        "keys": small.keys,
        "corpus": corpus.path.parent,
        **small.data,
    }
    for precision in ("float32", "bfloat16"):
        seen.clear()
        small.run(VOKENS, VokensConfig(precision=precision), tmp_path / precision, **inputs)
        assert set(seen) == {precision}
    assert VokensConfig().precision == "float32"


def test_the_stage_reports_speed_and_no_rates_without_scenes(small, corpus, tmp_path):
    inputs = {
        "matching": small.matching,
        "keys": small.keys,
        "corpus": corpus.path.parent,
        **small.data,
    }
    metrics = small.run(VOKENS, VokensConfig(), tmp_path, **inputs)
    assert metrics["train_tokens"] == len(corpus)
    assert metrics["tokens_per_second"] > 0
    assert 1 <= metrics["distinct"] <= metrics["size"] == 9
    assert "named_rate" not in metrics
    assert len((tmp_path / "train.ids").read_text().splitlines()) == 9
    assert (tmp_path / "train.ids").read_text().startswith("universe/universe0\n")
