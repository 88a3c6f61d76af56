"""Stage `lxmert.pretraining`: what it learns and leaves, resuming, processes, and input that is not as it should be."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.dying import dying_at
from tests.lxmert import small_pretraining as small
from vlpnb.config import parse_config
from vlpnb.data.asked_data import load_sentences
from vlpnb.data.lxmert import LxmertImage
from vlpnb.errors import UserError
from vlpnb.lxmert import pretraining
from vlpnb.lxmert.evaluation import evaluate, evenly_spaced, hidden_words, visible_words
from vlpnb.lxmert.examples import Batches, Masking, Wanted, draw
from vlpnb.lxmert.heads import LxmertForPretraining
from vlpnb.lxmert.original.weights import load_model, save_model
from vlpnb.lxmert.pretraining import PretrainingConfig, load_answers, training_plan
from vlpnb.lxmert.sentence_table import flat_table, tables, thinned
from vlpnb.text.tokenizers import load_tokenizer
from vlpnb.train.distributed import spawn


def load_pretraining(folder: Path) -> LxmertForPretraining:
    return load_model(folder, LxmertForPretraining)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return small.make(tmp_path_factory.mktemp("inputs"))


@pytest.fixture(scope="module")
def trained(inputs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pretraining")
    return folder, small.pretrain(inputs, folder)


def losses(folder: Path) -> list[float]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


def test_it_leaves_a_model_its_tokenizer_and_the_answer_table(inputs, trained):
    folder, metrics = trained
    model = load_pretraining(folder / "model")
    tokenizer = load_tokenizer(folder / "model")
    assert model.config.vocab_size == len(tokenizer)
    assert model.config.answers == len(load_answers(folder)) == 7
    assert (model.config.objects, model.config.attributes) == (4, 5)
    assert {
        "words_loss", "match_loss", "objects_loss", "attributes_loss", "features_loss", "answers_loss",
        "match_accuracy", "answer_accuracy", "answer_accuracy_vqa", "answer_accuracy_original", "grounding_right",
        "grounding_wrong",
    } < metrics.keys()  # fmt: skip
    assert metrics["examples"] == 240
    assert metrics["updates"] == 6
    assert all(math.isfinite(value) for value in metrics.values())


def test_the_first_losses_are_those_of_a_model_that_knows_nothing(inputs, tmp_path):
    metrics = small.pretrain(inputs, tmp_path, updates=1, lr=1e-9, init_std=0.02)
    words = len(load_tokenizer(inputs["language"] / "model"))
    assert metrics["words_loss"] == pytest.approx(math.log(words), abs=0.3)
    assert metrics["match_loss"] == pytest.approx(math.log(2), abs=0.1)
    assert metrics["answers_loss"] == pytest.approx(math.log(7), abs=0.2)


@pytest.mark.slow
def test_it_learns_and_looks_at_the_picture(inputs, tmp_path):
    settings = {"updates": 500, "batch": 64, "micro_batch": 64, "lr": 3e-3, "mismatch_rate": 0.15, "evaluations": 1,
                "checkpoint_seconds": 1e9}  # fmt: skip
    metrics = small.pretrain(inputs, tmp_path, **settings)
    assert metrics["grounding_right"] > 0.8
    assert metrics["grounding_wrong"] < 0.1
    assert metrics["answer_accuracy"] > 0.8
    assert metrics["answer_accuracy_original"] < metrics["answer_accuracy"]
    assert losses(tmp_path)[-1] < losses(tmp_path)[0] / 3


def test_an_untrained_model_can_be_asked_for(inputs, tmp_path):
    metrics = small.pretrain(inputs, tmp_path, updates=0)
    assert metrics["updates"] == 0
    config = PretrainingConfig(**small.TINY)
    torch.manual_seed(config.seed)
    again = small.pretrain(inputs, tmp_path / "again", updates=0)
    assert again == metrics
    one, other = (
        load_pretraining(folder / "model").state_dict() for folder in (tmp_path, tmp_path / "again")
    )
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_killed_run_continues_to_the_bit(inputs, trained, tmp_path):
    with dying_at(Batches, 4):
        small.pretrain(inputs, tmp_path, checkpoint_seconds=0)
    metrics = small.pretrain(inputs, tmp_path, checkpoint_seconds=0)
    assert losses(tmp_path) == losses(trained[0])
    same = set(metrics) - {"tokens_per_second"}
    assert {name: metrics[name] for name in same} == {name: trained[1][name] for name in same}


def test_micro_batches_change_nothing(inputs, trained, tmp_path):
    small.pretrain(inputs, tmp_path, micro_batch=5)
    assert losses(tmp_path) == pytest.approx(losses(trained[0]), rel=1e-4)


def train_on(rank: int, world_size: int, inputs: dict, folder: str) -> None:
    context = replace(small.context(inputs, Path(folder)), rank=rank, world_size=world_size)
    metrics = pretraining.run(context)
    if rank == 0:
        (Path(folder) / "metrics.json").write_text(json.dumps(metrics))


@pytest.mark.slow
def test_two_processes_equal_one(inputs, trained, tmp_path):
    spawn(train_on, 2, str(tmp_path / "store"), inputs, str(tmp_path / "run"))
    assert losses(tmp_path / "run") == pytest.approx(losses(trained[0]), rel=1e-4)
    two = json.loads((tmp_path / "run" / "metrics.json").read_text())
    for name in set(two) - {"tokens_per_second"}:
        assert two[name] == pytest.approx(trained[1][name], rel=1e-3), name


@pytest.mark.parametrize(
    ("settings", "absent"),
    [
        ({"tasks": ["words", "match", "objects"]}, {"answers_loss", "answer_accuracy"}),
        ({"tasks": ["words", "match", "answers"]}, {"objects_loss", "attributes_loss", "features_loss"}),
        ({"visual_losses": ["features"]}, {"objects_loss", "attributes_loss"}),
        ({"visual_losses": ["objects", "attributes"], "visual_label_scope": "masked"}, {"features_loss"}),
        ({"tasks": ["objects"]}, {"words_loss", "match_loss", "answers_loss", "grounding_right"}),
        ({"feature_loss": "l2", "optimiser": "adamw", "by_length": True}, set()),
    ],
)
def test_tasks_and_losses_are_a_choice(inputs, tmp_path, settings, absent):
    metrics = small.pretrain(inputs, tmp_path, updates=2, evaluations=1, **settings)
    assert not absent & metrics.keys()
    assert load_pretraining(tmp_path / "model").config.answers == 7


def test_answers_come_in_late():
    config = PretrainingConfig()
    plan = training_plan(config, config.wanted.losses, per_epoch=100)
    assert (plan.updates, plan.warmup, plan.schedule, plan.optimiser) == (2000, 100, "bert", "bert_adam")
    assert plan.weights(999)["answers"] == 0
    assert plan.weights(1000) == {
        "objects": 1 / 0.15, "attributes": 1 / 0.15, "features": 1 / 0.15, "answers": 2.0,
    }  # fmt: skip
    released = PretrainingConfig(**{"original": {"answers_at_once": True}})
    assert training_plan(released, released.wanted.losses, 100).weights(0)["answers"] == 1.0


def test_a_late_answer_loss_leaves_the_answer_head_alone_until_then(inputs, tmp_path):
    said: list[str] = []
    small.pretrain(inputs, tmp_path, said, updates=3, qa_start_epoch=9)
    small.pretrain(inputs, tmp_path / "none", updates=0)
    assert any("from an epoch on that this training does not reach" in line for line in said)
    late, new = (load_pretraining(f / "model").answers.inner.weight for f in (tmp_path, tmp_path / "none"))
    torch.testing.assert_close(late, new, atol=0.0, rtol=1e-4)  # but for weight decay


def test_word_pieces_of_the_sentences_own_are_whole_words(inputs, tmp_path):
    metrics = small.pretrain(inputs, tmp_path, updates=1, tokenizer="sentences", text_length=12)
    tokenizer = load_tokenizer(tmp_path / "model")
    assert tokenizer.tokenize("What color is the BLACK dog ?") == [
        "what",
        "color",
        "is",
        "the",
        "black",
        "dog",
        "?",
    ]
    assert metrics["words_loss"] > 0
    assert "language" not in pretraining.inputs(PretrainingConfig(tokenizer="sentences"))
    assert "language" in pretraining.inputs(PretrainingConfig())


def test_training_starts_from_a_pretrained_model(inputs, trained, tmp_path):
    small.pretrain(inputs, tmp_path, updates=0, start=str(trained[0] / "model"))
    one, other = (load_pretraining(folder / "model").state_dict() for folder in (trained[0], tmp_path))
    assert all(torch.equal(one[name], other[name]) for name in one)
    with pytest.raises(UserError, match=r"start: .* has another shape: cross_layers 1, expected 2\. These"):
        small.pretrain(inputs, tmp_path / "other", start=str(trained[0] / "model"), cross_layers=2)


def test_training_starts_from_a_model_of_fewer_positions(inputs, trained, tmp_path):
    whole = load_pretraining(trained[0] / "model")
    short = LxmertForPretraining(replace(whole.config, max_positions=16))
    tokenizer = load_tokenizer(trained[0] / "model")
    save_model(tmp_path / "short", short, tokenizer)
    small.pretrain(inputs, tmp_path / "a", updates=1, start=str(tmp_path / "short"))
    assert load_pretraining(tmp_path / "a" / "model").config.max_positions == 16
    with pytest.raises(UserError, match=r"reads 16 word pieces at most; lower `text_length` \(17\)"):
        small.pretrain(inputs, tmp_path / "b", start=str(tmp_path / "short"), text_length=17)


def test_training_starts_from_a_folder_of_its_stage_with_the_same_answers_alone(inputs, trained, tmp_path):
    small.pretrain(inputs, tmp_path / "a", updates=0, start=str(trained[0]))
    shutil.copytree(trained[0], tmp_path / "other")
    rows = json.loads((trained[0] / "answers.json").read_text())
    (tmp_path / "other" / "answers.json").write_text(json.dumps(rows[::-1]))
    with pytest.raises(UserError, match=r"other/answers\.json is not the answer table of the sentences"):
        small.pretrain(inputs, tmp_path / "b", updates=0, start=str(tmp_path / "other"))


def test_training_starts_from_a_model_of_the_same_word_pieces_alone(inputs, trained, tmp_path):
    words = tmp_path / "words"
    shutil.copytree(trained[0] / "model", tmp_path / "model")
    about = (tmp_path / "model" / "tokenizer.json").read_text()
    about = about.replace('"red"', '"RED"').replace('"blue"', '"red"').replace('"RED"', '"blue"')
    (tmp_path / "model" / "tokenizer.json").write_text(about)
    with pytest.raises(UserError, match="was trained with other word pieces; set `tokenizer` to"):
        small.pretrain(inputs, words, updates=0, start=str(tmp_path / "model"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": "lxr999"}, "size.*'lxr999'.*one of lxr955"),
        ({"tasks": ["word"]}, r"tasks.*'word'"),
        ({"tasks": ["words", "words"]}, "named twice"),
        ({"tasks": []}, "no loss is left"),
        ({"tasks": ["objects"], "visual_losses": []}, "no loss is left"),
        ({"mismatch_rate": 1.0}, "mismatch_rate"),
        ({"start": "bert", "tokenizer": "sentences"}, "belong to no BERT to start from"),
        ({"sources": {"vqa": 2}}, "sources"),
        ({"warmupp": 1}, "did you mean 'warmup'"),
    ],
)
def test_configurations_are_validated(settings, message):
    with pytest.raises(UserError, match=message):
        parse_config(PretrainingConfig, settings, "lxmert.pretraining")


# What is read


def test_limits_are_of_each_split(inputs, tmp_path):
    assert small.pretrain(inputs, tmp_path, updates=1, limit_images=9)["examples"] == 4 * 9


def test_a_share_of_a_source_keeps_sentences_and_answers_together(inputs):
    images = load_sentences(inputs["sentences"]).read("train")
    half = list(thinned(images, {"vqa": 0.5}))
    questions = sum(len(image.sentences["vqa"]) for image in half)
    assert 0.3 < questions / (2 * len(images)) < 0.7
    for before, after in zip(images, half, strict=True):
        assert after.sentences["mscoco"] == before.sentences["mscoco"]
        pairs = dict(zip(before.sentences["vqa"], before.labels["vqa"], strict=True))
        assert list(after.labels["vqa"]) == [pairs[text] for text in after.sentences["vqa"]]
    with pytest.raises(UserError, match="no sentence is of source 'gqa'; expected some of mscoco, vg, vqa"):
        list(thinned(images, {"gqa": 0.5}))


# Evaluation


@pytest.fixture(scope="module")
def valid(inputs, tmp_path_factory):
    context = small.context(inputs, tmp_path_factory.mktemp("evaluation"))
    store = pretraining.load_regions(inputs["regions"])
    found, _, tokenizer = tables(context, store)
    return Batches(found["valid"], store, tokenizer, Wanted(), Masking(), length=10)


def test_an_evaluation_repeats_and_does_not_depend_on_the_batch(valid, trained):
    model = load_pretraining(trained[0] / "model")
    rows = evenly_spaced(len(valid.examples), 1000)
    once, twice = (evaluate(model, valid, rows, "cpu") for _ in range(2))
    assert once == twice
    assert evaluate(model, valid, rows, "cpu", "float32", 5) != once


def test_answers_are_scored_on_matched_pairs_and_as_the_original_does(valid, trained, monkeypatch):
    """By hand, with an oracle in the place of the answer head: it says yes to everything."""
    model = load_pretraining(trained[0] / "model")
    yes = 6
    assert valid.examples.answers.max() == yes

    class Yes(torch.nn.Module):
        def forward(self, pooled):
            return torch.nn.functional.one_hot(torch.full((len(pooled),), yes), 7).float()

    model.answers = Yes()
    rows = np.arange(len(valid.examples))
    found = evaluate(model, valid, rows, "cpu")
    right, matched, all_right, asked = 0.0, 0, 0.0, 0
    for number, start in enumerate(range(0, len(rows), 64)):
        part = rows[start : start + 64]
        draws = draw(valid.examples, part, valid.store.counts, valid.tokenizer, Masking(), 10, 9595, number)
        for row, match in zip(part, draws.matched, strict=True):
            if valid.examples.asked[row]:
                inside = slice(valid.examples.answer_starts[row], valid.examples.answer_starts[row + 1])
                scores = dict(zip(valid.examples.answers[inside], valid.examples.scores[inside], strict=True))
                score = float(scores.get(yes, 0.0))
                asked, all_right = asked + 1, all_right + score
                matched, right = matched + match, right + score * match
    assert found["answer_accuracy"] == pytest.approx(right / matched)
    assert found["answer_accuracy_vqa"] == pytest.approx(right / matched)
    assert found["answer_accuracy_original"] == pytest.approx(all_right / asked)


def test_visible_words_are_names_of_classes_and_colours():
    words = visible_words(("traffic light", "cat,kitten"), ("striped",))
    assert {"cat", "cats", "kitten", "striped", "red"} <= words
    assert not {"traffic light", "traffic", "person"} & words
    assert {"person", "cars"} <= visible_words((), ())


def test_each_hidden_word_is_in_its_caption_and_not_said_of_the_wrong_picture(valid):
    words = visible_words(small.KINDS, small.COLOURS)
    hidden = hidden_words(valid.examples, valid.tokenizer, words, 1000)
    examples = valid.examples
    assert len(hidden.words) == int(
        (~examples.asked).sum()
    )  # one of every caption and phrase; none is a word alone
    ids, _ = examples.text(hidden.examples, 10, valid.tokenizer)
    assert ids[np.arange(len(ids)), hidden.positions].tolist() == hidden.words.tolist()
    assert set(valid.tokenizer.convert_ids_to_tokens(hidden.words.tolist())) <= words
    assert (hidden.right == examples.pictures[hidden.examples]).all()
    for picture, word in zip(hidden.wrong, hidden.words, strict=True):
        said = ids[hidden.right == picture]
        rows = np.flatnonzero(examples.pictures == picture)
        said = examples.text(rows, 10, valid.tokenizer)[0]
        assert not (said == int(word)).any()
    assert len(hidden_words(examples, valid.tokenizer, words, 7).words) == 7


def test_a_word_that_is_a_phrase_of_its_own_is_not_asked_for(valid):
    images = [LxmertImage(f"valid{i}", {"vg": ("cat", "dog here")}, {}) for i in range(4)]
    rows = {name: i for i, name in enumerate(valid.store.ids)}
    examples = flat_table(images, rows, valid.tokenizer)
    hidden = hidden_words(examples, valid.tokenizer, {"cat", "dog"}, 10)
    assert len(hidden.words) == 0  # "cat" stands alone, and every picture is said to show a dog
    images[0] = LxmertImage("valid0", {"vg": ("cat", "red cat")}, {})
    hidden = hidden_words(flat_table(images, rows, valid.tokenizer), valid.tokenizer, {"red"}, 10)
    assert valid.tokenizer.convert_ids_to_tokens(hidden.words.tolist()) == ["red"]
    assert (hidden.right == rows["valid0"]).all()
    assert (hidden.wrong != rows["valid0"]).all()
