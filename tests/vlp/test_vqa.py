"""The stage `vlp.vqa`: it learns, resumes, never says what is no answer, and says what is wrong."""

import json
import shutil
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.lxmert import small_finetuning as lxmert
from tests.lxmert.small_finetuning import ANSWERS, SPLITS, context
from tests.vlp import small_vqa as small
from vlpnb.data.asked import AskedQuestion
from vlpnb.data.region_store import RegionStore, write_store_of
from vlpnb.data.vqa_labels import UNKNOWN, soft_score
from vlpnb.downstream.pictured import Sentences
from vlpnb.errors import UserError
from vlpnb.text.masking import Words
from vlpnb.text.tokenizers import load_tokenizer
from vlpnb.vlp.heads import VlpForAnswers, VlpForGeneration
from vlpnb.vlp.original.weights import load_model, save_original
from vlpnb.vlp.pictures import Pictures
from vlpnb.vlp.start import STARTS, starting_point
from vlpnb.vlp.vqa import (
    VQA,
    OriginalVqa,
    VqaConfig,
    answer,
    asked_of,
    corrupted,
    load_answerer,
    with_lengths,
)

LEARNS = {
    "seeds": (1, 2), "epochs": 60, "batch": 8, "lr": 3e-3, "optimiser": "adamw", "dropout": 0.0, "best": False,
    "text_length": 12, "corrupt": False,
}  # fmt: skip
BRIEF = {
    "seeds": (3, 4), "epochs": 2, "batch": 8, "lr": 1e-3, "max_train": 24, "checkpoint_seconds": 0,
    "text_length": 12,
}  # fmt: skip


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return small.make(tmp_path_factory.mktemp("vlp") / "made")


@pytest.fixture
def run(inputs, tmp_path):
    """Runs the stage in `tmp_path` or a folder of it; returns its metrics."""

    def run(folder="", said=None, given=inputs, **fields):
        return VQA.run(context(VqaConfig(**fields), tmp_path / folder, given, said))

    return run


def results(folder):
    return json.loads((folder / "vqa.json").read_text())


def asked(inputs, folder, **fields):
    made = context(VqaConfig(**fields), folder, inputs)
    return asked_of(made.config, inputs, starting_point(made))


@pytest.mark.slow
def test_it_learns_small_data_by_heart(run, tmp_path):
    said: list[str] = []
    metrics = run(said=said, valid="train", test=("valid",), **LEARNS)
    top = (2 * SPLITS["train"] - 6) / (2 * SPLITS["train"])
    assert metrics["accuracy"] > 0.93 * top
    assert metrics["diverged"] == 0
    found = results(tmp_path)
    assert [each["seed"] for each in found] == [1, 2]
    assert metrics["accuracy"] == pytest.approx(np.mean([each["value"] for each in found]))
    assert metrics["accuracy_std"] == pytest.approx(np.std([each["value"] for each in found], ddof=1))
    assert {"yes_no", "other", "valid_accuracy"} <= set(metrics)
    assert any("regions with the probabilities of 4 classes" in line for line in said)


@pytest.mark.slow
def test_a_killed_training_continues_to_the_same_result(run, tmp_path, monkeypatch):
    whole = run("whole", **BRIEF)
    count, batch = 0, Sentences.batch

    def counted(self, rows):
        nonlocal count
        count += 1
        if count in (4, 9, 20):
            raise KeyboardInterrupt
        return batch(self, rows)

    monkeypatch.setattr(Sentences, "batch", counted)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            run("killed", **BRIEF)
    assert str(run("killed", **BRIEF)) == str(whole)
    files = [
        path.relative_to(tmp_path / "whole") for path in (tmp_path / "whole").rglob("*") if path.is_file()
    ]
    compared = [file for file in files if file.name != "log.txt"]
    assert len(compared) >= 6
    for file in compared:
        assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "killed" / file).read_bytes()


