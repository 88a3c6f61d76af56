"""Vokenise a corpus: for every token of every sentence, the picture that fits it best (paper, section 3.1).

    voken[i] = argmax_j f(t_i; s) · K_j            exact, the lowest index on ties

Sentences are the context; longer ones than 128 word pieces are cut in balanced pieces. Work goes through in
pages of some ten thousand tokens (`vlpnb.text.pages`); inside a page sentences are sorted by length and batched under
a token budget, then written back in order. Neither where a run was interrupted nor the number of processes changes
the result. Shards (`data/shards.py`) are whole pages, a thousand of them at most.

Differs from the original: no text file in between, no guessing of modes from paths (VOK-10), the final array
is published atomically (VOK-11), any interrupted state can be continued (VOK-12). How a sentence is vokenised
stands in `vokeniser.py`.
"""

import hashlib
import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int
from pydantic import Field

from vlpnb.config import Config
from vlpnb.data.shards import Shards
from vlpnb.data.store import mapped
from vlpnb.downstream.grounding import grounding_rates
from vlpnb.files import content_hash, write_text
from vlpnb.foundations.captions import splits_only
from vlpnb.stage import Request, Stage, StageContext
from vlpnb.text.corpora import TokenCorpus, check_tokenizer
from vlpnb.text.original_import import OriginalFiles
from vlpnb.text.pages import Pages
from vlpnb.text.tokenizers import load_tokenizer
from vlpnb.train.loop import Precision
from vlpnb.vokenization.keys import Keys, key_files, load_keys
from vlpnb.vokenization.matcher import WEIGHTS, load_matcher
from vlpnb.vokenization.original.files import import_stage
from vlpnb.vokenization.revokeniser import Revokeniser, for_tokenizer
from vlpnb.vokenization.vokeniser import Granularity, Vokeniser, decode_marks

PRODUCER = "vokens"
CHUNK = 1 << 20  # vokens in memory at a time
MOST_SHARDS = 1024


def vokenise_corpus(
    corpus: TokenCorpus,
    vokenise: Vokeniser | Revokeniser,
    target: Path,
    identity: str,
    *,
    ids: Sequence[str] = (),
    limit: int = 128,
    legacy_pieces: bool = False,
    page_tokens: int = 1 << 15,
    rank: int = 0,
    world_size: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
    wait: Callable[[], None] | None = None,
) -> int:
    """Write `target` (HDF5, `vokens` int32 [N]) and its `.ids`; returns the tokens that an earlier run had
    done, of those that are this process's.

    Args:
        identity: changes when corpus, matcher, keys or settings change.
        ids: line j of `.ids` names voken j, `<image set>/<image id>`.
        page_tokens: tokens per page.
        rank, world_size, progress, wait: see `Shards`.
    """
    pages = Pages(corpus.sentences, page_tokens, limit, legacy_pieces)
    per_shard = 1 + len(pages) // MOST_SHARDS
    firsts = [*range(0, len(pages), per_shard), len(pages)]
    sizes = np.diff(pages.starts[firsts]).tolist()
    folder = target.with_name(f"checkpoint-{target.stem}")
    shards = Shards(folder, identity, sizes, rank, world_size, progress, wait)
    if shards.complete(target):
        return len(corpus)

    def unit(i: int) -> tuple[dict[str, np.ndarray], dict[str, list]]:
        parts = [_page(corpus, vokenise, pages.pieces(page)) for page in range(firsts[i], firsts[i + 1])]
        return {"vokens": np.concatenate(parts).astype(np.int32)}, {}

    def write() -> None:
        # Before the store: where the store is, the work is done, and nobody comes back for its ids.
        write_text(target.with_suffix(".ids"), "".join(f"{name}\n" for name in ids))
        about = {
            "granularity": vokenise.granularity,
            "size": len(vokenise.keys),
            "revokenised": isinstance(vokenise, Revokeniser),
        }
        shards.join(target, PRODUCER, about)

    found = shards.make(unit)
    shards.publish(write)
    return sum(sizes[i] for i in found)


def _page(
    corpus: TokenCorpus, vokenise: Vokeniser | Revokeniser, pieces: Int[np.ndarray, " n1"]
) -> Int[np.ndarray, " N"]:
    tokens = np.asarray(corpus.tokens[pieces[0] : pieces[-1]]).astype(np.int64)
    vokens = vokenise([tokens[a:b].tolist() for a, b in itertools.pairwise((pieces - pieces[0]).tolist())])
    if len(vokens) != len(tokens):
        raise RuntimeError(f"tokens {pieces[0]} to {pieces[-1]} gave {len(vokens)} vokens")
    return vokens


