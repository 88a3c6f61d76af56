"""What a model may read of the rows of a store in place of their values: words of captions, values standardised.

Caption words are vectors that nobody trained: each word has a fixed random direction, a caption is the unit sum of its
words', a picture the mean of its captions. Whatever a caption says can be read from them, and nothing else.
"""

import hashlib
import re
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from vlpnb.retrieval.store import VectorStore

WORD = re.compile(r"\w+")
Read = Callable[[Int[np.ndarray, "*U"]], Float[Tensor, "*U F"]]
"""Rows → what is read of them."""
MEASURED = 1 << 16  # vectors of a store whose mean and spread stand for all


def word_direction(word: str, width: int) -> Float[np.ndarray, " W"]:
    """A direction that is the word's alone, the same on every machine."""
    seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "little")
    return np.random.default_rng(seed).standard_normal(width).astype(np.float32)


def caption_words(store: VectorStore, width: int) -> Float[Tensor, "N W"]:
    """One vector for each picture of a store: the words of its captions."""
    directions: dict[str, np.ndarray] = {}
    found = np.zeros((len(store), width), np.float32)
    for row in range(len(store)):
        for caption in store.captions(row):
            words = WORD.findall(caption.lower())
            for word in words:
                if word not in directions:
                    directions[word] = word_direction(word, width)
            said = (
                np.sum([directions[word] for word in words], axis=0) if words else np.zeros(width, np.float32)
            )
            found[row] += said / max(float(np.linalg.norm(said)), 1e-12)
    return torch.from_numpy(found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12))


def distinct(
    rows: Int[np.ndarray, "B T K"], read: Callable[[Int[np.ndarray, " U"]], Float[Tensor, "U F"]]
) -> dict[str, Tensor]:
    """The distinct vectors of some rows, `images` (U, F), and which of them each place has, `rows` (−1: none)."""
    found, places = np.unique(rows, return_inverse=True)
    places = places.reshape(rows.shape)
    if len(found) and found[0] < 0:
        found, places = found[1:], places - 1
    vectors = read(found if len(found) else np.zeros(1, np.int64))
    return {"images": vectors, "rows": torch.from_numpy(places)}


def standardised(store: VectorStore) -> Read:
    """Reads a store's vectors less their mean, over their spread: what all pictures share says nothing of any.

    A norm over the numbers of one vector, as the model's, takes neither away.
    """
    some = store.gather(np.linspace(0, len(store) - 1, min(len(store), MEASURED)).astype(np.int64)).double()
    mean, spread = some.mean(0).float(), some.std(0, correction=0).clamp(min=1e-6).float()
    return lambda rows: (store.gather(rows) - mean) / spread
