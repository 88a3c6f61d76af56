"""The benchmark's numbers against a count by hand; the smallest cases are in tests/metrics/test_retrieval.py."""

from collections import Counter
from dataclasses import replace
from itertools import chain

import numpy as np
import pytest
import torch
from PIL import Image

from vlpnb.data.description import CaptionFiles, load_captions
from vlpnb.data.images import open_rgb
from vlpnb.errors import UserError
from vlpnb.foundations.corpus import CORPUS, CorpusStageConfig
from vlpnb.metrics.retrieval import RECALL_AT
from vlpnb.text.corpora import TokenCorpus
from vlpnb.vokenization.benchmark import (
    BENCHMARK,
    BenchmarkConfig,
    retrieval,
    scored_queries,
    token_vokens,
)
from vlpnb.vokenization.keys import load_keys
from vlpnb.vokenization.matcher import load_matcher
from vlpnb.vokenization.vokeniser import Vokeniser

RETRIEVAL = [f"{kind}_r{k}" for kind in ("token", "sentence", "chance") for k in RECALL_AT]
RETRIEVAL += ["pictures", "broken", "tokens"]
# Num Images, Max Cnt, Avg Cnt, Std Cnt, Cover and the number of types
DIVERSITY = ["images", "max_count", "mean_count", "std_count", "cover", "types"]


