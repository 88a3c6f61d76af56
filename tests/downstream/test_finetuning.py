"""The models that fine-tuning keeps are what transformers loads."""

import json

import numpy as np
import pytest
import torch
import transformers
from transformers import (
    AutoModelForMultipleChoice,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)

from tests import tiny_lm
from vlpnb.data.glue import read_glue
from vlpnb.data.squad import read_squad
from vlpnb.data.swag import read_swag
from vlpnb.downstream import finetuning, glue, squad, swag
from vlpnb.downstream.finetuning import Trained
from vlpnb.errors import UserError
from vlpnb.nn.language_model import language_model_config
from vlpnb.text.tokenizers import load_tokenizer, train_byte_bpe
from vlpnb.vokenization.glue import GLUE, VokenizationGlueConfig
from vlpnb.vokenization.squad import SQUAD, VokenizationSquadConfig
from vlpnb.vokenization.swag import SWAG, VokenizationSwagConfig
from vlpnb.vokenization.visual_lm import VisuallySupervisedLM, save_snapshot


@pytest.fixture(scope="module", params=["bert", "roberta"])
def model(request, inputs):
    """A folder of an untrained model."""
    if request.param == "bert":
        tokenizer = load_tokenizer(inputs["corpus"] / "tokenizer")
    else:
        tokenizer = train_byte_bpe(tiny_lm.lines(40), 300, inputs["root"] / "bpe")
    torch.manual_seed(0)
    folder = inputs["root"] / request.param
    save_snapshot(folder, VisuallySupervisedLM(language_model_config("micro", tokenizer, 0.0)), tokenizer)
    assert json.loads((folder / "config.json").read_text())["model_type"] == request.param
    return folder


@pytest.fixture
def trained(monkeypatch) -> list[Trained]:
    """What the stages trained, in order."""
    found, train = [], finetuning.train

    def keep(*arguments):
        found.append(train(*arguments))
        return found[-1]

    monkeypatch.setattr(finetuning, "train", keep)
    return found


@pytest.fixture(autouse=True)
def _quiet():
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


SHORT = {"seeds": (3,), "epochs": 1, "lr": 3e-3, "batch": 8, "max_train": 16, "max_valid": 8}


def opened(kind, folder):
    """The kept model as transformers loads it, with nothing missing and nothing left over, and its tokenizer."""
    model, about = kind.from_pretrained(folder, output_loading_info=True)
    assert not any(about.values()), about
    return model.eval(), AutoTokenizer.from_pretrained(folder)


def given(batch):
    """Our batch under transformers' names."""
    return {"input_ids": batch["ids"], "attention_mask": batch["mask"].long()}


@pytest.mark.parametrize("task", ["CoLA", "RTE"])
def test_a_kept_classifier_loads_in_transformers(inputs, model, trained, tmp_path, task):
    config = VokenizationGlueConfig(model=str(model), tasks=(task,), keep_models=True, **SHORT)
    GLUE.run(tiny_lm.context(config, tmp_path, inputs))
    theirs, tokenizer = opened(AutoModelForSequenceClassification, tmp_path / "seed-3" / task / "model")
    data = glue.Encoded(read_glue(inputs["root"] / "glue", task, "valid"), tokenizer, 126, 8)
    batch = data.batch(range(8))
    if theirs.config.type_vocab_size > 1:
        found = theirs(**given(batch), token_type_ids=batch["types"]).logits
    else:
        found = theirs(**given(batch)).logits
    ours = trained[0].model.eval().logits(batch["ids"], batch["mask"], batch["types"])
    torch.testing.assert_close(ours, found, atol=1e-5, rtol=1e-5)
    accuracy = float((found.argmax(1) == batch["labels"]).float().mean())
    (result,) = json.loads((tmp_path / "glue.json").read_text())
    assert result["metrics"].get("accuracy", accuracy) == pytest.approx(accuracy)


def test_a_kept_reader_loads_in_transformers(inputs, model, trained, tmp_path):
    config = VokenizationSquadConfig(
        model=str(model), versions=("2.0",), keep_models=True, max_length=40, stride=8, **SHORT
    )
    SQUAD.run(tiny_lm.context(config, tmp_path, inputs))
    theirs, tokenizer = opened(AutoModelForQuestionAnswering, tmp_path / "seed-3" / "v2.0" / "model")
    data = squad.make_windows(read_squad(inputs["root"] / "squad", "2.0", "valid"), tokenizer, config, 8)
    batch = data.batch(range(8))
    types = {"token_type_ids": batch["types"]} if theirs.config.type_vocab_size > 1 else {}
    found = theirs(**given(batch), **types)
    reader = trained[0].model.eval()
    starts, ends = reader.head(reader.hidden(batch["ids"], batch["mask"], batch["types"]))
    torch.testing.assert_close(starts, found.start_logits, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ends, found.end_logits, atol=1e-5, rtol=1e-5)
    assert (tmp_path / "seed-3" / "v2.0" / "predictions.json").is_file()


def test_a_kept_chooser_loads_in_transformers(inputs, model, trained, tmp_path):
    config = VokenizationSwagConfig(model=str(model), keep_models=True, **SHORT)
    metrics = SWAG.run(tiny_lm.context(config, tmp_path, inputs))
    theirs, tokenizer = opened(AutoModelForMultipleChoice, tmp_path / "seed-3" / "model")
    data = swag.Endings(read_swag(inputs["root"] / "swag", "valid")[:8], tokenizer, 128)
    batch = data.batch(range(8))
    types = {"token_type_ids": batch["types"]} if theirs.config.type_vocab_size > 1 else {}
    found = theirs(**given(batch), **types).logits
    ours = trained[0].model.eval().logits(batch["ids"], batch["mask"], batch["types"])
    torch.testing.assert_close(ours, found, atol=1e-5, rtol=1e-5)
    assert metrics["accuracy"] == pytest.approx(float((found.argmax(1) == batch["labels"]).float().mean()))


def test_sentences_are_compared_where_their_types_differ(inputs, model, tmp_path):
    config = VokenizationGlueConfig(model=str(model), tasks=("RTE",), epochs=1, batch=8, head="compared")
    context = tiny_lm.context(config, tmp_path, inputs)
    if model.name == "bert":
        assert 0 <= GLUE.run(context)["rte"] <= 1
    else:
        with pytest.raises(UserError, match=r"glue\.head: 'compared' tells sentences apart by their types"):
            GLUE.run(context)


def test_batches_are_of_one_length_or_of_any(tmp_path, monkeypatch):
    class Ruler:
        """Forty examples of ten lengths."""

        lengths = np.arange(40) % 10 + 1

        def __len__(self):
            return 40

        def batch(self, rows):
            return {"ids": torch.zeros(len(rows), self.lengths[rows].max()), "rows": torch.tensor(rows)}

    def spread(by_length: bool) -> float:
        updates = []

        def record(model, batches, plan, *arguments, **options):
            updates.extend(batches(update) for update in range(plan.updates))
            return [{"loss": 0.0}]

        monkeypatch.setattr(finetuning, "fit", record)
        config = VokenizationGlueConfig(batch=4, epochs=2, by_length=by_length)
        finetuning.train(torch.nn.Identity, Ruler(), "task", config, tmp_path, 1, "cpu")
        rows = [update.micro[0]["rows"].numpy() for update in updates]
        assert sorted(np.concatenate(rows)) == sorted([*range(40)] * 2)
        return float(np.mean([np.ptp(Ruler.lengths[part]) for part in rows]))

    assert spread(True) < 1 < 4 < spread(False)
