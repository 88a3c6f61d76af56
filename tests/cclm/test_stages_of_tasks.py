"""The stages of XVNLI, xGQA and MaRVL: they learn, resume, choose on no test set, and say what is wrong."""

import json
import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch

from tests.cclm import small_iglue as small
from tests.cclm.small_iglue import ANSWERS, BRIEF, COUNTS, LEARNS, FakeIglue, FakeStore, context, lines_of
from vlpnb.cclm import finetuning
from vlpnb.cclm.marvl import MARVL, MarvlConfig
from vlpnb.cclm.original.weights import load_model
from vlpnb.cclm.start import StartingPoint
from vlpnb.cclm.xgqa import XGQA, XgqaConfig, benchmark, candidates
from vlpnb.cclm.xvnli import XVNLI, XvnliConfig
from vlpnb.config import parse_config
from vlpnb.downstream import transfer
from vlpnb.downstream.transfer import Transfer, unclipped
from vlpnb.downstream.transfer_rows import Views
from vlpnb.errors import UserError

STAGES = {"xvnli": (XVNLI, XvnliConfig), "xgqa": (XGQA, XgqaConfig), "marvl": (MARVL, MarvlConfig)}
STORE, IGLUE = FakeStore(), FakeIglue()
each = pytest.mark.parametrize("name", STAGES)


@dataclass(frozen=True)
class Start:
    """As `cclm.start.StartingPoint`, with the invented patches."""

    folder: Any
    pieces: Any
    given: FakeStore = STORE
    name: str = "small"

    def store(self):
        return self.given

    def model(self, **changes):
        return load_model(self.folder, **changes)

    finetuned, save = StartingPoint.finetuned, StartingPoint.save


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    root = tmp_path_factory.mktemp("cclm")
    pieces = small.pieces(root / "pieces")
    return Start(small.small_model(root / "model", pieces), pieces)


@pytest.fixture
def run(start, tmp_path, monkeypatch):
    """Runs a stage in `tmp_path` or a folder of it; returns its metrics."""

    def run(name, folder="", said=None, iglue=IGLUE, store=None, rank=None, **fields):
        monkeypatch.setattr(transfer, "load_iglue", lambda folder: iglue)
        given = start if store is None else replace(start, given=store)
        monkeypatch.setattr(finetuning, "starting_point", lambda context: given)
        stage, config = STAGES[name]
        made = context(
            parse_config(config, {**BRIEF, **fields}), tmp_path / folder, {"iglue": tmp_path}, said
        )
        if rank is not None:
            made.rank, made.world_size = rank, 2
        return stage.run(made)

    return run


def results(folder, name):
    return json.loads((folder / f"{name}.json").read_text())


@pytest.mark.slow
@each
def test_it_learns_small_data_by_heart_and_not_without_pictures(run, tmp_path, name):
    learns = {**LEARNS, "epochs": 60 if name == "xgqa" else 40}
    metrics = run(name, "sees", iglue=FakeIglue(by_heart=True), **learns)
    assert metrics["en_accuracy"] > (
        0.75 if name == "xgqa" else 0.9
    )  # 1 in 16 of its answers is no candidate
    assert metrics["diverged"] == 0
    assert metrics["en_low"] <= metrics["en_accuracy"] <= metrics["en_high"]
    assert metrics["de_translated_accuracy"] == metrics["en_accuracy"]  # the same English sentences
    assert all(each["losses"][-1] < each["losses"][0] / 2 for each in results(tmp_path / "sees", name))
    blind = run(name, "blind", iglue=FakeIglue(by_heart=True), blind=True, **learns)
    assert blind["en_accuracy"] < metrics["en_accuracy"] - 0.2


@pytest.mark.slow
@each
def test_a_killed_stage_continues_to_the_same_files(run, tmp_path, name, monkeypatch):
    fields = {"fewshot": "de,1 de,2", "fewshot_lr": (1e-3, 1e-4), "keep_models": True}
    whole = run(name, "whole", **fields)
    count, batch = 0, Views.batch

    def counted(self, rows, random=None):
        nonlocal count
        count += 1
        if count in (5, 21, 47):
            raise KeyboardInterrupt
        return batch(self, rows, random)

    monkeypatch.setattr(Views, "batch", counted)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            run(name, "killed", **fields)
    assert str(run(name, "killed", **fields)) == str(whole)
    files = [p.relative_to(tmp_path / "whole") for p in (tmp_path / "whole").rglob("*") if p.is_file()]
    compared = [file for file in files if file.name != "log.txt"]
    assert len(compared) >= 12
    for file in compared:
        assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "killed" / file).read_bytes(), file


