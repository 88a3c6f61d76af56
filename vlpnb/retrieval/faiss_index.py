"""Nearest neighbours with faiss (Johnson et al., arXiv 1702.08734), same signature as
`vlpnb.retrieval.exact.top_k`.

`flat_ip` and `flat_l2` are exact (on unit vectors they name the same neighbours; the original project used
flat L2 on one GPU); `ivf` looks only into the `probes` nearest of `cells` k-means cells: approximate, for
universes of millions. Which of several exactly equal keys comes first is faiss's choice; the exact search
in torch is the reference.

For a store of vectors (`retrieval/store.py`) there are plans of indexes with a rule for their sizes, codes in place of
vectors (product quantisation), building in parts, files that say which store and metric they are of, and recall@K.
What the model reads of a row comes from the store, never from the index's codes. faiss is imported where it is used: it
brings an OpenMP runtime of its own.
"""

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from vlpnb.data.text_files import read_json, require
from vlpnb.errors import UserError
from vlpnb.files import atomic, write_json
from vlpnb.retrieval.exact import refuse_nan
from vlpnb.retrieval.nearest import Search, exact_search, nearest
from vlpnb.retrieval.store import Metric, VectorStore

KINDS = ("flat_ip", "flat_l2", "ivf")
INDEX = "index.faiss"  # beside a store


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


@dataclass(frozen=True)
class IndexPlan:
    """How vectors are laid out for search: `flat` (exact), `ivf` (cells of exact vectors), `ivf_pq` (cells of codes).

    `codes`: bytes of a vector's code, one for each of so many parts of it.
    """

    kind: Literal["flat", "ivf", "ivf_pq"]
    cells: int = 0
    codes: int = 0

    def factory(self) -> str:
        """In faiss's own words."""
        cells = f"IVF{self.cells}"
        return {"flat": "Flat", "ivf": f"{cells},Flat", "ivf_pq": f"{cells},PQ{self.codes}x8"}[self.kind]

    def memory(self, count: int, width: int) -> int:
        """Bytes of an index of so many vectors: numbers or codes, ids, centres."""
        row = self.codes if self.kind == "ivf_pq" else 4 * width
        return count * (row + 8 * (self.kind != "flat")) + 4 * width * self.cells


