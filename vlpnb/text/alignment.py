"""Two tokenizers on one text: which characters a token covers, and which token of the other lies there.

    text      t  h  e     c  a  r  s
    backward [the   ][ cars        ]             byte-level BPE
    forward  [the   ]   [car   ][s ]             WordPiece: " cars" overlaps "car" most

Character spans of byte-level tokens come from the tokens' own bytes, and those of other tokenizers from the decoded
text only if it reads back as the same ids, so that there is always exactly one span for a token.
"""

import json
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int
from transformers import PreTrainedTokenizerFast

from vlpnb.text.tokenizers import byte_pieces, piece_texts

Spans = Int[np.ndarray, "_ 2"]


def same_tokenizer(one: PreTrainedTokenizerFast, other: PreTrainedTokenizerFast) -> bool:
    """Whether two tokenizers give the same ids for every text (special tokens at the ends aside)."""
    parts = ("added_tokens", "normalizer", "pre_tokenizer", "model")
    a, b = (json.loads(t.backend_tokenizer.to_str()) for t in (one, other))
    return all(a[part] == b[part] for part in parts)


def align(
    forward: Int[np.ndarray, "F 2"],
    backward: Int[np.ndarray, "B 2"],
    forward_sizes: Sequence[int] | None = None,
    backward_sizes: Sequence[int] | None = None,
) -> Int[np.ndarray, " B"]:
    """For every backward span the index of the forward span that it inherits from.

    A two-pointer sweep per sentence, done for all sentences at once: the candidates of a backward span run
    from where the pointer stands to the first forward span that ends no earlier; the greatest ratio of
    intersection to union wins, the earlier on ties; the pointer never moves back.

    Args:
        forward, backward: character intervals [start, end), ends ascending within a sentence.
        forward_sizes, backward_sizes: spans per sentence, all positive; None: one sentence.
    """
    f_sizes = np.array([len(forward)] if forward_sizes is None else forward_sizes, dtype=np.int64)
    b_sizes = np.array([len(backward)] if backward_sizes is None else backward_sizes, dtype=np.int64)
    f_first, b_first = np.cumsum(f_sizes) - f_sizes, np.cumsum(b_sizes) - b_sizes
    widths = np.maximum(
        np.maximum.reduceat(forward[:, 1], f_first), np.maximum.reduceat(backward[:, 1], b_first)
    )
    base = np.cumsum(widths + 1) - (widths + 1)  # sentences one after the other on one line of characters
    f = forward + np.repeat(base, f_sizes)[:, None]
    b = backward + np.repeat(base, b_sizes)[:, None]

    ends = f[:, 1].copy()
    ends[f_first + f_sizes - 1] = base + widths  # the last span of a sentence stops the pointer
    pointer = np.maximum.accumulate(np.searchsorted(np.maximum.accumulate(ends), b[:, 1]))
    start = np.concatenate([[0], pointer[:-1]])
    start[b_first] = f_first
    counts = pointer - start + 1
    offsets = np.cumsum(counts) - counts
    owner = np.repeat(np.arange(len(b)), counts)
    candidate = np.arange(len(owner)) - offsets[owner] + start[owner]

    shared = np.minimum(f[candidate, 1], b[owner, 1]) - np.maximum(f[candidate, 0], b[owner, 0])
    shared = shared.clip(min=0)
    union = np.diff(f)[candidate, 0] + np.diff(b)[owner, 0] - shared
    overlap = shared / union.clip(min=1)
    best = np.flatnonzero(overlap == np.maximum.reduceat(overlap, offsets)[owner])
    return candidate[best[np.unique(owner[best], return_index=True)[1]]]


def byte_spans(pieces: Sequence[bytes]) -> tuple[str, Spans]:
    """The text of byte-level tokens and the characters that each covers.

    A token that begins or ends inside a character covers it; bytes that are no UTF-8 become U+FFFD, one for
    every broken sequence.
    """
    data = b"".join(pieces)
    texts: list[str] = []
    counts: list[np.ndarray] = []  # 1 at the first byte of each character
    while data:
        try:
            good, bad = len(data), 0
            texts.append(data.decode())
        except UnicodeDecodeError as error:
            good, bad = error.start, error.end - error.start
            texts += [data[:good].decode(), "\ufffd"]
        counts.append(np.frombuffer(data[:good], np.uint8) & 0xC0 != 0x80)
        counts.append(np.arange(bad) == 0)
        data = data[good + bad :]
    character = np.cumsum(np.concatenate([np.zeros(0, bool), *counts])) - 1
    sizes = np.array([len(piece) for piece in pieces], dtype=np.int64)
    ends = np.cumsum(sizes)
    text = "".join(texts)
    first = np.append(character, len(text))[ends - sizes]
    last = np.insert(character, 0, -1)[ends]  # character of the byte before the end
    return text, np.stack([first, np.where(sizes > 0, last + 1, first)], axis=1).astype(np.int64)


class Speller:
    """Ids of one tokenizer ↔ text, with the characters that each token covers."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast):
        self.tokenizer = tokenizer
        self.bytes = byte_pieces(tokenizer)
        if self.bytes is None:
            texts = piece_texts(tokenizer)
            tokens = tokenizer.convert_ids_to_tokens(list(range(len(texts))))
            wordpiece = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["type"] == "WordPiece"
            self.texts = [
                f" {text}" if wordpiece and not (token or "").startswith("##") else text
                for text, token in zip(texts, tokens, strict=True)
            ]

    def spell(self, sentences: Sequence[Sequence[int]]) -> list[tuple[str, Spans]]:
        """Text and spans of sentences of ids: exactly one span per id."""
        if self.bytes is not None:
            return [byte_spans([self.bytes[i] for i in ids]) for ids in sentences]
        backend = self.tokenizer.backend_tokenizer
        texts = backend.decode_batch([list(map(int, ids)) for ids in sentences], skip_special_tokens=False)
        read = self.read(texts)
        return [
            (text, spans) if found == list(ids) else self._join(ids)
            for ids, text, (found, spans) in zip(sentences, texts, read, strict=True)
        ]

    def read(self, texts: Sequence[str]) -> list[tuple[list[int], Spans]]:
        """Ids (no special tokens added, nothing cut) and spans of texts."""
        backend = self.tokenizer.backend_tokenizer
        backend.no_truncation()
        backend.no_padding()
        encodings = backend.encode_batch(list(texts), add_special_tokens=False)
        return [(found.ids, self._spans(text, found)) for text, found in zip(texts, encodings, strict=True)]

    def _spans(self, text: str, encoding) -> Spans:
        if self.bytes is not None:
            spelled, spans = byte_spans([self.bytes[i] for i in encoding.ids])
            if spelled == text:
                return spans
            if spelled == f" {text}":  # a tokenizer that puts a space before the text
                return (spans - 1).clip(min=0)
        return np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2)

    def _join(self, ids: Sequence[int]) -> tuple[str, Spans]:
        """Pieces one after the other, for ids that do not survive decoding: a sentence cut inside a word."""
        parts = [self.texts[i] for i in ids]
        ends = np.cumsum([len(part) for part in parts])
        starts = ends - [len(part.lstrip(" ")) for part in parts]
        return "".join(parts), np.stack([starts, ends], axis=1).astype(np.int64)