@pytest.mark.slow
def test_two_processes_share_the_seeds_to_the_same_results(run, tmp_path, monkeypatch):
    one = run("xvnli", "one")
    monkeypatch.setattr("vlpnb.downstream.finetuning.barrier", lambda processes: None)
    with pytest.raises(FileNotFoundError):  # process 0 has not done its own yet
        run("xvnli", "two", rank=1)
    assert str(run("xvnli", "two", rank=0)) == str(one)
    assert results(tmp_path / "one", "xvnli") == results(tmp_path / "two", "xvnli")


@each
def test_nothing_is_chosen_on_a_test_set(run, name, monkeypatch):
    asked, learning = [], []
    answered, learn = Transfer.answered, transfer.learn

    def watched(self, model, split, device):
        asked.append((split, bool(learning)))
        return answered(self, model, split, device)

    def watching(*arguments, **named):
        learning.append(1)
        try:
            return learn(*arguments, **named)
        finally:
            learning.pop()

    monkeypatch.setattr(Transfer, "answered", watched)
    monkeypatch.setattr(transfer, "learn", watching)
    run(name, fewshot="de,1", seeds=(3,))
    own = "de_valid" if name == "xgqa" else "valid"
    assert {split for split, while_learning in asked if while_learning} == {"valid", own}
    assert [split for split, _ in asked].count("en") == 1


@each
def test_fewer_rows_than_the_batch_make_a_step_in_every_epoch(run, tmp_path, name):
    run(name, fewshot="de,1", fewshot_epochs=4, batch=1000, seeds=(3,))
    (result,) = results(tmp_path, name)
    assert result["fewshot"]["de_1_shots"]["rows"] == 5
    assert result["fewshot"]["de_1_shots"]["updates"] == 4
    assert result["updates"] == 2


@pytest.mark.slow
def test_few_shot_goes_on_from_the_english_weights_to_its_own_results(run, tmp_path):
    metrics = run("marvl", fewshot="de,1 de,2", fewshot_lr=(1e-9, 3e-3), fewshot_epochs=6, seeds=(3,))
    (result,) = results(tmp_path, "marvl")
    assert set(result["fewshot"]) == {"de_1_shots", "de_2_shots"}
    for told in result["fewshot"].values():
        assert set(told["tried"]) == {"1e-09", "0.003"}
        assert told["value"] == max(told["tried"].values())
        assert told["valid"] == "valid"
    assert result["fewshot"]["de_1_shots"]["tried"]["1e-09"] == result["value"]  # hardly moved from English
    assert {"de_1_shots_accuracy", "de_2_shots_accuracy", "de_1_shots_low"} <= set(metrics)


@pytest.mark.slow
@each
def test_every_language_and_the_translated_set_are_asked_and_their_answers_kept(run, tmp_path, name):
    metrics = run(name)
    assert {"accuracy", "en_accuracy", "de_accuracy", "de_translated_accuracy", "de_accuracy_std"} <= set(
        metrics
    )
    assert metrics["average_accuracy"] == metrics["de_accuracy"]
    rows = small.MADE[name]("test")
    for split in ("en", "de", "de_translated"):
        told = [lines_of(tmp_path, split, seed) for seed in (3, 4)]
        assert len(told[0]) == len(rows)
        right = [[line["right"] for line in seed if line["right"] is not None] for seed in told]
        assert metrics[f"{split}_accuracy"] == pytest.approx(np.mean([np.mean(seed) for seed in right]))
        assert metrics[f"{split}_low"] <= metrics[f"{split}_accuracy"] <= metrics[f"{split}_high"]
    assert run(name, "some", languages=("de",), translated=False).keys().isdisjoint({"en_accuracy"})
    if name == "xgqa":
        assert {line["said"] for line in told[0]} <= set(ANSWERS)
    if name == "marvl":
        assert {"en_consistency", "de_consistency"} <= set(metrics)


def test_undecided_rows_are_not_learnt_from_and_count_in_one_of_two_accuracies(run, tmp_path):
    metrics = run("xvnli", seeds=(3,))
    told = lines_of(tmp_path, "en")
    assert (told[0]["gold"], told[0]["right"]) == (None, None)
    rows = 3 * COUNTS["test"]
    assert metrics["en_accuracy_all"] == pytest.approx(metrics["en_accuracy"] * (rows - 1) / rows)


def test_rows_whose_pictures_have_no_patches_are_left_out_counted_and_listed(run, tmp_path):
    store = FakeStore(tuple(name for name in small.NAMES if name not in ("train3", "valid1")))
    metrics = run("xgqa", store=store, seeds=(3,))
    assert metrics["without_patches"] == 4
    assert (tmp_path / "without_patches.txt").read_text().splitlines()[:2] == [
        "valid en valid1-0",
        "valid en valid1-1",
    ]


