"""Tokenising text into one stream of ids with line and sentence offsets.

Text is cut in shards of some megabytes (`data/shards.py`), which several processes share; they become one HDF5 file:
`tokens` (uint16 or int32), `lines` and `sentences` (int64 offsets, first 0, last N). Memory does not grow with the
corpus.

Which lines are kept is in `lines.py`, where sentences end in `sentences.py`, how the result is read in
`token_corpus.py`, and the files of the original project in `original.py`; all of it is imported from here.
"""

import hashlib
import itertools
import json
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from transformers import PreTrainedTokenizerFast

from vlpnb.data.shards import Shards
from vlpnb.data.store import open_checked
from vlpnb.data.text_files import require
from vlpnb.errors import UserError
from vlpnb.text.lines import Rules, keeps, line_start, lines_from, read_lines
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
    shard_bytes: int = 1 << 23,
    progress: Callable[[int, int], None] = lambda done, total: None,
    rank: int = 0,
    world_size: int = 1,
    wait: Callable[[], None] | None = None,
) -> CorpusSummary:
    """Tokenise raw text files, in order, into one HDF5 store at `target`; memory stays that of one shard.

    A second call with the same sources and settings continues after the shards that are there. A line belongs to the
    shard that its first byte lies in; it gets its newline back before it is tokenised (byte-level vocabularies have a
    token for it); lines that give no token are dropped. At the end the first and last ten lines are tokenised anew
    and compared with the store.

    Args:
        max_tokens: stop after the line that reaches this many.
        progress: called with (bytes read, bytes in all).
        rank, world_size, wait: of several processes that make the same call, see `Shards`.
    Raises:
        UserError: an unreadable source, no kept line, or a self-check that fails (a source that changed meanwhile).
    """
    sources = [Path(sources)] if isinstance(sources, str | Path) else [Path(s) for s in sources]
    sizes = [require(source, "raw text, one paragraph a line").stat().st_size for source in sources]
    cuts = [
        (source, first, min(first + shard_bytes, size))
        for source, size in zip(sources, sizes, strict=True)
        for first in range(0, size, shard_bytes)
    ]
    target = Path(target)
    identity = _identity(sources, tokenizer, rules, lines_are_sentences, max_tokens)
    shards = Shards(
        target.with_name(f"checkpoint-{target.stem}"), identity, [last - first for _, first, last in cuts],
        rank, world_size, progress, wait,
    )  # fmt: skip
    if shards.complete(target):
        return _summary(target)
    # No text gives more tokens than bytes, nearly; where one does, more is read than is needed.
    found = shards.make(
        lambda i: (_tokenise(*cuts[i], tokenizer, rules, lines_are_sentences), {}), max_tokens, of="tokens"
    )

    def write() -> None:
        rows = _rows(shards, max_tokens)
        if not rows["tokens"][1]:
            raise UserError(f"{', '.join(map(str, sources))}: no line is kept under rules '{rules}'.")
        about = {
            "rules": rules,
            "sources": [source.name for source in sources],
            "vocab_size": len(tokenizer),
            "vocabulary": vocabulary_hash(tokenizer),
        }
        shards.join(target, PRODUCER, about, offsets=["lines", "sentences"], rows=rows)
        try:
            _self_check(TokenCorpus(target), sources, tokenizer, rules, whole=max_tokens is None)
        except UserError:
            target.unlink()  # what failed its check must not be found complete, nor its shards be used again
            shards.clear()
            raise

    shards.publish(write)
    return _summary(target, len(found))


def _identity(
    sources: Sequence[Path], tokenizer: PreTrainedTokenizerFast, rules: str, *settings: object
) -> str:
    files = [(str(s.resolve()), s.stat().st_size, s.stat().st_mtime_ns) for s in sources]
    words = hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest()
    return hashlib.sha256(json.dumps([files, words, rules, *settings]).encode()).hexdigest()


def _summary(target: Path, reused: int = 0) -> CorpusSummary:
    with open_checked(target, ["tokens", "lines", "sentences"], PRODUCER) as file:
        return CorpusSummary(len(file["tokens"]), len(file["lines"]) - 1, len(file["sentences"]) - 1, reused)


def _tokenise(
    source: Path,
    first: int,
    last: int,
    tokenizer: PreTrainedTokenizerFast,
    rules: Rules,
    lines_are_sentences: bool,
) -> dict[str, np.ndarray]:
    """The lines that start in the bytes [first, last): their tokens, and lengths of lines and sentences."""
    dtype = np.uint16 if len(tokenizer) <= 1 << 16 else np.int32
    parts: dict[str, list[np.ndarray]] = {
        "tokens": [np.zeros(0, dtype)],
        "lines": [np.zeros(0, np.int64)],
        "sentences": [np.zeros(0, np.int64)],
    }
    lines = (line for line, _ in lines_from(source, rules, line_start(source, first), last))
    while chunk := list(itertools.islice(lines, CHUNK_LINES)):
        encoded = [ids for ids in encode_lines(tokenizer, [line + "\n" for line in chunk]) if len(ids)]
        if not encoded:
            continue
        ids = np.concatenate(encoded)
        lengths = np.array([len(line) for line in encoded], dtype=np.int64)
        ends = np.cumsum(lengths)
        sentences = ends if lines_are_sentences else sentence_ends(ids, ends, tokenizer)
        parts["tokens"].append(ids.astype(dtype))
        parts["lines"].append(lengths)
        parts["sentences"].append(np.diff(sentences, prepend=0))
    return {name: np.concatenate(arrays) for name, arrays in parts.items()}


def _rows(shards: Shards, max_tokens: int | None) -> dict[str, tuple[int, int]]:
    """Tokens, lines and sentences up to the line that reaches `max_tokens`, as rows of their arrays."""
    totals = {name: sum(shards.lengths(name)) for name in ("tokens", "lines", "sentences")}
    if max_tokens is not None and totals["tokens"] > max_tokens:
        totals["tokens"], totals["lines"] = _count(shards.parts("lines"), max_tokens)
        _, totals["sentences"] = _count(shards.parts("sentences"), totals["tokens"])
    return {name: (0, total) for name, total in totals.items()}


def _count(parts: Iterator[np.ndarray], tokens: int) -> tuple[int, int]:
    """How many tokens and how many pieces, of lengths in several parts, reach so many tokens."""
    before = pieces = 0
    for lengths in parts:
        ends = before + np.cumsum(lengths)
        if len(ends) and ends[-1] >= tokens:
            last = int(np.searchsorted(ends, tokens))
            return int(ends[last]), pieces + last + 1
        before, pieces = int(ends[-1]) if len(ends) else before, pieces + len(ends)
    return before, pieces


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
        start = line_start(path, max(0, size - window))
        lines = [line for line, _ in lines_from(path, rules, start)]
        if start == 0 or len(lines) >= 4 * CHECKED_LINES or window >= size:
            return iter(lines)
        window *= 4
