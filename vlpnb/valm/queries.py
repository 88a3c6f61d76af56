"""Stage `valm.queries`: what every token of a corpus retrieves, looked up once.

Paper: VaLM (Wang et al. 2023, section 2.2) looks up while it trains, anew at each step, though neither the tower nor
the database changes: a twentieth of the speed. Here the rows are written once and read by every model that is trained
on them; live retrieval (`retriever.py`) of the same text gives the same rows to the bit. The work is cut in shards
(`data/shards.py`).

    <split>.hdf5   a table (`retrieval/tables.py`): the rows of pictures at each position, −1: none
    queries.json   the rules, and with an index how much it finds
"""

import json
import os
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Int
from pydantic import Field
from torch import Tensor

from vlpnb.data.fields import field
from vlpnb.data.shards import Shards
from vlpnb.data.text_files import read_json
from vlpnb.errors import UserError
from vlpnb.files import write_json
from vlpnb.foundations.blocks import Corpus, load_corpus
from vlpnb.foundations.tower_pair import load_towers, words_of
from vlpnb.nn.losses import IGNORE
from vlpnb.retrieval.faiss_index import INDEX, Recall, load_index, open_search, recall_of
from vlpnb.retrieval.store import VectorStore
from vlpnb.retrieval.tables import QueryTable, open_table
from vlpnb.stage import Request, Stage, StageContext
from vlpnb.text.blocks import LanguageBlocks
from vlpnb.text.paragraphs import rows_of_pictures
from vlpnb.text.query_texts import SEARCHED
from vlpnb.train.distributed import barrier
from vlpnb.valm.retriever import QueryRules, Retriever

PRODUCER, ABOUT = "queries", "queries.json"
ASKED = 10_000  # queries of which an index's recall is measured


class QueriesConfig(QueryRules):
    """How pictures are looked up for a corpus, once."""

    splits: tuple[Literal["train", "captions", "text"], ...] = ("train", "captions", "text")
    """Texts of the corpus; those that it does not have are passed over."""
    corpus: dict[str, Any] = Field(default_factory=dict)
    """Fields of the stage `blocks` that are other than the run's."""
    images: dict[str, Any] = Field(default_factory=dict)
    """Fields of the stage `picture_vectors` that are other than the run's."""
    scores: bool = False
    """Keep the scores, too, in half precision."""
    recall: float = Field(0.95, gt=0, le=1)
    """With an index: the share of the exact K nearest that it is to find."""
    probes: int = Field(0, ge=0)
    """With an index: cells that a query looks into; 0: as many as `recall` needs (the paper has 32)."""
    tokens: int = Field(1 << 15, ge=1, json_schema_extra={"hash": False})
    """Tokens of a shard."""


def inputs(config: QueriesConfig) -> Mapping[str, Request]:
    """The corpus, the towers, and the database."""
    return {
        "corpus": Request("blocks", config.corpus),
        "towers": Request("towers"),
        "images": Request("picture_vectors", config.images),
    }