def test_a_fine_tuned_model_is_asked_again_without_english_training(run, tmp_path):
    trained = run("marvl", "trained", keep_models=True, seeds=(3,))
    said: list[str] = []
    again = run("marvl", "again", said=said, finetuned=str(tmp_path / "trained"), seeds=(3,), fewshot="de,1")
    for name in ("accuracy", "en_accuracy", "de_accuracy", "majority"):
        assert again[name] == trained[name]
    (result,) = results(tmp_path / "again", "marvl")
    assert (result["updates"], result["loss"]) == (0, None)
    assert result["fewshot"]["de_1_shots"]["updates"] == 2
    assert any("which is not trained on English" in line for line in said)


def test_the_weights_of_the_best_epoch_are_kept_and_each_epoch_is_validated(run, tmp_path):
    run("xvnli", epochs=4, lr=8e-3, seeds=(3,))
    (best,) = results(tmp_path, "xvnli")
    scores = {int(update): score for update, score in best["scores"].items()}
    assert len(scores) == 4
    assert best["value"] == pytest.approx(max(scores.values()))
    assert best["kept"] == min(u for u, score in scores.items() if score == max(scores.values()))


@each
def test_new_heads_learn_at_a_rate_of_their_own(run, name, monkeypatch):
    plans, train_on = [], transfer.finetuning.train_on

    def watched(*arguments, plan, **named):
        plans.append(plan)
        return train_on(*arguments, plan=plan, **named)

    monkeypatch.setattr(transfer.finetuning, "train_on", watched)
    run(name, seeds=(3,), head_rate=5.0)
    (plan,) = plans
    parts = {parameter.split(".")[0] for parameter in plan["factors"]}
    assert parts == (set() if name == "xgqa" else {"head"})  # its decoder is a copy, nothing is new
    assert set(plan["factors"].values()) <= {5.0}


def test_few_shot_settings_that_are_none_or_have_no_file_are_refused(run):
    for wrong in ("de", "de,", ",10", "de,ten", "de 10"):
        with pytest.raises(UserError, match=r"fewshot: .*expected LANGUAGE,N such as de,10"):
            parse_config(XvnliConfig, {"fewshot": wrong})
    with pytest.raises(
        UserError, match=r"cclm\.xgqa\.fewshot: 'de,7' has no file; of this language there are 1, 2"
    ):
        run("xgqa", fewshot="de,7")
    with pytest.raises(UserError, match="'en,1' has no file; of this language there are none"):
        run("xgqa", fewshot="en,1")


def test_languages_that_have_no_test_set_and_texts_that_are_too_long_are_told(run):
    with pytest.raises(UserError, match=r"cclm\.xvnli\.languages: fr have no test set; there are en, de"):
        run("xvnli", languages=("fr",))
    with pytest.raises(UserError, match="max_length: 19 word pieces, and small reads 18 at most"):
        run("xvnli", max_length=19)


def test_answers_that_are_no_candidates_are_not_learnt_and_each_of_the_others_weighs_its_share(start):
    config = XgqaConfig(**BRIEF)
    iglue = FakeIglue()
    task = Transfer(benchmark(config, iglue, start), config, iglue, start)
    rows = [row for row in small.questions("train") if not set(ANSWERS).isdisjoint(row.answers)]
    assert len(rows) == len(task.training) == 2 * COUNTS["train"] - 3
    batch = task.training.batch(range(len(rows)))
    table = candidates(iglue, start)
    for number, row in enumerate(rows):
        mine = batch["answer_of"] == number
        known = [said for said in row.answers if said in ANSWERS]
        assert int(mine.sum()) == len(known)
        assert batch["answer_weight"][mine].tolist() == pytest.approx([1 / len(known)] * len(known))
        for ids, said in zip(batch["answer_ids"][mine], known, strict=True):
            assert torch.equal(ids, table.ids[table.row[ANSWERS.index(said)], : len(ids)])


def test_published_settings_are_the_defaults():
    published = {
        "batch": 128, "lr": 3e-5, "warmup": 0.1, "weight_decay": 0.01, "clip": 0.0, "head_rate": 2.0, "dropout": 0.1,
        "optimiser": "transformers_adamw", "fewshot_epochs": 60.0, "fewshot_every": 10, "fewshot_lr": (1e-6,),
        "best": True, "start": "all",
    }  # fmt: skip
    own = {
        "xvnli": {"epochs": 10.0, "max_words": 80, "max_length": 80},
        "xgqa": {"epochs": 5.0, "max_words": 30, "max_words_test": 50, "max_length": 40, "k": 128},
        "marvl": {"epochs": 10.0, "max_words": 30},
    }
    for name, (_, config) in STAGES.items():
        for field, value in (published | own[name]).items():
            assert getattr(config(), field) == value, (name, field)
    assert not XgqaConfig().original.first_twice
    assert math.isinf(unclipped(XvnliConfig()).clip)