ORIGINAL = IndexPlan("ivf_pq", 131_072, 64)
"""VaLM's, of 191.5 million vectors of width 768; it looks into 32 cells."""
FLAT_BELOW, CODES_FROM = 200_000, 1_000_000
POINTS = 39  # that faiss wants for each cell when it learns them
TARGET, PROBES = 0.95, (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


def sizes_for(count: int, width: int) -> IndexPlan:
    """The rule of sizes: exact below 200,000 vectors; then 4·√N cells, at most N/39; from a million on codes of one
    byte for about twelve numbers (a divisor of the width).
    """
    if count < FLAT_BELOW:
        return IndexPlan("flat")
    cells = max(1, min(int(4 * count**0.5), count // POINTS))
    if count < CODES_FROM:
        return IndexPlan("ivf", cells)
    most = max(1, width // 12)
    return IndexPlan("ivf_pq", cells, next(parts for parts in range(most, 0, -1) if width % parts == 0))


def train_index(sample: Float[Tensor, "M d"], plan: IndexPlan, metric: Metric = "ip", seed: int = 1):
    """An index that has learnt its cells and codes from some vectors, and holds none yet.

    Raises:
        UserError: fewer vectors than cells, or than the 256 values of a code, or codes that do not divide the width.
    """
    import faiss

    width, least = sample.shape[1], max(plan.cells, 256 * (plan.kind == "ivf_pq"))
    if len(sample) < least:
        raise UserError(
            f"index {plan.factory()}: learns from {least:,} vectors at least, and has {len(sample):,}; take fewer "
            "cells, or an exact search"
        )
    if plan.kind == "ivf_pq" and width % plan.codes:
        raise UserError(f"index {plan.factory()}: {plan.codes} parts do not divide a width of {width}")
    kind = faiss.METRIC_INNER_PRODUCT if metric == "ip" else faiss.METRIC_L2
    index = faiss.index_factory(width, plan.factory(), kind)
    if plan.kind != "flat":
        index.cp.seed = seed
    if plan.kind == "ivf_pq":
        index.do_polysemous_training = False  # orders codes for a filter that is not used, for seconds each
        index.pq.cp.seed = seed
    index.train(_matrix(sample))
    return index


def add_in_parts(index, parts: Iterable[Float[Tensor, "_ d"]]) -> int:
    """Add vectors part by part; memory is the index's and one part's. Returns how many the index holds."""
    for part in parts:
        index.add(_matrix(part))
    return int(index.ntotal)


def _matrix(rows: Tensor) -> np.ndarray:
    return rows.detach().float().cpu().contiguous().numpy()


def build_for(
    store: VectorStore, plan: IndexPlan | None = None, part: int = 100_000, sample: int = 0, seed: int = 1
):
    """The index of a store: learnt from a random sample, filled in parts.

    Args:
        plan: by the rule of sizes if it is not given.
        part: vectors in memory at a time.
        sample: vectors to learn from; 0: 256 for each cell. The original took ten million of its 191.5 million.
    """
    plan = plan or sizes_for(len(store), store.meta.width)
    wanted = min(len(store), sample or max(256 * plan.cells, 65_536))
    chosen = np.sort(np.random.default_rng(seed).choice(len(store), wanted, replace=False))
    index = train_index(store.gather(chosen, "vectors"), plan, store.meta.metric, seed)
    firsts = range(0, len(store), part)
    add_in_parts(index, (store.gather(np.arange(i, min(i + part, len(store))), "vectors") for i in firsts))
    return index


def save_index(index, path: Path, store: VectorStore, plan: IndexPlan) -> None:
    """Write an index, and beside it what it is of; whole or not at all."""
    import faiss

    about = {"store": store.meta.hash, "metric": store.meta.metric, "count": int(index.ntotal)}
    write_json(path.with_suffix(".json"), {**about, "width": int(index.d), "plan": asdict(plan)})
    with atomic(path) as temporary:
        faiss.write_index(index, str(temporary))


def load_index(path: Path, store: VectorStore):
    """The index of a store, mapped where faiss can.

    Raises:
        UserError: it is missing or damaged, or of another store, metric, size or width.
    """
    import faiss

    about = read_json(path.with_suffix(".json"), "what an index is of")
    require(path, "an index of a store's vectors")
    try:
        index = faiss.read_index(str(path))
    except RuntimeError as error:
        raise UserError(
            f"{path} ({path.stat().st_size:,} bytes) is no complete faiss index ({str(error).splitlines()[0][:100]}). "
            "Delete it and run the stage that writes it again"
        ) from None
    metric = {faiss.METRIC_INNER_PRODUCT: "ip", faiss.METRIC_L2: "l2"}.get(index.metric_type, "another")
    found = {"store": about.get("store"), "metric": metric, "count": int(index.ntotal), "width": int(index.d)}
    meta = store.meta
    wanted = {"store": meta.hash, "metric": meta.metric, "count": meta.count, "width": meta.width}
    for name, value in wanted.items():
        if found[name] != value:
            raise UserError(
                f"{path}: {name} is {found[name]}, that of the store {store.folder} is {value}. Distances of another "
                "kind or vectors of another store give other neighbours: build the index again"
            )
    return index


def set_probes(index, probes: int) -> None:
    """Into how many cells a query looks; nothing for an exact index."""
    if hasattr(index, "nprobe"):
        index.nprobe = min(probes, index.nlist)


def on_gpu(index, needed: int):
    """The index on the first GPU, with half-precision tables, if faiss has one with so many bytes free; else itself."""
    import faiss

    if not getattr(faiss, "get_num_gpus", int)() or torch.cuda.mem_get_info()[0] < needed * 1.1:
        return index
    options = faiss.GpuClonerOptions()
    options.useFloat16 = True
    return faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, index, options)


def index_search(index, metric: Metric = "ip") -> Search:
    """A search through an index, for `nearest`. Scores are inner products, or q·k − |k|²/2 with metric l2."""

    def find(queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        scores, rows = index.search(_matrix(queries), k)
        scores, rows = torch.from_numpy(scores).to(queries.device), torch.from_numpy(rows).to(queries.device)
        if metric == "l2":  # faiss gives |q − k|²
            scores = (queries.square().sum(1, keepdim=True) - scores) / 2
        return scores, rows

    return find


def open_search(store: VectorStore, probes: int, device: str = "cpu") -> Search | None:
    """The search through the index beside a store; None: there is none, and search is exact."""
    path = store.folder / INDEX
    if not path.is_file():
        return None
    index = load_index(path, store)
    if device.startswith("cuda"):
        index = on_gpu(index, path.stat().st_size)
    set_probes(index, probes)
    return index_search(index, store.meta.metric)


@dataclass(frozen=True)
class Recall:
    """How many of the exact K nearest an index finds, looking into so many cells."""

    k: int
    queries: int
    by_probes: Mapping[int, float]
    chosen: int  # the fewest cells that reach the target, or the most there are

    @property
    def value(self) -> float:
        """With the chosen number of cells."""
        return self.by_probes[self.chosen]

    def __str__(self) -> str:
        return f"recall@{self.k} {self.value:.3f} with {self.chosen} cells looked into, of {self.queries:,} queries"


def recall_of(
    index, store: VectorStore, queries: Float[Tensor, "M d"], k: int, target: float = TARGET,
    probes: Sequence[int] = PROBES,
) -> Recall:  # fmt: skip
    """Recall@K against exact search; the index is left with the fewest cells that reach the target.

    A place that is left open is a miss, never a find.
    """
    k = min(k, len(store))
    exact = nearest(exact_search(store), queries, k, len(store))[1]
    cells = getattr(index, "nlist", 1)
    found: dict[int, float] = {}
    for count in sorted({min(count, cells) for count in (*probes, cells)}):
        set_probes(index, count)
        rows = nearest(index_search(index, store.meta.metric), queries, k, len(store))[1]
        hits = (rows[:, :, None] == exact[:, None]).any(2) & (rows >= 0)
        found[count] = float(hits.float().mean())
        if found[count] >= target:
            break
    return Recall(k, len(queries), found, max(found))
