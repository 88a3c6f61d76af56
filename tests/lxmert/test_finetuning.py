"""The stages `lxmert.vqa`, `lxmert.gqa` and `lxmert.nlvr2`: they learn, resume, and say what is wrong."""

import json
import math
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.lxmert import small_finetuning as small
from tests.lxmert.small_finetuning import ANSWERS, BRIEF, LEARNS, TABLE, context
from tests.regions import region_store
from vlpnb.data.asked_data import load_pairs, load_questions
from vlpnb.data.region_store import RegionStore, write_store_of
from vlpnb.downstream.answering import Benchmark, Questions
from vlpnb.downstream.finetuning import FineTuningConfig
from vlpnb.downstream.pictured import Pictures, Sentences
from vlpnb.downstream.seeds import MAJORITY
from vlpnb.errors import UserError
from vlpnb.lxmert import nlvr2
from vlpnb.lxmert.answering import answer, asked_of, load_answerer
from vlpnb.lxmert.gqa import GQA, GqaConfig
from vlpnb.lxmert.heads import AnsweringModel, LxmertForPretraining, PairModel
from vlpnb.lxmert.nlvr2 import NLVR2, Judged, Nlvr2Config, judge, load_pair_reader
from vlpnb.lxmert.original.weights import load_model, save_model, save_original
from vlpnb.lxmert.start import NO_ANSWERS, STARTS, starting_point
from vlpnb.lxmert.vqa import VQA, VqaConfig
from vlpnb.metrics.nlvr2 import read_nlvr2_predictions
from vlpnb.text.tokenizers import load_tokenizer, train_wordpiece

STAGES = {"vqa": (VQA, VqaConfig), "gqa": (GQA, GqaConfig), "nlvr2": (NLVR2, Nlvr2Config)}
each = pytest.mark.parametrize("name", STAGES)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return small.make(tmp_path_factory.mktemp("lxmert") / "made")


@pytest.fixture
def run(inputs, tmp_path):
    """Runs a stage in `tmp_path` or a folder of it; returns its metrics."""

    def run(name, folder="", said=None, given=inputs, **fields):
        stage, config = STAGES[name]
        return stage.run(context(config(**fields), tmp_path / folder, given, said))

    return run


def results(folder, name):
    return json.loads((folder / f"{name}.json").read_text())


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


def test_the_head_of_answers_starts_from_that_of_pre_training(inputs, tmp_path):
    start = starting_point(context(VqaConfig(), tmp_path, inputs))
    source = load_model(inputs["pretraining"] / "model", LxmertForPretraining)
    model = start.answering(ANSWERS, True, "soft")
    for row, said in enumerate(ANSWERS):
        if said in TABLE:
            assert torch.equal(model.answers.out.weight[row], source.answers.out.weight[TABLE.index(said)])
        else:
            assert not model.answers.out.weight[row].any()
    assert torch.equal(model.answers.inner.weight, source.answers.inner.weight)
    without = start.answering(ANSWERS, False, "soft")
    assert not torch.equal(without.answers.inner.weight, source.answers.inner.weight)
    for made in (model, without, start.pairs()):
        words = made.backbone.embeddings.words.weight
        assert torch.equal(words, source.backbone.embeddings.words.weight)


def test_from_scratch_every_seed_draws_weights_of_its_own(inputs, tmp_path):
    start = starting_point(context(VqaConfig(start="scratch"), tmp_path, inputs))
    assert start.table is None
    drawn = []
    for seed in (1, 2, 1):
        torch.manual_seed(seed)
        drawn.append(start.answering(ANSWERS, True, "soft").backbone.embeddings.words.weight)
    assert torch.equal(drawn[0], drawn[2])
    assert not torch.equal(drawn[0], drawn[1])


def test_every_start_asks_for_a_pre_training_that_there_is():
    from vlpnb.lxmert.pretraining import PretrainingConfig

    for start, overrides in STARTS.items():
        request = VQA.inputs(VqaConfig(start=start, seed=7))["pretraining"]
        assert request.overrides == {**overrides, "seed": 7}
        config = PretrainingConfig(**request.overrides)
        assert ("answers" in config.wanted.losses and config.updates != 0) == (start not in NO_ANSWERS)
    assert "pretraining" not in VQA.inputs(VqaConfig(model="bert-base-uncased"))


