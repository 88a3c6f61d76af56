"""K rows for every query: the right ones, without one's own, and whatever else is asked in the same call."""

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from vlpnb.errors import UserError
from vlpnb.retrieval.nearest import exact_search, nearest
from vlpnb.retrieval.store import write_store


def rows_of(seed: int, count: int, width: int = 24) -> torch.Tensor:
    return normalize(torch.randn(count, width, generator=torch.Generator().manual_seed(seed)), dim=1)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    keys = rows_of(1, 3000)
    return write_store(tmp_path_factory.mktemp("store"), keys.numpy(), [str(i) for i in range(3000)])


@pytest.mark.parametrize("count", [1, 127, 128, 300])
def test_rows_of_the_greatest_inner_products(store, count):
    queries = rows_of(2, count)
    scores, rows = nearest(exact_search(store), queries, 4, len(store))
    everything = queries @ torch.from_numpy(np.array(store.vectors)).T
    assert torch.equal(rows, everything.topk(4).indices)
    torch.testing.assert_close(scores, everything.topk(4).values)


def test_what_is_found_does_not_depend_on_the_other_queries(store):
    search, queries = exact_search(store), rows_of(3, 400)
    scores, rows = nearest(search, queries, 5, len(store))
    order = torch.randperm(400, generator=torch.Generator().manual_seed(0))
    for first, last in ((0, 1), (1, 3), (3, 60), (60, 400)):
        part = order[first:last]
        found = nearest(search, queries[part], 5, len(store))
        assert torch.equal(found[0], scores[part])
        assert torch.equal(found[1], rows[part])


def test_distances_of_rows_that_are_not_unit(tmp_path):
    keys = rows_of(1, 200) * torch.rand(200, 1) * 4
    store = write_store(tmp_path, keys.numpy(), [str(i) for i in range(200)], normalised=False, metric="l2")
    queries = rows_of(5, 30)
    scores, rows = nearest(exact_search(store), queries, 3, 200)
    distances = torch.cdist(queries, keys)
    assert torch.equal(rows, distances.topk(3, largest=False).indices)
    expected = (queries.square().sum(1, keepdim=True) - distances.topk(3, largest=False).values.square()) / 2
    torch.testing.assert_close(scores, expected, atol=1e-5, rtol=1e-5)


def test_ones_own_row_does_not_come_and_the_next_one_moves_up(store):
    queries = rows_of(4, 50)
    search = exact_search(store)
    four = nearest(search, queries, 4, len(store))[1]
    own = four[:, 1].clone()
    own[::2] = -1
    own[1] = 2999 if 2999 not in four[1] else 2998  # one that would not have come
    scores, rows = nearest(search, queries, 3, len(store), own)
    for mine, found, all_four in zip(own.tolist(), rows.tolist(), four.tolist(), strict=True):
        assert found == [row for row in all_four if row != mine][:3]
    assert (scores.diff(dim=1) <= 0).all()


def test_places_that_nothing_fills_are_minus_one_and_come_last():
    """An index that leaves places open, wherever they are, and fewer pictures than places."""

    def search(queries, k):
        rows = torch.tensor([[3, 7, -1, -1][:k]]).repeat(len(queries), 1)
        return torch.ones(rows.shape), rows

    scores, rows = nearest(search, torch.zeros(2, 4), 3, 9)
    assert rows.tolist() == [[3, 7, -1]] * 2
    assert scores.tolist() == [[1, 1, -torch.inf]] * 2
    scores, rows = nearest(search, torch.zeros(2, 4), 3, 9, own=torch.tensor([3, 5]))
    assert rows.tolist() == [[7, -1, -1], [3, 7, -1]]
    assert scores.isneginf().tolist() == [[False, True, True], [False, False, True]]


def test_fewer_pictures_than_are_asked_for(tmp_path):
    store = write_store(tmp_path, rows_of(1, 2).numpy(), ["a", "b"])
    rows = nearest(exact_search(store), rows_of(2, 3), 4, 2, own=torch.tensor([0, -1, 1]))[1]
    assert rows[0].tolist() == [1, -1, -1, -1]
    assert sorted(rows[1, :2].tolist()) == [0, 1]
    assert rows[2].tolist() == [0, -1, -1, -1]


def test_a_query_that_is_not_finite_is_named(store):
    queries = rows_of(2, 5)
    queries[3, 0] = torch.nan
    with pytest.raises(UserError, match="query 3 of 5 holds a NaN"):
        nearest(exact_search(store), queries, 2, len(store))
