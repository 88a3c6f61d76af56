"""The stages `lxmert.vqa`, `lxmert.gqa` and `lxmert.nlvr2`: they learn, resume, and say what is wrong."""

import json
import math

import numpy as np
import pytest
import torch

from tests.lxmert import small_finetuning as small
from tests.lxmert.small_finetuning import ANSWERS, BRIEF, LEARNS, STAGES, context, results
from vlpnb.data.asked_data import load_pairs
from vlpnb.data.region_store import RegionStore, write_store_of
from vlpnb.downstream.answering import Benchmark
from vlpnb.downstream.finetuning import FineTuningConfig
from vlpnb.downstream.pictured import Pictures, Sentences
from vlpnb.downstream.seeds import MAJORITY
from vlpnb.errors import UserError
from vlpnb.lxmert import nlvr2
from vlpnb.lxmert.answering import answer, asked_of
from vlpnb.lxmert.heads import AnsweringModel, PairModel
from vlpnb.lxmert.nlvr2 import Judged, Nlvr2Config, judge
from vlpnb.lxmert.original.weights import save_model
from vlpnb.lxmert.start import starting_point
from vlpnb.lxmert.vqa import VqaConfig
from vlpnb.metrics.nlvr2 import read_nlvr2_predictions
from vlpnb.text.tokenizers import load_tokenizer

each = pytest.mark.parametrize("name", STAGES)


@pytest.mark.slow
@each
def test_it_learns_small_data_by_heart(run, tmp_path, name):
    said: list[str] = []
    fields = {**LEARNS, "epochs": 30, "valid": "train", "test": ("valid",), "keep_models": True}
    metrics = run(name, said=said, **fields)
    top = 1.0 if name == "nlvr2" else (2 * small.SPLITS["train"] - 6) / (2 * small.SPLITS["train"])
    assert metrics["accuracy"] > 0.93 * top
    assert metrics["diverged"] == 0
    found = results(tmp_path, name)
    assert [each["seed"] for each in found] == [1, 2]
    assert metrics["accuracy"] == pytest.approx(np.mean([each["value"] for each in found]))
    assert metrics["accuracy_std"] == pytest.approx(np.std([each["value"] for each in found], ddof=1))
    assert metrics["valid_accuracy"] == pytest.approx(
        np.mean([e["splits"]["valid"]["accuracy"] for e in found])
    )
    assert all(each["losses"][-1] < each["losses"][0] / 2 for each in found)
    assert not list(tmp_path.rglob("work"))


@pytest.mark.slow
@each
def test_the_weights_of_the_best_epoch_are_kept(run, tmp_path, name):
    fields = {**LEARNS, "seeds": (1,), "epochs": 4, "lr": 8e-3}
    run(name, **fields)
    (best,) = results(tmp_path, name)
    scores = {int(update): score for update, score in best["scores"].items()}
    assert len(scores) == 4
    assert best["value"] == pytest.approx(max(scores.values()))
    assert best["kept"] == min(update for update, score in scores.items() if score == max(scores.values()))
    run(name, "last", best=False, **fields)
    (last,) = results(tmp_path / "last", name)
    assert last["scores"] == {}
    assert last["kept"] is None
    assert last["value"] == pytest.approx(scores[last["updates"]])


@pytest.mark.slow
@each
def test_a_killed_training_continues_to_the_same_result(run, tmp_path, name, monkeypatch):
    whole = run(name, "whole", **BRIEF)
    asked = 0
    batch = Sentences.batch

    def counted(self, rows):
        nonlocal asked
        asked += 1
        if asked in (4, 9, 20):
            raise KeyboardInterrupt
        return batch(self, rows)

    monkeypatch.setattr(Sentences, "batch", counted)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            run(name, "killed", **BRIEF)
    assert str(run(name, "killed", **BRIEF)) == str(whole)
    files = {
        path.relative_to(tmp_path / "whole") for path in (tmp_path / "whole").rglob("*") if path.is_file()
    }
    for file in files - {path for path in files if path.name == "log.txt"}:
        assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "killed" / file).read_bytes()


