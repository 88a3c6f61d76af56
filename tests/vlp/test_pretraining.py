"""Stage `vlp.pretraining`: what it learns and leaves, resuming, processes, starts, input that is wrong."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.dying import dying_at
from tests.vlp import small_captions as small
from vlpnb.config import parse_config
from vlpnb.errors import UserError
from vlpnb.text.tokenizers import load_tokenizer
from vlpnb.train.distributed import spawn
from vlpnb.vlp.examples import Batches
from vlpnb.vlp.heads import VlpForGeneration
from vlpnb.vlp.original.weights import load_model
from vlpnb.vlp.pretraining import PRETRAINING, PretrainingConfig, training_plan


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


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_model(folder / "model", VlpForGeneration).state_dict()


def test_it_leaves_a_model_and_its_tokenizer(inputs, trained):
    folder, metrics = trained
    config = load_model(folder / "model", VlpForGeneration).config
    tokenizer = load_tokenizer(folder / "model")
    assert config.vocab_size == len(tokenizer)
    assert (config.feature_width, config.classes) == (small.WIDTH, 1 + len(small.KINDS))
    assert (config.pad_id, config.mask_id) == (tokenizer.pad_token_id, tokenizer.mask_token_id)
    assert metrics["captions"] == 60
    assert metrics["updates"] == 6
    measured = {f"{mode}_{what}" for mode in ("s2s", "bi") for what in ("loss", "accuracy")}
    assert measured | {f"{name}_shuffled" for name in measured} < metrics.keys()
    assert all(math.isfinite(value) for value in metrics.values())


def test_a_model_that_knows_nothing_guesses_evenly(inputs, tmp_path):
    metrics = small.pretrain(inputs, tmp_path, updates=1, lr=1e-9, init_std=0.02)
    words = len(load_tokenizer(inputs["language"] / "model"))
    assert metrics["s2s_loss"] == pytest.approx(math.log(words), abs=0.3)
    assert metrics["bi_loss"] == pytest.approx(math.log(words), abs=0.3)


@pytest.mark.slow
@pytest.mark.parametrize("targets", ["masked", "every"])
def test_it_learns_and_looks_at_the_picture(inputs, tmp_path, targets):
    settings = {
        "updates": 300,
        "batch": 60,
        "micro_batch": 60,
        "lr": 3e-3,
        "evaluations": 1,
        "targets": targets,
    }
    metrics = small.pretrain(inputs, tmp_path, sets=["train"], **settings)
    assert metrics["s2s_loss"] < metrics["s2s_loss_shuffled"] / 2
    assert metrics["bi_loss"] < metrics["bi_loss_shuffled"] / 2
    assert metrics["s2s_accuracy"] > metrics["s2s_accuracy_shuffled"] + 0.05


def test_an_untrained_model_can_be_asked_for(inputs, tmp_path):
    for name in ("one", "other"):
        assert small.pretrain(inputs, tmp_path / name, updates=0)["updates"] == 0
    one, other = weights(tmp_path / "one"), weights(tmp_path / "other")
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_killed_run_continues_to_the_bit(inputs, trained, tmp_path):
    with dying_at(Batches, 4):
        small.pretrain(inputs, tmp_path, checkpoint_seconds=0)
    metrics = small.pretrain(inputs, tmp_path, checkpoint_seconds=0)
    assert losses(tmp_path) == losses(trained[0])
    same = set(metrics) - {"tokens_per_second"}
    assert {name: metrics[name] for name in same} == {name: trained[1][name] for name in same}
    one, other = weights(tmp_path), weights(trained[0])
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_micro_batches_change_nothing(inputs, trained, tmp_path):
    small.pretrain(inputs, tmp_path, micro_batch=5)
    assert losses(tmp_path) == pytest.approx(losses(trained[0]), rel=1e-4)


def _part(rank: int, processes: int, root: str, out: str) -> None:
    inputs = {name: Path(root) / name for name in ("captions", "regions", "language")}
    context = replace(small.context(inputs, Path(out)), rank=rank, world_size=processes)
    PRETRAINING.run(context)


@pytest.mark.slow
def test_two_processes_learn_what_one_learns(inputs, trained, tmp_path):
    spawn(_part, 2, str(tmp_path / "store"), str(inputs["captions"].parent), str(tmp_path / "out"))
    assert losses(tmp_path / "out") == pytest.approx(losses(trained[0]), rel=1e-4)


def test_words_of_its_own_are_those_that_fine_tuning_meets(inputs, tmp_path):
    small.pretrain(inputs, tmp_path, tokenizer="captions", updates=0)
    vocabulary = load_tokenizer(tmp_path / "model").get_vocab()
    assert {
        "the",
        "cat",
        "here",
    } < vocabulary.keys()  # "here" is in the second captions, which `conceptual` has not
    assert len(vocabulary) > 40


def test_text_alone_needs_no_regions_and_can_be_the_start(inputs, tmp_path):
    settings = {"tokenizer": "captions", "targets": "every"}
    text = small.pretrain(inputs, tmp_path / "text", pictures=False, **settings)
    assert "s2s_loss_shuffled" not in text
    assert text["captions"] == 120
    assert "regions" not in PRETRAINING.inputs(PretrainingConfig(pictures=False))
    started = {**inputs, "start": tmp_path / "text"}
    small.pretrain(started, tmp_path / "both", start="text", updates=0, **settings)
    one, other = weights(tmp_path / "text"), weights(tmp_path / "both")
    new = [
        name
        for name in one
        if one[name].shape != other[name].shape or not torch.equal(one[name], other[name])
    ]
    assert {name.split(".")[1] for name in new} == {"features", "geometry"}


def test_it_begins_with_a_model_of_its_own_words_alone(inputs, trained, tmp_path):
    small.pretrain(inputs, tmp_path / "again", start=str(trained[0]), updates=0)
    one, other = weights(trained[0]), weights(tmp_path / "again")
    assert all(torch.equal(one[name], other[name]) for name in one)
    with pytest.raises(
        UserError, match=r"vlp.pretraining.start: .* was trained with other word pieces; set `tokenizer`"
    ):
        small.pretrain(inputs, tmp_path / "other", start=str(trained[0]), tokenizer="captions", updates=0)


def test_what_has_no_regions_is_counted_and_listed(tmp_path):
    inputs = small.make(tmp_path / "inputs", missing=10)
    said: list[str] = []
    metrics = small.pretrain(inputs, tmp_path / "out", said, updates=0)
    assert metrics["left_out"] == 10
    assert metrics["captions"] == 50
    assert (tmp_path / "out" / "left_out.txt").read_text().splitlines()[0] == "train0: no regions"
    assert any("10 captions or pictures are left out" in line for line in said)


def test_the_originals_schedule_and_optimiser_are_the_defaults():
    plan = training_plan(PretrainingConfig(), 100)
    assert (plan.updates, plan.warmup, plan.schedule, plan.optimiser) == (3000, 300, "bert", "vlp_adam")
    assert (plan.lr, plan.weight_decay, plan.clip) == (1e-4, 0.01, 1.0)


def test_hidden_regions_and_the_worst_examples_are_options(inputs, tmp_path):
    metrics = small.pretrain(
        inputs,
        tmp_path,
        region_mask_rate=0.7,
        drop_worst=0.25,
        drop_after=0.5,
        label_smoothing=0.1,
        updates=4,
    )
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert any(line.get("regions", 0) > 0 for line in lines)
    assert math.isfinite(metrics["s2s_loss"])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"size": "huge"}, r"vlp.pretraining.size: found 'huge': expected one of base, large"),
        ({"start": "bert", "tokenizer": "captions"}, "belong to no BERT to start from"),
        ({"start": "text", "pictures": False}, "'text' is this pre-training without pictures"),
        ({"region_mask_rate": 0.1, "pictures": False}, "no regions where `pictures` is false"),
        ({"s2s": 1.5}, r"vlp.pretraining.s2s: found 1.5"),
    ],
)
def test_settings_that_cannot_be(fields, message):
    with pytest.raises(UserError, match=message):
        parse_config(PretrainingConfig, fields, "vlp.pretraining")
