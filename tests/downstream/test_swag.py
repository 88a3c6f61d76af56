"""Stage `swag`: it learns, survives a kill, and scores the four endings alike."""

import json

import numpy as np
import pytest
import torch

from tests import tiny_lm
from vlpnb.data.swag import SwagExample
from vlpnb.downstream import swag
from vlpnb.downstream.swag import EndingChooser, Endings
from vlpnb.nn.language_model import language_model_config
from vlpnb.nn.transformer import init_weights
from vlpnb.text.tokenizers import load_tokenizer
from vlpnb.vokenization.swag import SWAG, VokenizationSwagConfig
from vlpnb.vokenization.visual_lm import VisuallySupervisedLM, save_snapshot


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    root = tmp_path_factory.mktemp("swag")
    made = tiny_lm.make(root, count=40)
    tiny_lm.add_swag(root, made)
    tokenizer = load_tokenizer(made["corpus"] / "tokenizer")
    torch.manual_seed(0)
    model = VisuallySupervisedLM(language_model_config("micro", tokenizer, 0.0))
    init_weights(model, 0.12)
    save_snapshot(root / "vlm" / "snapshot-0000001", model, tokenizer)
    return {**made, "pretraining": root / "vlm"}


CONFIG = VokenizationSwagConfig(seeds=(1, 2), lr=3e-3, epochs=3, checkpoint_seconds=0)


@pytest.fixture(scope="module")
def finished(inputs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("stage")
    return folder, SWAG.run(tiny_lm.context(CONFIG, folder, inputs))


def test_it_learns(finished):
    folder, metrics = finished
    assert metrics["accuracy"] > 0.7
    assert metrics["majority"] == 0.25
    results = json.loads((folder / "swag.json").read_text())
    assert [result["seed"] for result in results] == [1, 2]
    assert metrics["accuracy"] == pytest.approx(np.mean([result["value"] for result in results]))
    assert not list(folder.rglob("work"))


def test_a_killed_training_continues_to_the_same_result(inputs, finished, tmp_path, monkeypatch):
    calls, whole = [], Endings.batch

    def dies(self, rows):
        calls.append(1)
        if len(calls) == 15:
            raise KeyboardInterrupt
        return whole(self, rows)

    monkeypatch.setattr(Endings, "batch", dies)
    with pytest.raises(KeyboardInterrupt):
        SWAG.run(tiny_lm.context(CONFIG, tmp_path, inputs))
    assert (tmp_path / "seed-1" / "work" / "checkpoint.pt").is_file()
    monkeypatch.setattr(Endings, "batch", whole)
    assert SWAG.run(tiny_lm.context(CONFIG, tmp_path, inputs)) == finished[1]


def test_each_ending_is_read_alone_and_padding_does_not_count(inputs):
    tokenizer = load_tokenizer(inputs["corpus"] / "tokenizer")
    endings = ("red .", "green .", "the ball .", "yellow .")
    examples = [SwagExample("the car .", "it is", endings, 0)]
    examples += [
        SwagExample("the car .", "it is", endings[::-1], 3),
        SwagExample("the kite . " * 6, "it is", endings, 1),
    ]
    data = Endings(examples, tokenizer, 128)
    model = EndingChooser(*swag.load_classifier(inputs["pretraining"] / "snapshot-0000001", labels=1)).eval()
    alone, padded = (
        model.logits(**{k: v for k, v in data.batch(rows).items() if k != "labels"})
        for rows in ([0], [2, 0, 1])
    )
    assert padded.shape == (3, 4)
    torch.testing.assert_close(padded[1:2], alone, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(padded[2], padded[1].flip(0), atol=1e-5, rtol=1e-4)
    text = tokenizer.decode(data.batch([0])["ids"][0, 0], skip_special_tokens=True)
    assert text == tokenizer.decode(
        tokenizer("the car .", "it is red .")["input_ids"], skip_special_tokens=True
    )


def test_a_run_that_becomes_nan_is_a_result_not_a_crash(inputs, tmp_path, monkeypatch):
    monkeypatch.setattr(swag.F, "cross_entropy", lambda logits, labels, reduction: (logits * np.nan).sum())
    said = []
    config = VokenizationSwagConfig(seeds=(1,), epochs=1, max_train=16)
    assert SWAG.run(tiny_lm.context(config, tmp_path, inputs, said))["diverged"] == 1
    assert any("DIVERGED" in line for line in said)


def test_the_published_settings_are_the_defaults():
    config = VokenizationSwagConfig()
    assert (config.lr, config.epochs, config.batch, config.max_length) == (2e-5, 3, 16, 128)
