"""Tokenising text into one stream of ids with line and sentence offsets.

Text goes through in chunks of lines, each becoming a shard on disk, so that memory does not grow with the
corpus and a killed run continues after its last complete shard; the shards are then joined into one HDF5
file: `tokens` (uint16 or int32), `lines` and `sentences` (int64 offsets, first 0, last N). A shard is a function
of the text and its number, so several processes share them and the number of processes may change between two
attempts.

Which lines are kept is in `lines.py`, where sentences end in `sentences.py`, how the result is read in
`token_corpus.py`, and the files of the original project in `original.py`; all of it is imported from here.
"""

import hashlib
import itertools
import json
import shutil
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from transformers import PreTrainedTokenizerFast

from vlpnb.data.store import DamagedStore, attributes, open_checked, write_store
from vlpnb.data.text_files import require
from vlpnb.errors import UserError
from vlpnb.files import write_text
from vlpnb.text.lines import Rules, keeps, lines_from, read_lines
from vlpnb.text.original import add_sentences, export_original
from vlpnb.text.sentences import sentence_ends, sentence_lengths, split_long
from vlpnb.text.token_corpus import TokenCorpus, check_tokenizer
from vlpnb.text.tokenizers import encode_lines, vocabulary_hash

__all__ = [
    "CorpusSummary",
    "Rules",
    "TokenCorpus",
    "add_sentences",
    "check_tokenizer",
    "export_original",
    "keeps",
    "read_lines",
    "sentence_ends",
    "sentence_lengths",
    "split_long",
    "write_corpus",
]

PRODUCER = "corpus"
CHUNK_LINES = 2048  # lines per call of the tokenizer
CHECKED_LINES = 10  # the first and last lines are tokenised again and compared


@dataclass(frozen=True)
class CorpusSummary:
    """What `write_corpus` wrote, or found complete."""

    tokens: int
    lines: int
    sentences: int
    shards_reused: int = 0


def write_corpus(
    sources: Path | Sequence[Path],
    target: Path,
    tokenizer: PreTrainedTokenizerFast,
    rules: Rules = "wiki103",
    *,
    lines_are_sentences: bool = False,
    max_tokens: int | None = None,
    shard_lines: int = 1 << 14,
    progress: Callable[[int, int], None] | None = None,
    rank: int = 0,
    world_size: int = 1,
    wait: Callable[[], None] = lambda: None,
) -> CorpusSummary:
    """Tokenise raw text files, in order, into one HDF5 store at `target`; memory stays that of one shard.

    Shards lie in `<target>.shards/` until the store is complete; a second call with the same sources and
    settings continues after the shards that are there. A line gets its newline back before it is tokenised
    (byte-level vocabularies have a token for it); lines that give no token are dropped. At the end the first
    and last ten lines are tokenised anew and compared with the store.

    Args:
        max_tokens: stop after the line that reaches this many.
        progress: called with (bytes read, bytes in all).
        rank, world_size, wait: of several processes that make the same call, process r tokenises every r-th shard
            and process 0 joins them; `wait` returns when all have called it.
    Raises:
        UserError: an unreadable source, no kept line, or a self-check that fails (a damaged shard folder).
    """
    sources = [Path(sources)] if isinstance(sources, str | Path) else [Path(s) for s in sources]
    sizes = [require(source, "raw text, one paragraph a line").stat().st_size for source in sources]
    target = Path(target)
    identity = _identity(sources, tokenizer, rules, lines_are_sentences, max_tokens, shard_lines)
    folder = target.with_name(target.name + ".shards")
    found = _finished(target, identity)
    wait()  # all have looked before anything changes
    if found is not None:
        if rank == 0:
            shutil.rmtree(folder, ignore_errors=True)  # a kill may leave some after the store is complete
        return found
    if rank == 0:
        if folder.exists() and _read_identity(folder) != identity:
            shutil.rmtree(folder)  # shards of another tokenizer, text or setting
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / "identity.json", identity)
    wait()

    shards: list[Path] = []
    source = offset = total = reused = 0
    dtype = np.uint16 if len(tokenizer) <= 1 << 16 else np.int32
    while source < len(sources) and (max_tokens is None or total < max_tokens):
        new: list[Path] = []
        while source < len(sources) and len(new) < world_size:
            path = folder / f"{len(shards) + len(new):05d}.hdf5"
            if len(new) != rank:  # not even looked at: a network disk remembers what it did not find
                source, offset = _skip(sources, source, offset, rules, shard_lines)
            elif (end := _end_of_shard(path)) is not None:
                (source, offset), reused = end, reused + 1
            else:
                source, offset = _write_shard(
                    path, sources, source, offset, tokenizer, rules, lines_are_sentences, shard_lines, dtype
                )
                if progress is not None:
                    progress(sum(sizes[:source]) + offset, sum(sizes))
            new.append(path)
        shards += new
        if max_tokens is not None:
            wait()
            total += sum(_sizes(path)["tokens"] for path in new)
    wait()
    if rank == 0:
        summary = _join(shards, target, tokenizer, rules, sources, dtype, identity, max_tokens, reused)
        try:
            _self_check(TokenCorpus(target), sources, tokenizer, rules, whole=max_tokens is None)
        except UserError:
            target.unlink()  # what failed its check must not be found complete
            raise
        shutil.rmtree(folder)
    wait()
    return summary if rank == 0 else _summary(target, reused)


