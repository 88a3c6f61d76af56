"""The vokeniser is the brute-force argmax, sentence by sentence, whatever the batches and wherever it was killed."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vlpnb.data.store import mapped
from vlpnb.foundations.corpus import CORPUS, CorpusStageConfig
from vlpnb.text.corpora import TokenCorpus
from vlpnb.vokenization import vokeniser
from vlpnb.vokenization.grounding import words_of
from vlpnb.vokenization.keys import load_keys
from vlpnb.vokenization.matcher import load_matcher
from vlpnb.vokenization.vokeniser import Vokeniser, decode_marks, mark_sentence
from vlpnb.vokenization.vokens import VOKENS, VokensConfig, pieces_of, vokenise_corpus


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


@pytest.mark.parametrize("before", [1, 3])
def test_pages_of_another_number_of_processes_are_taken_over(small, corpus, tmp_path, monkeypatch, before):
    """A run is killed, and goes on with two processes: with one node fewer, or one more."""
    import vlpnb.vokenization.vokens as module

    monkeypatch.setattr(module, "barrier", lambda world_size: None)
    vokenise = Vokeniser(load_matcher(small.matching), load_keys(small.keys).vectors)
    whole, target = tmp_path / "whole.hdf5", tmp_path / "t.hdf5"
    vokenise_corpus(corpus, vokenise, whole, "id", page_tokens=20)

    def kill(done, total):
        if done >= total / 2:
            raise KeyboardInterrupt

    for rank in range(before):
        with pytest.raises(KeyboardInterrupt):
            vokenise_corpus(
                corpus, vokenise, target, "id", page_tokens=20, rank=rank, world_size=before, progress=kill
            )
    noted = [json.loads(path.read_text())["tokens"] for path in tmp_path.glob("checkpoint-t.*.json")]
    asked = []
    original = Vokeniser.__call__
    monkeypatch.setattr(
        Vokeniser, "__call__", lambda self, rows: asked.extend(map(len, rows)) or original(self, rows)
    )
    earlier = [
        vokenise_corpus(corpus, vokenise, target, "id", page_tokens=20, rank=rank, world_size=2)
        for rank in (1, 0)
    ]
    assert len(noted) == before
    assert sum(earlier) == sum(noted) == len(corpus) - sum(asked) > len(corpus) / 3
    assert (np.asarray(mapped(target, "vokens")) == np.asarray(mapped(whole, "vokens"))).all()
    assert not list(tmp_path.glob("checkpoint-*"))


@pytest.mark.parametrize(
    "damage", ["nothing", "half a page", "lost manifest", "short file", "other identity"]
)
@pytest.mark.parametrize("pages", [1, 4])
def test_killed_anywhere_the_array_is_the_same(small, corpus, tmp_path, pages, damage):
    matcher, keys = load_matcher(small.matching), load_keys(small.keys).vectors
    vokenise = Vokeniser(matcher, keys)
    whole, target = tmp_path / "whole.hdf5", tmp_path / "t.hdf5"
    vokenise_corpus(corpus, vokenise, whole, "id", page_tokens=40)
    seen = []

    def kill(done, total):
        seen.append(done)
        if len(seen) == pages:
            raise KeyboardInterrupt

    identity = "old" if damage == "other identity" else "id"
    with pytest.raises(KeyboardInterrupt):
        vokenise_corpus(corpus, vokenise, target, identity, page_tokens=40, progress=kill)
    assert not target.exists()
    (shard,) = tmp_path.glob("checkpoint-t.*.bin")
    if damage == "half a page":
        shard.write_bytes(shard.read_bytes() + b"\x01\x02\x03\x04\x05")
    elif damage == "lost manifest":
        shard.with_suffix(".json").unlink()
    elif damage == "short file":
        shard.write_bytes(shard.read_bytes()[:-2])
    earlier = vokenise_corpus(corpus, vokenise, target, "id", page_tokens=40)
    assert earlier == (seen[-1] if damage in ("nothing", "half a page") else 0)
    assert (np.asarray(mapped(target, "vokens")) == np.asarray(mapped(whole, "vokens"))).all()
    assert not list(tmp_path.glob("checkpoint-*"))


def test_ranks_give_the_array_of_one_process(small, corpus, tmp_path):
    matcher, keys = load_matcher(small.matching), load_keys(small.keys).vectors
    vokenise = Vokeniser(matcher, keys)
    vokenise_corpus(corpus, vokenise, tmp_path / "one.hdf5", "id", page_tokens=40)

    class Other(Exception):
        pass

    # Process 1 of 2 runs to its end and would wait; process 0 then joins both files.
    import vlpnb.vokenization.vokens as module

    def no_barrier(world_size):
        pass

    original, module.barrier = module.barrier, no_barrier
    try:
        vokenise_corpus(corpus, vokenise, tmp_path / "two.hdf5", "id", page_tokens=40, rank=1, world_size=2)
        vokenise_corpus(corpus, vokenise, tmp_path / "two.hdf5", "id", page_tokens=40, rank=0, world_size=2)
    finally:
        module.barrier = original
    assert (
        np.asarray(mapped(tmp_path / "two.hdf5", "vokens"))
        == np.asarray(mapped(tmp_path / "one.hdf5", "vokens"))
    ).all()


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


def test_long_sentences_are_cut_in_balanced_pieces():
    assert pieces_of(np.array([0, 3, 3, 8]), 4).tolist() == [0, 3, 6, 8]
    assert pieces_of(np.array([0, 129]), 128).tolist() == [0, 65, 129]
    assert pieces_of(np.array([0, 2, 2, 5]), 9).tolist() == [0, 2, 5]


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


def test_word_pieces_are_joined_to_words(small):
    from vlpnb.text.tokenizers import load_tokenizer, piece_texts

    tokenizer = load_tokenizer(small.language)
    ids = tokenizer("a reddish thing!", add_special_tokens=False)["input_ids"]
    words, owner = words_of(ids, tokenizer, piece_texts(tokenizer))
    assert words == ["a", "reddish", "thing", "!"]
    assert len(owner) == len(ids) > 4
    assert owner == sorted(owner)