def test_two_processes_share_the_seeds_to_the_same_results(run, inputs, tmp_path, monkeypatch):
    one = run("one", **BRIEF)
    monkeypatch.setattr("vlpnb.downstream.finetuning.barrier", lambda processes: None)
    for rank in (1, 0):
        made = context(VqaConfig(**BRIEF), tmp_path / "two", inputs)
        made.rank, made.world_size = rank, 2
        if rank:
            with pytest.raises(FileNotFoundError):  # process 0 has not done its own yet
                VQA.run(made)
        else:
            assert str(VQA.run(made)) == str(one)
    assert results(tmp_path / "one") == results(tmp_path / "two")


def test_batches_of_any_size_and_padding_give_the_answers_of_one_question_alone(
    inputs, tmp_path, monkeypatch
):
    task = asked(inputs, tmp_path, text_length=12)
    model, data = task.make().eval(), task.split("train")[1]
    singly = []
    for row in range(len(data)):
        batch = with_lengths(data.batch([row]))
        batch.pop("targets")
        assert "visual_mask" not in batch  # one picture needs no padding
        singly.append(batch)

    def scores():
        with torch.no_grad():
            return torch.cat([model.scores(**batch) for batch in singly])

    with torch.no_grad():  # a model that learnt nothing answers all alike but for this
        model.answers.out.weight.mul_(100)
        model.answers.out.bias.sub_(scores().mean(0))
    alone = (scores()[:, 1:].argmax(1) + 1).tolist()
    assert len(set(alone)) > 2
    for rows_at_once in (256, 7):
        monkeypatch.setattr("vlpnb.vlp.vqa.ROWS_AT_ONCE", rows_at_once)
        assert answer(model, data, "cpu").tolist() == alone


def test_what_is_no_answer_is_no_target_and_is_never_said(run, inputs, tmp_path, monkeypatch):
    run("run", keep_models=True, **{**BRIEF, "seeds": (3,)})
    assert json.loads((tmp_path / "run" / "answers.json").read_text()) == [UNKNOWN, *ANSWERS]
    task = asked(inputs, tmp_path, text_length=12)
    assert not task.training.targets(np.arange(len(task.training)))[:, 0].any()
    model = task.make()
    with torch.no_grad():
        model.answers.out.bias[0] = 1e6
    said = answer(model, task.split("valid")[1], "cpu")
    assert said.min() >= 1
    for file in (tmp_path / "run" / "seed-3").glob("predictions_*.json"):
        assert UNKNOWN not in {row["answer"] for row in json.loads(file.read_text())}


def test_a_list_that_begins_with_the_unknown_answer_is_taken_as_it_is(run, inputs, tmp_path):
    given = {**inputs, "questions": tmp_path / "questions"}
    rows = {split: lxmert.questions(split, n) for split, n in SPLITS.items()}
    lxmert.write_questions(tmp_path, tmp_path / "questions", rows)
    (tmp_path / "questions" / "vqa_label2ans.json").write_text(json.dumps([UNKNOWN, *ANSWERS]))
    named = run("named", given=given, **BRIEF)
    (tmp_path / "questions" / "vqa_label2ans.json").write_text(json.dumps(list(ANSWERS)))
    assert str(run("put in front", given=given, **BRIEF)) == str(named)


def test_targets_are_what_people_said_spelt_as_the_originals_files_spell_it():
    people = ("Yes, sir", "yes sir", "yes sir?", "yes", "no", "<unk>", "", "dog's", "the dog", "no")
    listed = frozenset((UNKNOWN, "yes sir", "yes", "no", "dog 's", "dog"))
    question = AskedQuestion(1, "p", "is it ?", {"made up": 1.0}, people)
    assert question.with_targets(listed).targets == {
        "yes sir": soft_score(3), "yes": soft_score(1), "no": soft_score(2), "dog 's": soft_score(1),
    }  # fmt: skip
    scored = replace(question, human=())
    assert scored.with_targets(listed) is scored


