"""Stage `valm.results`: averages, intervals over things, paired differences, what it asks for, page and reader."""

import math
from pathlib import Path

import numpy as np
import pytest

from vlpnb.config import parse_config
from vlpnb.errors import UserError
from vlpnb.files import write_json
from vlpnb.stage import StageContext
from vlpnb.valm.reading_results import read_results
from vlpnb.valm.results import RESULTS, ValmResultsConfig, inputs

THINGS = [f"thing{i}" for i in range(12)]
SHARE = {
    "none": 0.1,
    "hidden": 0.1,
    "retrieved": 0.6,
    "oracle": 0.8,
    "retrieved_disjoint": 0.5,
    "oracle_disjoint": 0.7,
}


def answers(row: str, seed: int) -> list[dict]:
    """Four prompts of each thing; the first things of every row are known, all answers about a thing alike."""
    known = round(len(THINGS) * SHARE[row]) + (seed == 2)
    return [
        {"item": thing, "prompt": prompt, "raw": i < known - 1, "calibrated": i < known}
        for i, thing in enumerate(THINGS)
        for prompt in range(4)
    ]


def folder_of(root: Path, key: str) -> Path:
    """What the stage of an input leaves."""
    kind, row, seed = key.split(".")
    folder = root / key
    folder.mkdir(parents=True)
    number = int(seed or 1)
    if kind == "model":
        write_json(
            folder / "held_out.json", {"text_loss": 2.0 + number, "text_loss_hidden": 3.0, "asked_loss": 1.0}
        )
    elif kind == "commonsense":
        tasks = {"world_colour": {"answers": answers(row, number), "metrics": {}}}
        write_json(
            folder / "commonsense.json", {"tasks": tasks, "trivial": {"world_colour": {"majority": 0.1}}}
        )
    else:
        kept = {"texts": {"text": {"metrics": {"perplexity": 10.0 * number}}}, "classified": {}}
        write_json(folder / "language.json", kept)
    return folder


def collect(root: Path, **fields):
    config = ValmResultsConfig(**fields)
    folders = {key: folder_of(root / "inputs", key) for key in inputs(config)}
    folder = root / "results"
    folder.mkdir()
    metrics = RESULTS.run(StageContext(config, folder, folders, "cpu", say=lambda line: None))
    return metrics, read_results(folder)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return collect(
        tmp_path_factory.mktemp("results"), models=("none", "hidden", "retrieved", "oracle"), seeds=(1, 2)
    )


def test_shares_are_means_over_seeds_with_their_spread(results):
    metrics, read = results
    for row, base in (("none", 1), ("retrieved", 7), ("oracle", 10)):
        both = np.array([base, base + 1]) / len(THINGS)
        assert metrics[f"world_colour.{row}.calibrated"] == pytest.approx(both.mean())
        assert metrics[f"world_colour.{row}.calibrated_std"] == pytest.approx(both.std(ddof=1))
        assert metrics[f"world_colour.{row}.raw"] == pytest.approx(both.mean() - 1 / len(THINGS))
        assert (
            read.scores["world_colour", row, "calibrated"].mean == metrics[f"world_colour.{row}.calibrated"]
        )


def test_an_interval_is_over_things_and_not_over_their_prompts(results):
    """Four prompts that stand and fall together are no four witnesses: the interval is that of twelve things."""
    _, read = results
    score = read.scores["world_colour", "retrieved", "calibrated"]
    half = 1.96 * math.sqrt(score.mean * (1 - score.mean) / len(THINGS))
    assert score.high - score.low == pytest.approx(2 * half, rel=0.25)
    assert score.low < score.mean < score.high


def test_a_difference_is_paired_and_its_verdict_follows(results):
    _, read = results
    found = read.differences["world_colour", "retrieved", "none"]
    assert found.mean == pytest.approx(6 / len(THINGS))
    assert found.low > 0
    better = [line for line in read.verdict if "knows more than text alone" in line]
    assert len(better) == 1
    assert "+50.0 points on world_colour" in better[0]
    assert [line for line in read.verdict if "knows less than found pictures, asked with" in line]
    same = read.differences["world_colour", "retrieved", "oracle"]
    assert same.high <= 0


def test_rows_that_know_the_same_are_not_told_apart(tmp_path):
    _, read = collect(tmp_path, models=("none", "hidden"))
    assert read.differences["world_colour", "hidden", "none"].mean == 0
    assert "no difference beyond what other things would show" in read.verdict[0]


def test_held_out_text_is_that_of_the_row_s_setting(results):
    metrics, _ = results
    assert metrics["held_out.retrieved.text"] == pytest.approx(3.5)
    assert metrics["held_out.hidden.text"] == pytest.approx(3.0)
    assert "held_out.oracle.text" not in metrics  # held-out captions are of pictures that this store has not


def test_language_tasks_are_averaged(results):
    metrics, _ = results
    assert metrics["text.none.perplexity"] == pytest.approx(15.0)
    assert "text.oracle.perplexity" not in metrics


def test_the_page_says_what_is_measured(results):
    _, read = results
    for words in ("text alone", "found pictures (VaLM)", "*majority*", "Held-out text", "mean over 2 seeds"):
        assert words in read.page
    assert f"{100 * 7.5 / 12:.1f} (" in read.page


def test_a_row_of_hidden_pictures_asks_the_model_of_found_ones():
    asked = inputs(ValmResultsConfig(models=("hidden", "retrieved", "oracle"), seeds=(3,)))
    models = {key: dict(request.overrides) for key, request in asked.items() if key.startswith("model.")}
    assert len({str(fields) for fields in models.values()}) == 1
    settings = {
        key: request.overrides["setting"] for key, request in asked.items() if key.startswith("commonsense.")
    }
    assert settings == {
        "commonsense.hidden.3": "hidden",
        "commonsense.retrieved.3": "trained",
        "commonsense.oracle.3": "oracle",
    }


def test_the_run_s_own_seed_is_not_named():
    asked = inputs(ValmResultsConfig(models=("none",)))
    assert asked["model.none."].overrides == {"variant": "none"}


def test_pictures_that_the_text_does_not_describe_are_a_row_of_their_own(tmp_path):
    disjoint = {"images": {"source": "pictures"}}
    asked = inputs(ValmResultsConfig(models=("none", "retrieved", "oracle"), disjoint=disjoint))
    assert asked["model.retrieved_disjoint."].overrides == {"variant": "retrieved", **disjoint}
    assert asked["commonsense.retrieved_disjoint."].overrides["model"] == {"variant": "retrieved", **disjoint}
    assert not {"model.none_disjoint.", "model.oracle_disjoint."} & asked.keys()
    _, read = collect(tmp_path, models=("none", "retrieved"), disjoint=disjoint)
    assert read.differences["world_colour", "retrieved", "retrieved_disjoint"].mean == pytest.approx(1 / 12)
    assert "found pictures that the text does not describe" in read.page


def test_a_row_that_is_none_is_refused():
    with pytest.raises(UserError, match="retreived"):
        parse_config(ValmResultsConfig, {"models": ["retreived"]}, "valm.results")
