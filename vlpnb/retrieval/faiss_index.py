"""Nearest neighbours with faiss (Johnson et al., arXiv 1702.08734), same signature as
`vlpnb.retrieval.exact.top_k`.

`flat_ip` and `flat_l2` are exact (on unit vectors they name the same neighbours; the original project used
flat L2 on one GPU); `ivf` looks only into the `probes` nearest of `cells` k-means cells: approximate, for
universes of millions. Which of several exactly equal keys comes first is faiss's choice; the exact search
in torch is the reference.
"""

import functools

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vlpnb.retrieval.exact import refuse_nan

KINDS = ("flat_ip", "flat_l2", "ivf")


def build_index(keys: Float[Tensor, "V d"], kind: str = "flat_ip", cells: int = 0, probes: int = 16):
    """Build a faiss index over the keys (on the host).

    Args:
        kind: one of `KINDS`.
        cells: k-means cells of `ivf`; 0 means 4·√V, at least 1 and at most V/39 (faiss wants 39 points per
            cell).
        probes: cells that a query looks into.

    Raises:
        ValueError: an unknown kind.
    """
    import faiss

    if kind not in KINDS:
        raise ValueError(f"unknown kind of index {kind!r}; known: {', '.join(KINDS)}")
    matrix = keys.detach().float().cpu().contiguous().numpy()
    count, width = matrix.shape
    if kind == "flat_l2":
        index = faiss.IndexFlatL2(width)
    elif kind == "flat_ip":
        index = faiss.IndexFlatIP(width)
    else:
        cells = cells or max(1, min(int(4 * count**0.5), count // 39))
        index = faiss.IndexIVFFlat(faiss.IndexFlatIP(width), width, cells, faiss.METRIC_INNER_PRODUCT)
        index.train(matrix)
        index.nprobe = min(probes, cells)
    index.add(matrix)
    return index


def search(
    index, queries: Float[Tensor, "M d"], k: int = 1
) -> tuple[Float[Tensor, "M k"], Int[Tensor, "M k"]]:
    """Scores (inner products; for `flat_l2` computed from the distances of unit vectors) and ids, best first.

    Unfilled places of an `ivf` search (fewer than k keys in the probed cells) have id −1.
    """
    import faiss

    scores, ids = index.search(queries.detach().float().cpu().contiguous().numpy(), k)
    scores, ids = torch.from_numpy(scores), torch.from_numpy(ids)
    if index.metric_type == faiss.METRIC_L2:
        scores = 1 - scores / 2  # |a − b|² = 2 − 2 a·b for unit vectors
    return scores.to(queries.device), ids.to(queries.device)


def top_k(
    queries: Float[Tensor, "M d"],
    keys: Float[Tensor, "V d"],
    k: int = 1,
    chunk: int = 16384,
    block: int = 4096,
    kind: str = "flat_ip",
) -> tuple[Float[Tensor, "M k"], Int[Tensor, "M k"]]:
    """`vlpnb.retrieval.exact.top_k` through faiss; `chunk` is faiss's own business and ignored."""
    if not 1 <= k <= len(keys):
        raise ValueError(f"k must be between 1 and the number of keys, {len(keys)}; got {k}")
    index = build_index(keys, kind)
    find = functools.partial(search, index, k=k)
    scores, ids = zip(
        *(find(queries[row : row + block]) for row in range(0, len(queries), block)), strict=True
    )
    found = torch.cat(scores)
    if not (
        torch.isfinite(keys).all() and torch.isfinite(queries).all()
    ):  # faiss passes over them without a word
        refuse_nan(torch.full_like(found, torch.nan), queries, keys)
    refuse_nan(found, queries, keys)
    return found, torch.cat(ids)
