"""LXMERT's fine-tuned models answer again without training: the run's own, and a snapshot of the original."""

import json
from dataclasses import replace

import pytest
import torch

from tests.lxmert import small_finetuning as small
from tests.lxmert.small_finetuning import ANSWERS, BRIEF, STAGES, results
from vlpnb.data.asked_data import load_questions
from vlpnb.data.region_store import RegionStore
from vlpnb.downstream.answering import Questions
from vlpnb.downstream.pictured import Pictures, Sentences
from vlpnb.errors import UserError
from vlpnb.lxmert.answering import answer, load_answerer
from vlpnb.lxmert.heads import AnsweringModel, LxmertForPretraining, PairModel
from vlpnb.lxmert.nlvr2 import load_pair_reader
from vlpnb.lxmert.original.weights import load_model, save_model, save_original
from vlpnb.lxmert.vqa import VqaConfig
from vlpnb.text.tokenizers import load_tokenizer

each = pytest.mark.parametrize("name", STAGES)


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
