"""K rows of a store for every query, whoever searches: exactly in torch, or through an index.

What is found for a query does not depend on the other queries of a call: matrix products of one shape round alike, so
queries go through in blocks of a fixed number, the last one filled up with zeros. Tables of retrieved rows therefore
equal live retrieval to the bit.
"""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from vlpnb.errors import UserError
from vlpnb.retrieval import exact
from vlpnb.retrieval.store import VectorStore

Search = Callable[[Tensor, int], tuple[Tensor, Tensor]]
"""Queries [M, E] and k ≤ N → scores [M, k], best first, and rows [M, k] int64 (−1: a place that was not filled)."""
BLOCKS = {"cpu": 128}  # queries per call of a search
LARGE = 4096


def exact_search(store: VectorStore, device: str | torch.device = "cpu") -> Search:
    """Exact search over all vectors of a store in float32, N·E·4 bytes on the device.

    Scores are inner products, or with metric l2 the negative halves of squared distances up to |q|²/2, which
    is the same for all rows: q·k − |k|²/2.
    """
    keys = torch.from_numpy(np.array(store.vectors, np.float32)).to(device)
    if store.meta.metric == "l2":
        keys = torch.cat([keys, -keys.square().sum(1, keepdim=True) / 2], dim=1)

    def search(queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        if store.meta.metric == "l2":
            queries = torch.cat([queries, queries.new_ones(len(queries), 1)], dim=1)
        return exact.top_k(queries, keys, k, block=BLOCKS.get(keys.device.type, LARGE))

    return search


@torch.no_grad()
def nearest(
    search: Search,
    queries: Float[Tensor, "M E"],
    k: int,
    count: int,
    own: Int[Tensor, " M"] | None = None,
) -> tuple[Float[Tensor, "M k"], Int[Tensor, "M k"]]:
    """The k best rows for each query; no gradients.

    Args:
        count: N, the rows of the store.
        own: a row that must not come, for each query (−1: none), such as the picture that the text is a caption of.
    Returns:
        scores, best first, −∞ where nothing was found; rows int64, −1 there: of fewer than k pictures, or of what an
        index left open (the original took the last row of the store for −1, VAL-23).
    Raises:
        UserError: a query is not finite.
    """
    if not torch.isfinite(queries).all():
        wrong = int((~torch.isfinite(queries).all(1)).nonzero()[0])
        raise UserError(
            f"query {wrong:,} of {len(queries):,} holds a NaN or an infinity; expected finite numbers. The text "
            "tower is damaged: make it again"
        )
    asked = min(k + (own is not None), count)
    block = BLOCKS.get(queries.device.type, LARGE)
    scores = queries.new_full((len(queries), max(k, asked)), -torch.inf)
    rows = torch.full(scores.shape, -1, dtype=torch.int64, device=queries.device)
    for first in range(0, len(queries), block):
        part = queries[first : first + block]
        filled = torch.zeros(block, part.shape[1], dtype=part.dtype, device=part.device)
        filled[: len(part)] = part
        found = search(filled, asked)
        scores[first : first + block, :asked] = found[0][: len(part)]
        rows[first : first + block, :asked] = found[1][: len(part)]
    scores = scores.masked_fill(rows < 0, -torch.inf)
    if own is not None:
        mine = (rows == own[:, None].to(rows.device)) & (rows >= 0)
        order = mine.to(torch.uint8).sort(dim=1, stable=True).indices  # what is its own goes last
        rows = rows.masked_fill(mine, -1).gather(1, order)
        scores = scores.masked_fill(mine, -torch.inf).gather(1, order)
    return scores[:, :k], rows[:, :k]
