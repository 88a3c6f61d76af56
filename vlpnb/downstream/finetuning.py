"""What all fine-tuning shares: configuration, one training, the loop over trainings, and what diverged means.

`glue`, `squad` and `swag` each fine-tune one pre-trained model on several tasks or versions with several seeds, and so
do the stages of LXMERT. A system's stage gives the folders of the model and the examples (`vlpnb.vokenization.glue`,
…). Every such training is a `Job` with a folder of its own, `<folder>/result.json` is written when it is done, and
finished ones are not done again: a kill loses at most the work since the last checkpoint of one job. Under `torchrun`
the jobs are dealt out to the processes. A job itself always runs on one process, so its result does not depend on their
number.
"""

import json
import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from pydantic import Field
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from vlpnb.config import Config, Seed
from vlpnb.files import atomic, write_text
from vlpnb.stage import StageContext
from vlpnb.train.distributed import barrier
from vlpnb.train.loop import Diverged, TrainingPlan, fit, warming_up
from vlpnb.train.optim import Optimiser
from vlpnb.train.sampling import EpochSampler, Update

FLAT = "its training loss did not fall and it scores no better than a constant answer"


class FineTuningConfig(Config):
    """The fields of all kinds; what differs (rate, batch, length) is beside each."""

    seeds: tuple[Seed, ...] = Field((9595,), min_length=1)
    """Of fine-tuning: the new layers, the order, dropout."""
    epochs: float = Field(3.0, gt=0)
    """Passes over the training examples."""
    warmup: float = Field(0.1, ge=0, le=1)
    """Share of the updates."""
    weight_decay: float = Field(0.0, ge=0)
    """Decay of the weights, biases and norms spared."""
    clip: float = Field(1.0, gt=0)
    """Largest gradient norm."""
    by_length: bool = True
    """Batches are made of examples of similar length, for speed; false: of any, as in the paper. Where near-copies with
    opposite labels have one length, they meet in a batch and leave it no gradient.
    """
    max_train: int | None = Field(None, ge=1)
    """At most so many training examples of each task."""
    max_valid: int | None = Field(None, ge=1)
    """At most so many validation examples of each task."""
    keep_models: bool = False
    """Save the fine-tuned models, for transformers too."""
    checkpoint_seconds: float = Field(60.0, ge=0, json_schema_extra={"hash": False})
    """A kill loses at most so many seconds of work."""


class Examples(Protocol):
    """Token ids of N examples, padded batch by batch."""

    lengths: np.ndarray  # tokens, [N] or [N texts]

    def __len__(self) -> int: ...

    def batch(self, rows: Sequence[int] | np.ndarray) -> dict[str, Tensor]:
        """`ids` [B …] and whatever else the model's forward takes, of some examples."""


def longest(data: Examples) -> np.ndarray:
    """Tokens of the longest text of every example, [N]."""
    return data.lengths.reshape(len(data), -1).max(1)


def batches_by_length(
    data: Examples, rows_at_once: int, device: str
) -> Iterator[tuple[np.ndarray, dict[str, Tensor]]]:
    """All examples as (rows, batch on the device), from short to long."""
    order = np.argsort(longest(data), kind="stable")
    for first in range(0, len(order), rows_at_once):
        rows = order[first : first + rows_at_once]
        yield rows, {name: value.to(device) for name, value in data.batch(rows).items()}


Model = TypeVar("Model", bound=nn.Module)


@dataclass(frozen=True)
class Trained(Generic[Model]):
    """A fine-tuned model and how its training went."""

    model: Model
    losses: Sequence[float]  # of the log lines; one NaN when the training diverged; none without a training
    reason: str  # why it diverged; "" if it did not
    updates: int
    scores: Mapping[int, float] = field(default_factory=dict)  # updates done → score, where one was asked for
    kept: int | None = None  # the updates after which the weights were kept; None: the last ones

    def summary(self) -> dict[str, float | None]:
        """`loss` of the last updates (None when it is no number) and the number of `updates`, for a result."""
        last = self.losses[-1] if self.losses else math.nan
        return {"loss": last if np.isfinite(last) else None, "updates": self.updates}


def train(
    make: Callable[[], Model],
    data: Examples,
    loss: str,
    config: Any,
    folder: Path,
    seed: int,
    device: str,
    *,
    drop_last: bool = False,
    score: Callable[[Model], float] | None = None,
    optimiser: Optimiser = "adamw",
    alter: Callable[[dict[str, Tensor], int, int], dict[str, Tensor]] | None = None,
    plan: Mapping[str, Any] | None = None,
) -> Trained[Model]:
    """Make a model and train it, continuing from the folder's checkpoint.

    Args:
        make: gives the model; its new layers come from `seed`.
        data: the training examples; updates are made of similar lengths if `config.by_length` says so.
        loss: the name under which the model's forward returns its loss, summed over the batch.
        config: a `FineTuningConfig` with `lr` and `batch`.
        drop_last: leave out the last batch of an epoch where it is not full.
        score: says after each epoch how good the model is; the weights of the highest score are kept, of equal ones
            the earliest. Without it the last weights are.
        optimiser: "bert_adam" or "vlp_adam" brings the schedule of BERT's first code with it, whose first rate is 0.
        alter: (batch, update, seed) → the batch as the model gets it; a pure function.
        plan: further fields of the `TrainingPlan`.
    """
    lengths = longest(data) if config.by_length else None
    sampler = EpochSampler(
        len(data), min(config.batch, len(data)), seed, drop_last=drop_last, lengths=lengths
    )

    def batches(update: int) -> Update:
        batch = data.batch(sampler(update))
        if alter is not None:
            batch = alter(batch, update, seed)
        return Update([batch], {loss: len(batch["ids"])}, tokens=batch["ids"].numel())

    return train_on(
        make,
        batches,
        sampler.per_epoch,
        config,
        folder,
        seed,
        device,
        score=score,
        optimiser=optimiser,
        plan=plan,
    )