def test_one_word_or_the_end_of_each_training_question_is_corrupted_as_documented(inputs):
    tokenizer = load_tokenizer(inputs["pretraining"] / "model")
    words = Words.of(tokenizer)
    texts = ["is the cat red ?", "what", "what color is the dog ?"] * 400
    batch = with_lengths(Sentences.closed(texts, tokenizer, 20).batch(range(len(texts))))
    ids, lengths = batch["ids"], batch["lengths"]
    found = corrupted(ids, lengths, words, 7, 3)
    assert found.shape == ids.shape
    changed = found != ids
    assert int(changed.sum(1).max()) == 1
    assert not changed[torch.arange(ids.shape[1]) > lengths[:, None]].any()  # padding stays
    assert changed[torch.arange(len(texts)), lengths].any()  # a [SEP] may go
    became = Counter(found[changed].tolist())
    masked = became.pop(tokenizer.mask_token_id)
    assert masked / len(texts) == pytest.approx(0.8, abs=0.04)
    assert sum(became.values()) / len(texts) == pytest.approx(0.1, abs=0.03)
    assert set(became).isdisjoint(tokenizer.all_special_ids)
    assert torch.equal(found, corrupted(ids, lengths, words, 7, 3))
    assert not torch.equal(found, corrupted(ids, lengths, words, 7, 4))


def test_only_training_questions_are_corrupted_and_only_if_so_configured(inputs, tmp_path):
    for corrupt in (True, False):
        task = asked(inputs, tmp_path, corrupt=corrupt, text_length=12)
        batch = task.training.batch(np.arange(40))
        changed = task.altered(dict(batch), 0, 1)
        assert changed["lengths"].tolist() == (batch["mask"].sum(1) - 1).tolist()
        assert torch.equal(changed["ids"], batch["ids"]) != corrupt
    again = task.split("train")[1].batch(np.arange(40))
    assert torch.equal(again["ids"], batch["ids"])


def test_questions_are_cut_at_their_tail_and_spelt_special_tokens_are_left_out(inputs):
    tokenizer = load_tokenizer(inputs["pretraining"] / "model")
    texts = ["the cat [SEP] is [MASK] red", "is the cat " * 9, "dog"]
    sentences = Sentences.closed(texts, tokenizer, 5)
    assert sentences.lengths.tolist() == [5, 6, 2]
    batch = sentences.batch([0, 1, 2])
    plain = tokenizer("the cat is red", add_special_tokens=False)["input_ids"]
    assert batch["ids"][0, :5].tolist() == [*plain, tokenizer.sep_token_id]
    assert (
        batch["ids"][1, :5].tolist() == tokenizer("is the cat is the", add_special_tokens=False)["input_ids"]
    )
    assert batch["ids"][2].tolist()[1:] == [tokenizer.sep_token_id, *[tokenizer.pad_token_id] * 4]


def test_without_pictures_a_model_reads_no_region_and_two_pictures_are_alike(run, inputs, tmp_path):
    metrics = run("blind", blind=True, keep_models=True, **{**BRIEF, "seeds": (3,)})
    assert 0 <= metrics["accuracy"] < 0.9
    kept = load_answerer(tmp_path / "blind")
    nothing = Pictures(RegionStore(inputs["regions"]), blind=True)
    regions = nothing.batch(np.array([0, 1]))
    assert regions["features"].shape == (2, 0, lxmert.WIDTH)
    scores = kept.scores(regions, ["what color is the cat ?"] * 2)
    assert scores.shape == (2, len(ANSWERS) + 1)
    assert torch.equal(scores[0], scores[1])
    seen = Pictures(RegionStore(inputs["regions"])).batch(np.array([0, 1]))
    scores = kept.scores(seen, ["what color is the cat ?"] * 2)
    assert not torch.allclose(scores[0], scores[1])


def test_every_start_asks_for_a_pre_training_that_there_is():
    from vlpnb.vlp.pretraining import PretrainingConfig

    for start, overrides in STARTS.items():
        asked_for = VQA.inputs(VqaConfig(start=start, seed=7))["pretraining"]
        assert asked_for.overrides == {**overrides, "seed": 7}
        if start != "bert":  # needs a tokenizer of BERT's
            PretrainingConfig(**asked_for.overrides)
    assert "pretraining" not in VQA.inputs(VqaConfig(model="somewhere"))
    assert VQA.inputs(VqaConfig(regions={"source": "vlp"}))["regions"].overrides == {"source": "vlp"}


