"""Nearest keys of width 64: our exact search in torch beside faiss flat (exact) and faiss IVF (approximate)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks import inputs
from benchmarks.measure import Row, agree, compare
from benchmarks.vokenising import on_device
from vlpnb.retrieval.exact import top_k
from vlpnb.retrieval.faiss_index import build_index
from vlpnb.retrieval.faiss_index import search as faiss_search


@dataclass(frozen=True)
class Size:
    keys: tuple[int, ...] = (50_000, 1_000_000)
    queries: tuple[int, ...] = (2048, 128)
    ivf: bool = True
    cells: int = 256  # fewer than faiss's usual 4·√V, whose k-means would take longer than all the rest
    rounds: int = 3


def ours(queries: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
    """Scores and ids of the best key."""
    return top_k(queries, keys)


def peer(index, queries: Tensor) -> tuple[Tensor, Tensor]:
    """Scores and ids of the best key."""
    return faiss_search(index, queries)


def same_neighbours(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> str:
    """The same scores to rounding (1e-5), and the same ids where no other key comes so close."""
    gap = (first[0] - second[0]).abs().max().item()
    agree(gap <= 1e-5, f"best scores differ by up to {gap:.1e}")
    share = (first[1] == second[1]).float().mean().item()
    agree(share >= 0.999, f"only {share:.2%} of the ids agree")
    return f"{share:.2%} same ids"


def recall(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> str:
    """The share of queries whose nearest key the approximate index finds; nothing that it finds may be nearer."""
    agree(bool((second[0] <= first[0] + 1e-5).all()), "an index found a nearer key than the exact search")
    return f"recall@1 of IVF {(first[1] == second[1]).float().mean():.3f}"


def run(size: Size = Size(), device: str = "cpu") -> list[Row]:
    """For each number of keys a row beside flat, and one beside IVF."""
    rows = []
    for count, asked in zip(size.keys, size.queries, strict=True):
        keys, queries = inputs.unit_rows(count, 64, 0).to(device), inputs.unit_rows(asked, 64, 1).to(device)
        for kind in ("flat_ip", "ivf") if size.ivf else ("flat_ip",):
            index = on_device(build_index(keys, kind, cells=min(size.cells, count // 39)), device)
            row = compare(
                f"search {asked:,} in {count:,} keys, faiss {kind}",
                lambda queries=queries, keys=keys: ours(queries, keys),
                lambda index=index, queries=queries: peer(index, queries),
                same_neighbours if kind == "flat_ip" else recall,
                rounds=size.rounds,
                device=device,
                note=""
                if kind == "flat_ip"
                else "random keys, the hardest for IVF; building it is not counted",
            )
            rows.append(row)
            torch.cuda.empty_cache() if "cuda" in device else None
    return rows
