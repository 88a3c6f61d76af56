"""The training loop that every system uses: schedule → evaluate/checkpoint → micro-steps → clip → step → log.

The model's forward takes the tensors of a micro-batch and returns the *sum* of each of its losses. The loop
divides by the number of targets of the whole update, so that neither padding, nor accumulation, nor the
number of processes changes a gradient:

    total = Σ_name  weight[name] · Σ_micro-batches,processes loss[name] / Σ_micro-batches,processes
    targets[name]

A weight may change in the course of training: a loss that comes in late has the weight 0 until then, so that all
parameters have a gradient in every update, as DDP wants it.
"""

import json
import math
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from vlpnb.errors import UserError, writing
from vlpnb.train.checkpoint import clear_checkpoint, load_checkpoint, save_checkpoint
from vlpnb.train.distributed import barrier, replicate, sum_over_processes
from vlpnb.train.optim import (
    CLIPS_TENSORS,
    FIRST_CODE,
    Optimiser,
    Schedule,
    learning_rate,
    new_optimiser,
    set_rate,
)
from vlpnb.train.sampling import Update, seed_of, updates


class Diverged(UserError):
    """The loss or the gradient is no longer a number."""


Precision = Literal["bfloat16", "float32"]
Weights = (
    Mapping[str, float] | Callable[[int], Mapping[str, float]]
)  # the same always, or of an update (0-based)


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """Matrix products in bfloat16 where that pays: on a GPU, unless float32 is asked for."""
    return torch.autocast(
        device.type, torch.bfloat16, enabled=device.type == "cuda" and precision == "bfloat16"
    )


@dataclass(frozen=True)
class TrainingPlan:
    """How to train; the defaults are BERT's."""

    updates: int  # optimiser steps in all
    lr: float  # peak learning rate
    warmup: float = 0  # updates of linear warm-up; whole ones but for BERT's schedules
    schedule: Schedule = "linear"  # what follows the warm-up
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-6
    optimiser: Optimiser = "adamw"
    precision: Precision = "bfloat16"  # of matrix products on a GPU
    clip: float = 1.0  # largest global gradient norm; with "vlp_adam" largest norm of each tensor's gradient
    factors: Mapping[str, float] = field(default_factory=dict)  # of the rate, by names of parameters; else 1
    spared: Collection[str] | None = None  # names of parameters that do not decay; None: biases and norms
    seed: int = 0  # of dropout; the data has its own
    weights: Weights = field(default_factory=dict)  # factor of each loss; 1 if not named
    evaluate_at: frozenset[int] = frozenset()  # `evaluate` is called when so many updates are done
    log_every: int = 50  # updates per line of metrics.jsonl
    checkpoint_seconds: float = 60.0  # a kill loses at most this much work


def warming_up(optimiser: Optimiser, share: float, updates: int) -> dict[str, Any]:
    """Fields of a plan whose rate rises for a share of the updates and then falls to 0.

    An optimiser of BERT's first code brings that code's schedule, which counts parts of updates too.
    """
    exact = optimiser in FIRST_CODE
    return {
        "schedule": "bert" if exact else "linear",
        "warmup": share * updates if exact else round(share * updates),
    }


