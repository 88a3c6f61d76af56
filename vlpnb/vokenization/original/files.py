"""The original project's files: tokenised corpora, vokens, checkpoints; read, checked and written.

As the public code `airsplay/vokenization` writes them. Keys and image-id lists have the same
layout here (`keys.py`); a finished stage is written in these layouts by `export.py`.

| file | holds |
|---|---|
| `<file>.<tok>` | ids as text, one line per line of the corpus |
| `<file>.<tok>.hdf5` | `tokens`, int32 [N] |
| `<file>.<tok>.line`, `.sent` | offsets of lines and sentences as text, first 0, last N |
| `<corpus>.<sets>[.<V>].hdf5` | `vokens`, int32 [N]; −v−1 marks the later tokens of a sentence with voken v |
| `<corpus>.<sets>[.<V>].ids` | line j names voken j: `<image set>/<image id>` |
| `checkpoint-epoch%04d/` | a HuggingFace folder; `pytorch_model.bin` also holds the voken heads |

Of a corpus the release has only `tokens`; sentences then come from the rule of `text.corpora` on the stream of
ids, and the whole corpus is one line.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import torch
from safetensors.torch import load_file
from transformers import PreTrainedTokenizerFast

from vlpnb.data.store import attributes, open_checked, write_store
from vlpnb.data.text_files import lines_of, read_json, require, write_text_atomic
from vlpnb.errors import UserError
from vlpnb.nn.checkpoints import save_hf
from vlpnb.text.corpora import CorpusSummary, sentence_ends
from vlpnb.text.token_corpus import checked_offsets
from vlpnb.text.tokenizers import save_tokenizer
from vlpnb.vokenization.visual_lm import VisuallySupervisedLM
from vlpnb.vokenization.voken_heads import OBJECTIVES, original_names

PUBLISHED_V = 50_000  # voken files of this size do not name it
CHUNK = 1 << 22  # tokens in memory at a time


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
        _refuse_other_numbers(tokens, store)
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


def _refuse_other_numbers(dataset: h5py.Dataset, path: Path) -> None:
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


def voken_ids(path: Path) -> list[str]:
    """The `.ids` beside a voken file: `<image set>/<image id>` of each voken. UserError names a wrong line."""
    names = []
    for number, text in lines_of(path, "<image set>/<image id> of each voken"):
        group, slash, name = text.partition("/")
        if not (group and slash and name):
            raise UserError(f"{path}:{number}: expected <image set>/<image id>, found {text[:60]!r}")
        names.append(text)
    return names


def import_vokens(source: Path, target: Path, tokens: int, granularity: str) -> int:
    """Check a voken file and store it with its `.ids` at `target`; returns V.

    Args:
        source: `….hdf5`, with `….ids` beside it. tokens: N of the corpus.
        granularity: what it holds is not written in the file (VOK-10); only "sentence" has marks.
    Raises:
        UserError: the file is no such file, has another length, a voken that the list does not name, or marks
            where none are expected, or the other way round.
    """
    names = voken_ids(Path(source).with_suffix(".ids"))
    with open_checked(source, ["vokens"]) as file:
        vokens = file["vokens"]
        _refuse_other_numbers(vokens, source)
        if len(vokens) != tokens:
            raise UserError(
                f"{source} has {len(vokens):,} vokens; expected one for each of {tokens:,} tokens"
            )
        about = {"granularity": granularity, "size": len(names), "source": Path(source).name}
        with write_store(target, "vokens", about) as out:
            stored, marks = out.create_dataset("vokens", (tokens,), "int32"), False
            for at in range(0, tokens, CHUNK):
                part = vokens[at : at + CHUNK]
                wrong = np.flatnonzero((part < -len(names)) | (part >= len(names)))
                if len(wrong):
                    raise UserError(
                        f"{source}: voken {at + wrong[0]:,} is {part[wrong[0]]}, but "
                        f"{Path(source).with_suffix('.ids')} names {len(names):,} images"
                    )
                marked = np.flatnonzero(part < 0)
                if len(marked) and granularity != "sentence":
                    raise UserError(
                        f"{source}: voken {at + marked[0]:,} is {part[marked[0]]}, the mark of a sentence; "
                        "set vokens.granularity to sentence"
                    )
                marks = marks or len(marked) > 0
                stored[at : at + len(part)] = part
            if granularity == "sentence" and not marks:
                raise UserError(
                    f"{source}: no mark of a sentence; set vokens.granularity to what the file holds"
                )
    write_text_atomic(target.with_suffix(".ids"), "".join(f"{name}\n" for name in names))
    return len(names)


def voken_name(corpus: str, names: list[str]) -> str:
    """`<corpus>.<sets joined by _>[.<V>]`: the name of a voken file without `.hdf5`."""
    sets = "_".join(sorted({name.partition("/")[0] for name in names}))
    return f"{corpus}.{sets}" + ("" if len(names) == PUBLISHED_V else f".{len(names)}")


def export_vokens(path: Path, folder: Path, corpus: str) -> Path:
    """Copy a stage's `<split>.hdf5` and `.ids` under the original's name for the corpus `<file>.<tok>`."""
    names = voken_ids(path.with_suffix(".ids"))
    target = folder / f"{voken_name(corpus, names)}.hdf5"
    folder.mkdir(parents=True, exist_ok=True)
    with open_checked(path, ["vokens"]) as file:
        vokens = file["vokens"]
        with write_store(
            target, "vokens", {"granularity": attributes(path).get("granularity", "token")}
        ) as out:
            stored = out.create_dataset("vokens", vokens.shape, "int32")
            for at in range(0, len(vokens), CHUNK):
                stored[at : at + CHUNK] = vokens[at : at + CHUNK]
    write_text_atomic(target.with_suffix(".ids"), "".join(f"{name}\n" for name in names))
    return target


def save_original(folder: Path, model: VisuallySupervisedLM, tokenizer: PreTrainedTokenizerFast) -> Path:
    """Write a model as the original saves it: `pytorch_model.bin` with the voken heads, config, vocabulary.

    `load_snapshot` reads it back, and transformers reads the language model.
    """
    heads = {head.objective: head for head in model.heads.values()}
    save_tokenizer(tokenizer, folder)
    save_hf(folder, model.encoder, mlm=model.mlm)
    tensors = load_file(folder / "model.safetensors")
    settings = read_json(folder / "config.json", "a model's settings")
    settings |= {f"do_voken_{name}": name in heads for name in OBJECTIVES}
    settings["shared_head"] = model.shared and bool(heads)
    for objective, head in heads.items():
        state, names = head.state_dict(), original_names(head)
        tensors |= {names[ours]: value.detach().cpu() for ours, value in state.items()}
        if objective == "cls":
            settings["voken_size"] = len(head.table()[0])
        else:
            settings["voken_size"], settings["voken_dim"] = state["features"].shape
    partial = folder / "pytorch_model.bin.partial"
    torch.save(tensors, partial)
    os.replace(partial, folder / "pytorch_model.bin")
    write_text_atomic(folder / "config.json", json.dumps(settings, indent=2) + "\n")
    (folder / "model.safetensors").unlink()
    return folder