def write_table(
    blocks: LanguageBlocks,
    retriever: Retriever,
    target: Path,
    identity: str,
    *,
    length: int,
    own: Int[np.ndarray, " P"] | None = None,
    scores: bool = False,
    tokens: int = 1 << 15,
    about: Mapping[str, Any] = {},
    **several: Any,
) -> int:
    """Write the table of a corpus's examples; returns how many examples an earlier run had done of this process's.

    Args:
        length: positions of an example (T).
        own: for the number of each picture that text describes its row of the store, −1: it is not there.
        tokens: of a shard, which holds whole examples.
        several: rank, world_size, progress, wait of `Shards`.
    """
    per_shard = max(1, tokens // length)
    firsts = [*range(0, len(blocks), per_shard), len(blocks)]
    shards = Shards(
        target.with_name(f"checkpoint-{target.stem}"), identity, np.diff(firsts).tolist(), **several
    )
    if shards.complete(target):
        return len(blocks)
    rules = retriever.rules

    def unit(i: int) -> tuple[dict[str, np.ndarray], dict[str, list]]:
        numbers = np.arange(*firsts[i : i + 2])
        return _arrays(blocks, numbers, retriever, length, own, scores), {}

    found = shards.make(unit)
    described = {
        **about, "mode": rules.mode, "k": retriever.k, "length": length, "every": retriever.every,
        "store": retriever.store.meta.hash, "scores": scores and rules.mode != "self",
    }  # fmt: skip
    shards.publish(lambda: shards.join(target, PRODUCER, described))
    return sum(firsts[i + 1] - firsts[i] for i in found)


def _arrays(
    blocks: LanguageBlocks,
    numbers: np.ndarray,
    retriever: Retriever,
    length: int,
    own: np.ndarray | None,
    scores: bool,
) -> dict[str, np.ndarray]:
    batch = blocks.batch(numbers)
    ids, rest = batch["ids"], length - batch["ids"].shape[1]
    every, lengths = retriever.every, (batch["targets"] != IGNORE).sum(1).numpy().astype(np.int32)
    if retriever.rules.mode == "self":
        images, _ = retriever.images(ids)
        vectors = np.pad(images[:, :, 0].half().numpy(), ((0, 0), (0, rest), (0, 0)))
        return {"vectors": vectors, "lengths": lengths}
    mine = own_rows(batch, own)
    given = torch.full_like(ids, -1)[:, :, None] if mine is None else mine[:, :, None]
    found = retriever.rows(ids, own=mine, given=given, keys=torch.from_numpy(numbers))
    pad = ((0, 0), (0, rest), (0, 0))
    arrays = {"lengths": lengths, "rows": np.pad(found.rows.numpy(), pad, constant_values=-1)[:, ::every]}
    if scores:
        kept = np.pad(found.scores.numpy(), pad, constant_values=-np.inf)[:, ::every]
        arrays["scores"] = kept.astype(np.float16)
    return arrays


def own_rows(batch: Mapping[str, Tensor], own: Int[np.ndarray, " P"] | None) -> Int[Tensor, "B T"] | None:
    """For every position of a batch the row of the picture that its text describes, −1: none; None: nobody says it."""
    if own is None or "own" not in batch:
        return None
    rows = torch.from_numpy(np.append(own, -1))  # the last place takes −1
    return rows[batch["own"]]


def open_retriever(folder: Path, device: str = "cpu") -> Retriever:
    """Live retrieval by the rules of a folder of the stage `valm.queries`: what its tables hold, for any text."""
    folder = Path(folder)
    about = read_json(folder / ABOUT, "rules of retrieval, left by the stage `valm.queries`")
    where = str(folder / ABOUT)
    config = QueriesConfig.model_validate(field(about, "config", where))
    places = {role: folder / path for role, path in field(about, "inputs", where).items()}
    return _retriever(config, places, device, field(about, "probes", where))


def _retriever(
    config: QueriesConfig, folders: Mapping[str, Path], device: str, probes: int | None
) -> Retriever:
    store = VectorStore(folders["images"])
    tower = load_towers(folders["towers"], device).text
    words = words_of(load_corpus(folders["corpus"]).words, tower, config.longest)
    search = open_search(store, probes or 1, device) if config.mode in SEARCHED else None
    return Retriever(store, tower, config, words, search, device)


def _recall(
    config: QueriesConfig, retriever: Retriever, corpus: Corpus, splits: Sequence[str]
) -> Recall | None:
    """How much the index finds of what queries of the corpus ask; of held-out text where there is some."""
    path = retriever.store.folder / INDEX
    if config.mode not in SEARCHED or not path.is_file():
        return None
    blocks, asked, count, number = corpus.blocks(splits[-1]), [], 0, 0
    while number < len(blocks) and count < ASKED:
        asked.append(retriever.queries(blocks.batch([number])["ids"]).vectors)
        count, number = count + len(asked[-1]), number + 1
    index = load_index(path, retriever.store)
    probes = {"probes": (config.probes,), "target": 0.0} if config.probes else {"target": config.recall}
    return recall_of(index, retriever.store, torch.cat(asked)[:ASKED], config.k, **probes)


def run(context: StageContext) -> dict[str, float]:
    """Write the tables. Metrics: per split its examples and the distinct pictures in them; `recall` and `probes` of an
    index; `own_share`: of the positions with a picture of their own, those that retrieve it.
    """
    config: QueriesConfig = context.config
    corpus = load_corpus(context.inputs["corpus"])
    splits = [split for split in config.splits if split in corpus.splits]
    if not splits:
        raise UserError(f"valm.queries.splits: the corpus has none of {', '.join(config.splits)}")
    retriever = _retriever(config, context.inputs, context.device, None)
    store, recall = retriever.store, _recall(config, retriever, corpus, splits)
    metrics: dict[str, float] = {}
    if recall is not None:
        retriever = _retriever(config, context.inputs, context.device, recall.chosen)
        context.log(f"index: {recall}")
        metrics |= {"recall": recall.value, "probes": float(recall.chosen)}
    if context.rank == 0:
        places = {role: os.path.relpath(path, context.folder) for role, path in context.inputs.items()}
        about = {"config": config, "inputs": places, "probes": recall.chosen if recall else None}
        write_json(context.folder / ABOUT, about | {"recall": recall.by_probes if recall else None})
    own = rows_of_pictures(corpus.pictures, store.ids) if corpus.pictures else None
    for split in splits:
        blocks = corpus.blocks(split)
        about = [
            store.meta.hash,
            retriever.tower.hash,
            config.model_dump(mode="json"),
            metrics.get("probes"),
            split,
        ]
        write_table(
            blocks, retriever, context.folder / f"{split}.hdf5", sha256(json.dumps(about).encode()).hexdigest(),
            length=corpus.block, own=own, scores=config.scores, tokens=config.tokens, rank=context.rank,
            world_size=context.world_size, progress=context.progress,
        )  # fmt: skip
        metrics[f"{split}_examples"] = float(len(blocks))
        if config.mode != "self":
            table = open_table(context.folder, split)
            metrics[f"{split}_pictures"] = float(len(table.used))
            if own is not None and split == splits[0]:
                metrics["own_share"] = own_share(table, blocks, own)
    barrier(context.world_size)
    return metrics


def own_share(
    table: QueryTable, blocks: LanguageBlocks, own: Int[np.ndarray, " P"], examples: int = 2000
) -> float:
    """Of the positions whose text describes a picture of the store, those that see it; nan: there are none."""
    seen = there = 0
    for at in range(0, min(len(table), examples), 256):
        batch = blocks.batch(range(at, min(at + 256, len(table), examples)))
        mine = own_rows(batch, own)
        if mine is None:
            return float("nan")
        rows = table.batch(range(at, at + len(mine)), mine.shape[1])
        there += int((mine >= 0).sum())
        seen += int(((rows == mine[:, :, None]) & (mine >= 0)[:, :, None]).any(2).sum())
    return seen / there if there else float("nan")


QUERIES = Stage(
    "valm.queries", QueriesConfig, run, inputs, variant=("mode", "k", "close_at"), distributed=True,
    doc="Look up, once, the pictures that every token of the corpus retrieves.",
)  # fmt: skip
