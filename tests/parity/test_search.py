"""faiss beside the exact search: the flat kinds find the same, the inverted lists nearly, and the recall is printed."""

import pytest
import torch
from torch.nn.functional import normalize

from vlpnb.retrieval import exact, faiss_index

QUERIES, KEYS, WIDTH, K = 10_000, 4_000, 32, 10


@pytest.fixture(scope="module")
def case():
    """Clustered unit vectors, as pictures are; queries near keys, as tokens are after training; the exact answers."""
    random = torch.Generator().manual_seed(0)
    centres = torch.randn(60, WIDTH, generator=random)
    keys = centres[torch.randint(60, (KEYS,), generator=random)] + 0.5 * torch.randn(
        KEYS, WIDTH, generator=random
    )
    near = keys[torch.randint(KEYS, (QUERIES,), generator=random)]
    queries = normalize(near + 0.5 * torch.randn(QUERIES, WIDTH, generator=random), dim=1)
    keys = normalize(keys, dim=1)
    return queries, keys, *exact.top_k(queries, keys, K)


def recall(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Share of the exact K nearest keys that were found."""
    return (found[:, :, None] == expected[:, None, :]).any(1).float().mean().item()


def test_the_exact_search_is_the_argmax(case):
    queries, keys, scores, ids = case
    everything = queries.double() @ keys.double().T
    best = everything.max(dim=1)
    chosen = everything.gather(1, ids[:, :1])[:, 0]
    assert (best.values - chosen).max() < 1e-6  # the only other answers are those that rounding allows
    assert (ids[:, 0] == best.indices).float().mean() > 0.999
    torch.testing.assert_close(scores[:, 0].double(), best.values, atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", ["flat_ip", "flat_l2"])
def test_flat_indices_find_the_same(case, kind):
    queries, keys, scores, ids = case
    found_scores, found = faiss_index.top_k(queries, keys, K, kind=kind)
    share = recall(found, ids)
    print(f"{kind}: recall@{K} {share:.5f}, same first {(found[:, 0] == ids[:, 0]).float().mean():.5f}")
    assert share > 0.9999
    torch.testing.assert_close(found_scores, scores, atol=1e-5, rtol=0)
    differ = found[:, 0] != ids[:, 0]
    assert (queries[differ] * (keys[found[differ, 0]] - keys[ids[differ, 0]])).sum(1).abs().sum() < 1e-5


def test_inverted_lists_find_more_the_more_cells_they_look_into(case):
    queries, keys, scores, ids = case
    shares = {}
    for probes in (1, 4, 16, 64):
        index = faiss_index.build_index(keys, "ivf", cells=64, probes=probes)
        found_scores, found = faiss_index.search(index, queries, K)
        shares[probes] = recall(found, ids)
        assert (found_scores <= scores + 1e-5).all()  # never better than exact
    print(", ".join(f"ivf, {probes} of 64 cells: recall@{K} {share:.4f}" for probes, share in shares.items()))
    assert sorted(shares.values()) == list(shares.values())
    assert shares[1] < 0.99  # otherwise there is nothing to see
    assert shares[16] > 0.95
    assert shares[64] > 0.9999
