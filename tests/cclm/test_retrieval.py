"""Stage `cclm.retrieval`: what it asks and keeps, selection, few rows, what is wrong; `cclm.results` of such stages."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.cclm.small_stages import Small, make
from tests.small import run_stage
from vlpnb.cclm.original.weights import load_model
from vlpnb.cclm.reading_results import by_set, read_results
from vlpnb.cclm.results import RESULTS, CclmResultsConfig, difference, inputs, judged
from vlpnb.cclm.retrieval import Retrieval, RetrievalConfig
from vlpnb.cclm.start import StartConfig, start_inputs
from vlpnb.downstream.transfer_rows import Shots, read_shots
from vlpnb.errors import UserError


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Small:
    return make(tmp_path_factory.mktemp("cclm"))


@pytest.fixture(scope="module")
def pretrained(small, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pretrained")
    small.pretrain(folder, updates=40, lr=3e-3, dropout=0.0)
    return folder


@pytest.fixture(scope="module")
def asked(small, pretrained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("asked")
    return folder, small.retrieve(folder, pretrained)


def result(folder: Path) -> dict:
    return json.loads((folder / "retrieval.json").read_text())[0]


@pytest.mark.slow
def test_a_model_is_asked_as_it_is_in_every_language(asked):
    folder, metrics = asked
    for language in ("en", "de", "fr"):
        assert 0 <= metrics[f"{language}_img_r1"] <= metrics[f"{language}_img_r10"] == 1.0  # of 8 pictures
        assert metrics[f"{language}_pictures"] == metrics[f"{language}_sentences"] == 8
        assert metrics[f"{language}_vectors_txt_r1"] >= 0
    found = result(folder)
    assert set(found["splits"]) == {"en", "de", "fr"}
    assert found["losses"] == []
    ranks = found["ranks"]["de"]
    assert len(ranks["owner"]) == len(ranks["near"]) == len(ranks["again"]) == 8
    assert np.mean(np.array(ranks["near"]) <= 1) == pytest.approx(metrics["de_vectors_img_r1"])
    assert np.mean(np.array(ranks["again"]) <= 1) == pytest.approx(metrics["de_img_r1"])


@pytest.mark.slow
def test_without_candidates_the_vectors_decide(small, pretrained, tmp_path):
    metrics = small.retrieve(tmp_path, pretrained, k=0, asked_in=("de",))
    assert "de_img_r1" not in metrics
    assert "en_vectors_img_r1" not in metrics
    ranks = result(tmp_path)["ranks"]["de"]
    assert ranks["near"] == ranks["again"]


@pytest.mark.slow
def test_fine_tuning_learns_and_keeps_a_model_that_can_be_scored_with(small, pretrained, tmp_path):
    metrics = small.retrieve(
        tmp_path, pretrained, epochs=3, batch=12, lr=1e-3, seeds=(1, 2), keep_models=True, trained_in=("de",)
    )
    assert metrics["diverged"] == 0
    assert "de_img_r1_std" in metrics
    before, after = load_model(pretrained / "model"), load_model(tmp_path / "seed-1" / "model")
    assert not torch.equal(before.text_projection.weight, after.text_projection.weight)
    assert len(result(tmp_path)["scores"]) == 3


@pytest.mark.slow
def test_the_epoch_is_chosen_on_the_validation_split(small, pretrained, tmp_path, monkeypatch):
    asked_splits, real = [], Retrieval.answers
    scores = iter([0.2, 0.9, 0.4])

    def validate(self, model):
        real(self, model.model, "multilingual", "valid", ("en",))
        return next(scores)

    def answers(self, model, name, split, languages=()):
        asked_splits.append(split)
        return real(self, model, name, split, languages)

    monkeypatch.setattr(Retrieval, "validate", validate)
    monkeypatch.setattr(Retrieval, "answers", answers)
    small.retrieve(tmp_path, pretrained, epochs=3, batch=12, lr=1e-3)
    found = result(tmp_path)
    assert list(found["scores"].values()) == [0.2, 0.9, 0.4]
    assert found["kept"] == sorted(map(int, found["scores"]))[1]
    assert asked_splits == [
        "test",
        "valid",
    ]  # nothing but the validation above looked before the training was over


@pytest.mark.slow
def test_fewer_rows_than_a_batch_make_a_step_an_epoch(small, pretrained, tmp_path):
    small.retrieve(tmp_path, pretrained, epochs=2, batch=1000, lr=1e-3)
    assert result(tmp_path)["updates"] == 2


def test_few_shot_settings_are_a_language_and_a_number():
    config = RetrievalConfig(fewshot="de,10 ja,100x5")
    assert read_shots(config.fewshot) == (Shots("de", "10"), Shots("ja", "100x5"))
    with pytest.raises(ValueError, match="'de': expected LANGUAGE,N such as de,10"):
        RetrievalConfig(fewshot="de")


@pytest.mark.slow
def test_languages_that_are_not_there_are_named(small, pretrained, tmp_path):
    with pytest.raises(
        UserError, match=r"nobody can be asked in 'ja' on `multilingual`, split test; .* de, en, fr"
    ):
        small.retrieve(tmp_path / "a", pretrained, asked_in=("ja",))
    with pytest.raises(UserError, match=r"cclm\.retrieval\.trained_in: found ja; the training pictures"):
        small.retrieve(tmp_path / "b", pretrained, epochs=1, trained_in=("ja",))


def test_a_start_asks_for_the_pretraining_that_it_says():
    needed = start_inputs(StartConfig(start="no_parallel", seed=3, pretraining={"withheld": ("fr",)}))
    assert needed["pretraining"].overrides == {"variant": "no_parallel", "seed": 3, "withheld": ("fr",)}
    assert set(start_inputs(StartConfig(model="/somewhere"))) == {"patches", "pieces"}


@pytest.mark.slow
def test_results_compare_rows_language_by_language(small, pretrained, asked, tmp_path):
    other = tmp_path / "other"
    small.pretrain(tmp_path / "few", updates=1)
    small.retrieve(other, tmp_path / "few")
    config = CclmResultsConfig(models=("all", "no_parallel"), tasks=("retrieval",))
    folders = {"retrieval.all": asked[0], "retrieval.no_parallel": other}
    assert set(inputs(config)) == set(folders)
    metrics = run_stage(RESULTS, config, tmp_path / "results", **folders)
    assert metrics["chance.retrieval"] == 100  # ten of eight
    assert metrics["retrieval.all.de.img_r1"] == pytest.approx(100 * asked[1]["de_img_r1"])
    found = read_results(tmp_path / "results")
    assert found.rows == {"retrieval": ("all", "no_parallel")}
    assert found.languages["retrieval"] == ("en", "de", "fr")
    score = found.scores["retrieval", "all", "de", "vectors_img_r1"]
    assert score.low <= score.mean <= score.high
    assert set(found.reranking) == {"all", "no_parallel"}
    assert ("retrieval", "all", "no_parallel") in found.differences
    assert len(found.verdict) == 3
    assert "without parallel text" in found.page
    assert by_set(["en", "de", "xflickrco_en", "wit_ja"]) == {
        "": ["en", "de"], "xflickrco": ["xflickrco_en"], "wit": ["wit_ja"],
    }  # fmt: skip


def test_results_ask_for_every_row_with_every_seed():
    config = CclmResultsConfig(
        models=("all", "withheld"), tasks=("retrieval", "xvnli"), seeds=(1, 2), withheld=("zh",)
    )
    found = inputs(config)
    assert set(found) == {
        *(f"retrieval.{row}.{seed}" for row in ("all", "withheld") for seed in (1, 2)),
        *(f"xvnli.{row}.{seed}" for row in ("all", "blind") for seed in (1, 2)),
    }
    withheld = found["retrieval.withheld.2"].overrides
    assert withheld == {"start": "all", "pretraining": {"withheld": ("zh",)}, "seed": 2, "seeds": (2,)}
    assert found["xvnli.blind.1"].overrides["blind"] is True


def test_answers_of_tasks_are_paired_by_question_and_drawn_by_picture(tmp_path):
    for row, rights in {"all": [1, 1, 1, None], "blind": [1, 0, 0, None]}.items():
        folder = tmp_path / row / "seed-1"
        folder.mkdir(parents=True)
        lines = [json.dumps({"id": str(i), "group": f"p{i % 2}", "right": r}) for i, r in enumerate(rights)]
        (folder / "predictions_en.jsonl").write_text("\n".join(lines) + "\n")
        (folder / "predictions_valid.jsonl").write_text(lines[0] + "\n")
    found = {row: judged("xvnli", [tmp_path / row]) for row in ("all", "blind")}
    assert set(found["all"]) == {("en", "accuracy")}
    gap = difference([(found["all"]["en", "accuracy"], found["blind"]["en", "accuracy"])], 100)
    assert gap["mean"] == pytest.approx(200 / 3)
    assert gap["low"] <= gap["mean"] <= gap["high"]
