"""Stage `lxmert.results`: the tables, differences paired by seed, verdicts, and all of it read back."""

import json
import math

import numpy as np
import pytest

from tests.lxmert.small_finetuning import context
from vlpnb.downstream.comparison import paired
from vlpnb.downstream.seeds import MAJORITY
from vlpnb.lxmert.reading_results import NAMES, PAPER, read_results
from vlpnb.lxmert.results import RESULTS, LxmertResultsConfig
from vlpnb.lxmert.start import STARTS

LEVELS = {"blind": 0.34, "scratch": 0.45, "pretrained": 0.52}
MORE = {"vqa": ("yes_no", "other"), "gqa": ("open",), "nlvr2": ("consistency",)}


def fake(folder, config, seeds=(1, 2, 3), gap=0.0):
    """Folders of finished fine-tunings whose accuracies are known; returns them as the stage's inputs."""
    random, inputs = np.random.default_rng(0), {}
    for key in RESULTS.inputs(config):
        task, model = key.split(".")
        inputs[key] = folder / key
        inputs[key].mkdir(parents=True)
        runs = []
        for seed in seeds:
            value = float(LEVELS.get(model, 0.48) + random.normal(0, 0.01)) + gap * (model == "pretrained")
            metrics = {"accuracy": value, **dict.fromkeys(MORE[task], value / 2)}
            note = MAJORITY if task == "nlvr2" and model == "scratch" else ""
            diverged = "it became nothing" if (task, model, seed) == ("gqa", "blind", 2) else ""
            about = {"majority": 0.3, "note": note, "diverged": diverged}
            splits = {} if task == "nlvr2" else {"test": {"accuracy": value - 0.01}}
            runs.append({"seed": seed, "value": value, "metrics": metrics, "splits": splits, **about})
        (inputs[key] / f"{task}.json").write_text(json.dumps(runs))
    return inputs


def run(tmp_path, seeds=(1, 2, 3), gap=0.0, **fields):
    config = LxmertResultsConfig(**fields)
    inputs, said = fake(tmp_path / "made", config, seeds, gap), []
    metrics = RESULTS.run(context(config, tmp_path / "results", inputs, said))
    return metrics, inputs, said, tmp_path / "results"


def values(inputs, key):
    task = key.split(".")[0]
    return [100 * each["value"] for each in json.loads((inputs[key] / f"{task}.json").read_text())]


def test_means_deviations_and_paired_differences_are_those_of_the_runs(tmp_path):
    metrics, inputs, said, _ = run(tmp_path)
    for key in inputs:
        found = values(inputs, key)
        assert metrics[f"{key}.accuracy"] == pytest.approx(np.mean(found))
        assert metrics[f"{key}.accuracy_std"] == pytest.approx(np.std(found, ddof=1))
        assert metrics[f"{key}.majority"] == pytest.approx(30)
    assert metrics["gqa.blind.diverged"] == 1
    assert metrics["vqa.scratch.test_accuracy"] == pytest.approx(metrics["vqa.scratch.accuracy"] - 1)
    for task in ("vqa", "gqa", "nlvr2"):
        for other in ("scratch", "blind"):
            ours, theirs = (values(inputs, f"{task}.{model}") for model in ("pretrained", other))
            expected = paired([a - b for a, b in zip(ours, theirs, strict=True)])
            for name, value in expected.items():
                assert metrics[f"difference_{task}.pretrained_minus_{other}.{name}"] == pytest.approx(value)
    assert len(said) == 6
    assert any("pre-trained is better than words without pictures" in line for line in said)


def test_the_results_are_read_back(tmp_path):
    metrics, inputs, _, folder = run(tmp_path)
    results = read_results(folder)
    assert list(results.rows) == ["blind", "scratch", "pretrained"]
    row = results.rows["pretrained"]["vqa"]
    assert row.scores == pytest.approx(dict(zip((1, 2, 3), values(inputs, "vqa.pretrained"), strict=True)))
    assert row.mean == pytest.approx(metrics["vqa.pretrained.accuracy"])
    assert results.rows["blind"]["gqa"].diverged == 1
    difference = results.differences["gqa", "pretrained", "scratch"]
    assert difference.low < difference.mean < difference.high
    assert len(results.verdict) == 6
    assert any("it became nothing" in note for note in results.notes)
    assert sum(MAJORITY in note for note in results.notes) == 3


def test_the_page_shows_the_papers_figures_beside_ours(tmp_path):
    metrics, _, _, folder = run(tmp_path)
    page = read_results(folder).page
    (line,) = [line for line in page.splitlines() if line.startswith("| pre-trained | ") and "(" in line]
    cells = [cell.strip() for cell in line.split("|")[2:-1]]
    for cell, task, published in zip(cells, ("vqa", "gqa", "nlvr2"), PAPER["pretrained"], strict=True):
        mean, deviation = metrics[f"{task}.pretrained.accuracy"], metrics[f"{task}.pretrained.accuracy_std"]
        assert cell == f"{mean:.1f} ± {deviation:.1f} ({published})"
    assert "| one answer to everything | 30.0 | 30.0 | 30.0 |" in page
    assert "The test split" in page
    assert "yes_no" in page


def test_a_single_seed_claims_nothing(tmp_path):
    metrics, _, said, folder = run(tmp_path, seeds=(1,), tasks=("vqa",))
    assert math.isnan(metrics["vqa.pretrained.accuracy_std"])
    assert all("a single seed" in line for line in said)
    assert math.isnan(read_results(folder).rows["blind"]["vqa"].std)
    assert "±" not in read_results(folder).page


def test_one_setting_adds_every_row_of_the_papers_tables():
    config = LxmertResultsConfig(ablations=True)
    assert set(PAPER) <= set(config.rows)
    assert set(config.rows) == set(NAMES) == set(STARTS) | {"blind"}
    requests = RESULTS.inputs(config)
    assert len(requests) == 3 * len(config.rows)
    assert requests["gqa.blind"].stage == "lxmert.gqa"
    assert requests["gqa.blind"].overrides == {"blind": True}
    assert requests["nlvr2.no_qa"].overrides == {"start": "no_qa", "blind": False}
    without = LxmertResultsConfig(ablations=True, bert=False).rows
    assert set(config.rows) - set(without) == {"bert", "from_bert"}