def test_from_scratch_every_seed_draws_weights_of_its_own_and_pre_trained_ones_are_taken(inputs, tmp_path):
    own = load_model(inputs["pretraining"] / "model", VlpForGeneration).backbone.word_weight
    for start in ("scratch", "pretrained"):
        task = asked(inputs, tmp_path / start, start=start, text_length=12)
        drawn = []
        for seed in (1, 2, 1):
            torch.manual_seed(seed)
            drawn.append(task.make())
        words = [model.backbone.word_weight for model in drawn]
        heads = [model.answers.out.weight for model in drawn]
        assert torch.equal(words[0], own) == (start == "pretrained")
        assert torch.equal(words[0], words[1]) == (start == "pretrained")
        assert torch.equal(words[0], words[2])
        assert not torch.equal(heads[0], heads[1])


@pytest.mark.parametrize("form", ["folder", "stage", "original"])
def test_a_model_from_outside_is_fine_tuned_as_the_runs_own(run, inputs, tmp_path, form):
    own, brief = inputs["pretraining"], {**BRIEF, "seeds": (3,)}
    fields = {"model": str(own)}
    if form == "folder":
        fields = {"model": str(own / "model")}
    if form == "original":
        file = save_original(tmp_path / "model.30.bin", load_model(own / "model", VlpForGeneration))
        fields = {"model": str(file), "tokenizer": str(own / "model")}
        with pytest.raises(UserError, match=r"tokenizer: .*model.30.bin has no tokenizer"):
            run("none", **{**fields, "tokenizer": ""}, **brief)
    assert str(run("a", **fields, **brief)) == str(run("b", **brief))


def test_a_captioner_answers_too_and_a_model_of_other_answers_gives_its_backbone(run, inputs, tmp_path):
    brief = {**BRIEF, "seeds": (3,)}
    captioner = tmp_path / "captioner" / "seed-3" / "model"
    shutil.copytree(inputs["pretraining"] / "model", captioner)
    from_stage = run("a", model=str(tmp_path / "captioner"), **brief)
    assert str(from_stage) == str(run("b", **brief))
    run("trained", keep_models=True, **brief)
    questions, rows = (
        tmp_path / "questions",
        {split: lxmert.questions(split, n) for split, n in SPLITS.items()},
    )
    lxmert.write_questions(tmp_path, questions, rows)
    (questions / "vqa_label2ans.json").write_text(json.dumps([*ANSWERS, "more"]))
    given = {**inputs, "questions": questions}
    model = str(tmp_path / "trained")
    assert 0 <= run("c", model=model, given=given, **brief)["accuracy"] <= 1
    with pytest.raises(
        UserError, match=r"learnt the answers of .*answers\.json, and those of the task differ"
    ):
        run("d", model=model, given=given, epochs=0)


def test_a_fine_tuned_model_answers_again_without_training(run, inputs, tmp_path):
    trained = run("trained", keep_models=True, **{**BRIEF, "seeds": (3,), "test": ("valid", "test")})
    said: list[str] = []
    given = {kind: folder for kind, folder in inputs.items() if kind != "pretraining"}
    model = str(tmp_path / "trained" / "seed-3")
    fields = {"epochs": 0, "seeds": (3, 4), "text_length": 12, "test": ("valid", "test")}
    again = run("again", said=said, given=given, model=model, **fields)
    for name in ("accuracy", "yes_no", "other", "majority", "without_regions"):
        assert again[name] == trained[name]
    (result,) = results(tmp_path / "again")
    assert (result["updates"], result["loss"], result["diverged"]) == (0, None, "")
    files = sorted((tmp_path / "trained" / "seed-3").glob("predictions_*"))
    assert len(files) == 2
    for file in files:
        assert (tmp_path / "again" / "seed-3" / file.name).read_bytes() == file.read_bytes()
    assert any("which is not trained" in line for line in said)
    with pytest.raises(ValueError, match="epochs: 0 trains nothing; name a fine-tuned model"):
        VqaConfig(epochs=0)
    with pytest.raises(UserError, match="missing"):
        run("no head", model=str(inputs["pretraining"]), epochs=0)