@pytest.mark.parametrize("form", ["folder", "pre-training", "original"])
def test_a_model_from_outside_is_fine_tuned_as_the_runs_own(run, inputs, tmp_path, form):
    own, brief = inputs["pretraining"], {**BRIEF, "seeds": (3,)}
    fields = {"model": str(own)}
    if form == "folder":
        fields = {"model": str(own / "model"), "answer_table": str(own / "answers.json")}
    if form == "original":
        file = save_original(tmp_path / "Epoch01_LXRT.pth", load_model(own / "model", LxmertForPretraining))
        fields = {
            "model": str(file),
            "tokenizer": str(own / "model"),
            "answer_table": str(own / "answers.json"),
        }
    if form == "original":  # heads of 64: a state dict does not tell their number
        with pytest.raises(UserError, match=r"tokenizer: .*Epoch01_LXRT.pth has no tokenizer"):
            run("vqa", "a", **{**fields, "tokenizer": ""}, **brief)
        assert 0 <= run("vqa", "a", **fields, **brief)["accuracy"] <= 1
    else:
        assert str(run("vqa", "a", **fields, **brief)) == str(run("vqa", "b", **brief))


def test_a_checkpoint_with_missing_names_is_refused(run, inputs, tmp_path):
    from safetensors.torch import load_file, save_file

    broken = tmp_path / "broken"
    shutil.copytree(inputs["pretraining"], broken)
    file = broken / "model" / "model.safetensors"
    tensors = load_file(file)
    lost = next(name for name in tensors if "x_layers.1.visual_attention" in name)
    del tensors[lost]
    save_file(tensors, file, metadata={"format": "pt"})
    for name in STAGES:
        with pytest.raises(UserError, match=r"1 missing: .*x_layers\.1\.visual_attention"):
            run(name, name, model=str(broken), **BRIEF)


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


def test_a_pre_training_without_answers_gives_the_backbone_alone(run, inputs, tmp_path):
    own = load_model(inputs["pretraining"] / "model", LxmertForPretraining)
    folder = tmp_path / "pretraining"
    save_model(folder / "model", LxmertForPretraining(replace(own.config, answers=1)))
    for file in (inputs["pretraining"] / "model").glob("*token*"):
        shutil.copyfile(file, folder / "model" / file.name)
    (folder / "answers.json").write_text("[]")
    assert 0 <= run("vqa", "a", given={**inputs, "pretraining": folder}, **BRIEF)["accuracy"] <= 1


@pytest.mark.parametrize("name", ["vqa", "nlvr2"])
def test_a_model_that_has_learnt_with_other_regions_or_words_is_refused(run, inputs, tmp_path, name):
    names = [f"{split}{i}" for split, count in small.SPLITS.items() for i in range(count)]
    region_store(tmp_path / "wide", names, width=small.WIDTH + 1)
    with pytest.raises(UserError, match="reads features of 8 numbers, and the stage `regions` has 9"):
        run(name, "a", given={**inputs, "regions": tmp_path / "wide"}, **BRIEF)
    train_wordpiece(["many other words than those of the model"] * 5, 400, tmp_path / "words")
    tokenizer = load_tokenizer(tmp_path / "words")
    tokenizer.add_tokens([f"more{i}" for i in range(200)])
    tokenizer.save_pretrained(tmp_path / "words")
    given = {"model": str(inputs["pretraining"]), "tokenizer": str(tmp_path / "words")}
    with pytest.raises(UserError, match=r"knows \d+ word pieces, and the tokenizer has the id \d+"):
        run(name, "b", **given, **BRIEF)
    with pytest.raises(UserError, match="max_length: 33 tokens, and pre-trained reads 32 at most"):
        run(name, "c", max_length=33, **BRIEF)


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


def test_kept_models_answer_again_what_they_answered(run, inputs, tmp_path):
    brief = {**BRIEF, "seeds": (3,), "keep_models": True}
    run("vqa", "vqa", **brief)
    kept = load_answerer(tmp_path / "vqa")
    rows = json.loads((tmp_path / "vqa" / "seed-3" / "predictions_valid.json").read_text())
    asked = load_questions(inputs["questions"]).read("vqa", "valid")
    sentences = Sentences.of([q.sentence for q in asked], kept.tokenizer, 20)
    pictures = Pictures(RegionStore(inputs["regions"]), [q.image_id for q in asked], "here")
    again = answer(kept.model, Questions(asked, kept.answers, sentences, pictures), "cpu")
    assert [kept.answers[row] for row in again] == [row["answer"] for row in rows]
    run("nlvr2", "nlvr2", **brief)
    assert isinstance(load_pair_reader(tmp_path / "nlvr2", 3).model, PairModel)
    with pytest.raises(UserError, match=r"no fine-tuned model of seed 5; set `keep_models`"):
        load_answerer(tmp_path / "vqa", 5)