@pytest.mark.slow
@each
def test_two_processes_share_the_seeds_to_the_same_results(run, inputs, tmp_path, name, monkeypatch):
    one = run(name, "one", **BRIEF)
    monkeypatch.setattr("vlpnb.downstream.finetuning.barrier", lambda processes: None)
    stage, config = STAGES[name]
    for rank in (1, 0):
        made = context(config(**BRIEF), tmp_path / "two", inputs)
        made.rank, made.world_size = rank, 2
        if rank:
            with pytest.raises(FileNotFoundError):  # process 0 has not done its own yet
                stage.run(made)
        else:
            assert str(stage.run(made)) == str(one)
    assert results(tmp_path / "one", name) == results(tmp_path / "two", name)


@each
def test_without_pictures_two_pictures_are_alike(run, inputs, tmp_path, name):
    metrics = run(name, blind=True, keep_models=True, **{**BRIEF, "seeds": (3,)})
    assert 0 <= metrics["accuracy"] < 0.9
    store = RegionStore(inputs["regions"])
    blind = Pictures(store, ["train0", "train1"], "here", blind=True).batch(np.array([0, 1]))
    assert blind["features"].shape == (2, 1, small.WIDTH)
    assert not blind["features"].any()
    assert not blind["boxes"].any()


def test_a_picture_is_seen_once_and_every_answer_is_that_of_the_plain_pass(inputs, tmp_path, monkeypatch):
    made = context(VqaConfig(), tmp_path, inputs)
    asked = asked_of(Benchmark("vqa", "VQA", lambda *_: {}, str), made.config, inputs, starting_point(made))
    model, data = asked.make().eval(), asked.split("train")[1]
    torch.nn.init.normal_(model.answers.out.weight)  # or the highest score is nearly a draw
    batch = data.batch(np.arange(len(data)))
    batch.pop("targets")
    with torch.no_grad():
        seen = model.backbone.see(batch["features"], batch["boxes"], batch["visual_mask"])
        scores = model.scores(batch["ids"], batch["mask"], seen)
    pictures = []
    see = model.backbone.see
    monkeypatch.setattr(model.backbone, "see", lambda f, *rest: pictures.append(len(f)) or see(f, *rest))
    for pictures_at_once, rows_at_once in ((256, 256), (5, 3), (1, 1)):
        found = answer(model, data, "cpu", pictures_at_once, rows_at_once)
        assert found.tolist() == scores.argmax(1).tolist()
        assert sum(pictures) == small.SPLITS["train"]
        pictures.clear()


def test_pairs_are_judged_as_by_the_plain_pass_and_left_is_not_right(inputs, tmp_path):
    made = context(Nlvr2Config(), tmp_path, inputs)
    data = load_pairs(inputs["pairs"])
    judged = Judged(made.config, data, RegionStore(inputs["regions"]), starting_point(made))
    model, encoded = judged.make().eval(), judged.split("train")[1]
    torch.nn.init.normal_(model.pair.out.weight)
    batch = encoded.batch(np.arange(len(encoded)))
    batch.pop("label")
    assert batch["features"].shape[:2] == (len(encoded), 2)
    pooled = []
    with torch.no_grad():
        for side in (0, 1):  # each picture on its own, sentence by sentence
            seen = model.backbone.see(*(batch[n][:, side] for n in ("features", "boxes", "visual_mask")))
            pooled.append(model.backbone.read(batch["ids"], batch["mask"], seen).pooled)
        scores = model.pair(torch.cat(pooled, dim=1))
        swapped = model.pair(torch.cat(pooled[::-1], dim=1))
    assert not torch.allclose(scores, swapped, atol=1e-2)
    for pictures_at_once, rows_at_once in ((512, 128), (6, 2)):
        found = judge(model, encoded, "cpu", pictures_at_once, rows_at_once)
        assert found.tolist() == scores.argmax(1).tolist()


