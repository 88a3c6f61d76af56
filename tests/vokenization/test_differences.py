"""What the page of quirks says of further differences, where no other test shows it."""

import math

import pytest
import torch

from tests import tiny_lm
from vlpnb.nn.language_model import language_model_config
from vlpnb.nn.losses import IGNORE
from vlpnb.text.tokenizers import load_tokenizer
from vlpnb.vokenization.pretraining import Batches, PretrainingConfig, evaluate, training_data
from vlpnb.vokenization.visual_lm import VisuallySupervisedLM


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return tiny_lm.make(tmp_path_factory.mktemp("lm"), 60)


def test_evaluation_is_a_mean_over_labels(inputs, tmp_path):
    """VOK-D15: the same whatever the size of a batch, where the original's mean over batches is not."""
    tokenizer = load_tokenizer(inputs["corpus"] / "tokenizer")
    config = PretrainingConfig(size="micro", block=14)
    data = training_data(tiny_lm.context(config, tmp_path, inputs), "valid", tokenizer)
    batches = Batches(config, data, tokenizer, tiny_lm.VOKENS, 0, 1)
    torch.manual_seed(0)
    model = VisuallySupervisedLM(language_model_config("micro", tokenizer, 0.1), tiny_lm.VOKENS).eval()
    model.mlm.bias.data.normal_(std=2.0)  # some words are far likelier than others
    sums, counts, seen = 0.0, 0, []
    examples = batches.examples

    def watched(rows, generator):
        made = examples(rows, generator)
        seen.append(made)
        return made

    batches.examples = watched
    found = evaluate(model, batches, "cpu", 20, rows_at_once=16)
    assert [len(made["ids"]) for made in seen] == [16, 4]
    means = []
    for made in seen:
        loss = model(**made)["mlm"].item()
        labels = int((made["mlm_labels"] != IGNORE).sum())
        sums, counts, means = sums + loss, counts + labels, [*means, loss / labels]
    assert found["perplexity"] == pytest.approx(math.exp(sums / counts), rel=1e-4)
    assert found["perplexity"] != pytest.approx(math.exp(sum(means) / 2), rel=1e-4)