@each
def test_a_fine_tuned_model_answers_again_without_training(run, inputs, tmp_path, name):
    trained = run(name, "trained", keep_models=True, **{**BRIEF, "seeds": (3,), "test": ("valid", "test")})
    said: list[str] = []
    model = str(tmp_path / "trained" / "seed-3")
    given = {kind: folder for kind, folder in inputs.items() if kind != "pretraining"}
    fields = {"model": model, "epochs": 0, "seeds": (3, 4), "test": ("valid", "test")}
    again = run(name, "again", said=said, given=given, **fields)
    of_training = ("outside", "diverged")
    assert str(again) == str({key: 0.0 if key in of_training else value for key, value in trained.items()})
    (result,) = results(tmp_path / "again", name)  # without a training the second seed would say the same
    assert (result["updates"], result["loss"], result["diverged"]) == (0, None, "")
    files = sorted((tmp_path / "trained" / "seed-3").glob("predictions_*"))
    assert len(files) == 2
    for file in files:
        assert (tmp_path / "again" / "seed-3" / file.name).read_bytes() == file.read_bytes()
    assert any("which is not trained" in line for line in said)


@each
def test_an_original_snapshot_answers_as_the_same_weights_in_a_folder(run, inputs, tmp_path, name):
    known = load_model(inputs["pretraining"] / "model", LxmertForPretraining).config
    shape = replace(known, heads=1)  # as is read off a state dict of this width
    torch.manual_seed(1)
    model = PairModel(shape) if name == "nlvr2" else AnsweringModel(shape, len(ANSWERS))
    words = str(inputs["pretraining"] / "model")
    save_model(tmp_path / "folder", model, load_tokenizer(words))
    save_original(tmp_path / "BEST.pth", model)
    fields = {"epochs": 0, "seeds": (1,), "test": ()}
    ours = run(name, "a", model=str(tmp_path / "folder"), **fields)
    theirs = run(name, "b", model=str(tmp_path / "BEST.pth"), tokenizer=words, **fields)
    assert str(ours) == str(theirs)
    (file,) = (tmp_path / "a" / "seed-1").glob("predictions_valid.*")
    assert file.read_bytes() == (tmp_path / "b" / "seed-1" / file.name).read_bytes()


def test_without_training_a_split_without_answers_is_answered_and_has_no_score(run, inputs, tmp_path):
    run("vqa", "trained", keep_models=True, **{**BRIEF, "seeds": (3,)})
    model = str(tmp_path / "trained" / "seed-3")
    metrics = run("vqa", "blind", model=model, epochs=0, valid="test", test=())
    assert "accuracy" not in metrics
    (file,) = (tmp_path / "blind").glob("seed-*/predictions_test.json")
    assert len(json.loads(file.read_text())) == 2 * small.SPLITS["test"]


def test_answering_without_training_needs_a_fine_tuned_model_of_the_same_answers(run, inputs, tmp_path):
    with pytest.raises(ValueError, match="epochs: 0 trains nothing; name a fine-tuned model in `model`"):
        VqaConfig(epochs=0)
    own = str(inputs["pretraining"])
    with pytest.raises(UserError, match=r"answer_head|answers, and the task"):
        run("vqa", "a", model=own, epochs=0)  # its head has other answers
    with pytest.raises(UserError, match="does not hold the weights of PairModel"):
        run("nlvr2", "b", model=own, epochs=0)
    run("vqa", "trained", keep_models=True, **{**BRIEF, "seeds": (3,)})
    listed = tmp_path / "trained" / "answers.json"
    listed.write_text(json.dumps(json.loads(listed.read_text())[::-1]))
    with pytest.raises(
        UserError, match=r"learnt the answers of .*answers\.json, and those of the task differ"
    ):
        run("vqa", "c", model=str(tmp_path / "trained" / "seed-3"), epochs=0)


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
    from vlpnb.text.tokenizers import load_tokenizer

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
