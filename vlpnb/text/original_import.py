"""A corpus that the original project has tokenised, checked and turned into a store (`original.py` has the layout)."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
from pydantic import model_validator
from transformers import PreTrainedTokenizerFast

from vlpnb.config import Config
from vlpnb.data.store import open_checked, write_store
from vlpnb.data.text_files import lines_of, require
from vlpnb.errors import UserError
from vlpnb.outside import OutsidePath
from vlpnb.text.corpora import CorpusSummary
from vlpnb.text.sentences import sentence_ends
from vlpnb.text.token_corpus import checked_offsets

CHUNK = 1 << 22  # tokens in memory at a time


class OriginalFiles(Config):
    """Files that the original project has made, in place of what the stage would make; both or none."""

    train: OutsidePath = ""
    """Of the training corpus: `<file>.<tok>` of a tokenised corpus, `….hdf5` of vokens."""
    valid: OutsidePath = ""
    """Of the validation corpus, likewise."""

    @model_validator(mode="after")
    def _both(self) -> "OriginalFiles":
        if bool(self.train) != bool(self.valid):
            raise ValueError("give both train and valid, or neither")
        return self


def corpus_files(base: Path) -> list[Path]:
    """The files that an original corpus may consist of; `base` is `<file>.<tok>`, with or without `.hdf5`."""
    base = Path(str(base).removesuffix(".hdf5"))
    return [Path(f"{base}{suffix}") for suffix in ("", ".hdf5", ".line", ".sent")]


def import_corpus(
    base: Path, target: Path, tokenizer: PreTrainedTokenizerFast, max_tokens: int | None = None
) -> CorpusSummary:
    """Turn an original corpus into a store like `write_corpus`'s; memory does not grow with the corpus.

    Needs `<file>.<tok>.hdf5` or the text `<file>.<tok>`. Lines come from `.line`, else from the text, else
    from `.sent`; sentences from `.sent`, else from the rule on the ids.

    Args:
        tokenizer: the one that made the ids.
        max_tokens: stop after the line that reaches this many; where there are no lines, at exactly so many.
    Raises:
        UserError: neither file is there, one is damaged or of another kind, lengths disagree, or an id is not
            in the tokenizer's vocabulary.
    """
    text, store, line, sent = corpus_files(base)
    if not store.is_file():
        require(text, "ids as text, one line per line of the corpus, or the same name with .hdf5")
        lines = _lines_of_text(text)
        n = int(lines[-1])
        sentences = _offsets(sent, n)
        return _write(target, text, n, _chunks_of_text(text), lines, sentences, tokenizer, max_tokens)
    with open_checked(store, ["tokens"]) as file:
        tokens = file["tokens"]
        refuse_other_numbers(tokens, store)
        n = len(tokens)
        sentences = _offsets(sent, n)
        lines = _offsets(line, n)
        if lines is None and text.is_file():
            lines = _lines_of_text(text)
            if lines[-1] != n:
                raise UserError(
                    f"{text} has {lines[-1]:,} ids but {store} has {n:,} tokens; expected the same."
                )
        chunks = (tokens[at : at + CHUNK] for at in range(0, n, CHUNK))
        lines = sentences if lines is None else lines
        return _write(target, store, n, chunks, lines, sentences, tokenizer, max_tokens)


def _write(
    target: Path,
    source: Path,
    n: int,
    chunks: Iterator[np.ndarray],
    lines: np.ndarray | None,
    sentences: np.ndarray | None,
    tokenizer: PreTrainedTokenizerFast,
    max_tokens: int | None,
) -> CorpusSummary:
    if not n:
        raise UserError(f"{source} holds no token; expected the ids of a corpus.")
    vocabulary = len(tokenizer)
    dtype = np.uint16 if vocabulary <= 1 << 16 else np.int32
    kept = n
    if max_tokens is not None and lines is not None:
        kept = int(lines[min(np.searchsorted(lines, max_tokens), len(lines) - 1)])
    elif max_tokens is not None:
        kept = min(n, max_tokens)
    words = hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest()
    made = json.dumps([str(source.resolve()), source.stat().st_size, source.stat().st_mtime_ns, words, kept])
    about = {
        "rules": "original",
        "sources": [source.name],
        "vocab_size": vocabulary,
        "identity": hashlib.sha256(made.encode()).hexdigest(),
    }
    with write_store(target, "corpus", about) as out:
        stored = out.create_dataset("tokens", (kept,), dtype)
        at = 0
        for chunk in chunks:
            part = chunk[: kept - at]
            wrong = np.flatnonzero((part < 0) | (part >= vocabulary))
            if len(wrong):
                raise UserError(
                    f"{source}: token {at + wrong[0]:,} is {part[wrong[0]]}; expected ids from 0 to "
                    f"{vocabulary - 1}. Is this the tokenizer that made the file?"
                )
            if len(part):
                stored[at : at + len(part)] = part
            at += len(part)
        if lines is None:
            lines = np.array([0, kept])
        lines = lines[lines <= kept]
        if sentences is None:
            ends = [[0], *stream_sentence_ends(stored, lines, tokenizer)]
            sentences = np.concatenate(ends).astype(np.int64)
        sentences = sentences[sentences <= kept]
        if sentences[-1] != kept:
            sentences = np.append(sentences, kept)
        out["lines"], out["sentences"] = lines.astype(np.int64), sentences.astype(np.int64)
    return CorpusSummary(kept, len(lines) - 1, len(sentences) - 1)


def stream_sentence_ends(
    tokens: h5py.Dataset | np.ndarray,
    lines: np.ndarray,
    tokenizer: PreTrainedTokenizerFast,
    chunk: int = CHUNK,
) -> Iterator[np.ndarray]:
    """End offsets of all sentences, in parts: `sentence_ends` for corpora that do not fit into memory.

    A sentence that a chunk may have cut is looked at again with the next chunk; only one longer than a chunk
    is cut there.
    """
    n, start = len(tokens), 0
    line_ends = np.unique(lines[1:])
    while start < n:
        stop = min(start + chunk, n)
        inside = line_ends[
            np.searchsorted(line_ends, start, "right") : np.searchsorted(line_ends, stop, "right")
        ]
        whole = len(inside) and inside[-1] == stop
        ends = inside - start if whole else np.append(inside - start, stop - start)
        found = sentence_ends(np.asarray(tokens[start:stop]), ends, tokenizer) + start
        if not whole and stop < n and len(found) > 1:
            found = found[:-1]
        yield found
        start = int(found[-1])


def refuse_other_numbers(dataset: h5py.Dataset, path: Path) -> None:
    """UserError unless the dataset is one list of whole numbers."""
    if dataset.ndim != 1 or dataset.dtype.kind not in "iu":
        name = dataset.name.strip("/")
        raise UserError(
            f"{path}: {name} are {dataset.dtype} {list(dataset.shape)}; expected whole numbers [N]"
        )


def _offsets(path: Path, n: int) -> np.ndarray | None:
    if not path.is_file():
        return None
    numbers = []
    for number, text in lines_of(path, "offsets, one a line"):
        if not text.strip().isdigit():
            raise UserError(f"{path}:{number}: expected an offset, found {text[:40]!r}")
        numbers.append(int(text))
    return checked_offsets(np.array(numbers, dtype=np.int64), n, path)


def _rows_of_text(path: Path) -> Iterator[np.ndarray]:
    for number, text in lines_of(path, "token ids, one line of text a line"):
        try:
            yield np.array(text.split(), dtype=np.int64)
        except (ValueError, OverflowError) as error:
            raise UserError(f"{path}:{number}: expected token ids ({error})") from error


def _lines_of_text(path: Path) -> np.ndarray:
    return np.cumsum([0, *(len(row) for row in _rows_of_text(path))])


def _chunks_of_text(path: Path) -> Iterator[np.ndarray]:
    rows, size = [], 0
    for row in _rows_of_text(path):
        rows.append(row)
        size += len(row)
        if size >= CHUNK:
            yield np.concatenate(rows)
            rows, size = [], 0
    if rows:
        yield np.concatenate(rows)
