"""Exact search is the brute-force argmax, chunk by chunk; faiss finds the same."""

import os
import subprocess
import sys

import pytest
import torch
from torch.nn.functional import normalize

from vlpnb.retrieval import exact, faiss_index


def vectors(seed: int, count: int, width: int = 16) -> torch.Tensor:
    return normalize(torch.randn(count, width, generator=torch.Generator().manual_seed(seed)), dim=1)


@pytest.mark.parametrize("k", [1, 5])
@pytest.mark.parametrize(("chunk", "block"), [(7, 50), (100, 3), (4096, 4096)])
def test_equal_to_brute_force(k, chunk, block):
    queries, keys = vectors(0, 40), vectors(1, 100)
    scores, ids = exact.top_k(queries, keys, k, chunk=chunk, block=block)
    everything = queries @ keys.T
    order = everything.sort(dim=1, descending=True, stable=True)
    assert (ids == order.indices[:, :k]).all()
    torch.testing.assert_close(scores, order.values[:, :k])


@pytest.mark.parametrize("k", [1, 2, 4, 7])
@pytest.mark.parametrize("chunk", [1, 2, 3, 100])
def test_the_lowest_index_wins_ties(k, chunk):
    random = torch.Generator().manual_seed(k)
    keys = torch.randint(0, 2, (11, 2), generator=random).float()  # many equal rows
    queries = torch.tensor([[1.0, 0.0], [0.0, 0.0], [1.0, 1.0]])
    ids = exact.top_k(queries, keys, k, chunk=chunk)[1]
    assert (ids == (queries @ keys.T).sort(dim=1, descending=True, stable=True).indices[:, :k]).all()


def test_bad_requests():
    with pytest.raises(ValueError, match="between 1 and the number of keys, 3"):
        exact.top_k(vectors(0, 2), vectors(1, 3), k=4)
    with pytest.raises(ValueError, match="width"):
        exact.top_k(vectors(0, 2, 4), vectors(1, 3, 5))


@pytest.mark.parametrize("kind", ["flat_ip", "flat_l2"])
def test_faiss_equals_exact(kind):
    queries, keys = vectors(0, 300), vectors(1, 500)
    scores, ids = exact.top_k(queries, keys, 10)
    found_scores, found = faiss_index.top_k(queries, keys, 10, block=128, kind=kind)
    assert (found == ids).all()
    torch.testing.assert_close(found_scores, scores, atol=1e-5, rtol=0)


def test_inverted_lists_are_exact_when_every_cell_is_probed():
    queries, keys = vectors(0, 50), vectors(1, 800)
    index = faiss_index.build_index(keys, "ivf", cells=8, probes=8)
    assert (faiss_index.search(index, queries, 3)[1] == exact.top_k(queries, keys, 3)[1]).all()
    with pytest.raises(ValueError, match="unknown kind"):
        faiss_index.build_index(keys, "hnsw")


@pytest.mark.slow
@pytest.mark.parametrize("order", ["import faiss, torch", "import torch, faiss"])
def test_faiss_and_torch_live_together_in_either_order(order):
    """Both bring an OpenMP runtime; a clash shows as a crash or a hang with several threads."""
    program = f"""
{order}
import numpy as np
torch.set_num_threads(2); faiss.omp_set_num_threads(2)
keys = torch.randn(2000, 32); queries = torch.randn(100, 32)
index = faiss.IndexFlatIP(32); index.add(keys.numpy())
for _ in range(3):
    ids = index.search(queries.numpy(), 1)[1][:, 0]
    assert (torch.from_numpy(ids) == (queries @ keys.T).argmax(1)).all()
print("same")
"""
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, env=environment
    )
    assert done.stdout.strip() == "same", done.stderr


def test_a_key_that_equals_one_of_an_earlier_chunk_never_wins():
    """Two passes of the same rows through many chunks: the first copy of each key must be named."""
    queries, keys = vectors(0, 300), vectors(1, 70)
    ids = exact.top_k(queries, torch.cat([keys, keys, keys]), chunk=35, block=64)[1]
    assert (ids == (queries @ keys.T).argmax(1, keepdim=True)).all()
    assert exact.top_k(queries[:0], keys)[1].shape == (0, 1)
