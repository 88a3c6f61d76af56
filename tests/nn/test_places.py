"""Each word's own rows of a table: products, sums and their gradients are those of rows held for every word."""

import pytest
import torch

from vlpnb.nn.places import Places, picked, pooled

K = 3


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("shared", [True, False])
def test_rows_of_a_table_are_looked_up_where_they_lie(shared):
    heads, words_, width, size = 3, 11, 5, 4
    generator = torch.Generator().manual_seed(0)
    rows = torch.randint(size, (words_, K), generator=generator)
    places = Places(rows, heads, size, shared)
    table = (
        torch.randn(size if shared else heads * size, width, generator=generator).double().requires_grad_()
    )
    queries = torch.randn(heads * words_, width, generator=generator).double().requires_grad_()
    weights = torch.randn(heads * words_, K, generator=generator).double().requires_grad_()
    found = table if shared else table.view(heads, size, width)
    each = torch.stack([(found if shared else found[h])[rows] for h in range(heads)]).flatten(
        0, 1
    )  # (M, K, e)
    close(picked(queries, table, places), (each * queries[:, None]).sum(-1))
    close(pooled(weights, table, places), (each * weights[..., None]).sum(1))
    assert torch.autograd.gradcheck(lambda q, t: picked(q, t, places), (queries, table))
    assert torch.autograd.gradcheck(lambda w, t: pooled(w, t, places), (weights, table))
