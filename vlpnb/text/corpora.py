"""A text corpus as one stream of token ids with line and sentence offsets (Vokenization spec sections 6 and
7.1).

Text goes through in chunks of lines, each becoming a shard on disk, so that memory does not grow with the
corpus and a killed run continues after its last complete shard; the shards are then joined into one HDF5
file: `tokens` (uint16 or int32), `lines` and `sentences` (int64 offsets, first 0, last N). The files of the
original project can be read and written too.

Differs from the reference: the line filter is chosen by name, not by a substring of the path; sentences come
from a rule on the id stream instead of spaCy's (a full stop inside a decimal number ends no sentence);
over-long sentences are cut in balanced pieces (quirk Q-09).
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, get_args
from weakref import WeakKeyDictionary

import h5py
import numpy as np
from transformers import PreTrainedTokenizerFast

from vlpnb.data.files import require, write_text_atomic
from vlpnb.data.store import attributes, mapped, open_checked, write_store
from vlpnb.errors import UserError
from vlpnb.text.tokenizers import encode_lines, piece_texts, vocabulary_hash

Rules = Literal["wiki103", "wiki", "none"]
PRODUCER = "corpus"
CHUNK_LINES = 2048  # lines per call of the tokenizer
CHECKED_LINES = 10  # the first and last lines are tokenised again and compared

TERMINATORS = frozenset(".!?…。！？｡।؟۔")
CLOSERS = frozenset("\"'”’»)]}」』）")
_END, _CLOSE, _DIGIT, _AT, _DOT = 1, 2, 4, 8, 16


def keeps(line: str, rules: Rules) -> bool:
    """Whether a line of raw text is kept (spec section 6, step 1).

    none: blank lines go. wiki: also lines of fewer than five whitespace fields. wiki103: also headings (" =
    Title = ").
    """
    if rules == "none":
        return bool(line.strip())
    return len(line.split(None, 4)) == 5 and not (rules == "wiki103" and line.startswith(" ="))


def read_lines(path: Path, rules: Rules = "wiki103") -> Iterator[str]:
    """Yield the kept lines of a raw text file without their line ends, reading as it goes.

    UserError names file and line.
    """
    for line, _ in _read_from(Path(path), rules, 0):
        yield line


def _read_from(path: Path, rules: Rules, offset: int) -> Iterator[tuple[str, int]]:
    """Kept lines from a byte offset on, each with the offset after it."""
    if rules not in get_args(Rules):
        raise UserError(f"corpus rules '{rules}' are unknown; expected one of {', '.join(get_args(Rules))}.")
    require(path, "raw text, one paragraph a line")
    with path.open("rb") as file:
        file.seek(offset)
        for raw in file:
            offset += len(raw)
            try:
                line = raw.decode("utf-8").rstrip("\r\n")
            except UnicodeDecodeError as error:
                raise UserError(
                    f"{path}: not UTF-8 in line {_line_at(path, offset):,}, which ends at byte {offset:,} "
                    f"({error.reason}); convert the file, e.g. with iconv."
                ) from error
            if keeps(line, rules):
                yield line, offset


def _line_at(path: Path, end: int) -> int:
    """The number of the line that ends at a byte offset."""
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            end -= len(raw)
            if end <= 0:
                return number
    return 0


_TABLES: WeakKeyDictionary = WeakKeyDictionary()


def _classes(tokenizer: PreTrainedTokenizerFast) -> np.ndarray:
    """Per id, what it means for sentence ends: uint8 [V] flags."""
    if tokenizer not in _TABLES:
        table = np.zeros(len(tokenizer), dtype=np.uint8)
        for i, text in enumerate(piece_texts(tokenizer)):
            marks = set(text.strip())
            if text and marks <= TERMINATORS | CLOSERS:  # white space alone stays with the sentence before
                table[i] = _END if marks & TERMINATORS else _CLOSE
            table[i] |= _DIGIT * text.isdigit() | _AT * (text.strip() == "@") | _DOT * (text.strip() == ".")
        _TABLES[tokenizer] = table
    return _TABLES[tokenizer]


def sentence_ends(ids: np.ndarray, line_ends: np.ndarray, tokenizer: PreTrainedTokenizerFast) -> np.ndarray:
    """End offsets (exclusive, ascending, int64) of the sentences in a stream of lines.

    A sentence ends after `. ! ?` (and their like in other scripts) with the closing quotes and brackets that
    follow, and at the end of each line; it never crosses a line. A full stop between two digits, or written
    `@.@` as WikiText does, is a decimal point.

    Args:
        ids: [N]. line_ends: exclusive end offset of each line, ascending, the last one N.
    """
    n = len(ids)
    if n == 0:
        return np.zeros(0, dtype=np.int64)
    kind = _classes(tokenizer)[ids]
    last_of_line = np.zeros(n, dtype=bool)
    last_of_line[np.asarray(line_ends) - 1] = True

    inner = (kind & _DOT > 0) & ~last_of_line
    inner[0] = False
    inner[1:] &= ~last_of_line[:-1]
    for flag in (_DIGIT, _AT):
        near = kind & flag > 0
        decimal = inner & np.roll(near, 1) & np.roll(near, -1)
        kind = np.where(decimal, 0, kind)

    at = np.arange(n)
    terminator, mark = kind & _END > 0, kind & (_END | _CLOSE) > 0
    last_terminator = np.maximum.accumulate(np.where(terminator, at, -1))
    last_word = np.maximum.accumulate(np.where(mark, -1, at))
    line_start = np.maximum.accumulate(np.where(np.roll(last_of_line, 1), at, 0))
    after_terminator = (last_terminator > last_word) & (last_terminator >= line_start)
    next_is_mark = np.append(mark[1:], False)
    return np.flatnonzero((after_terminator & ~next_is_mark) | last_of_line) + 1


def sentence_lengths(ids: Sequence[int] | np.ndarray, tokenizer: PreTrainedTokenizerFast) -> list[int]:
    """Lengths in tokens of the sentences of one line; they add up to the line's length."""
    array = np.asarray(ids, dtype=np.int64)
    ends = sentence_ends(array, np.array([len(array)]), tokenizer) if len(array) else array
    return np.diff(ends, prepend=0).tolist()


def split_long(length: int, limit: int = 128, legacy: bool = False) -> list[int]:
    """Cut a sentence of `length` tokens into pieces of at most `limit`; lengths differ by at most one.

    `legacy` cuts as the reference does, with a short tail piece (quirk Q-09): 129 → 64, 64, 1.
    """
    if length <= limit:
        return [length] if length else []
    count = -(-length // limit)
    size, rest = divmod(length, count)
    if legacy:
        return [size] * count + ([rest] if rest else [])
    return [size + 1] * rest + [size] * (count - rest)


class TokenCorpus:
    """A tokenised corpus on disk, opened at first use in each process; safe to send to workers.

    `path` is a store of `write_corpus`, or the original project's `<file>.<tok>.hdf5` with
    `<file>.<tok>.line` and `.sent` beside it. UserError if the file is damaged, or offsets do not tile the
    tokens.
    """

    def __init__(self, path: Path):
        self.path = Path(path)
        with open_checked(self.path, ["tokens"]) as file:
            self._native = "lines" in file
            self._length = len(file["tokens"])

    def __len__(self) -> int:
        return self._length

    def __getstate__(self) -> dict:
        return {key: self.__dict__[key] for key in ("path", "_native", "_length")}

    @cached_property
    def tokens(self) -> np.ndarray | h5py.Dataset:
        """[N] ids; a memory map for stores written here."""
        return mapped(self.path, "tokens")

    @cached_property
    def lines(self) -> np.ndarray:
        """int64 [L + 1] offsets of the lines, first 0, last N."""
        return self._offsets("lines", ".line")

    @cached_property
    def sentences(self) -> np.ndarray:
        """int64 [S + 1] offsets of the sentences, first 0, last N."""
        return self._offsets("sentences", ".sent")

    @cached_property
    def attributes(self) -> dict:
        """What the store says of itself: tokenizer, rules, sources."""
        return attributes(self.path)

    def line(self, index: int) -> np.ndarray:
        """Ids of one line."""
        return np.asarray(self.tokens[self.lines[index] : self.lines[index + 1]])

    def sentence(self, index: int) -> np.ndarray:
        """Ids of one sentence."""
        return np.asarray(self.tokens[self.sentences[index] : self.sentences[index + 1]])

    def _offsets(self, name: str, suffix: str) -> np.ndarray:
        if self._native:
            with open_checked(self.path, [name]) as file:
                return _checked_offsets(file[name][()], len(self), self.path)
        path = self.path.with_suffix(suffix)
        require(
            path, f"the {name}' start offsets and the corpus length, as text (`add_sentences` writes them)"
        )
        try:
            offsets = np.array(path.read_text(encoding="utf-8").split(), dtype=np.int64)
        except ValueError as error:
            raise UserError(f"{path}: expected whole numbers ({error}).") from error
        return _checked_offsets(offsets, len(self), path)


def check_tokenizer(corpus: TokenCorpus, tokenizer: PreTrainedTokenizerFast, whose: str) -> None:
    """UserError unless the ids of `corpus` are ids of `tokenizer`, which is that of `whose` (a few words).

    Corpora of other projects do not name their vocabulary; of those the largest id is checked.
    """
    about, size = corpus.attributes, len(tokenizer)
    again = f"Tokenise the text again with the tokenizer of {whose} (stage `corpus`)."
    if "vocabulary" in about:
        if about["vocabulary"] != vocabulary_hash(tokenizer):
            raise UserError(
                f"{corpus.path} was written with another tokenizer ({about['vocab_size']:,} word pieces) than that "
                f"of {whose} ({size:,}). {again}"
            )
        return
    pieces = (corpus.tokens[start : start + (1 << 24)] for start in range(0, len(corpus), 1 << 24))
    top = max((int(np.max(piece)) for piece in pieces), default=0)
    if top >= size:
        raise UserError(f"{corpus.path} holds token id {top:,}; {whose} has {size:,} word pieces. {again}")


def _checked_offsets(offsets: np.ndarray, n: int, path: Path) -> np.ndarray:
    tiles = len(offsets) and offsets[0] == 0 and offsets[-1] == n and (np.diff(offsets) >= 0).all()
    if not tiles:
        ends = f"{offsets[0]} … {offsets[-1]}" if len(offsets) else "nothing"
        raise UserError(f"{path}: offsets {ends} do not run from 0 to the {n:,} tokens; write it again.")
    return offsets


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
    shard_lines: int = 1 << 18,
    progress: Callable[[int, int], None] | None = None,
) -> CorpusSummary:
    """Tokenise raw text files, in order, into one HDF5 store at `target`; memory stays that of one shard.

    Shards lie in `<target>.shards/` until the store is complete; a second call with the same sources and
    settings continues after the last complete shard. A line gets its newline back before it is tokenised
    (byte-level vocabularies have a token for it); lines that give no token are dropped. At the end the first
    and last ten lines are tokenised anew and compared with the store.

    Args:
        max_tokens: stop after the line that reaches this many. progress: called with (bytes read, bytes in
        all).
    Raises:
        UserError: an unreadable source, no kept line, or a self-check that fails (a damaged shard folder).
    """
    sources = [Path(sources)] if isinstance(sources, str | Path) else [Path(s) for s in sources]
    sizes = [require(source, "raw text, one paragraph a line").stat().st_size for source in sources]
    target = Path(target)
    identity = _identity(sources, tokenizer, rules, lines_are_sentences, max_tokens, shard_lines)
    folder = target.with_name(target.name + ".shards")
    if (found := _finished(target, identity)) is not None:
        shutil.rmtree(folder, ignore_errors=True)  # a kill may leave some after the store is complete
        return found
    if folder.exists() and _read_identity(folder) != identity:
        shutil.rmtree(folder)  # shards of another tokenizer, text or setting
    folder.mkdir(parents=True, exist_ok=True)
    write_text_atomic(folder / "identity.json", identity)

    state = {"source": 0, "offset": 0, "total": 0, "done": False}
    shards: list[Path] = []
    while (path := folder / f"{len(shards):05d}.hdf5").is_file():
        try:
            state = attributes(path)["next"]
        except (UserError, KeyError):  # cut short by a crash of the machine: write it again
            path.unlink()
            break
        shards.append(path)
    reused = len(shards)
    dtype = np.uint16 if len(tokenizer) <= 1 << 16 else np.int32
    while not state["done"]:
        path = folder / f"{len(shards):05d}.hdf5"
        state = _write_shard(
            path, sources, state, tokenizer, rules, lines_are_sentences, max_tokens, shard_lines, dtype
        )
        shards.append(path)
        if progress is not None:
            progress(sum(sizes[: state["source"]]) + state["offset"], sum(sizes))

    summary = _join(shards, target, tokenizer, rules, sources, dtype, identity, reused)
    try:
        _self_check(TokenCorpus(target), sources, tokenizer, rules, whole=max_tokens is None)
    except UserError:
        target.unlink()  # what failed its check must not be found complete
        raise
    shutil.rmtree(folder)
    return summary


def add_sentences(path: Path, tokenizer: PreTrainedTokenizerFast) -> Path:
    """Write the missing `.sent` file beside a corpus in the original layout, from its tokens and `.line` file."""
    corpus = TokenCorpus(path)
    ends = [np.zeros(1, dtype=np.int64)]
    for first in range(0, len(corpus.lines) - 1, CHUNK_LINES):
        offsets = corpus.lines[first : first + CHUNK_LINES + 1]
        kept = np.diff(offsets) > 0
        tokens = np.asarray(corpus.tokens[offsets[0] : offsets[-1]])
        ends.append(sentence_ends(tokens, (offsets[1:] - offsets[0])[kept], tokenizer) + offsets[0])
    target = corpus.path.with_suffix(".sent")
    write_text_atomic(target, "\n".join(map(str, np.concatenate(ends).tolist())) + "\n")
    return target


def export_original(corpus: TokenCorpus, base: Path) -> Path:
    """Write a corpus as the original project's four files:

    `base` (ids as text), `base.hdf5`, `base.line`, `base.sent`.
    """
    base = Path(base)
    target = base.with_name(base.name + ".hdf5")
    with write_store(target, "corpus-original") as file:
        out = file.create_dataset("tokens", (len(corpus),), "int32", maxshape=(None,), chunks=(1024,))
        for start in range(0, len(corpus), 1 << 20):
            out[start : start + (1 << 20)] = corpus.tokens[start : start + (1 << 20)]
    with base.open("w", encoding="ascii", newline="\n") as file:
        for i in range(len(corpus.lines) - 1):
            file.write(" ".join(map(str, corpus.line(i).tolist())) + "\n")
    for suffix, offsets in ((".line", corpus.lines), (".sent", corpus.sentences)):
        write_text_atomic(base.with_name(base.name + suffix), "\n".join(map(str, offsets.tolist())) + "\n")
    return target


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
            lines, sentences = len(file["lines"]) - 1, len(file["sentences"]) - 1
            return CorpusSummary(len(file["tokens"]), lines, sentences)
    except UserError:  # damaged: write it again
        return None


def _read_identity(folder: Path) -> str | None:
    path = folder / "identity.json"
    return path.read_text(encoding="utf-8") if path.is_file() else None


def _write_shard(
    path: Path,
    sources: Sequence[Path],
    state: dict,
    tokenizer: PreTrainedTokenizerFast,
    rules: Rules,
    lines_are_sentences: bool,
    max_tokens: int | None,
    shard_lines: int,
    dtype: type,
) -> dict:
    """Tokenise up to `shard_lines` further kept lines into one shard; returns where the next shard starts."""
    tokens: list[np.ndarray] = []
    line_lengths: list[np.ndarray] = []
    sentence_sizes: list[np.ndarray] = []
    source, offset, total = state["source"], state["offset"], state["total"]
    left, done = shard_lines, False
    while source < len(sources) and left and not done:
        chunk: list[str] = []
        ends: list[int] = []
        for line, end in _read_from(sources[source], rules, offset):
            chunk.append(line + "\n")
            ends.append(end)
            if len(chunk) == min(CHUNK_LINES, left):
                break
        if not chunk:
            source, offset = source + 1, 0
            continue
        encoded = encode_lines(tokenizer, chunk)
        if max_tokens is not None:
            reached = total + np.cumsum([len(ids) for ids in encoded])
            keep = min(int(np.searchsorted(reached, max_tokens)) + 1, len(encoded))
            encoded, ends = encoded[:keep], ends[:keep]
            done = bool(reached[keep - 1] >= max_tokens)
        offset, left = ends[-1], left - len(encoded)
        encoded = [ids for ids in encoded if len(ids)]
        if not encoded:
            continue
        ids = np.concatenate(encoded)
        lengths = np.array([len(line) for line in encoded], dtype=np.int64)
        tokens.append(ids.astype(dtype))
        line_lengths.append(lengths)
        ends_of_lines = np.cumsum(lengths)
        sentences = ends_of_lines if lines_are_sentences else sentence_ends(ids, ends_of_lines, tokenizer)
        sentence_sizes.append(np.diff(sentences, prepend=0))
        total += len(ids)
    done = done or source >= len(sources)
    following = {"source": source, "offset": offset, "total": total, "done": done}
    with write_store(path, "corpus-shard", {"next": following}) as file:
        for name, parts, kind in (
            ("tokens", tokens, dtype),
            ("lines", line_lengths, np.int64),
            ("sentences", sentence_sizes, np.int64),
        ):
            file[name] = np.concatenate([*parts, np.zeros(0, kind)])
    return following


def _join(
    shards: Sequence[Path],
    target: Path,
    tokenizer: PreTrainedTokenizerFast,
    rules: str,
    sources: Sequence[Path],
    dtype: type,
    identity: str,
    reused: int,
) -> CorpusSummary:
    names = ("tokens", "lines", "sentences")
    sizes = dict.fromkeys(names, 0)
    for shard in shards:
        with open_checked(shard, names, "corpus-shard") as file:
            for name in names:
                sizes[name] += len(file[name])
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
        written, ends = dict.fromkeys(names, 0), {"lines": 0, "sentences": 0}
        for shard in shards:
            with open_checked(shard, names) as file:
                tokens = file["tokens"][()]
                out["tokens"][written["tokens"] : written["tokens"] + len(tokens)] = tokens
                written["tokens"] += len(tokens)
                for name in ("lines", "sentences"):
                    offsets = ends[name] + np.cumsum(file[name][()])
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
    """Kept lines of the last part of a file:

    doubles the part until it holds enough lines or the whole file.
    """
    size = path.stat().st_size
    while True:
        start = max(0, size - window)
        if start:
            with path.open("rb") as file:
                file.seek(start)
                file.readline()  # the rest of a cut line
                start = file.tell()
        lines = [line for line, _ in _read_from(path, rules, start)]
        if start == 0 or len(lines) >= 4 * CHECKED_LINES or window >= size:
            return iter(lines)
        window *= 4
