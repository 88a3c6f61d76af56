"""Stage `swag`: it learns, and scores the four endings alike."""

import json

import numpy as np
import pytest
import torch

from vlpnb.data.swag import SwagExample
from vlpnb.downstream import swag
from vlpnb.downstream.swag import EndingChooser, Endings
from vlpnb.text.tokenizers import load_tokenizer


@pytest.mark.slow
def test_it_learns(finished):
    done = finished("swag")
    folder, metrics = done.folder, done.metrics
    assert metrics["accuracy"] > 0.7
    assert metrics["majority"] == 0.25
    results = json.loads((folder / "swag.json").read_text())
    assert [result["seed"] for result in results] == [1, 2]
    assert metrics["accuracy"] == pytest.approx(np.mean([result["value"] for result in results]))


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
