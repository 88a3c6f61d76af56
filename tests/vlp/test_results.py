"""Stage `vlp.results`: the tables of starts and mixes, captions that nobody trained, verdicts, all of it read back."""

import json

import numpy as np
import pytest

from tests.vlp import small_captions as small
from vlpnb.downstream.comparison import paired
from vlpnb.stage import StageContext
from vlpnb.vlp.reading_results import NAMES, read_results
from vlpnb.vlp.results import MIXES, RESULTS, VlpResultsConfig
from vlpnb.vlp.start import STARTS

LEVELS = {"blind": 0.2, "scratch": 0.6, "s2s": 1.1, "pretrained": 1.2, "bi": 0.9}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return small.make(tmp_path_factory.mktemp("inputs"), train=30, valid=4, test=10)


def fake(folder, config, data, seeds=(1, 2, 3)):
    """Folders of finished fine-tunings whose scores are known, and the captions; returns them as the stage's inputs."""
    random, inputs = np.random.default_rng(0), {}
    for key in RESULTS.inputs(config):
        if key in data:
            inputs[key] = data[key]
            continue
        task, model, *seed = key.split(".")
        inputs[key] = folder / key
        inputs[key].mkdir(parents=True)
        runs = []
        for each in [int(number) for number in seed] or seeds:
            value = LEVELS[model] + float(random.normal(0, 0.01))
            metrics = {"cider": value, "different": 80.0} if task == "captioning" else {"accuracy": value / 2}
            splits = (
                {"test": {name: number - 0.02 for name, number in metrics.items()}}
                if task == "captioning"
                else {}
            )
            about = {"majority": 0.1, "note": "", "diverged": "it became nothing" if model == "bi" else ""}
            runs.append({"seed": each, "value": value, "metrics": metrics, "splits": splits, **about})
        (inputs[key] / f"{task}.json").write_text(json.dumps(runs))
    return inputs


def run(tmp_path, data, **fields):
    config = VlpResultsConfig(**fields)
    inputs, said = fake(tmp_path / "made", config, data), []
    folder = tmp_path / "results"
    folder.mkdir()
    return RESULTS.run(StageContext(config, folder, inputs, "cpu", say=said.append)), inputs, said, folder


def scores(inputs, key):
    return [
        100 * run["splits"]["test"]["cider"]
        for run in json.loads((inputs[key] / "captioning.json").read_text())
    ]


def test_means_and_paired_differences_are_those_of_the_test_pictures(tmp_path, data):
    metrics, inputs, said, _ = run(tmp_path, data)
    ours, theirs = scores(inputs, "captioning.pretrained"), scores(inputs, "captioning.scratch")
    assert metrics["captioning.pretrained.test_cider"] == pytest.approx(np.mean(ours))
    assert metrics["captioning.pretrained.test_cider_std"] == pytest.approx(np.std(ours, ddof=1))
    assert metrics["captioning.pretrained.cider"] == pytest.approx(np.mean(ours) + 2)
    assert metrics["captioning.pretrained.different"] == 80  # a number, no share
    for name, value in paired([a - b for a, b in zip(ours, theirs, strict=True)]).items():
        assert metrics[f"difference_captioning.pretrained_minus_scratch.{name}"] == pytest.approx(value)
    assert metrics["vqa.pretrained.accuracy"] == pytest.approx(60, abs=2)
    assert any(f"{NAMES['pretrained']} is better than no pre-training" in line for line in said)


def test_the_mixes_are_rows_of_the_same_table_and_every_row_knows_how_it_starts():
    config = VlpResultsConfig(mixes=True)
    assert config.rows == ("blind", *MIXES)
    asked = RESULTS.inputs(config)
    assert asked["captioning.s2s"].overrides == {"start": "s2s", "blind": False}
    assert asked["vqa.blind"].overrides == {"blind": True}
    assert asked["captioning.scratch"].overrides == {"start": "scratch", "blind": False, "lr": 3e-4}
    assert asked["vqa.scratch"].overrides == {"start": "scratch", "blind": False}
    assert {name.partition(".")[2] for name in asked} - {""} == {*config.rows}
    assert VlpResultsConfig(models=["pretrained", "blind", "blind"]).rows == ("blind", "pretrained")
    assert set(config.rows) - {"blind"} <= STARTS.keys()
    assert STARTS["s2s"] == {"s2s": 1.0}
    assert STARTS["bi"] == {"s2s": 0.0}


def test_with_seeds_every_row_is_pre_trained_and_fine_tuned_with_each(tmp_path, data):
    config = VlpResultsConfig(seeds=(4, 5), tasks=["captioning"])
    request = RESULTS.inputs(config)["captioning.pretrained.5"]
    assert request.overrides == {"start": "pretrained", "blind": False, "seed": 5, "seeds": (5,)}
    metrics, inputs, _, folder = run(tmp_path, data, seeds=(4, 5), tasks=["captioning"])
    both = [scores(inputs, f"captioning.pretrained.{seed}")[0] for seed in (4, 5)]
    assert metrics["captioning.pretrained.test_cider"] == pytest.approx(np.mean(both))
    assert "over 2 pre-trainings with their fine-tuning" in (folder / "results.md").read_text()


def test_captions_that_nobody_trained_stand_in_the_table(tmp_path, data):
    metrics, _, _, folder = run(tmp_path, data)
    assert {name.split(".")[1] for name in metrics if name.startswith("baseline.")} == {
        "constant", "nearest", "consensus", "person",
    }  # fmt: skip
    assert (
        metrics["baseline.nearest.cider"] > metrics["baseline.constant.cider"]
    )  # regions tell what they show
    page = (folder / "results.md").read_text()
    assert "| the nearest training picture's |" in page
    without, *_ = run(tmp_path / "b", data, baselines=False)
    assert not any(name.startswith("baseline.") for name in without)


def test_the_results_are_read_back(tmp_path, data):
    metrics, inputs, _, folder = run(tmp_path, data, mixes=True)
    results = read_results(folder)
    assert list(results.rows) == ["blind", *MIXES]
    row = results.rows["pretrained"]["captioning"]
    assert list(row.scores.values()) == pytest.approx(scores(inputs, "captioning.pretrained"))
    assert row.mean == pytest.approx(metrics["captioning.pretrained.test_cider"])
    assert row.std == pytest.approx(metrics["captioning.pretrained.test_cider_std"])
    assert results.baselines["person"]["cider"] == metrics["baseline.person.cider"]
    difference = results.differences["captioning", "pretrained", "bi"]
    assert difference.low < difference.mean < difference.high
    assert len(results.notes) == 6  # both tasks' "bi", three seeds
    assert results.page == (folder / "results.md").read_text()


def test_the_page_names_every_row_and_the_papers_figures(tmp_path, data):
    _, _, _, folder = run(tmp_path, data, mixes=True)
    page = (folder / "results.md").read_text()
    assert all(f"| {NAMES[model]} |" in page for model in ("blind", *MIXES))
    assert "(67.4)" in page
    assert "Captioning, test pictures:" in page
    assert "VQA, validation pictures:" in page