def test_kept_models_answer_again_what_they_answered(run, inputs, tmp_path):
    run("vqa", keep_models=True, **{**BRIEF, "seeds": (3,)})
    kept = load_answerer(tmp_path / "vqa")
    said = json.loads((tmp_path / "vqa" / "seed-3" / "predictions_valid.json").read_text())
    pictures = Pictures(RegionStore(inputs["regions"]))
    for row, question in list(zip(said, lxmert.questions("valid", SPLITS["valid"]), strict=True))[:8]:
        regions = pictures.batch(pictures.rows([question["img_id"]], "here"))
        scores = kept.scores(regions, [question["sent"]])
        assert kept.answers[1 + int(scores[0, 1:].argmax())] == row["answer"]
    with pytest.raises(UserError, match=r"no fine-tuned model of seed 5; set `keep_models`"):
        load_answerer(tmp_path / "vqa", 5)


def test_a_model_that_has_learnt_with_other_regions_is_refused_trained_or_not(run, inputs, tmp_path):
    run("trained", keep_models=True, **{**BRIEF, "seeds": (3,)})
    few = [replace(small.regions(name), probabilities=None) for name in small.NAMES]
    write_store_of(tmp_path / "regions", few, ("cat", "dog"))
    given = {**inputs, "regions": tmp_path / "regions"}
    with pytest.raises(UserError, match="was trained with classes = 4, and the stage `regions` has 3"):
        run("a", given=given, **BRIEF)
    with pytest.raises(UserError, match="was trained with classes = 4, and the stage `regions` has 3"):
        run("b", given=given, model=str(tmp_path / "trained"), epochs=0)


def test_questions_whose_pictures_have_no_regions_are_left_out_counted_and_listed(run, inputs, tmp_path):
    without = {"train3", "valid1"}
    kept = [small.regions(name) for name in small.NAMES if name not in without]
    write_store_of(tmp_path / "regions", kept, lxmert.KINDS)
    given = {**inputs, "regions": tmp_path / "regions"}
    assert run("vqa", given=given, **BRIEF)["without_regions"] == 4
    lines = (tmp_path / "vqa" / "without_regions.txt").read_text().splitlines()
    assert lines == ["train 30 train3", "train 31 train3", "valid 10 valid1", "valid 11 valid1"]
    with pytest.raises(UserError, match=r"vlp\.vqa\.valid: the questions of 'test' have no answers"):
        run("other", valid="test", **BRIEF)


def test_the_accuracy_of_2019_is_counted_on_request(run, inputs, tmp_path):
    folder = tmp_path / "questions"
    shutil.copytree(inputs["questions"], folder)
    small.official_questions(tmp_path, folder)
    given = {**inputs, "questions": folder}
    fields = {**BRIEF, "seeds": (3,), "test": ()}
    today = run("today", given=given, **fields)
    then = run("then", given=given, original=OriginalVqa(spelling="pythia"), **fields)
    assert (tmp_path / "today" / "seed-3" / "predictions_valid.json").read_bytes() == (
        tmp_path / "then" / "seed-3" / "predictions_valid.json"
    ).read_bytes()
    assert then["accuracy"] < today["accuracy"]


def test_published_settings_are_the_defaults():
    config = VqaConfig()
    published = {
        "batch": 128, "epochs": 20.0, "lr": 2e-5, "warmup": 0.1, "weight_decay": 0.01, "clip": 1.0,
        "optimiser": "vlp_adam", "text_length": 20, "dropout": 0.1, "corrupt": True, "objective": "soft",
        "best": True, "start": "pretrained",
    }  # fmt: skip
    assert {field: getattr(config, field) for field in published} == published
    assert config.original == OriginalVqa(any_random=False, estimated_sizes=False, spelling="official")


def test_a_training_of_the_originals_optimiser_has_its_schedule_and_moves(run, tmp_path):
    run("vqa", keep_models=True, **{**BRIEF, "seeds": (3,), "optimiser": "vlp_adam"})
    (result,) = results(tmp_path / "vqa")
    assert result["updates"] == 6
    assert result["diverged"] == "" or "constant" in result["diverged"] or "same answer" in result["diverged"]
    assert isinstance(load_answerer(tmp_path / "vqa").model, VlpForAnswers)