@pytest.mark.slow
def test_answers_outside_the_list_have_no_target_and_are_counted(run, inputs, tmp_path):
    said: list[str] = []
    metrics = run("vqa", said=said, **{**BRIEF, "seeds": (3,), "max_train": None})
    assert metrics["outside"] == 6
    assert any("the answers of 6 questions are none of these" in line for line in said)
    made = context(VqaConfig(), tmp_path / "a", inputs)
    best = context(VqaConfig(objective="best"), tmp_path / "b", inputs)
    benchmark = Benchmark("vqa", "VQA", lambda *_: {}, str)
    soft, chosen = (asked_of(benchmark, m.config, inputs, starting_point(m)) for m in (made, best))
    targets = soft.training.targets(np.arange(len(soft.training)))
    assert int((targets.sum(1) == 0).sum()) == 6
    assert len(chosen.training) == len(soft.training) - 6
    assert chosen.outside == soft.outside == 6
    assert targets[0, ANSWERS.index("yes")] == pytest.approx(0.3)


@pytest.mark.slow
def test_examples_whose_pictures_have_no_regions_are_left_out_counted_and_listed(run, inputs, tmp_path):
    names = [f"{split}{i}" for split, count in small.SPLITS.items() for i in range(count)]
    without = {"train3", "valid1"}
    write_store_of(tmp_path / "regions", [small.regions(name) for name in names if name not in without])
    given, said = {**inputs, "regions": tmp_path / "regions"}, []
    assert run("vqa", "vqa", said, given, **BRIEF)["without_regions"] == 4
    assert any("4 examples are left out, whose pictures have no regions" in line for line in said)
    lines = (tmp_path / "vqa" / "without_regions.txt").read_text().splitlines()
    assert lines == ["train 30 train3", "train 31 train3", "valid 10 valid1", "valid 11 valid1"]
    found = json.loads((tmp_path / "vqa" / "seed-3" / "predictions_valid.json").read_text())
    assert {10, 11}.isdisjoint(row["question_id"] for row in found)
    judged = run("nlvr2", "nlvr2", said, given, **BRIEF)["without_regions"]
    rows = [row for split, n in small.SPLITS.items() for row in small.statements(split, n)]
    assert judged == sum(not without.isdisjoint((row["img0"], row["img1"])) for row in rows) > 0


@each
def test_examples_about_unknown_pictures_alone_are_refused_by_name(run, inputs, tmp_path, name):
    write_store_of(tmp_path / "regions", [small.regions(f"elsewhere{i}") for i in range(4)])
    with pytest.raises(UserError, match=r"has no regions of \d+ of \d+ pictures: train0, train"):
        run(name, given={**inputs, "regions": tmp_path / "regions"}, **BRIEF)


def test_a_validation_split_without_answers_is_refused(run):
    with pytest.raises(UserError, match=r"lxmert\.gqa\.valid: the questions of 'test' have no answers"):
        run("gqa", valid="test", **BRIEF)
    with pytest.raises(UserError, match=r"no questions for split 'tset'"):
        run("gqa", "b", test=("tset",), **BRIEF)


def test_questions_whose_answers_are_all_outside_the_list_count_nothing(run, inputs, tmp_path):
    rows = {split: small.questions(split, n) for split, n in small.SPLITS.items()}
    for row in rows["valid"][::2]:
        row["label"] = {}  # as in LXMERT's files
    small.write_questions(tmp_path, tmp_path / "questions", rows)
    brief = {**BRIEF, "seeds": (3,), "test": ("valid",)}
    some = run("vqa", "some", given={**inputs, "questions": tmp_path / "questions"}, **brief)
    said = json.loads((tmp_path / "some" / "seed-3" / "predictions_valid.json").read_text())
    given = {q["question_id"]: q["label"] for q in rows["valid"]}
    assert len(said) == len(given)
    scores = [given[row["question_id"]].get(row["answer"], 0) for row in said]
    assert some["accuracy"] == pytest.approx(np.mean(scores))
    assert 0 < some["accuracy"] <= 0.45


