"""The original's retrieval as it was recorded: chunks, states, search."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from vlpnb.retrieval.nearest import exact_search, nearest
from vlpnb.retrieval.store import VectorStore, write_store
from vlpnb.valm.chunking import compat_lengths, same_pieces
from vlpnb.valm.retriever import QueryRules, Retriever, Words

SHARED = Path(os.environ.get("VLPNB_SHARED_GOLDEN", Path(__file__).parents[3] / "shared/golden")) / "valm"
NO_PADDING = -1  # padding takes part in the original's rule, as a piece like others
pytestmark = pytest.mark.skipif(not SHARED.is_dir(), reason=f"recorded tensors are not at {SHARED}")


@pytest.fixture(scope="module")
def recorded():
    found = load_file(SHARED / "end_to_end.safetensors") | load_file(SHARED / "text_tower.safetensors")
    return found | json.loads((SHARED / "model.json").read_text())["text_tower"]


def clip_ids(lm_ids: torch.Tensor) -> np.ndarray:
    lookup = np.concatenate([[49407, 0, 49407, 49407], np.arange(49408)])
    return lookup[lm_ids.numpy()]


@pytest.fixture(scope="module")
def separators():
    return tuple(json.loads((SHARED / "chunker.json").read_text())["separators_in_order"])


def test_chunks_of_the_recorded_text(recorded, separators):
    found = [compat_lengths(row, separators) for row in clip_ids(recorded["lm_ids"])]
    assert found == recorded["chunk_lengths"]


def store_of(folder, keys: torch.Tensor, unit: bool) -> VectorStore:
    rows = keys.float()
    rows = (rows / rows.norm(dim=1, keepdim=True) if unit else rows).numpy()
    ids = [str(i) for i in range(len(rows))]
    return write_store(folder, rows, ids, "recorded", "recorded", normalised=unit)


@pytest.mark.parametrize(("unit", "name"), [(False, "rows"), (True, "rows_normalised_keys")])
def test_rows_of_the_recorded_queries(recorded, tmp_path, unit, name):
    store = store_of(tmp_path, recorded["store_keys"], unit)
    wanted = recorded[name]
    scores, rows = nearest(
        exact_search(store), recorded["queries"].flatten(0, 1), wanted.shape[-1], len(store)
    )
    assert torch.equal(rows.view(wanted.shape), wanted)
    if not unit:
        torch.testing.assert_close(scores.view(wanted.shape), recorded["scores"], atol=1e-4, rtol=1e-5)


class RecordedTower:
    """Answers with the recorded state of every token; chunks come in the order of the text."""

    name = hash = "recorded"
    longest, causal, end_id, pad_id, tokenizer = 75, True, 49407, 0, None

    def __init__(self, queries: torch.Tensor, clip: np.ndarray):
        self.width, self.left = queries.shape[-1], queries.flatten(0, 1).numpy()
        self.read = clip.ravel()

    def states(self, chunks):
        found = []
        for chunk in chunks:
            assert (self.read[: len(chunk)] == chunk).all()
            edge = np.zeros((1, self.width), np.float32)
            found.append(np.concatenate([edge, self.left[: len(chunk)], edge]))
            self.left, self.read = self.left[len(chunk) :], self.read[len(chunk) :]
        return found


def test_the_retriever_finds_the_recorded_rows_from_the_recorded_text(recorded, separators, tmp_path):
    lm_ids = recorded["lm_ids"]
    clip = clip_ids(lm_ids)
    lookup = np.concatenate([[49407, 0, 49407, 49407], np.arange(49408)])
    words = Words(NO_PADDING, 2, (), same_pieces(lookup), lookup, separators)
    store = store_of(tmp_path, recorded["store_keys"], unit=False)
    for i, row in enumerate(lm_ids):
        tower = RecordedTower(recorded["queries"][i : i + 1], clip[i : i + 1])
        find = Retriever(store, tower, QueryRules(mode="token_compat", k=recorded["rows"].shape[-1]), words)
        text = int((row != 1).sum())  # chunks of padding are equal, and asked once
        assert text > 50
        assert torch.equal(find.rows(row[None]).rows[0, :text].long(), recorded["rows"][i, :text])