def _identity(
    sources: Sequence[Path], tokenizer: PreTrainedTokenizerFast, rules: str, *settings: object
) -> str:
    files = [(str(s.resolve()), s.stat().st_size, s.stat().st_mtime_ns) for s in sources]
    words = hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest()
    return json.dumps([files, words, rules, *settings])


def _finished(target: Path, identity: str) -> CorpusSummary | None:
    """What an earlier call with the same text and settings wrote; None where it did not finish."""
    if not target.is_file():
        return None
    try:
        with open_checked(target, ["tokens", "lines", "sentences"], PRODUCER) as file:
            if file.attrs["identity"] != hashlib.sha256(identity.encode()).hexdigest():
                return None
        return _summary(target)
    except DamagedStore:
        return None


def _summary(target: Path, reused: int = 0) -> CorpusSummary:
    with open_checked(target, ["tokens", "lines", "sentences"], PRODUCER) as file:
        return CorpusSummary(len(file["tokens"]), len(file["lines"]) - 1, len(file["sentences"]) - 1, reused)


def _read_identity(folder: Path) -> str | None:
    path = folder / "identity.json"
    return path.read_text(encoding="utf-8") if path.is_file() else None


def _skip(
    sources: Sequence[Path], source: int, offset: int, rules: Rules, shard_lines: int
) -> tuple[int, int]:
    """Where the shard after the one at (source, offset) starts: file and byte."""
    left = shard_lines
    while source < len(sources) and left:
        ends = [end for _, end in itertools.islice(lines_from(sources[source], rules, offset), left)]
        left -= len(ends)
        source, offset = (source + 1, 0) if left else (source, ends[-1])
    return source, offset


def _end_of_shard(path: Path) -> tuple[int, int] | None:
    """Where the next shard starts; None where this one is absent or was cut short by a crash of the machine."""
    if not path.is_file():
        return None
    try:
        source, offset = attributes(path)["end"]
    except (DamagedStore, KeyError):
        path.unlink()
        return None
    return source, offset


def _write_shard(
    path: Path,
    sources: Sequence[Path],
    source: int,
    offset: int,
    tokenizer: PreTrainedTokenizerFast,
    rules: Rules,
    lines_are_sentences: bool,
    shard_lines: int,
    dtype: type,
) -> tuple[int, int]:
    """Tokenise up to `shard_lines` further kept lines into one shard; returns where the next shard starts."""
    parts: dict[str, list[np.ndarray]] = {
        "tokens": [np.zeros(0, dtype)],
        "lines": [np.zeros(0, np.int64)],
        "sentences": [np.zeros(0, np.int64)],
    }
    left = shard_lines
    while source < len(sources) and left:
        lines = itertools.islice(lines_from(sources[source], rules, offset), min(CHUNK_LINES, left))
        chunk = list(lines)
        if not chunk:
            source, offset = source + 1, 0
            continue
        offset, left = chunk[-1][1], left - len(chunk)
        encoded = [ids for ids in encode_lines(tokenizer, [line + "\n" for line, _ in chunk]) if len(ids)]
        if not encoded:
            continue
        ids = np.concatenate(encoded)
        lengths = np.array([len(line) for line in encoded], dtype=np.int64)
        ends_of_lines = np.cumsum(lengths)
        sentences = ends_of_lines if lines_are_sentences else sentence_ends(ids, ends_of_lines, tokenizer)
        parts["tokens"].append(ids.astype(dtype))
        parts["lines"].append(lengths)
        parts["sentences"].append(np.diff(sentences, prepend=0))
    with write_store(path, "corpus-shard", {"end": [source, offset]}) as file:
        for name, arrays in parts.items():
            file[name] = np.concatenate(arrays)
    return source, offset