def test_submissions_are_written_for_every_split_also_without_answers(run, tmp_path):
    brief = {**BRIEF, "seeds": (3,)}
    metrics = run("vqa", "vqa", **brief)
    assert "test_accuracy" not in metrics  # the test questions have no answers
    rows = json.loads((tmp_path / "vqa" / "seed-3" / "predictions_test.json").read_text())
    assert [row["question_id"] for row in rows] == [q["question_id"] for q in small.questions("test", 8)]
    assert {row["answer"] for row in rows} <= set(ANSWERS)
    run("gqa", "gqa", **brief)
    rows = json.loads((tmp_path / "gqa" / "seed-3" / "predictions_valid.json").read_text())
    assert set(rows[0]) == {"questionId", "prediction"}
    assert rows[1]["questionId"] == "01"
    run("nlvr2", "nlvr2", **brief)
    said = read_nlvr2_predictions(tmp_path / "nlvr2" / "seed-3" / "predictions_valid.csv")
    assert len(said) == 2 * small.SPLITS["valid"]


def test_a_model_that_says_the_majority_to_all_is_told_so(run, tmp_path):
    said: list[str] = []
    metrics = run("nlvr2", said=said, **{**BRIEF, "lr": 1e-9, "seeds": (3,)})
    (result,) = results(tmp_path, "nlvr2")
    if metrics["accuracy"] == metrics["majority"]:
        assert result["note"] == MAJORITY
        assert any(MAJORITY in line for line in said)
    assert result["diverged"]


@each
def test_a_run_that_becomes_nan_is_a_result_not_a_crash(run, tmp_path, name, monkeypatch):
    model = PairModel if name == "nlvr2" else AnsweringModel
    whole = model.forward

    def lost(self, *arguments, **batch):
        return {key: loss * math.nan for key, loss in whole(self, *arguments, **batch).items()}

    monkeypatch.setattr(model, "forward", lost)
    metrics = run(name, **BRIEF)
    assert metrics["diverged"] == 2
    assert all("became infinite or not a number" in each["diverged"] for each in results(tmp_path, name))


def test_fewer_pictures_are_a_part_of_each_split_and_test_stays_whole(run, tmp_path):
    said: list[str] = []
    run("vqa", said=said, limit_images=5, **{**BRIEF, "seeds": (3,)})
    assert any("fine-tuning pre-trained on 10 questions" in line for line in said)
    sizes = {
        split: len(json.loads((tmp_path / "seed-3" / f"predictions_{split}.json").read_text()))
        for split in ("valid", "test")
    }
    assert sizes == {"valid": 10, "test": 16}


@each
def test_published_settings_are_the_defaults(name):
    config = STAGES[name][1]()
    published = {
        "batch": 32,
        "epochs": 4.0,
        "warmup": 0.1,
        "weight_decay": 0.01,
        "clip": 5.0,
        "max_length": 20,
    }
    published |= {"lr": 1e-5 if name == "gqa" else 5e-5, "optimiser": "bert_adam", "best": True}
    assert {field: getattr(config, field) for field in published} == published
    assert set(FineTuningConfig.model_fields) <= set(type(config).model_fields)


def test_sentences_are_cut_padded_and_stripped(inputs):

    tokenizer = load_tokenizer(inputs["pretraining"] / "model")
    sentences = Sentences.of(["  the cat is red ? ", "what", "is the cat " * 9], tokenizer, 8)
    batch = sentences.batch([1, 0, 2])
    assert sentences.lengths.tolist() == [7, 3, 8]
    assert batch["mask"].sum(1).tolist() == [3, 7, 8]
    assert batch["ids"][1, :7].tolist() == tokenizer("the cat is red ?")["input_ids"]
    assert (batch["ids"][~batch["mask"]] == tokenizer.pad_token_id).all()
    assert (batch["ids"][2, -1]) == tokenizer.sep_token_id


def test_nlvr2_module_reads_both_pictures_of_every_pair(inputs):
    assert nlvr2.NLVR2.inputs(Nlvr2Config()).keys() == {"pairs", "regions", "pretraining"}
    assert save_model is not None