def fit(
    model: nn.Module,
    batches: Callable[[int], Update],
    plan: TrainingPlan,
    folder: Path,
    *,
    device: str | torch.device = "cpu",
    rank: int = 0,
    world_size: int = 1,
    evaluate: Callable[[int], Mapping[str, float]] | None = None,
    progress: Callable[..., None] = lambda done, total, **values: None,
    keep: bool = False,
) -> list[dict[str, float]]:
    """Trains `model` in place, from the folder's checkpoint on; returns the lines of its `metrics.jsonl`.

    Args:
        batches: update number → its data. Must be a pure function: resuming and prefetching rely on it.
        evaluate: called with the number of updates done, on every process, with the bare model in eval mode
            (under no_grad); what it returns goes into metrics.jsonl. Snapshots are written here too.
        progress: called as `progress(done, total, loss=…)` after every log line.
        keep: leave a checkpoint of the finished training behind, so that a kill in the work that follows
            does not lose it (the engine removes it when the stage is published).

    Raises:
        Diverged: a loss or the gradient norm became infinite or NaN; the last checkpoint is from before.
    """
    device = torch.device(device)
    model.to(device)
    rate = partial(
        learning_rate, total=plan.updates, peak=plan.lr, warmup=plan.warmup, schedule=plan.schedule
    )
    optimiser = new_optimiser(
        plan.optimiser,
        model,
        plan.lr,
        plan.weight_decay,
        plan.betas,
        plan.eps,
        rate,
        plan.clip,
        plan.factors,
        plan.spared,
    )
    most = math.inf if plan.optimiser in CLIPS_TENSORS else plan.clip
    start, log = load_checkpoint(folder, model, optimiser, plan.seed)
    lines = _Lines(folder / "metrics.jsonl", log.get("lines", []), write=rank == 0)
    barrier(world_size)  # nobody replaces the checkpoint before everybody has read it
    replica = replicate(model, world_size)
    stream = updates(batches, start, plan.updates, ahead=device.type == "cuda")
    window = [
        {name: torch.as_tensor(v).to(device) for name, v in row.items()} for row in log.get("window", [])
    ]
    saved, since, tokens = time.monotonic(), time.monotonic(), 0

    def save(step: int) -> None:
        # What was not logged yet is saved too: without it the first line after a resume would be the mean of
        # fewer updates. With several processes, process 0's share stands for all of them in that one line.
        log = {"lines": lines.records, "window": window}
        save_checkpoint(folder, model, optimiser, step, plan.seed, log)

    for step in range(start, plan.updates + 1):
        lr = rate(step)
        set_rate(optimiser, lr)

        if evaluate is not None and step in plan.evaluate_at and (step > start or step == 0):
            model.eval()
            with torch.no_grad():
                lines.add({"step": step, **evaluate(step)})
        if step == plan.updates:
            break
        if rank == 0 and step > start and time.monotonic() - saved >= plan.checkpoint_seconds:
            if window:
                _stop_if_diverged(window[-1], step, lr)
            save(step)
            saved = time.monotonic()

        model.train()
        update = next(stream)
        weights = plan.weights(step) if callable(plan.weights) else plan.weights
        torch.manual_seed(seed_of(plan.seed, step, rank))  # dropout is a function of the step too
        losses = dict.fromkeys(update.counts, 0.0)
        for index, micro in enumerate(update.micro):
            last = index == len(update.micro) - 1
            if world_size > 1:
                replica.require_backward_grad_sync = last  # gradients travel once per update
            micro = {name: tensor.to(device, non_blocking=True) for name, tensor in micro.items()}
            with autocast(device, plan.precision):
                sums = replica(**micro)
            means = {name: value / max(update.counts[name], 1) for name, value in sums.items()}
            total = sum(weights.get(name, 1.0) * value for name, value in means.items())
            (total * world_size).backward()  # DDP averages over processes; the mean is already global
            losses |= {name: losses[name] + means[name].detach() for name in means}  # 0 where nobody asks

        norm = nn.utils.clip_grad_norm_(model.parameters(), most)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

        window.append({**losses, "gradient_norm": norm / world_size})
        tokens += update.tokens
        if (step + 1) % plan.log_every == 0 or step + 1 == plan.updates:
            seconds = time.monotonic() - since
            means = _mean_over_window(window, world_size)
            _stop_if_diverged(means, step + 1, lr)
            loss = sum(weights.get(name, 1.0) * means[name] for name in losses)  # by the line's last update
            lines.add(
                {"step": step + 1, "lr": lr, "loss": loss, **means, "tokens_per_second": tokens / seconds}
            )
            progress(step + 1, plan.updates, loss=loss)
            window, since, tokens = [], time.monotonic(), 0
    barrier(world_size)
    if rank == 0 and not keep:
        clear_checkpoint(folder)
    elif rank == 0 and start < plan.updates:
        save(plan.updates)
    return lines.records


def _mean_over_window(window: list[dict[str, torch.Tensor]], world_size: int) -> dict[str, float]:
    """Mean of each value since the last line; the only place where training waits for the device."""
    stacked = torch.stack([torch.stack([torch.as_tensor(v) for v in row.values()]) for row in window]).mean(0)
    values = sum_over_processes(stacked.float(), world_size).tolist()
    return dict(zip(window[0], values, strict=True))


def _stop_if_diverged(values: Mapping[str, float | torch.Tensor], step: int, lr: float) -> None:
    bad = [name for name, value in values.items() if not math.isfinite(float(value))]
    if bad:
        raise Diverged(
            f"training diverged: {', '.join(bad)} became infinite or not a number before update {step} "
            f"(learning rate {lr:.2g}). The last checkpoint is from before; try a lower learning rate, "
            f"a longer warm-up or a smaller gradient clip."
        )


class _Lines:
    """`metrics.jsonl`: one JSON object a line. On resume it starts again from the lines of the checkpoint."""

    def __init__(self, path: Path, records: list[dict[str, float]], write: bool):
        self.records = list(records)
        self.path = path if write else None
        if write:
            with writing(path):
                path.write_text("".join(json.dumps(record) + "\n" for record in self.records))

    def add(self, record: dict[str, float]) -> None:
        self.records.append(record)
        if self.path:
            with writing(self.path), self.path.open("a") as file:
                file.write(json.dumps(record) + "\n")
