"""A text tower of a few lines, and a store to search, for the tests of retrieval in VaLM."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from vlpnb.retrieval.store import VectorStore, write_store
from vlpnb.text.chunking import same_pieces
from vlpnb.text.query_texts import Words
from vlpnb.valm.retriever import QueryRules, Retriever

PAD, EOS, STOP, WORDS = 1, 2, 3, 60  # ids below 4 are special


class DecayingTower:
    """The state at a token is a fading sum of vectors of the tokens up to it; with `causal` False, of all tokens."""

    name, hash, tokenizer = "decaying", "0123456789abcdef", None
    end_id, pad_id = EOS, PAD

    def __init__(self, width: int = 12, longest: int = 20, causal: bool = True, seed: int = 0):
        self.width, self.longest, self.causal = width, longest, causal
        self.table = np.random.default_rng(seed).normal(size=(WORDS + 2, width)).astype(np.float32)
        self.read: list[list[int]] = []

    def states(self, chunks) -> list[np.ndarray]:
        self.read += [chunk.tolist() for chunk in chunks]
        return [self._states(chunk).numpy() for chunk in chunks]

    def _states(self, chunk) -> Tensor:
        assert len(chunk) <= self.longest
        memory, found = np.zeros(self.width, np.float32), []
        for piece in (WORDS, *chunk, WORDS + 1):
            memory = np.float32(0.7) * memory + self.table[piece]
            found.append(memory)
        if not self.causal:
            found = [sum(found)] * len(found)
        return normalize(torch.from_numpy(np.stack(found)), dim=1)

    def lookup(self, tokenizer) -> np.ndarray:
        return np.arange(WORDS)


def words_for(tower: DecayingTower) -> Words:
    lookup = np.arange(WORDS)
    return Words(PAD, EOS, (STOP,), same_pieces(lookup, tower.causal), lookup, (EOS, PAD, STOP))


def small_store(folder: Path, tower: DecayingTower, count: int = 50, **about) -> VectorStore:
    dice = np.random.default_rng(1)
    vectors = dice.normal(size=(count, tower.width)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    values = dice.normal(size=(count, 5)).astype(np.float32)
    ids = [f"picture{i}" for i in range(count)]
    return write_store(folder, vectors, ids, tower.name, tower.hash, values=values, **about)


def retriever(store: VectorStore, tower: DecayingTower | None, **rules) -> Retriever:
    return Retriever(store, tower, QueryRules(**{"k": 3, **rules}), words_for(tower or DecayingTower()))


def texts(count: int = 6, length: int = 40, seed: int = 3) -> Tensor:
    """Texts of several sentences, each ended by EOS inside or not, padded on the right."""
    dice = np.random.default_rng(seed)
    ids = dice.integers(4, WORDS, size=(count, length))
    ids[:, 0] = EOS
    for row in ids:
        row[dice.integers(1, length, size=5)] = STOP
        row[dice.integers(1, length, size=1)] = EOS
        row[length - dice.integers(0, length // 3) :] = PAD
    return torch.from_numpy(ids)
