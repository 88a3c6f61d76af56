"""What every fine-tuning stage promises, whatever it asks of the model: GLUE, SQuAD and SWAG alike."""

import json
import math

import pytest

from tests import tiny_lm
from tests.downstream.conftest import Asked
from tests.downstream.tasks import TASKS
from vlpnb.course import open_run
from vlpnb.downstream.finetuning import FineTuningConfig
from vlpnb.errors import UserError
from vlpnb.stage.profiles import profile_names


@pytest.mark.slow
def test_results_are_written_and_nothing_of_the_work_is_left(task, finished):
    done = finished(task.name)
    results = json.loads((done.folder / f"{task.name}.json").read_text())
    seeds = task.learns["seeds"]
    assert [result["seed"] for result in results] == list(seeds) * (len(results) // len(seeds))
    assert done.metrics["diverged"] == sum(bool(result["diverged"]) for result in results)
    assert len(list(done.folder.rglob("result.json"))) == len(results)
    assert not list(done.folder.rglob("work"))
    assert not list(done.folder.rglob("model"))
    for seed in seeds:
        assert any(f"seed {seed}: " in line for line in done.said)


@pytest.mark.slow
def test_a_killed_training_continues_to_the_same_result(task, inputs, brief, tmp_path, monkeypatch):
    """In the middle of a job, twice; the jobs that were done before are not done again."""
    context = tiny_lm.context(task.config(task.brief), tmp_path, inputs)
    asked = Asked(monkeypatch, task)
    for limit in (brief.asked // 3, brief.asked // 2):
        with pytest.raises(KeyboardInterrupt):
            asked.during(lambda: task.stage.run(context), limit)
        assert any(path.parent.name == "work" for path in tmp_path.glob("seed-*/**/checkpoint.pt"))
        assert not (tmp_path / f"{task.name}.json").exists()
    again = asked.during(lambda: task.stage.run(context))
    assert str(again) == str(brief.metrics)  # NaN is NaN too
    assert asked.count < brief.asked / 2


def test_a_run_that_becomes_nan_is_a_result_not_a_crash(task, inputs, tmp_path, monkeypatch):
    whole = task.model.forward

    def lost(self, **batch):
        return {name: loss * math.nan for name, loss in whole(self, **batch).items()}

    monkeypatch.setattr(task.model, "forward", lost)
    said: list[str] = []
    metrics = task.stage.run(tiny_lm.context(task.config(task.brief), tmp_path, inputs, said))
    assert metrics["diverged"] == task.kept
    assert sum("DIVERGED" in line for line in said) == task.kept
    assert all(result["loss"] is None for result in json.loads((tmp_path / f"{task.name}.json").read_text()))


def test_models_are_kept_only_on_request_and_cost_no_number(task, inputs, brief, tmp_path):
    assert not list(brief.folder.rglob("model"))
    config = task.config({**task.brief, "keep_models": True})
    assert str(task.stage.run(tiny_lm.context(config, tmp_path, inputs))) == str(brief.metrics)
    assert len(list(tmp_path.rglob("model/model.safetensors"))) == task.kept


def test_absent_data_is_said(task, inputs, tmp_path):
    (tmp_path / "empty").mkdir()
    context = tiny_lm.context(task.config({}), tmp_path / "a", {**inputs, task.data: tmp_path / "empty"})
    with pytest.raises(UserError, match=rf"empty/{task.data}\.json.*written by the stage `{task.data}`"):
        task.stage.run(context)
    assert task.data in task.stage.inputs(task.config({}))


def test_a_wrong_snapshot_is_said(task, inputs, tmp_path):
    with pytest.raises(UserError, match=r"snapshot: found 7, expected a number from -1 to 0"):
        task.stage.run(tiny_lm.context(task.config({"snapshot": 7}), tmp_path, inputs))


def test_published_settings_are_the_defaults(task):
    config = task.config({})
    assert {name: getattr(config, name) for name in task.published} == task.published


def test_the_shared_fields_are_the_same_in_all(task):
    shared = FineTuningConfig.model_fields
    assert {*shared, "lr", "batch", "max_length"} <= set(task.stage.config.model_fields)
    for name in shared:
        assert getattr(task.config({}), name) == getattr(FineTuningConfig(), name)


@pytest.mark.parametrize("profile", profile_names())
def test_no_profile_keeps_models(profile, tmp_path):
    """They are large; who wants them asks for them."""
    run = open_run(profile, "r", root=tmp_path)
    assert not any(run.config(task.stage.name).keep_models for task in TASKS)
