"""What is read of a store's rows in place of their values: words of captions, and each distinct row once."""

import numpy as np
import torch

from vlpnb.retrieval.readers import caption_words, distinct
from vlpnb.retrieval.store import write_store


def test_caption_words_say_what_captions_say_and_nothing_else(tmp_path):
    said = [("a red car",), ("A red car .",), ("a red car", "a blue car"), ("a dog runs",)]
    vectors = np.eye(4, 6, dtype=np.float32)
    words = caption_words(write_store(tmp_path, vectors, list("abcd"), "towers", "ab", captions=said), 64)
    assert torch.allclose(words.norm(dim=1), torch.ones(4), atol=1e-5)
    assert torch.equal(words[0], words[1])
    for other in (2, 3):
        assert not torch.allclose(words[0], words[other], atol=1e-3)
    assert words[0] @ words[2] > words[0] @ words[3]


def test_a_store_without_captions_says_nothing(tmp_path):
    store = write_store(tmp_path, np.eye(2, 3, dtype=np.float32), ["a", "b"], "towers", "ab")
    assert torch.equal(caption_words(store, 8), torch.zeros(2, 8))


def test_each_distinct_row_is_read_once():
    rows, asked = np.array([[[5, 2], [2, -1]]]), []

    def read(some: np.ndarray) -> torch.Tensor:
        asked.append(some.tolist())
        return torch.from_numpy(some[:, None].astype(np.float32))

    found = distinct(rows, read)
    assert asked == [[2, 5]]
    assert found["rows"].tolist() == [[[1, 0], [0, -1]]]
    assert found["images"][:, 0].tolist() == [2, 5]
    assert distinct(np.full((1, 1, 2), -1), read)["rows"].tolist() == [[[-1, -1]]]
