"""Stage `probes`: cloze scores against transformers, the linear probe on vectors that hold the answer or do not."""

import json

import numpy as np
import pytest
import torch

from tests import tiny_lm
from vlpnb.downstream import probes
from vlpnb.downstream.probes import candidate_scores, cloze_accuracy, linear_probe
from vlpnb.errors import UserError
from vlpnb.nn.language_model import language_model_config, load_masked_lm
from vlpnb.text.tokenizers import load_tokenizer
from vlpnb.vokenization.probes import PROBES, VokenizationProbesConfig
from vlpnb.vokenization.visual_lm import VisuallySupervisedLM, save_snapshot


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    root = tmp_path_factory.mktemp("probes")
    made = tiny_lm.make(root, count=40)
    tokenizer = load_tokenizer(made["corpus"] / "tokenizer")
    torch.manual_seed(0)
    model = VisuallySupervisedLM(language_model_config("micro", tokenizer))
    save_snapshot(root / "vlm" / "snapshot-0000001", model, tokenizer)
    return {**made, "pretraining": root / "vlm"}


def test_scores_equal_transformers(inputs):
    from transformers import AutoModelForMaskedLM

    folder = inputs["pretraining"] / "snapshot-0000001"
    tokenizer = load_tokenizer(folder)
    items = [
        {"prompt": "the frog is [MASK] .", "candidates": ["green", "yellow"], "answer": "green"},
        {
            "prompt": "the banana near the red car is [MASK] .",
            "candidates": ["redball", "red"],
            "answer": "red",
        },
    ]
    pieces = tokenizer("redball", add_special_tokens=False)["input_ids"]
    assert len(pieces) > 1
    found = candidate_scores(load_masked_lm(folder), tokenizer, items, "cpu")
    theirs = AutoModelForMaskedLM.from_pretrained(folder).eval()

    def expected(text, ids):
        given = torch.tensor([tokenizer(text)["input_ids"]])
        with torch.no_grad():
            logs = theirs(given).logits[0].log_softmax(-1)
        at = (given[0] == tokenizer.mask_token_id).nonzero()[:, 0].tolist()
        return np.mean([logs[position, piece].item() for position, piece in zip(at, ids, strict=True)])

    green = tokenizer("green", add_special_tokens=False)["input_ids"]
    if len(green) == 1:
        assert found[0, 0] == pytest.approx(expected(items[0]["prompt"], green), abs=1e-4)
    masks = " ".join(["[MASK]"] * len(pieces))
    text = items[1]["prompt"].replace("[MASK]", masks)
    assert found[1, 0] == pytest.approx(expected(text, pieces), abs=1e-4)


def test_cloze_accuracy_takes_the_best_and_skips_nan():
    items = [
        {"candidates": ["a", "b", "c"], "answer": "b"},
        {"candidates": ["a", "b"], "answer": "b"},
    ]
    assert cloze_accuracy(items, np.array([[0.1, 0.3, 0.2], [0.5, 0.4, np.nan]])) == 0.5


def test_linear_probe_finds_what_is_there_and_nothing_else():
    random = np.random.default_rng(0)
    labels = {f"kind{i}": "red" if i % 2 else "blue" for i in range(16)}
    vectors = {kind: random.normal(size=8) for kind in labels}
    accuracy, chance = linear_probe(vectors, labels, 20)
    assert chance == 0.5
    assert abs(accuracy - 0.5) < 0.25
    told = {kind: np.append(vector, [float(labels[kind] == "red")] * 8) for kind, vector in vectors.items()}
    assert linear_probe(told, labels, 20)[0] > 0.95


def test_linear_probe_without_classes_is_nan():
    assert np.isnan(linear_probe({"a": np.zeros(2)}, {"a": "red"}, 3)[0])


def test_the_stage(inputs, tmp_path):
    metrics = PROBES.run(tiny_lm.context(VokenizationProbesConfig(splits=5), tmp_path, inputs))
    assert metrics["colour_chance"] == metrics["colour_majority"] == 0.5
    assert 0 <= metrics["colour"] <= 1
    assert metrics["colour_linear_chance"] == 0.5
    assert metrics["cloze"] == metrics["colour"]
    written = json.loads((tmp_path / "probes.json").read_text())
    assert len(written["items"]["colour"][0]["scores"]) == 2


def test_broken_lists_name_the_line(inputs, tmp_path):
    (tmp_path / "colour.jsonl").write_text('{"prompt": "the frog is green ."}\n')
    with pytest.raises(UserError, match=r"colour\.jsonl:1: field 'answer' is missing"):
        probes.read_probes(tmp_path)
    with pytest.raises(UserError, match=r"no \.jsonl"):
        probes.read_probes(inputs["pretraining"])
