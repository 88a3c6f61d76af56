"""Exact nearest neighbours in plain torch: the definition that every faster index is checked against.

Specification section 7.2: `voken[i] = argmax_j f_i · K_j`, exact, the lowest index on exact ties. Scores
are computed in blocks, so memory stays at `block · chunk` numbers whatever the number of queries or keys;
the `[M, V]` matrix never exists (the original code's torch index materialised `[M, V, d]`).
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def _best(scores: Float[Tensor, "M C"], k: int) -> tuple[Float[Tensor, "M k"], Int[Tensor, "M k"]]:
    """The k best columns per row, best first, the lower column first among equals (`topk` alone does not
    promise it).
    """
    if k == 1:
        return scores.max(1, keepdim=True)  # documented to return the first maximum
    values, columns = scores.topk(k, dim=1)
    columns, order = columns.sort(dim=1)
    values, order = values.gather(1, order).sort(dim=1, descending=True, stable=True)
    columns = columns.gather(1, order)
    crowded = (scores >= values[:, -1:]).sum(1) > k  # a tie across the cut: topk chose freely among equals
    if crowded.any():
        exact, exact_columns = scores[crowded].sort(dim=1, descending=True, stable=True)
        values[crowded], columns[crowded] = exact[:, :k], exact_columns[:, :k]
    return values, columns


def top_k(
    queries: Float[Tensor, "M d"],
    keys: Float[Tensor, "V e"],
    k: int = 1,
    chunk: int = 16384,
    block: int = 4096,
) -> tuple[Float[Tensor, "M k"], Int[Tensor, "M k"]]:
    """The k keys of greatest inner product with each query.

    Args:
        queries: on any device; the result stays there. Cast to the keys' type (float32 keys: the conforming
            mode).
        keys: same device as the queries; unit rows make the score a cosine.
        k: neighbours per query, 1 ≤ k ≤ V.
        chunk, block: keys and queries per matrix product; memory is `block · chunk` scores.

    Returns:
        scores (descending) and key indices (int64); equal scores in order of index.

    Raises:
        ValueError: k outside 1…V, or widths differ.
    """
    if not 1 <= k <= len(keys):
        raise ValueError(f"k must be between 1 and the number of keys, {len(keys)}; got {k}")
    if queries.shape[1] != keys.shape[1]:
        raise ValueError(f"queries have width {queries.shape[1]}, keys have width {keys.shape[1]}")
    all_scores = queries.new_empty((len(queries), k), dtype=keys.dtype)
    all_ids = torch.empty((len(queries), k), dtype=torch.int64, device=queries.device)
    for row in range(0, len(queries), block):
        query = queries[row : row + block].to(keys.dtype)
        best_scores = best_ids = None
        for first in range(0, len(keys), chunk):
            scores = query @ keys[first : first + chunk].T  # (block, chunk)
            values, ids = _best(scores, min(k, scores.shape[1]))
            ids = ids + first
            if (
                best_scores is not None
            ):  # earlier chunks come first: a stable sort keeps the lower index on ties
                values, ids = torch.cat([best_scores, values], 1), torch.cat([best_ids, ids], 1)
                values, order = values.sort(dim=1, descending=True, stable=True)
                values, ids = values[:, :k], ids.gather(1, order)[:, :k]
            best_scores, best_ids = values, ids
        all_scores[row : row + block], all_ids[row : row + block] = best_scores, best_ids
    return all_scores, all_ids
