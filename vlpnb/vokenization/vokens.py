"""Vokenise a corpus: for every token of every sentence, the picture that fits it best (paper, section 3.1).

    voken[i] = argmax_j f(t_i; s) · K_j            exact, the lowest index on ties

Sentences are the context; longer ones than 128 word pieces are cut in balanced pieces. Work goes through in
pages of some ten thousand tokens; inside a page sentences are sorted by length and batched under a token
budget, then written back in order. Each process appends its pages to one binary file and then notes them in
a manifest; after a kill at any byte the file is cut back to the last noted page. Pages, and batches inside
them, do not depend on where a run was interrupted nor on the number of processes, so neither does the result;
with another number of processes than before, pages are taken over from the files of the others.

Differs from the original: no text file in between, no guessing of modes from paths (VOK-10), the final array
is published atomically (VOK-11), any interrupted state can be continued (VOK-12). How a sentence is vokenised
stands in `vokeniser.py`.
"""

import hashlib
import itertools
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int
from pydantic import Field

from vlpnb.config import Config
from vlpnb.data.store import mapped, write_store
from vlpnb.errors import UserError
from vlpnb.files import content_hash, fingerprint_files, write_text
from vlpnb.foundations.captions import splits_only
from vlpnb.stage import Request, Stage, StageContext
from vlpnb.text.corpora import TokenCorpus, check_tokenizer, split_long
from vlpnb.text.original_import import OriginalFiles
from vlpnb.text.tokenizers import load_tokenizer
from vlpnb.train.distributed import barrier
from vlpnb.train.loop import Precision
from vlpnb.vokenization.grounding import grounding_rates
from vlpnb.vokenization.keys import Keys, key_files, load_keys
from vlpnb.vokenization.matcher import WEIGHTS, load_matcher
from vlpnb.vokenization.original.files import import_vokens
from vlpnb.vokenization.revokeniser import Revokeniser, for_tokenizer
from vlpnb.vokenization.vokeniser import Granularity, Vokeniser

PRODUCER = "vokens"


def pieces_of(offsets: Int[np.ndarray, " S1"], limit: int, legacy: bool = False) -> Int[np.ndarray, " P1"]:
    """Offsets of the pieces in which sentences are encoded: sentences longer than `limit` are cut in
    balanced pieces, or as the original cuts them (`legacy`, VOK-09).
    """
    lengths = np.diff(offsets)
    if (lengths <= limit).all():
        return offsets[np.concatenate([[True], lengths > 0])]
    cut = [size for length in lengths.tolist() for size in split_long(length, limit, legacy)]
    return np.concatenate([offsets[:1], offsets[0] + np.cumsum(cut)]).astype(np.int64)


@dataclass(frozen=True)
class Progress:
    """What the manifest beside a shard says: how much of it is certainly there."""

    identity: str
    pages: int = 0
    tokens: int = 0


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
) -> int:
    """Write `target` (HDF5, `vokens` int32 [N]) and its `.ids`; returns the tokens that an earlier run had
    done.

    Args:
        identity: changes when corpus, matcher, keys or settings change; a shard of another identity is
            thrown away.
        ids: line j of `.ids` names voken j, `<image set>/<image id>`.
        page_tokens: tokens per page, the unit of progress.
    """
    if target.is_file():
        return len(corpus)
    pieces = pieces_of(corpus.sentences, limit, legacy_pieces)
    page_starts = [0]  # indices into `pieces`
    while page_starts[-1] < len(pieces) - 1:
        end = int(np.searchsorted(pieces, pieces[page_starts[-1]] + page_tokens, side="right")) - 1
        page_starts.append(max(end, page_starts[-1] + 1))
    mine = np.array_split(np.arange(len(page_starts) - 1), world_size)[rank]
    shard = target.with_name(f"checkpoint-{target.stem}.{rank:04d}-{world_size:04d}.bin")
    manifest = shard.with_suffix(".json")

    done = Progress(identity)
    if manifest.is_file() and shard.is_file():
        found = Progress(**json.loads(manifest.read_text(encoding="utf-8")))
        if found.identity == identity and shard.stat().st_size >= 4 * found.tokens:
            done = found
    earlier = done.tokens
    sizes = np.diff(pieces[page_starts])
    total = int(sizes[mine].sum())
    there = _pages_elsewhere(target, identity, sizes, world_size)
    with shard.open("r+b" if shard.is_file() else "w+b") as file:
        file.truncate(4 * done.tokens)
        file.seek(4 * done.tokens)
        for page in mine[done.pages :]:
            bounds = pieces[page_starts[page] : page_starts[page + 1] + 1]
            count = int(bounds[-1] - bounds[0])
            if page in there:
                path, at = there[page]
                vokens = np.fromfile(path, "<i4", count, offset=4 * at)
                earlier += count
            else:
                tokens = np.asarray(corpus.tokens[bounds[0] : bounds[-1]]).astype(np.int64)
                cuts = itertools.pairwise((bounds - bounds[0]).tolist())
                vokens = vokenise([tokens[a:b].tolist() for a, b in cuts])
            if len(vokens) != count:
                raise RuntimeError(f"page {page}: {count} tokens gave {len(vokens)} vokens")
            file.write(vokens.astype("<i4").tobytes())
            file.flush()
            os.fsync(file.fileno())
            done = Progress(identity, done.pages + 1, done.tokens + count)
            write_text(manifest, json.dumps(asdict(done)))
            progress(done.tokens, total)
    barrier(world_size)
    if rank == 0:
        shards = [
            target.with_name(f"checkpoint-{target.stem}.{r:04d}-{world_size:04d}.bin")
            for r in range(world_size)
        ]
        found = sum(path.stat().st_size for path in shards) // 4
        if found != len(corpus):
            raise UserError(
                f"{target}: {found:,} vokens for {len(corpus):,} tokens; a process failed, run again"
            )
        # Before the store: where the store is, the work is done, and nobody comes back for its ids.
        write_text(target.with_suffix(".ids"), "".join(f"{name}\n" for name in ids))
        about = {
            "identity": identity,
            "granularity": vokenise.granularity,
            "size": len(vokenise.keys),
            "revokenised": isinstance(vokenise, Revokeniser),
        }
        with write_store(target, PRODUCER, about) as out:
            array = out.create_dataset("vokens", (len(corpus),), "int32")
            at = 0
            for path in shards:
                part = np.fromfile(path, "<i4")
                if len(part):
                    array[at : at + len(part)] = part
                at += len(part)
        for path in target.parent.glob(f"checkpoint-{target.stem}.*"):
            path.unlink()
    barrier(world_size)
    return earlier


