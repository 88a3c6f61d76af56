"""What pre-trainings share: the plan of a configuration, and what is told of a training."""

import math
from types import SimpleNamespace
from typing import Annotated

import pytest

from vlpnb.config import Seed, one_of, parse_config
from vlpnb.errors import UserError
from vlpnb.train.loop import warming_up
from vlpnb.train.pretraining import PretrainingFields, measured, plan_of, speed, told, updates_of


class Pretraining(PretrainingFields):
    seed: Seed = 3
    size: Annotated[str, one_of(("small", "base"))] = "base"
    epochs: float = 2.5
    optimiser: str = "adamw"
    lr: float = 1e-3


def test_the_plan_says_what_the_configuration_does():
    config = Pretraining(weight_decay=0.2, clip=3.0, evaluations=2, precision="float32", log_every=7)
    plan = plan_of(config, 10, warmup=4, weights={"words": 2.0})
    assert (plan.updates, plan.seed, plan.lr, plan.warmup) == (10, 3, 1e-3, 4)
    assert (plan.weight_decay, plan.clip, plan.precision, plan.log_every) == (0.2, 3.0, "float32", 7)
    assert plan.evaluate_at == {5, 10}
    assert plan_of(config, 0).evaluate_at == frozenset()
    assert plan_of(config, 10, evaluate_at=frozenset({3})).evaluate_at == {3}


def test_updates_are_counted_in_epochs_unless_they_are_given():
    assert updates_of(Pretraining(), 4) == 10
    assert updates_of(Pretraining(updates=0), 4) == 0


@pytest.mark.parametrize(
    ("optimiser", "schedule", "warmup"),
    [("bert_adam", "bert", 1.5), ("vlp_adam", "bert", 1.5), ("adamw", "linear", 2)],
)
def test_an_optimiser_of_berts_first_code_brings_its_schedule(optimiser, schedule, warmup):
    assert warming_up(optimiser, 0.15, 10) == {"schedule": schedule, "warmup": warmup}


def test_an_unknown_size_is_named_with_those_there_are():
    with pytest.raises(UserError, match="size: found 'huge': expected one of small, base"):
        parse_config(Pretraining, {"size": "huge"})


def test_the_last_evaluation_and_the_median_speed_are_told():
    records = [
        {"step": 5, "accuracy": 0.25},
        {"step": 5, "loss": 3.0, "tokens_per_second": 10.0},
        {"step": 10, "accuracy": 0.5},
        {"step": 10, "loss": 2.0, "tokens_per_second": 30.0},
    ]
    assert measured(records) == {"accuracy": 0.5}
    assert speed(records) == {"tokens_per_second": 20.0}
    assert measured([]) == speed([]) == {}


def test_an_evaluation_is_logged_as_it_is_returned():
    lines: list[str] = []
    context = SimpleNamespace(log=lines.append)
    assert told(context, 1200, {"accuracy": 0.5, "loss": math.pi}) == {"accuracy": 0.5, "loss": math.pi}
    assert lines == ["update 1,200: accuracy 0.500, loss 3.142"]