def distinct_vokens(vokens: Int[np.ndarray, " N"], size: int) -> int:
    """How many of `size` vokens occur, marked or not."""
    seen = np.zeros(size, bool)
    for at in range(0, len(vokens), CHUNK):
        seen[decode_marks(np.asarray(vokens[at : at + CHUNK]), "all")] = True
    return int(seen.sum())


class OriginalVokens(OriginalFiles):
    """How the original does it: vokens that it has made, and its way to cut sentences."""

    pieces: bool = False
    """Cut sentences beyond `limit` with a short last piece (VOK-09)."""


class VokensConfig(Config):
    """How a corpus is vokenised, or where its vokens are."""

    granularity: Granularity = "token"
    """Contextual tokens (the paper's), whole sentences, or types without context."""
    limit: int = Field(128, ge=1)
    """Longest piece of a sentence in word pieces."""
    token_budget: int = Field(8192, ge=1)
    """Padded tokens per forward pass."""
    precision: Precision = "float32"
    """Of the language backbone on a GPU; "bfloat16" changes a small share of the vokens."""
    page_tokens: int = Field(1 << 15, ge=1)
    """Tokens per page, the unit of progress."""
    original: OriginalVokens = OriginalVokens()
    """Vokens that the original project has made, in place of a matcher's, and its way to cut sentences."""


def inputs(config: VokensConfig) -> dict[str, Request]:
    """Vokens that are there already need the corpus only."""
    needed = {"corpus": Request("corpus")}
    if not config.original.train:
        needed |= {"matching": Request("vokenization.matching"), "keys": Request("vokenization.keys")}
        needed["captions"] = splits_only
    return needed


def _outside(config: VokensConfig) -> dict[str, Path]:
    """The original project's files, with the ids of the pictures beside them."""
    files = config.outside()
    return files | {f"{name}.ids": path.with_suffix(".ids") for name, path in files.items()}


def run_vokens(context: StageContext) -> dict[str, float]:
    """Vokenise the train and the valid corpus. Metrics: tokens per second, distinct vokens; on the world,
    what they show.
    """
    import time

    config: VokensConfig = context.config
    if config.original.train:
        return import_stage(context)
    keys: Keys = load_keys(context.inputs["keys"])
    matcher = load_matcher(context.inputs["matching"], context.device)
    tokenizer = load_tokenizer(context.inputs["corpus"] / "tokenizer")

    def vokeniser(granularity: Granularity) -> Vokeniser | Revokeniser:
        own = Vokeniser(matcher, keys.vectors, granularity, config.token_budget, config.precision)
        return for_tokenizer(own, tokenizer, config.limit)

    vokenise = vokeniser(config.granularity)
    if isinstance(vokenise, Revokeniser):
        context.log("the corpus has another tokenizer than the matcher: its vokens are carried over")
    names = keys.names
    state = [
        content_hash(context.inputs["matching"] / WEIGHTS),
        *(content_hash(path) for path in key_files(context.inputs["keys"])),
    ]
    corpora = {split: TokenCorpus(context.inputs["corpus"] / f"{split}.hdf5") for split in ("valid", "train")}
    for corpus in corpora.values():
        check_tokenizer(corpus, tokenizer, "the folder beside it")
    metrics: dict[str, float] = {"size": float(len(keys.ids))}
    new = seconds = 0.0
    for split, corpus in corpora.items():
        about = [*state, corpus.attributes["identity"], len(corpus), config.model_dump(mode="json")]
        identity = hashlib.sha256(json.dumps(about).encode()).hexdigest()
        started = time.monotonic()
        earlier = vokenise_corpus(
            corpus, vokenise, context.folder / f"{split}.hdf5", identity, ids=names, limit=config.limit,
            legacy_pieces=config.original.pieces, page_tokens=config.page_tokens, rank=context.rank,
            world_size=context.world_size, progress=context.progress,
        )  # fmt: skip
        seconds += time.monotonic() - started
        new += len(corpus) - earlier
        vokens = mapped(context.folder / f"{split}.hdf5", "vokens")
        metrics[f"{split}_tokens"] = float(len(corpus))
        metrics[f"{split}_distinct"] = float(distinct_vokens(vokens, len(keys.ids)))
    metrics["distinct"] = metrics["train_distinct"]
    metrics["tokens_per_second"] = new / seconds if new else float("nan")
    if context.rank == 0:
        valid = mapped(context.folder / "valid.hdf5", "vokens")
        metrics |= grounding_rates(
            context.inputs["captions"],
            corpora["valid"],
            tokenizer,
            keys.ids,
            valid,
            vokeniser("term"),
        )
    return metrics


VOKENS = Stage(
    "vokenization.vokens", VokensConfig, run_vokens, inputs, variant=("granularity",), distributed=True,
    outside=_outside, doc="Give every token of the corpus its voken.",
)  # fmt: skip
