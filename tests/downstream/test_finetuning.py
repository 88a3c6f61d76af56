"""What the fine-tuning stages share: jobs dealt out to processes, and kept models that transformers loads."""

import json

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
from vlpnb.config import parse_config
from vlpnb.data.glue import read_glue
from vlpnb.data.squad import read_squad
from vlpnb.data.swag import read_swag
from vlpnb.downstream import finetuning, glue, squad, swag
from vlpnb.downstream.finetuning import Job, Trained
from vlpnb.nn.language_model import language_model_config
from vlpnb.stage.profiles import load_profile
from vlpnb.text.tokenizers import load_tokenizer, train_byte_bpe
from vlpnb.vokenization.glue import GLUE, VokenizationGlueConfig
from vlpnb.vokenization.squad import SQUAD, VokenizationSquadConfig
from vlpnb.vokenization.swag import SWAG, VokenizationSwagConfig
from vlpnb.vokenization.visual_lm import VisuallySupervisedLM, save_snapshot


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    root = tmp_path_factory.mktemp("finetuning")
    made = tiny_lm.make(root, count=40)
    tiny_lm.add_squad(root, made)
    tiny_lm.add_swag(root, made)
    return {**made, "root": root}


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


@pytest.mark.parametrize("stage", [GLUE, SQUAD, SWAG])
def test_models_are_kept_only_on_request_and_cost_no_number(inputs, model, tmp_path, stage):
    assert not stage.config().keep_models
    fields = {**SHORT, "tasks": ("RTE",)} if stage is GLUE else SHORT
    config = stage.config(model=str(model), **fields)
    kept = config.model_copy(update={"keep_models": True})
    metrics = stage.run(tiny_lm.context(config, tmp_path / "a", inputs))
    assert str(metrics) == str(stage.run(tiny_lm.context(kept, tmp_path / "b", inputs)))  # NaN is NaN too
    assert not list((tmp_path / "a").rglob("model"))
    assert len(list((tmp_path / "b").rglob("model/model.safetensors"))) == (2 if stage is SQUAD else 1)


def jobs_of(names, done):
    def job(name):
        def run(folder, work):
            done.append(name)
            (work / "model").mkdir()
            return [{"name": name, "diverged": "" if name < "c" else "lost"}]

        return Job(f"runs/{name}", run)

    return [job(name) for name in names]


def test_jobs_are_dealt_out_and_the_results_are_in_order(tmp_path, monkeypatch):
    """Two processes one after the other; a seed given twice is one job, and what is done is not done again."""
    monkeypatch.setattr(finetuning, "barrier", lambda processes: None)
    names, by, said = ("a", "b", "c", "a"), {}, []
    for rank in (1, 0):
        context = tiny_lm.context(None, tmp_path / "two", {}, said)
        context.rank, context.world_size, by[rank] = rank, 2, []
        if rank == 1:  # process 0 has not done its own yet
            with pytest.raises(FileNotFoundError):
                finetuning.run_jobs(context, jobs_of(names, by[rank]), lambda r: r["name"], "all.json")
            assert not (tmp_path / "two" / "all.json").exists()
        else:
            found = finetuning.run_jobs(context, jobs_of(names, by[rank]), lambda r: r["name"], "all.json")
    assert by == {1: ["b"], 0: ["a", "c"]}
    told = sorted(line.split("] ")[1] for line in said if "%" not in line)
    assert told == ["a", "a", "b", "c   DIVERGED: lost"]
    alone: list = []
    one = tiny_lm.context(None, tmp_path / "one", {})
    assert finetuning.run_jobs(one, jobs_of(names, alone), lambda r: r["name"], "all.json") == found
    assert alone == ["a", "b", "c"]
    assert (tmp_path / "one" / "all.json").read_bytes() == (tmp_path / "two" / "all.json").read_bytes()
    assert [path.parent.name for path in sorted(tmp_path.glob("two/runs/*/model"))] == ["a", "b", "c"]
    assert not list(tmp_path.rglob("work"))
    finetuning.run_jobs(one, jobs_of(names, alone), lambda r: r["name"], "all.json")
    assert len(alone) == 3


def test_the_shared_fields_are_the_same_in_all_three():
    shared = set(finetuning.FineTuningConfig.model_fields)
    for kind in (VokenizationGlueConfig, VokenizationSquadConfig, VokenizationSwagConfig):
        assert shared | {"lr", "batch", "max_length"} <= set(kind.model_fields)
        for name in shared:
            assert getattr(kind(), name) == getattr(finetuning.FineTuningConfig(), name)
    for profile in ("smoke", "laptop", "paper"):
        stages = load_profile(profile).stages
        for name, kind in {
            "glue": VokenizationGlueConfig,
            "squad": VokenizationSquadConfig,
            "swag": VokenizationSwagConfig,
        }.items():
            assert not parse_config(kind, stages.get(name, {}), name).keep_models