def _pages_elsewhere(
    target: Path, identity: str, sizes: Int[np.ndarray, " P"], world_size: int
) -> dict[int, tuple[Path, int]]:
    """The pages that an attempt with another number of processes noted: file, and position in it in vokens."""
    found: dict[int, tuple[Path, int]] = {}
    for path in sorted(target.parent.glob(f"checkpoint-{target.stem}.????-????.json")):
        r, processes = map(int, path.stem.rpartition(".")[2].split("-"))
        shard = path.with_suffix(".bin")
        if processes == world_size or not shard.is_file():
            continue
        noted = Progress(**json.loads(path.read_text(encoding="utf-8")))
        if noted.identity != identity or shard.stat().st_size < 4 * noted.tokens:
            continue
        pages = np.array_split(np.arange(len(sizes)), processes)[r][: noted.pages]
        starts = np.cumsum([0, *sizes[pages]])
        found |= {int(page): (shard, int(at)) for page, at in zip(pages, starts[:-1], strict=True)}
    return found


class OriginalVokens(OriginalFiles):
    """How the original does it: vokens that it has made, and its way to cut sentences."""

    pieces: bool = False
    """Cut sentences beyond `limit` with a short last piece (VOK-09)."""


class VokensConfig(Config):
    """How a corpus is vokenised, or where its vokens are."""

    granularity: Granularity = (
        "token"  # contextual tokens (the paper's), whole sentences, or types without context
    )
    limit: int = Field(128, ge=1)  # longest piece of a sentence in word pieces
    token_budget: int = Field(8192, ge=1)  # padded tokens per forward pass
    # of the language backbone on a GPU; "bfloat16" changes a small share of the vokens
    precision: Precision = "float32"
    page_tokens: int = Field(1 << 15, ge=1)  # tokens per page, the unit of progress
    original: OriginalVokens = OriginalVokens()
    """Vokens that the original project has made, in place of a matcher's, and its way to cut sentences."""


def inputs(config: VokensConfig) -> dict[str, Request]:
    """Vokens that are there already need the corpus only."""
    needed = {"corpus": Request("corpus")}
    if not config.original.train:
        needed |= {"matching": Request("vokenization.matching"), "keys": Request("vokenization.keys")}
        needed["captions"] = splits_only
    return needed


def _import(context: StageContext) -> dict[str, float]:
    config: VokensConfig = context.config
    metrics: dict[str, float] = {}
    for split in ("train", "valid") if context.rank == 0 else ():
        corpus = TokenCorpus(context.inputs["corpus"] / f"{split}.hdf5")
        source, target = Path(getattr(config.original, split)), context.folder / f"{split}.hdf5"
        metrics["size"] = float(import_vokens(source, target, len(corpus), config.granularity))
        metrics[f"{split}_tokens"] = float(len(corpus))
    barrier(context.world_size)
    return metrics


def _fingerprint(config: VokensConfig) -> str:
    """The original project's files enter the stage's identity: other files, another folder."""
    paths = [Path(path) for path in (config.original.train, config.original.valid) if path]
    return fingerprint_files([*paths, *(path.with_suffix(".ids") for path in paths)]) if paths else ""


def run_vokens(context: StageContext) -> dict[str, float]:
    """Vokenise the train and the valid corpus. Metrics: tokens per second, distinct vokens; on the world,
    what they show.
    """
    import time

    config: VokensConfig = context.config
    if config.original.train:
        return _import(context)
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
        vokens = np.asarray(mapped(context.folder / f"{split}.hdf5", "vokens"))
        vokens = np.where(vokens < 0, -vokens - 1, vokens)
        metrics[f"{split}_tokens"] = float(len(corpus))
        metrics[f"{split}_distinct"] = float(len(np.unique(vokens)))
    metrics["distinct"] = metrics["train_distinct"]
    metrics["tokens_per_second"] = new / seconds if new else float("nan")
    if context.rank == 0:
        valid = np.asarray(mapped(context.folder / "valid.hdf5", "vokens"))
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
    fingerprint=_fingerprint, doc="Give every token of the corpus its voken.",
)  # fmt: skip
