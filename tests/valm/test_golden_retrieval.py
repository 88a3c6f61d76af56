"""The original's retrieval as it was recorded: chunks, states, search."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from vlpnb.data.recorded import RecordedFolder
from vlpnb.foundations.tower_pair import TextTower
from vlpnb.nn.clip import Clip, ClipConfig
from vlpnb.nn.clip_files import fill, openai_state
from vlpnb.retrieval.nearest import exact_search, nearest
from vlpnb.retrieval.store import VectorStore, write_store
from vlpnb.text.chunking import compat_lengths, same_pieces
from vlpnb.text.query_texts import Words
from vlpnb.text.tokenizers import train_wordpiece
from vlpnb.valm.original.verify import recorded_model
from vlpnb.valm.retriever import QueryRules, Retriever

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


def test_from_ids_to_scores_of_words_as_recorded(recorded, separators, tmp_path):
    """Chunks, states of the recorded text tower, search among its raw rows, and the recorded decoder."""
    about = recorded
    config = ClipConfig(
        context=about["context"], hidden=about["width"], layers=about["layers"], heads=about["heads"],
        ffn=4 * about["width"], width=about["E"], image_size=8, patch=8, image_hidden=8, image_layers=(1,),
        image_heads=1, image_ffn=8,
    )  # fmt: skip
    pieces = torch.zeros(49408, about["width"])
    pieces[about["token_embedding_ids"]] = about["token_embedding_rows"]
    params = {name[6:]: value for name, value in about.items() if name.startswith("param.")}
    clip = Clip(config)
    fill(clip, openai_state(clip) | params | {"token_embedding.weight": pieces}, 0, SHARED)
    clip.eval()
    unused = train_wordpiece(["a b c"] * 9, 40, tmp_path / "words")
    tower = TextTower(
        clip.token_states, unused, 49406, 49407, 0, 75, about["E"], "recorded", "recorded", positions=1024
    )
    lookup = np.concatenate([[49407, 0, 49407, 49407], np.arange(49408)])
    words = Words(NO_PADDING, 2, (), same_pieces(lookup), lookup, separators)
    store = store_of(tmp_path, about["store_keys"], unit=False)
    lm_ids, wanted = about["lm_ids"], about["rows"]
    find = Retriever(store, tower, QueryRules(mode="token_compat", k=wanted.shape[-1]), words)
    found = find.rows(lm_ids)
    assert torch.equal(found.rows.long(), wanted)
    torch.testing.assert_close(found.scores, about["scores"], atol=1e-4, rtol=1e-5)
    asked = find.queries(lm_ids)
    queries = asked.vectors[asked.which]
    torch.testing.assert_close(queries, about["queries"], atol=1e-5, rtol=0)

    folder = RecordedFolder(SHARED)
    embedding = torch.zeros(len(lookup), about["embed_rows"].shape[1])
    embedding[about["embed_ids"]] = about["embed_rows"]
    state = folder.tensors("decoder.safetensors").below("param.") | {"decoder.embed_tokens.weight": embedding}
    lm = recorded_model(folder, state)
    real = lm_ids != 1
    logits = lm.logits(lm_ids, *find.images(lm_ids))[..., about["embed_ids"]]
    torch.testing.assert_close(logits[real], about["logits_of_embed_ids"][real], atol=1e-5, rtol=0)
    logits = lm.logits(lm_ids, queries[:, :, None])[..., about["embed_ids"]]
    torch.testing.assert_close(logits[real], about["logits_self_of_embed_ids"][real], atol=1e-5, rtol=0)