def _sizes(shard: Path, left: int | None = None) -> dict[str, int]:
    """Tokens, lines and sentences of a shard, up to the line that reaches `left` tokens."""
    with open_checked(shard, ("tokens", "lines", "sentences"), "corpus-shard") as file:
        sizes = {name: len(file[name]) for name in ("tokens", "lines", "sentences")}
        if left is None or sizes["tokens"] < left:
            return sizes
        ends = np.cumsum(file["lines"][()])
        lines = int(np.searchsorted(ends, left)) + 1
        tokens = int(ends[lines - 1])
        sentences = int(np.searchsorted(np.cumsum(file["sentences"][()]), tokens, side="right"))
        return {"tokens": tokens, "lines": lines, "sentences": sentences}


def _join(
    shards: Sequence[Path],
    target: Path,
    tokenizer: PreTrainedTokenizerFast,
    rules: str,
    sources: Sequence[Path],
    dtype: type,
    identity: str,
    max_tokens: int | None,
    reused: int,
) -> CorpusSummary:
    kept: list[tuple[Path, dict[str, int]]] = []
    left = max_tokens
    for shard in shards:
        kept.append((shard, _sizes(shard, left)))
        if left is not None and (left := left - kept[-1][1]["tokens"]) <= 0:
            break
    sizes = {name: sum(found[name] for _, found in kept) for name in ("tokens", "lines", "sentences")}
    if not sizes["tokens"]:
        raise UserError(f"{', '.join(map(str, sources))}: no line is kept under rules '{rules}'.")
    about = {
        "rules": rules,
        "sources": [source.name for source in sources],
        "vocab_size": len(tokenizer),
        "vocabulary": vocabulary_hash(tokenizer),
        "identity": hashlib.sha256(identity.encode()).hexdigest(),
    }
    with write_store(target, PRODUCER, about) as out:
        out.create_dataset("tokens", (sizes["tokens"],), dtype)
        for name in ("lines", "sentences"):
            out.create_dataset(name, (sizes[name] + 1,), np.int64)
        written, ends = dict.fromkeys(sizes, 0), {"lines": 0, "sentences": 0}
        for shard, count in kept:
            with open_checked(shard, count) as file:
                tokens = file["tokens"][: count["tokens"]]
                out["tokens"][written["tokens"] : written["tokens"] + len(tokens)] = tokens
                written["tokens"] += len(tokens)
                for name in ("lines", "sentences"):
                    offsets = ends[name] + np.cumsum(file[name][: count[name]])
                    if len(offsets):
                        first = written[name] + 1
                        out[name][first : first + len(offsets)] = offsets
                        written[name] += len(offsets)
                        ends[name] = int(offsets[-1])
    return CorpusSummary(sizes["tokens"], sizes["lines"], sizes["sentences"], reused)


def _self_check(
    corpus: TokenCorpus,
    sources: Sequence[Path],
    tokenizer: PreTrainedTokenizerFast,
    rules: Rules,
    whole: bool,
) -> None:
    """Tokenise the first and (of a whole corpus) last ten kept lines one by one and compare with the store."""
    count = len(corpus.lines) - 1
    first: list[tuple[int, str]] = []
    last: deque[str] = deque(maxlen=CHECKED_LINES)
    for line in _nonempty(read_lines(sources[0], rules), tokenizer):
        first.append((len(first), line))
        if len(first) == min(CHECKED_LINES, count):
            break
    if whole:
        for source in reversed(sources):
            tail = deque(_nonempty(_tail_lines(source, rules), tokenizer), maxlen=CHECKED_LINES)
            last.extendleft(reversed(list(tail)[max(0, len(tail) - (CHECKED_LINES - len(last))) :]))
            if len(last) == CHECKED_LINES:
                break
    positions = first + [(count - len(last) + i, line) for i, line in enumerate(last)]
    for index, line in positions:
        expected = encode_lines(tokenizer, [line + "\n"])[0]
        if index >= count or not np.array_equal(corpus.line(index), expected):
            raise UserError(
                f"{corpus.path}: line {index} of the store is not the tokenised text {line[:60]!r}; "
                "the source changed while it was read, or the store is damaged. Run the stage again."
            )


def _nonempty(lines: Iterator[str], tokenizer: PreTrainedTokenizerFast) -> Iterator[str]:
    return (line for line in lines if len(encode_lines(tokenizer, [line + "\n"])[0]))


def _tail_lines(path: Path, rules: Rules, window: int = 1 << 18) -> Iterator[str]:
    """Kept lines of the last part of a file, a part that grows until it holds enough lines or the whole file."""
    size = path.stat().st_size
    while True:
        start = max(0, size - window)
        if start:
            with path.open("rb") as file:
                file.seek(start)
                file.readline()  # the rest of a cut line
                start = file.tell()
        lines = [line for line, _ in lines_from(path, rules, start)]
        if start == 0 or len(lines) >= 4 * CHECKED_LINES or window >= size:
            return iter(lines)
        window *= 4
