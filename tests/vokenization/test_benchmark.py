"""The benchmark's numbers against a count by hand; golden vectors 5 and 7 are in tests/metrics/test_retrieval.py."""

import pytest
import torch

from vlpnb.data.description import load_dataset
from vlpnb.data.images import open_rgb
from vlpnb.vokenization.benchmark import BENCHMARK, BenchmarkConfig, retrieval
from vlpnb.vokenization.corpus import CORPUS, CorpusStageConfig
from vlpnb.vokenization.matching import load_matcher


def test_token_recall_is_counted_over_tokens_without_specials(small):
    matcher = load_matcher(small.matching)
    images = load_dataset(small.dataset).captioned("test")
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


def test_the_stage_reports_retrieval_and_diversity(small, tmp_path):
    small.run(
        CORPUS, CorpusStageConfig(), tmp_path / "corpus", features=small.features, dataset=small.dataset
    )
    metrics = small.run(
        BENCHMARK, BenchmarkConfig(), tmp_path / "benchmark",
        matching=small.matching, keys=small.keys, corpus=tmp_path / "corpus", dataset=small.dataset,
    )  # fmt: skip
    assert metrics["pictures"] == 8
    assert metrics["sentence_r10"] == 1.0
    for text in ("corpus", "captions"):
        assert 1 <= metrics[f"diversity_{text}_images"] <= metrics[f"diversity_{text}_cover"] <= 9
