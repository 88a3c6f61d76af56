"""Stage `glue`: it learns, writes the original's files, and notices runs that diverged."""

import json

import numpy as np
import pytest
import torch

from tests import tiny_lm
from vlpnb.config import parse_config
from vlpnb.data.glue import GLUE_TASKS
from vlpnb.downstream import glue
from vlpnb.downstream.glue import divergence, majority, score, summarise
from vlpnb.errors import UserError
from vlpnb.text.tokenizers import load_tokenizer
from vlpnb.vokenization.glue import GLUE, VokenizationGlueConfig


@pytest.mark.slow
def test_it_learns_word_order(finished):
    done = finished("glue")
    folder, metrics = done.folder, done.metrics
    assert metrics["cola"] > 0.5
    assert {"rte", "mean", "mean_converged", "diverged"} <= metrics.keys()
    results = json.loads((folder / "glue.json").read_text())
    assert [(r["task"], r["seed"]) for r in results] == [("RTE", 1), ("RTE", 2), ("CoLA", 1), ("CoLA", 2)]
    assert metrics["cola"] == pytest.approx(np.median([r["value"] for r in results if r["task"] == "CoLA"]))


def test_files_look_like_the_originals(finished):
    folder = finished("glue").folder
    assert (folder / "seed-1" / "RTE" / "eval_results.txt").read_text().startswith("acc = 0.")
    assert (folder / "seed-2" / "CoLA" / "eval_results.txt").read_text().startswith("mcc = ")


def test_padding_does_not_change_predictions(inputs):
    tokenizer = load_tokenizer(inputs["corpus"] / "tokenizer")
    examples = glue.read_glue(inputs["glue_data"].parent / "glue", "RTE", "valid")
    data = glue.Encoded(examples, tokenizer, 64, None)
    encoder, head = glue.load_classifier(inputs["pretraining"] / "snapshot-0000001", labels=2)
    model = glue.SentenceClassifier(encoder, head, False).eval()
    alone = model.logits(**{k: v for k, v in data.batch([0]).items() if k != "labels"})
    order = [int(data.lengths.argmax()), 0]
    together = model.logits(**{k: v for k, v in data.batch(order).items() if k != "labels"})
    torch.testing.assert_close(together[1:], alone, atol=1e-5, rtol=1e-4)
    assert set(data.types[0]) == {0, 1}


@pytest.mark.parametrize("pair", [True, False])
def test_compared_sentences_are_the_largest_values_of_each(pair):
    torch.manual_seed(0)
    head = glue.ComparingHead(4, 3, 0.0, pair)
    hidden = torch.randn(2, 6, 4)
    mask = torch.tensor([[1, 1, 1, 1, 1, 0], [1, 1, 1, 1, 1, 1]]).bool()
    types = torch.tensor([[0, 0, 1, 1, 1, 0], [0, 0, 0, 1, 1, 1]] if pair else [[0] * 6] * 2)
    first = torch.stack([hidden[0, : 2 if pair else 5].amax(0), hidden[1, : 3 if pair else 6].amax(0)])
    second = torch.stack([hidden[0, 2:5].amax(0), hidden[1, 3:].amax(0)])
    compared = [first, second, (first - second).abs(), first * second] if pair else [first]
    torch.testing.assert_close(head(hidden, mask, types), head.layers(torch.cat(compared, dim=1)))


def test_a_model_learns_with_sentences_compared(inputs, tmp_path):
    config = VokenizationGlueConfig(
        tasks=("CoLA",), seeds=(1,), lr=3e-3, epochs=5, batch=8, head="compared", by_length=False
    )
    assert GLUE.run(tiny_lm.context(config, tmp_path, inputs))["cola"] > 0.5
    with pytest.raises(UserError, match="with keep_models set head to 'first'"):
        parse_config(VokenizationGlueConfig, {"head": "compared", "keep_models": True}, "glue")


def test_divergence_is_noticed():
    rte, sts = GLUE_TASKS["RTE"], GLUE_TASKS["STS-B"]
    falling, flat = [0.7, 0.6, 0.5, 0.4], [0.7, 0.69, 0.71, 0.7]
    labels = [0, 0, 0, 1]
    assert "same answer" in divergence(rte, np.zeros(4, int), labels, falling)
    assert "did not fall" in divergence(rte, np.array([1, 0, 0, 1]), [0, 0, 0, 1], flat)
    assert divergence(rte, np.array([0, 0, 0, 1]), labels, flat) == ""  # above the majority: not lost
    assert divergence(rte, np.array([1, 0, 0, 1]), labels, falling) == ""
    assert "same answer" in divergence(sts, np.full(4, 2.5001), [1, 2, 3, 4], falling)


def test_majority_of_each_kind_of_metric():
    assert majority(GLUE_TASKS["RTE"], [0, 0, 1]) == pytest.approx(2 / 3)
    assert majority(GLUE_TASKS["MRPC"], [1, 1, 0]) == pytest.approx((2 / 3 + 0.8) / 2)
    assert majority(GLUE_TASKS["MRPC"], [1, 0]) == pytest.approx((1 / 2 + 2 / 3) / 2), (
        "the best, not the first"
    )
    assert majority(GLUE_TASKS["CoLA"], [1, 1, 0]) == 0
    assert majority(GLUE_TASKS["STS-B"], [1.0, 2.0]) == 0


def test_each_task_has_its_metrics():
    assert list(score(GLUE_TASKS["QQP"], np.array([1, 0]), [1, 1])) == ["acc_and_f1", "accuracy", "f1"]
    assert score(GLUE_TASKS["STS-B"], np.array([1.0, 2.0, 3.0]), [0.0, 1.0, 5.0])[
        "spearman"
    ] == pytest.approx(1)


def test_diverged_runs_are_counted_apart():
    results = [
        {"task": "RTE", "value": 0.5, "diverged": "it gives every example the same answer"},
        {"task": "RTE", "value": 0.7, "diverged": ""},
        {"task": "RTE", "value": 0.6, "diverged": ""},
        {"task": "WNLI", "value": 0.2, "diverged": ""},
    ]
    found = summarise(results)
    assert found["rte"] == 0.6
    assert found["mean"] == 0.6  # WNLI is not in the table
    assert found["mean_converged"] == pytest.approx(0.65)
    assert found["diverged"] == 1


@pytest.mark.parametrize("tasks", [("RTEE",), ("MNLI-MM",)])
def test_unknown_tasks_are_refused(tasks):
    with pytest.raises(UserError, match=tasks[0]):
        parse_config(VokenizationGlueConfig, {"tasks": tasks}, "glue")
