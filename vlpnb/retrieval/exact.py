"""Exact nearest neighbours in plain torch: the definition that every faster index is checked against.

`voken[i] = argmax_j f_i · K_j`, exact, the lowest index on exact ties. Scores
are computed in blocks, so memory stays at `block · chunk` numbers whatever the number of queries or keys;
the `[M, V]` matrix never exists (the original code's torch index materialised `[M, V, d]`).
"""

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vlpnb.errors import UserError


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


# Keys and queries per matrix product: on a CPU the scores must stay in its cache (4 MB), a GPU wants large products.
BLOCKS = {"cpu": (2048, 512)}
LARGE = (16384, 4096)


@torch.no_grad()
def top_k(
    queries: Float[Tensor, "M d"],
    keys: Float[Tensor, "V e"],
    k: int = 1,
    chunk: int | None = None,
    block: int | None = None,
) -> tuple[Float[Tensor, "M k"], Int[Tensor, "M k"]]:
    """The k keys of greatest inner product with each query; no gradients.

    Args:
        queries: on any device; the result stays there. Cast to the keys' type (float32 keys: the conforming
            mode).
        keys: same device as the queries; unit rows make the score a cosine.
        k: neighbours per query, 1 ≤ k ≤ V.
        chunk, block: keys and queries per matrix product; memory is `block · chunk` scores. By default 2,048
            and 512 on a CPU, 16,384 and 4,096 elsewhere.

    Returns:
        scores (descending) and key indices (int64); equal scores in order of index.

    Raises:
        ValueError: k outside 1…V, or widths differ.
        UserError: a key or a query is not finite; one such key would be the nearest of all queries.
    """
    if not 1 <= k <= len(keys):
        raise ValueError(f"k must be between 1 and the number of keys, {len(keys)}; got {k}")
    if queries.shape[1] != keys.shape[1]:
        raise ValueError(f"queries have width {queries.shape[1]}, keys have width {keys.shape[1]}")
    usual = BLOCKS.get(keys.device.type, LARGE)
    chunk, block = chunk or usual[0], block or usual[1]
    all_scores = queries.new_empty((len(queries), k), dtype=keys.dtype)
    all_ids = torch.empty((len(queries), k), dtype=torch.int64, device=queries.device)
    memory = queries.new_empty(min(block, len(queries)) * min(chunk, len(keys)), dtype=keys.dtype)
    find = _block_top_1 if k == 1 and keys.device.type == "cpu" else _block_top_k
    for row in range(0, len(queries), block):
        part = slice(row, row + block)
        all_scores[part], all_ids[part] = find(queries[part].to(keys.dtype), keys, k, chunk, memory)
    refuse_nan(all_scores, queries, keys)
    return all_scores, all_ids


def refuse_nan(
    scores: Float[Tensor, "M k"], queries: Float[Tensor, "M d"], keys: Float[Tensor, "V e"]
) -> None:
    """UserError naming the first key, or the first query, that made scores which are no numbers.

    A NaN spreads into the best score of every query that meets it, so that looking at the best scores is enough.
    """
    if torch.isfinite(scores).all():
        return
    for what, rows in (("key", keys), ("query", queries)):
        wrong = (~torch.isfinite(rows).all(dim=1)).nonzero().flatten()
        if len(wrong):
            raise UserError(
                f"{what} {int(wrong[0]):,} of {len(rows):,} holds a NaN or an infinity, so that its neighbours mean "
                "nothing; expected finite numbers. The model or the file that it comes from is damaged: make it again."
            )
    raise UserError(
        "the scores of neighbours are not finite though keys and queries are: their numbers are too large."
    )


def _scores(query: Tensor, keys: Tensor, chunk: int, memory: Tensor) -> Iterator[tuple[int, Tensor]]:
    """The first key of every chunk and the scores [block, ≤ chunk], always in the same memory."""
    for first in range(0, len(keys), chunk):
        some = keys[first : first + chunk]
        out = memory[: len(query) * len(some)].view(len(query), len(some))
        yield first, torch.mm(query, some.T, out=out)


def _block_top_1(query: Tensor, keys: Tensor, k: int, chunk: int, memory: Tensor) -> tuple[Tensor, Tensor]:
    """Top 1 for a CPU: where the maximum is, is asked only of rows whose best so far was beaten (few, after
    some chunks).
    """
    best = query.new_full((len(query),), -torch.inf)
    ids = torch.zeros(len(query), dtype=torch.int64)
    for first, scores in _scores(query, keys, chunk, memory):
        top = scores.amax(1)
        beaten = (top > best).nonzero().squeeze(1)  # an equal score of a later chunk beats nobody
        ids[beaten] = scores[beaten].argmax(1) + first  # documented to return the first maximum
        best = torch.maximum(best, top)
    return best[:, None], ids[:, None]


def _block_top_k(query: Tensor, keys: Tensor, k: int, chunk: int, memory: Tensor) -> tuple[Tensor, Tensor]:
    """A running top k over the chunks."""
    best = None
    for first, scores in _scores(query, keys, chunk, memory):
        values, ids = _best(scores, min(k, scores.shape[1]))
        ids = ids + first
        if best is not None:  # earlier chunks come first: a stable sort keeps the lower index on ties
            values, ids = torch.cat([best[0], values], 1), torch.cat([best[1], ids], 1)
            values, order = values.sort(dim=1, descending=True, stable=True)
            values, ids = values[:, :k], ids.gather(1, order)[:, :k]
        best = values, ids
    return best
