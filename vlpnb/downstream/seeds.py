"""One fine-tuning with several seeds: train, answer the splits, write what the benchmark takes, average.

LXMERT's questions and statements and VLP's questions go through it. Weights of the best validation score are kept, as
both originals do; differs from them by several seeds with their spread, not one.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from vlpnb.downstream import finetuning
from vlpnb.downstream.comparison import spread
from vlpnb.downstream.finetuning import Examples, Job, Trained
from vlpnb.errors import UserError
from vlpnb.stage import StageContext

MAJORITY = "exactly the share of the more frequent answer: nothing was learnt"


@dataclass(frozen=True)
class Answered:
    """What a model says to a split."""

    metrics: Mapping[str, float]
    """Of the benchmark; none where the split has no labels."""
    value: float
    """The metric that decides; NaN where there is none."""
    constant: bool
    """Whether all examples got the same answer."""
    write: Callable[[Path], None]
    """Writes the answers to a folder in the form that the benchmark takes, as `predictions_<split>.…`."""


class Task(Protocol):
    """What is fine-tuned on, such as questions (`answering.Asked`)."""

    title: str
    file: str  # of all results
    loss: str  # as the model's forward calls it
    plan: Mapping[str, Any]  # further fields of the `TrainingPlan`

    @property
    def training(self) -> Examples: ...

    @property
    def majority(self) -> float:
        """The validation score of the best constant answer."""

    def make(self) -> nn.Module:
        """The model as it starts; of 0 epochs a finished one."""

    def altered(self, batch: dict[str, Tensor], update: int, seed: int) -> dict[str, Tensor]:
        """A training batch as the model gets it; a pure function of its arguments."""

    def answered(self, model: nn.Module, split: str, device: str) -> Answered:
        """What the model says to a split."""

    def save(self, folder: Path, model: nn.Module) -> None:
        """Keep a fine-tuned model."""


def fine_tune(task: Task, config: Any, folder: Path, work: Path, seed: int, device: str) -> dict[str, Any]:
    """Fine-tune with one seed and answer the splits; works in `work`, resumes there, and writes answers to `folder`.

    `config` is a `pictured.PicturedConfig` with `lr`, `batch` and `optimiser`. Of 0 epochs nothing is trained. Returns
    what `answer_splits` does.
    """

    def score(model: nn.Module) -> float:
        return task.answered(model, config.valid, device).value

    if config.epochs:
        trained = finetuning.train(
            task.make, task.training, task.loss, config, work, seed, device,
            drop_last=True, score=score if config.best else None, optimiser=config.optimiser,
            alter=task.altered, plan=task.plan,
        )  # fmt: skip
    else:
        trained = Trained(task.make().to(device), [], "", 0)
    return answer_splits(task, config, folder, work, seed, device, trained)


def fine_tune_on_batches(
    task: Any, config: Any, folder: Path, work: Path, seed: int, device: str
) -> dict[str, Any]:
    """`fine_tune` of a task that makes its updates itself: `batches(seed)`, with a `sampler`.

    The score of an epoch is the task's `cider(model, device)`.
    """
    if config.epochs:
        batches = task.batches(seed)
        trained = finetuning.train_on(
            task.make, batches, batches.sampler.per_epoch, config, work, seed, device,
            score=(lambda model: task.cider(model, device)) if config.best else None,
            optimiser=config.optimiser, plan=task.plan,
        )  # fmt: skip
    else:
        torch.manual_seed(seed)
        trained = Trained(task.make().to(device), [], "", 0)
    return answer_splits(task, config, folder, work, seed, device, trained)


def answer_splits(
    task: Task, config: Any, folder: Path, work: Path, seed: int, device: str, trained: Trained
) -> dict[str, Any]:
    """What a fine-tuned model says to the splits; writes answers to `folder`, and the model to `work` if it is kept.

    Returns: seed, value (the validation score; NaN where that split has no labels, which may be of 0 epochs), majority,
    metrics (of the validation split), splits (metrics of the others that have labels), diverged ("" or why), note (""
    or what is remarkable), losses, scores (validation after each epoch), kept (updates of the weights that are kept;
    none: the last), loss and updates.
    """
    found = {}
    for split in dict.fromkeys((config.valid, *config.test)):
        found[split] = task.answered(trained.model, split, device)
        found[split].write(folder)
    if config.keep_models:
        task.save(work / "model", trained.model)
    return seed_result(task, config, seed, trained, found, learnt=bool(config.epochs))


def seed_result(
    task: Any, config: Any, seed: int, trained: Trained, found: dict[str, Any], learnt: bool
) -> dict[str, Any]:
    """What `answer_splits` returns, of the answers to the splits; where nothing was `learnt`, nothing diverged."""
    valid = found.pop(config.valid)
    reason = ""
    if learnt:
        reason = finetuning.divergence(valid.constant, trained.losses, valid.value, task.majority)
    return {
        "seed": seed,
        "value": valid.value,
        "majority": task.majority,
        "metrics": valid.metrics,
        "splits": {name: answered.metrics for name, answered in found.items() if answered.metrics},
        "diverged": trained.reason or ("" if config.blind else reason),
        "note": MAJORITY if math.isclose(valid.value, task.majority) and not config.blind else "",
        "losses": list(trained.losses),
        "scores": dict(trained.scores),
        "kept": trained.kept,
        **trained.summary(),
    }


def run_seeds(
    context: StageContext, task: Task, tune: Callable[..., dict[str, Any]] = fine_tune
) -> dict[str, float]:
    """Fine-tune with every seed; writes `task.file`, and of each seed its answers as the benchmark takes them.

    `tune` is called as `fine_tune` is.

    Metrics: those of the validation split and, with `<split>_`, of the others, as means over the seeds with `_std`;
    `majority`, and the number of `diverged` runs.
    """
    config = context.config

    def job(seed: int) -> Job:
        return Job(
            f"seed-{seed}",
            lambda folder, work: [tune(task, config, folder, work, seed, context.device)],
        )

    def line(result: Mapping[str, Any]) -> str:
        return told(task.title, config.valid, result)

    seeds = config.seeds if config.epochs else config.seeds[:1]  # without a training nothing is drawn
    results = finetuning.run_jobs(context, [job(seed) for seed in seeds], line, task.file)
    return summary(results)


def told(title: str, split: str, result: Mapping[str, Any]) -> str:
    """The line that says how one seed went: its score on the split that decides, with the name of the metric."""
    of = result["metrics"].items()
    name = next((name for name, value in of if value == result["value"]), "score")
    note = f"   {result['note']}" if result["note"] else ""
    return f"{title} seed {result['seed']}: {split} {name} {result['value']:.3f}{note}"


def summary(results: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Metrics of a stage, from the results of its seeds: mean and, with `_std`, sample deviation."""
    found: dict[str, float] = {}
    parts = [("", [result["metrics"] for result in results])]
    parts += [
        (f"{split}_", [result["splits"][split] for result in results]) for split in results[0]["splits"]
    ]
    for prefix, metrics in parts:
        for name in dict.fromkeys(name for each in metrics for name in each):
            values = [
                each[name] for each in metrics if name in each
            ]  # without a right answer, no consistency
            found[f"{prefix}{name}"], found[f"{prefix}{name}_std"] = spread(values)
    return {
        **found,
        "majority": results[0]["majority"],
        "diverged": float(sum(bool(result["diverged"]) for result in results)),
    }


def kept_model(folder: Path, seed: int | None = None) -> Path:
    """The model that a finished fine-tuning kept, of its first seed unless one is named. UserError: it kept none."""
    found = sorted(folder.glob("seed-*/model" if seed is None else f"seed-{seed}/model"))
    if not found:
        raise UserError(
            f"{folder} holds no fine-tuned model{'' if seed is None else f' of seed {seed}'}; set `keep_models` to true"
        )
    return found[0]
