"""Indexes of a store: sizes by a rule, built in parts, refused with another store, and how much they find."""

import json

import numpy as np
import pytest
import torch

from vlpnb.errors import UserError
from vlpnb.retrieval import faiss_index as fi
from vlpnb.retrieval.nearest import exact_search, nearest
from vlpnb.retrieval.store import VectorStore, write_store


def clustered(count: int, width: int, seed: int) -> np.ndarray:
    dice = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(20, width))
    rows = centres[dice.integers(20, size=count)] + 0.3 * dice.normal(size=(count, width))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def store_of(folder, count=3000, width=24, seed=0, **about) -> VectorStore:
    return write_store(folder, clustered(count, width, seed), [str(i) for i in range(count)], **about)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return store_of(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def queries():
    return torch.from_numpy(clustered(200, 24, 7))


@pytest.mark.parametrize(
    ("count", "width", "says"),
    [
        (300, 64, "Flat"), (199_999, 64, "Flat"), (200_000, 64, "IVF1788,Flat"), (999_999, 768, "IVF3999,Flat"),
        (1_000_000, 768, "IVF4000,PQ64x8"), (1_000_000, 100, "IVF4000,PQ5x8"), (2_000_000, 7, "IVF5656,PQ1x8"),
    ],
)  # fmt: skip
def test_the_rule_of_sizes(count, width, says):
    assert fi.sizes_for(count, width).factory() == says


def test_the_memory_of_the_original_is_about_fourteen_gigabytes():
    assert fi.ORIGINAL.factory() == "IVF131072,PQ64x8"
    assert fi.ORIGINAL.memory(191_504_486, 768) == pytest.approx(14.2e9, rel=0.02)


def test_parts_and_a_file_give_the_same_index(store, queries, tmp_path):
    plan = fi.IndexPlan("ivf_pq", 16, 4)
    whole = fi.build_for(store, plan, part=3000)
    parts = fi.build_for(store, plan, part=701)
    fi.save_index(parts, tmp_path / "index.faiss", store, plan)
    read = fi.load_index(tmp_path / "index.faiss", store)
    found = []
    for index in (whole, parts, read):
        fi.set_probes(index, 4)
        found.append(nearest(fi.index_search(index), queries, 5, len(store)))
    assert torch.equal(found[0][1], found[1][1])
    assert torch.equal(found[1][1], found[2][1])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index.faiss", "index.json"]


def test_recall_rises_with_the_cells_looked_into_and_the_fewest_are_taken(store, queries):
    index = fi.build_for(store, fi.IndexPlan("ivf", 64))
    every = fi.recall_of(index, store, queries, 4, target=1.01)
    values = list(every.by_probes.values())
    assert values == sorted(values)
    assert values[0] < 0.95
    assert list(every.by_probes)[-1] == 64
    assert values[-1] == 1.0
    report = fi.recall_of(index, store, queries, 4)
    assert report.value >= 0.95
    assert index.nprobe == report.chosen
    assert all(value < 0.95 for probes, value in report.by_probes.items() if probes < report.chosen)
    assert f"recall@4 {report.value:.3f} with {report.chosen} cells" in str(report)


def test_open_places_are_misses_and_are_minus_one(tmp_path):
    store = store_of(tmp_path, count=400)
    index = fi.build_for(store, fi.IndexPlan("ivf", 100))
    some = torch.from_numpy(clustered(50, 24, 5))
    report = fi.recall_of(index, store, some, 20, target=0.0)
    assert report.by_probes.keys() == {1}
    fi.set_probes(index, 1)
    scores, rows = nearest(fi.index_search(index), some, 20, len(store))
    assert (rows == -1).any()
    assert torch.equal(scores.isneginf(), rows == -1)
    exact = nearest(exact_search(store), some, 20, len(store))[1]
    hits = sum(len(set(a) & set(b)) for a, b in zip(rows.tolist(), exact.tolist(), strict=True))
    assert report.value == pytest.approx(hits / exact.numel())


@pytest.mark.parametrize("metric", ["ip", "l2"])
def test_an_exact_index_finds_what_torch_finds(tmp_path, metric):
    store = store_of(tmp_path, metric=metric)
    index = fi.build_for(store)
    some = torch.from_numpy(clustered(150, 24, 3))
    found, wanted = (
        nearest(search, some, 4, len(store))
        for search in (fi.index_search(index, metric), exact_search(store))
    )
    assert torch.equal(found[1], wanted[1])
    torch.testing.assert_close(found[0], wanted[0], atol=1e-5, rtol=1e-5)
    assert fi.recall_of(index, store, some, 4).value == 1.0


def test_an_index_of_another_store_or_metric_is_refused(store, tmp_path):
    index = fi.build_for(store)
    fi.save_index(index, tmp_path / "a.faiss", store, fi.IndexPlan("flat"))
    other = store_of(tmp_path / "other", seed=4)
    with pytest.raises(UserError, match=r"store is .*, that of the store .*other is"):
        fi.load_index(tmp_path / "a.faiss", other)
    distances = store_of(tmp_path / "distances", metric="l2")
    assert distances.meta.hash == store.meta.hash
    with pytest.raises(UserError, match=r"metric is ip, that of the store .* is l2"):
        fi.load_index(tmp_path / "a.faiss", distances)
    about = json.loads((tmp_path / "a.json").read_text())
    (tmp_path / "a.json").write_text(json.dumps(about | {"store": other.meta.hash}))
    fewer = store_of(tmp_path / "fewer", count=100)
    (tmp_path / "a.json").write_text(json.dumps(about | {"store": fewer.meta.hash}))
    with pytest.raises(UserError, match=r"count is 3000, that of the store .* is 100"):
        fi.load_index(tmp_path / "a.faiss", fewer)


def test_an_index_cut_short_or_absent_is_named(store, tmp_path):
    fi.save_index(fi.build_for(store), tmp_path / "a.faiss", store, fi.IndexPlan("flat"))
    (tmp_path / "a.faiss").write_bytes((tmp_path / "a.faiss").read_bytes()[:1000])
    with pytest.raises(UserError, match=r"a\.faiss \(1,000 bytes\) is no complete faiss index"):
        fi.load_index(tmp_path / "a.faiss", store)
    (tmp_path / "a.faiss").unlink()
    with pytest.raises(UserError, match=r"a\.faiss"):
        fi.load_index(tmp_path / "a.faiss", store)


def test_what_cannot_be_learnt_is_said(store):
    rows = store.gather(np.arange(100), "vectors")
    with pytest.raises(UserError, match="learns from 128 vectors at least, and has 100"):
        fi.train_index(rows, fi.IndexPlan("ivf", 128))
    with pytest.raises(UserError, match="learns from 256 vectors at least"):
        fi.train_index(rows, fi.IndexPlan("ivf_pq", 8, 4))
    with pytest.raises(UserError, match="5 parts do not divide a width of 24"):
        fi.train_index(store.gather(np.arange(300), "vectors"), fi.IndexPlan("ivf_pq", 8, 5))