def train_on(
    make: Callable[[], Model],
    batches: Callable[[int], Update],
    per_epoch: int,
    config: Any,
    folder: Path,
    seed: int,
    device: str,
    *,
    score: Callable[[Model], float] | None = None,
    optimiser: Optimiser = "adamw",
    plan: Mapping[str, Any] | None = None,
) -> Trained[Model]:
    """`train` with batches of one's own: update → data, `per_epoch` of which are a pass. Other arguments as there."""
    torch.manual_seed(seed)
    model = make()
    updates = max(1, round(config.epochs * per_epoch))
    best = _Best(folder / "best.safetensors", model, score) if score else None
    ends = {*range(per_epoch, updates, per_epoch), updates}
    training = TrainingPlan(
        updates=updates,
        lr=config.lr,
        optimiser=optimiser,
        **warming_up(optimiser, config.warmup, updates),
        weight_decay=config.weight_decay,
        clip=config.clip,
        seed=seed,
        evaluate_at=frozenset(ends if best else ()),
        log_every=max(1, updates // 20),
        checkpoint_seconds=config.checkpoint_seconds,
        **(plan or {}),
    )
    try:
        records = fit(model, batches, training, folder, device=device, evaluate=best, keep=True)
    except Diverged as error:
        return Trained(model, [float("nan")], str(error), updates)
    losses = [record["loss"] for record in records if "loss" in record]
    scores = {int(record["step"]): record["score"] for record in records if "score" in record}
    return Trained(model, losses, "", updates, scores, best.restore() if best else None)


class _Best:
    """The weights with the highest score so far, in a file, so that a kill does not lose them.

    A training that continues may be behind the file; its scores are then those that the file has seen, and change
    nothing.
    """

    def __init__(self, file: Path, model: nn.Module, score: Callable[[Any], float]):
        self.file, self.model, self.score = file, model, score

    def __call__(self, update: int) -> dict[str, float]:
        score = float(self.score(self.model))
        if score > self._about()[0]:
            weights = {name: value.cpu().contiguous() for name, value in self.model.state_dict().items()}
            with atomic(self.file) as temporary:
                save_file(weights, temporary, {"score": repr(score), "update": str(update)})
        return {"score": score}

    def restore(self) -> int | None:
        """Give the model these weights; returns after how many updates they were kept, None where no score was one."""
        if not self.file.is_file():
            return None
        self.model.load_state_dict(load_file(self.file))
        return self._about()[1]

    def _about(self) -> tuple[float, int]:
        """Score and update of the file's weights."""
        if not self.file.is_file():
            return -math.inf, 0
        with safe_open(self.file, "pt") as file:
            about = file.metadata()
        return float(about["score"]), int(about["update"])


def divergence(constant: bool, losses: Sequence[float], value: float, trivial: float) -> str:
    """Why a run counts as diverged, in words; "" when it does not.

    It does when it gives every example the same answer (`constant`), or when its training loss did not fall (last
    quarter against first quarter) and its value is not above `trivial`, that of an answer without reading.
    """
    if constant:
        return "it gives every example the same answer"
    quarter = max(1, len(losses) // 4)
    fell = np.mean(losses[-quarter:]) < 0.98 * np.mean(losses[:quarter])
    if not fell and value <= trivial + 1e-9:
        return FLAT
    return ""


@dataclass(frozen=True)
class Job:
    """One training of a stage: its folder in the stage's, and what trains and scores it.

    `run(folder, work)` returns the results, each with `diverged`. It resumes in `work`, which goes when it is done
    (but for `work/model`, which is kept as `folder/model`), and may write files of its own into `folder`.
    """

    folder: str
    run: Callable[[Path, Path], list[dict]]


def run_jobs(
    context: StageContext, jobs: Sequence[Job], line: Callable[[Mapping], str], file: str
) -> list[dict]:
    """The results of all jobs, in order, which are also written to `file`; those that are done are only read.

    `line` says one result for the log. Of W processes, process r does the jobs r, r + W, r + 2W …; process 0 writes
    the file when all are done.
    """
    rank, processes = context.rank, context.world_size
    folders = dict.fromkeys(job.folder for job in jobs)  # a seed given twice is one job
    owner = {folder: number % processes for number, folder in enumerate(folders)}
    mine = [job for job in jobs if owner[job.folder] == rank]
    for number, job in enumerate(mine):
        folder = context.folder / job.folder
        work = folder / "work"
        if not (folder / "result.json").is_file():
            work.mkdir(parents=True, exist_ok=True)
            found = job.run(folder, work)
            if (work / "model").is_dir():
                shutil.rmtree(folder / "model", ignore_errors=True)  # of an attempt killed right here
                (work / "model").replace(folder / "model")
            write_text(folder / "result.json", json.dumps(found, indent=1))
        shutil.rmtree(work, ignore_errors=True)
        _log_results(context, job, line)
        context.progress(number + 1, len(mine))
    barrier(processes)
    if rank == 0:
        for job in jobs:
            if owner[job.folder] != 0:
                _log_results(context, job, line)
    results = [result for job in jobs for result in _results(context, job)]
    if rank == 0:
        write_text(context.folder / file, json.dumps(results, indent=1))
    return results


def _results(context: StageContext, job: Job) -> list[dict]:
    return json.loads((context.folder / job.folder / "result.json").read_text())


def _log_results(context: StageContext, job: Job, line: Callable[[Mapping], str]) -> None:
    for result in _results(context, job):
        note = f"   DIVERGED: {result['diverged']}" if result["diverged"] else ""
        context.log(f"{line(result)}{note}")