@pytest.fixture(scope="module")
def corpus(small, tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    small.run(CORPUS, CorpusStageConfig(), folder, features=small.features, **small.data)
    return folder


@pytest.fixture(scope="module")
def two_sets(small, tmp_path_factory):
    """The small dataset, with Conceptual Captions beside it."""
    root = tmp_path_factory.mktemp("two_sets")
    (root / "cc/images/validation").mkdir(parents=True)
    rows = []
    for n, (name, colour) in enumerate([*small.colours.items()][:3]):
        Image.new("RGB", (24, 30), colour).save(root / f"cc/images/validation/validation_{n}", "png")
        rows.append(f"the {name} thing is here .\tvalidation_{n}\n")
    (root / "cc/validation.tsv").write_text("".join(rows))
    cc = CaptionFiles("conceptual", {"cc_valid": (root / "cc/validation.tsv",)}, str(root / "cc/images"))
    replace(load_captions(small.dataset), sets={"cc_valid": cc}).save(root)
    return root


def benchmark(small, corpus, folder, captions=None, **fields):
    return small.run(
        BENCHMARK, BenchmarkConfig(**fields), folder,
        matching=small.matching, keys=small.keys, corpus=corpus, captions=captions or small.dataset,
    )  # fmt: skip


def test_token_recall_is_counted_over_tokens_without_specials(small):
    matcher = load_matcher(small.matching)
    images = load_captions(small.dataset).captioned("test")
    pictures = torch.cat([matcher.keys([open_rgb(image.path)]) for image in images])
    hits = []
    for own, image in enumerate(images):
        for sentence in image.sentences:
            vectors, _ = matcher.queries(matcher.language.encode([sentence], 20))
            order = (vectors[0, 1:-1] @ pictures.T).argsort(dim=1, descending=True, stable=True)
            hits += [own in row[:5].tolist() for row in order]
    found = retrieval(matcher, images)
    assert found["tokens"] == len(hits)
    assert found["token_r5"] == pytest.approx(sum(hits) / len(hits))
    assert found["chance_r5"] == 5 / 8
    assert found["chance_r10"] == 1.0  # not more than one


def test_long_captions_are_read_to_a_length_of_ones_own(small, corpus, tmp_path):
    """The original cuts captions in training only; here the small matcher was trained on eight pieces."""
    matcher = load_matcher(small.matching)
    (image, *_) = load_captions(small.dataset).captioned("test")
    long = replace(image, sentences=("the red thing and the red thing are here .",))
    assert retrieval(matcher, [long])["tokens"] == matcher.max_length - 2 == 6
    assert retrieval(matcher, [long], max_length=130)["tokens"] == 10
    found = [benchmark(small, corpus, tmp_path / str(n), max_length=n)["tokens"] for n in (4, 130)]
    assert found[0] < found[1]


@pytest.mark.parametrize("granularity", ["sentence", "term"])
def test_other_granularities_are_counted_by_hand(small, granularity):
    """A sentence's only voken is scored at its first token; a type's vector has no context."""
    matcher = load_matcher(small.matching)
    images = load_captions(small.dataset).captioned("test")
    pictures = torch.cat([matcher.keys([open_rgb(image.path)]) for image in images])
    hits = []
    for own, image in enumerate(images):
        for sentence in image.sentences:
            (ids,) = matcher.language.encode([sentence], matcher.max_length)
            if granularity == "sentence":
                queries = matcher.queries([ids])[0][0, 1:-1].sum(0, keepdim=True)
            else:
                alone = [matcher.queries([[ids[0], i, ids[-1]]])[0][0, 1] for i in ids[1:-1]]
                queries = torch.stack(alone)
            order = (queries @ pictures.T).argsort(dim=1, descending=True, stable=True)
            hits += [own in row[:1].tolist() for row in order]
    found = retrieval(matcher, images, granularity=granularity)
    assert found["tokens"] == len(hits)
    assert found["token_r1"] == pytest.approx(sum(hits) / len(hits))
    assert found != retrieval(matcher, images)
    if granularity == "sentence":
        assert len(hits) == sum(len(image.sentences) for image in images)
        assert found["token_r1"] == found["sentence_r1"]


def test_a_sentence_without_a_token_is_not_scored(small):
    vokenise = Vokeniser(load_matcher(small.matching), torch.eye(8))
    for granularity, lengths in (("token", [0, 2]), ("term", [0, 2]), ("sentence", [0, 1])):
        vokenise.granularity = granularity
        assert [tuple(rows.shape) for rows in scored_queries(vokenise, [[], [7, 8]])] == [
            (n, 8) for n in lengths
        ]


def test_all_tokens_of_a_sentence_have_its_voken(small):
    vokenise = Vokeniser(load_matcher(small.matching), load_keys(small.keys).vectors, "sentence")
    sentences = [[7, 8, 9], [10], [9, 7]]
    marked = vokenise(sentences)
    assert (marked < 0).any()
    firsts = marked[[0, 3, 4]].tolist()
    pairs = [(i, v) for ids, v in zip(sentences, firsts, strict=True) for i in ids]
    assert list(token_vokens(vokenise, sentences, block=2)) == pairs


def test_lines_and_sentences_of_a_corpus(corpus):
    store = TokenCorpus(corpus / "valid.hdf5")
    assert len(store.sentences) - 1 == 2 * (len(store.lines) - 1)
    every = store.first_sentences(None, None)
    assert [*chain(*every)] == np.asarray(store.tokens).tolist()
    assert store.first_sentences(3, None) == every[:6]
    assert [*chain(*every[:6])] == store.tokens[: store.lines[3]].tolist()
    assert store.first_sentences(3, 5) == store.first_sentences(None, 5) == every[:5]
    assert store.first_sentences(95_000, None) == every
    assert store.first_sentences(0, None) == []


def test_the_stage_reports_retrieval_and_diversity(small, corpus, tmp_path):
    metrics = benchmark(small, corpus, tmp_path)
    assert metrics["pictures"] == 8
    assert metrics["sentence_r10"] == 1.0
    for text in ("corpus", "captions"):
        assert 1 <= metrics[f"diversity_{text}_images"] <= metrics[f"diversity_{text}_cover"] <= 9
    names = [f"diversity_{text}_{name}" for text in ("corpus", "captions") for name in DIVERSITY]
    assert list(metrics) == RETRIEVAL + names


def test_every_set_has_metrics_of_its_own(small, corpus, two_sets, tmp_path):
    metrics = benchmark(small, corpus, tmp_path / "both", two_sets, corpora=("valid", "train"))
    texts = ("corpus", "corpus_train", "captions", "cc_valid")
    assert sorted(metrics) == sorted(
        [*RETRIEVAL, *(f"cc_valid_{name}" for name in RETRIEVAL)]
        + [f"diversity_{text}_{name}" for text in texts for name in DIVERSITY]
    )
    first = benchmark(small, corpus, tmp_path / "first", two_sets, sets=())
    assert {name: metrics[name] for name in first} == first
    second = benchmark(small, corpus, tmp_path / "second", two_sets, split="cc_valid")
    assert {name: metrics[f"cc_valid_{name}"] for name in RETRIEVAL} == {
        name: second[name] for name in RETRIEVAL
    }
    assert second["pictures"] == 3
    assert second["chance_r1"] == pytest.approx(1 / 3)
    for name in DIVERSITY:
        assert metrics[f"diversity_cc_valid_{name}"] == second[f"diversity_captions_{name}"]
        assert (
            metrics[f"diversity_corpus_train_{name}"] == metrics[f"diversity_corpus_{name}"]
        )  # the same text
    log = (tmp_path / "both/log.txt").read_text()
    assert "cc_valid, 3 pictures" in log
    assert "chance 0.333" in log

    limited = benchmark(
        small, corpus, tmp_path / "limited", two_sets, sets=("cc_valid", "valid"), max_images=2,
        diversity_lines=1, diversity_sentences=1,
    )  # fmt: skip
    assert [limited[name] for name in ("pictures", "cc_valid_pictures", "valid_pictures")] == [2, 2, 2]
    ids = TokenCorpus(corpus / "valid.hdf5").first_sentences(1, 1)
    vokens = Vokeniser(load_matcher(small.matching), load_keys(small.keys).vectors)(ids)
    assert limited["diversity_corpus_types"] == len(Counter(ids[0]))
    assert limited["diversity_corpus_cover"] == len(set(vokens.tolist()))


def test_names_of_sets(small, corpus, two_sets, tmp_path):
    for sets in (("test",), ("cc_valid", "cc_valid"), ("captions",)):
        with pytest.raises(UserError, match=rf"benchmark\.sets: '{sets[-1]}' is there already"):
            benchmark(small, corpus, tmp_path, two_sets, sets=sets)
    with pytest.raises(
        UserError, match="no captions for split 'cc_train'; there are train, valid, test, cc_valid"
    ):
        benchmark(small, corpus, tmp_path, two_sets, sets=("cc_train",))


def test_granularity_is_a_variant_of_the_stage(small, corpus, tmp_path):
    metrics = benchmark(small, corpus, tmp_path, granularity="sentence")
    assert metrics["tokens"] == 16  # one for each of eight pictures' two captions
    assert metrics["diversity_captions_types"] == 10  # all tokens, not the first ones only
    assert BENCHMARK.variant == ("granularity",)
    with pytest.raises(ValueError, match="'token', 'sentence' or 'term'"):
        BenchmarkConfig(granularity="word")
