"""Stage `across.results`: who is compared with whom, what is claimed, what a page and a reader say; costs."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests.tiny_lm import context
from vlpnb.across import costs, reading_results, results
from vlpnb.across.answers import Said, joined, translations_of, words_of
from vlpnb.across.costs import cost_of, operations, parameters_in
from vlpnb.across.models import MODELS
from vlpnb.across.reading_results import OWN, QUESTIONS, WHY, read_results, sentence
from vlpnb.across.results import RESULTS, AcrossResultsConfig, comparisons, inputs
from vlpnb.downstream.results import Judged
from vlpnb.files import write_json

KINDS = [f"kind{i}" for i in range(12)]


def write_words(folder, right, whole=1.0, linear=0.5):
    """A finished `across.words` that is right on so many kinds."""
    folder.mkdir(parents=True)
    hits = [i < right for i in range(12)]
    about = {
        "kinds": KINDS, "raw": hits, "calibrated": hits, "chance": 0.1, "majority": 0.1, "whole": whole,
        "linear": dict.fromkeys(KINDS, linear), "linear_chance": 0.1,
    }  # fmt: skip
    write_json(folder / "words.json", {"colour": about})
    return folder


def test_every_control_is_a_model_of_the_same_system_and_every_system_has_its_own():
    for model in MODELS.values():
        if model.control is not None:
            assert MODELS[model.control].system == model.system
            assert MODELS[model.control].control is None
            assert dict(MODELS[model.control].fields) != dict(model.fields)
    assert {model.system for model in MODELS.values() if model.control} == set(OWN)


def test_reasons_are_for_questions_that_are_asked():
    assert {question for _, question in WHY} <= QUESTIONS.keys()
    assert set(reading_results.MAIN) <= QUESTIONS.keys()


def test_a_model_is_compared_with_its_control_first_and_controls_never_with_each_other():
    pairs = comparisons(["text", "vokens", "untrained_lxmert", "lxmert"])
    assert pairs == [("vokens", "text"), ("lxmert", "untrained_lxmert"), ("vokens", "lxmert")]
    assert comparisons(["cclm", "no_parallel"]) == [("cclm", "no_parallel")]
    assert comparisons(["vokenization", "valm", "cclm_head"]) == [
        ("vokenization", "valm"), ("vokenization", "cclm_head"), ("valm", "cclm_head"),
    ]  # fmt: skip


def test_a_sentence_claims_no_more_than_its_interval():
    above = sentence("colour", "vokens", "text", {"mean": 0.3, "low": 0.1, "high": 0.5})
    assert above == "colour, in words: Vokenization above masked words, text alone, +30.0 (+10.0 to +50.0)."
    assert "below" in sentence("colour", "vokens", "text", {"mean": -0.3, "low": -0.4, "high": -0.1})
    assert "cannot be told apart" in sentence(
        "colour", "vokens", "text", {"mean": 0.3, "low": -0.1, "high": 0.5}
    )


def test_words_that_a_model_has_not_are_no_answer(tmp_path):
    assert words_of(write_words(tmp_path / "has", 3)).keys() == {"colour", "colour_states"}
    assert words_of(write_words(tmp_path / "lacks", 3, whole=0.0)).keys() == {"colour_states"}
    assert words_of(tmp_path / "has", seen=True).keys() == {"seen_colour", "seen_colour_states"}


def test_seeds_are_joined_and_languages_but_english_are_others(tmp_path):
    run = {"ranks": {
        "en": {"owner": [0, 1], "near": [1, 99]},
        "de": {"owner": [0, 1], "near": [10, 11]},
        "zh": {"owner": [0, 1], "near": [1, 2]},
        "xflickrco_de": {"owner": [0], "near": [1]},
    }}  # fmt: skip
    write_json(tmp_path / "retrieval.json", [run, run])
    found = translations_of(tmp_path)
    assert found.keys() == {"en", "de", "zh", "others"}
    assert found["others"].judged.right.tolist() == [[1, 0, 1, 1]] * 2
    one = Said(Judged(np.ones((1, 2)), ("a", "b")), 0.5)
    assert joined([one, one]).seeds == 2


@pytest.fixture
def finished(tmp_path):
    """The stage on two models with two seeds each; its folder."""
    folders = {}
    for seed in (1, 2):
        folders[f"words.text.{seed}"] = write_words(tmp_path / f"text{seed}", 2, linear=0.1)
        folders[f"words.vokens.{seed}"] = write_words(tmp_path / f"vokens{seed}", 8 + seed, linear=0.8)
        folders[f"words.cclm.{seed}"] = write_words(tmp_path / f"cclm{seed}", 0, whole=0.0, linear=0.7)
    said = []
    metrics = RESULTS.run(context(AcrossResultsConfig(), tmp_path / "out", folders, said))
    return metrics, tmp_path / "out", said


def test_the_stage_compares_pairs_and_is_read_back(finished):
    metrics, folder, said = finished
    assert metrics["colour.vokens"] == pytest.approx(9.5 / 12)
    assert metrics["colour.vokens_std"] > 0
    assert metrics["difference_colour.vokens_minus_text.mean"] == pytest.approx(7.5 / 12)
    assert metrics["difference_colour.vokens_minus_text.low"] > 0
    assert len(said) == 1  # a line, not one for each of a hundred differences
    found = read_results(folder)
    assert found.seeds["colour.vokens"] == 2
    assert found.chance("colour") == 0.1
    assert found.differences["colour_states", "vokens", "cclm"].mean == pytest.approx(0.1)
    assert ("colour", "vokens", "cclm") not in found.differences
    assert found.cell("cclm", "colour") == f"— {reading_results.UNSAID}"
    assert found.cell("valm", "answers").startswith("— pictures come by search")
    assert found.cell("vokenization", "colour").startswith("79.2 (")
    assert "| *chance* | 10.0 |" in found.page
    assert any("Vokenization above masked words" in line for line in found.verdict)
    ours, between = found.page.split("## Between systems")
    assert "Vokenization above masked words" in ours
    assert "Vokenization above CCLM" in between
    assert "Vokenization above CCLM" not in ours


def test_the_inputs_are_every_model_with_every_seed():
    once = inputs(AcrossResultsConfig(further=False))
    assert "words.vokens" in once
    assert not any(key.startswith("answers") for key in once)
    twice = inputs(AcrossResultsConfig(seeds=(1, 2)))
    assert twice["words.lxmert.2"].overrides == {"model": "lxmert", "trained_with": 2}
    assert twice["answers.vlp.1"].overrides == {"seed": 1, "seeds": (1,)}
    assert {"questions", "captions"} <= twice.keys()
    assert not any(key.startswith("seen") for key in inputs(AcrossResultsConfig(seen=False)))


def manifest(folder, stage, seconds, needs=(), **metrics):
    folder.mkdir()
    about = {"stage": stage, "seconds": seconds, "metrics": metrics, "hash": folder.name, "files": {}}
    inputs = {other.name: {"folder": other.name, "hash": other.name} for other in needs}
    (folder / "manifest.json").write_text(json.dumps({**about, "inputs": inputs}))
    return folder


def test_what_a_model_stands_on_counts_once_and_data_not_at_all(tmp_path, monkeypatch):
    monkeypatch.setattr(
        costs, "read_manifest", lambda folder: json.loads((folder / "manifest.json").read_text())
    )
    world = manifest(tmp_path / "world", "world", 600)
    vision = manifest(tmp_path / "vision", "vision", 60, [world])
    regions = manifest(tmp_path / "regions", "regions", 30, [vision, world])
    model = manifest(tmp_path / "model", "lxmert.pretraining", 90, [regions, vision], updates=7)
    save_file({"a": torch.zeros(3, 4), "b": torch.zeros(5)}, model / "model.safetensors")
    cost = cost_of(model)
    assert (cost.stage, cost.parameters, cost.updates) == ("lxmert.pretraining", 17, 7)
    assert cost.minutes == 1.5
    assert cost.others == {"vision": 1.0, "regions": 0.5}
    assert cost.all_minutes == 3.0


def test_of_several_snapshots_the_last_is_counted(tmp_path):
    for number, width in ((1, 2), (2, 3)):
        (tmp_path / f"snapshot-{number:07}").mkdir()
        save_file({"a": torch.zeros(width)}, tmp_path / f"snapshot-{number:07}" / "model.safetensors")
    assert parameters_in(tmp_path) == 3


def test_operations_are_those_of_matrix_products():
    assert operations(lambda: torch.ones(2, 3) @ torch.ones(3, 5)) == 2 * 2 * 3 * 5


def test_the_stages_asked_are_those_of_the_pipeline():
    from vlpnb.course.pipeline import STAGES

    names = {stage.name for stage in STAGES}
    assert {request.stage for request in inputs(AcrossResultsConfig(seeds=(1,))).values()} <= names
    assert {"across.words", "across.pictures", "across.results"} <= names
    assert results.SEEN
