"""What the pre-trainings of all systems share: fields of their configurations, plan, training, and what is told of it.

A system's stage brings examples, a model and what is measured; its configuration adds its own fields to
`PretrainingFields`, with its paper's values as defaults.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
from pydantic import Field
from torch import nn

from vlpnb.config import Config
from vlpnb.stage import StageContext
from vlpnb.train.loop import Precision, TrainingPlan, fit
from vlpnb.train.sampling import Update, evenly

Record = Mapping[str, float]


class PretrainingFields(Config):
    """What every pre-training is asked; a stage whose paper has another default says so in a field of its own."""

    micro_batch: int = Field(64, ge=1, json_schema_extra={"hash": False})
    """Examples per process at a time."""
    updates: int | None = Field(None, ge=0)
    """Optimiser steps, in place of `epochs`; 0 leaves a model that has learned nothing."""
    weight_decay: float = Field(0.01, ge=0)
    """Decay of the weights, biases and norms spared, unless the optimiser decays everything."""
    clip: float = Field(1.0, gt=0)
    """Largest gradient norm: of all tensors together, unless the optimiser clips each alone."""
    precision: Precision = "bfloat16"
    """Of matrix products on a GPU; the papers' runs are "float32"."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """Share of units and of attention weights left out in training."""
    evaluations: int = Field(10, ge=1)
    """Evaluations, evenly spaced, the last one at the end."""
    log_every: int = Field(50, ge=1, json_schema_extra={"hash": False})
    """Updates per line of `metrics.jsonl`."""
    checkpoint_seconds: float = Field(60.0, ge=0, json_schema_extra={"hash": False})
    """A kill loses at most so many seconds of work."""


class NewWeights(PretrainingFields):
    """What is asked besides where a pre-training begins with weights of its own (`nn.transformer.init_weights`)."""

    init_std: float = Field(0.02, gt=0)
    """Of the initial weights; narrow models start better with 1/√hidden."""
    calm: float = Field(1.0, gt=0, le=1)
    """Factor on the initial weights of where layers look, and of what their feed-forward adds: with a small one a state
    begins as the mean of all that is seen, which little data teaches fastest.
    """


def updates_of(config: Any, per_epoch: int) -> int:
    """Optimiser steps: those of the configuration, or of its `epochs`, of so many updates each."""
    return round(config.epochs * per_epoch) if config.updates is None else config.updates


def plan_of(config: Any, updates: int, **more: Any) -> TrainingPlan:
    """The optimisation that a configuration asks for, by its fields that a plan has under the same names.

    Args:
        config: with `evaluations`, evenly spaced, unless `more` says when to evaluate.
        more: further fields of the plan, or others than these.
    """
    names = [field.name for field in fields(TrainingPlan) if hasattr(config, field.name)]
    given = {name: getattr(config, name) for name in names} | {"updates": updates}
    if hasattr(config, "evaluations"):
        given["evaluate_at"] = frozenset(evenly(updates, config.evaluations) if updates else ())
    return TrainingPlan(**given | more)


def pretrain(
    context: StageContext,
    model: nn.Module,
    batches: Callable[[int], Update],
    plan: TrainingPlan,
    evaluate: Callable[[int], Mapping[str, float]],
) -> list[dict[str, float]]:
    """`train.loop.fit` as a stage calls it; its checkpoint stays until the stage ends."""
    return fit(
        model, batches, plan, context.folder, device=context.device, rank=context.rank,
        world_size=context.world_size, evaluate=evaluate, progress=context.progress, keep=True,
    )  # fmt: skip


def told(context: StageContext, step: int, found: Mapping[str, float]) -> Mapping[str, float]:
    """What an evaluation has found, after a line about it in the log."""
    context.log(f"update {step:,}: " + ", ".join(f"{name} {value:.3f}" for name, value in found.items()))
    return found


def measured(records: Sequence[Record]) -> dict[str, float]:
    """What the last evaluation found."""
    last = next((record for record in reversed(records) if "loss" not in record), {})
    return {name: value for name, value in last.items() if name != "step"}


def speed(records: Sequence[Record]) -> dict[str, float]:
    """`tokens_per_second`, the median of the lines; nothing where no update was done."""
    speeds = [record["tokens_per_second"] for record in records if "tokens_per_second" in record]
    return {"tokens_per_second": float(np.median(speeds))} if speeds else {}
