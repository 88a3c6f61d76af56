"""What fine-tuning on VQA, GQA and NLVR2 shares: where the weights come from, what is read, and what is reported.

Paper: LXMERT (Tan and Bansal 2019), section 4.2 and appendix. Batches of 32, four epochs, BertAdam with the first tenth
of the updates as warm-up, gradients clipped at norm 5, sentences of 20 tokens; validated after each epoch, and the
weights with the highest score are kept.

Differs from the original: several seeds with their spread, not one; batches padded to their own longest sentence, and
made of similar lengths unless `by_length` is false; a control that sees no picture (`blind`); a subset of the pictures
is drawn by their names, not by their place in a file.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from vlpnb.config import Name
from vlpnb.data.region_store import RegionStore
from vlpnb.downstream import finetuning
from vlpnb.downstream.comparison import spread
from vlpnb.downstream.finetuning import Examples, FineTuningConfig, Job
from vlpnb.errors import UserError
from vlpnb.lxmert.original.weights import save_model
from vlpnb.lxmert.start import StartConfig, StartingPoint, pretraining_of
from vlpnb.stage import Request, StageContext

TRAIN = "train"  # the split to train on
Example = TypeVar("Example")
MAJORITY = "exactly the share of the more frequent answer: nothing was learnt"


class LxmertFineTuningConfig(StartConfig, FineTuningConfig):
    """How to fine-tune, and what. Defaults: the paper's."""

    optimiser: Literal["bert_adam", "adamw"] = "bert_adam"
    """The original's, with its schedule, whose first rate is 0; or AdamW with the course's, for short trainings."""
    epochs: float = Field(4.0, gt=0)
    """Passes over the training examples."""
    batch: int = Field(32, ge=1)
    """Examples per update; what fills no batch at the end of an epoch is left out."""
    weight_decay: float = Field(0.01, ge=0)
    """Decay of all weights, biases and norms too."""
    clip: float = Field(5.0, gt=0)
    """Largest gradient norm."""
    max_length: int = Field(20, ge=3, le=512)
    """Tokens of a sentence, with the two special ones."""
    best: bool = True
    """Keep the weights of the epoch with the highest validation score, as the original does; that score is then a
    little too high. False: keep the last ones, and validate once.
    """
    blind: bool = False
    """Without pictures: one region of zeros in their place. What is then reached was guessed from the words."""
    limit_images: int | None = Field(None, ge=1)
    """Only so many pictures of each training and validation split, chosen by their names, with all asked of them."""
    valid: Name = "valid"
    """Split to validate on; trained is on `train`."""
    test: tuple[Name, ...] = ("test",)
    """Splits to answer when all is done."""


def inputs(data: str, config: LxmertFineTuningConfig) -> Mapping[str, Request]:
    """The stage of the examples, the regions, and unless a model is named the pre-training that `start` says."""
    return {data: Request(data), "regions": Request("regions"), **pretraining_of(config)}


class Sentences:
    """Sentences as token ids, padded batch by batch."""

    def __init__(self, texts: Sequence[str], tokenizer: PreTrainedTokenizerFast, max_length: int):
        pieces = []
        for first in range(
            0, len(texts), 10_000
        ):  # whose lists take ten times as much memory as their arrays
            made = tokenizer(
                [text.strip() for text in texts[first : first + 10_000]],
                truncation=True, max_length=max_length, return_attention_mask=False, return_token_type_ids=False,
            )  # fmt: skip
            pieces += [np.array(ids, np.int32) for ids in made["input_ids"]]
        self.lengths = np.array([len(piece) for piece in pieces], np.int64)
        self._starts = np.concatenate([[0], self.lengths.cumsum()])
        self._ids = np.concatenate(pieces) if pieces else np.zeros(0, np.int32)
        self._pad = tokenizer.pad_token_id

    def batch(self, rows: Sequence[int] | np.ndarray) -> dict[str, Tensor]:
        """`ids` [B T] and `mask` [B T] of some sentences, T the length of the longest."""
        rows = np.asarray(rows)
        mask = np.arange(self.lengths[rows].max()) < self.lengths[rows, None]
        ids = np.full(mask.shape, self._pad, np.int64)
        ids[mask] = np.concatenate([self._ids[self._starts[row] : self._starts[row + 1]] for row in rows])
        return {"ids": torch.from_numpy(ids), "mask": torch.from_numpy(mask)}


class Pictures:
    """The regions of the pictures that examples name; of a blind model one region of zeros each."""

    def __init__(self, store: RegionStore, names: Sequence[str], where: str, blind: bool = False):
        """UserError when the store lacks some of the names: `where` says who asks for them."""
        try:
            self.rows = store.rows(names)
        except UserError as error:
            raise UserError(f"{where}: {error}") from error
        self.store, self.blind = store, blind

    def batch(self, rows: np.ndarray) -> dict[str, Tensor]:
        """`features` [B R F], `boxes` [B R 4] and, unless all have R, `visual_mask` [B R], by rows of the store."""
        if self.blind:
            width = self.store.feature_width
            return {"features": torch.zeros(len(rows), 1, width), "boxes": torch.zeros(len(rows), 1, 4)}
        found = self.store.batch(rows)
        mask = {} if found.mask is None else {"visual_mask": found.mask}
        return {"features": found.features, "boxes": found.boxes, **mask}


def with_regions(
    examples: Sequence[Example], pictures: Callable[[Example], Sequence[str]], store: RegionStore
) -> tuple[list[Example], list[Example]]:
    """The examples all of whose pictures have regions, and those that are left out (LXM-20).

    UserError names pictures where no example is left.
    """
    kept, left_out = [], []
    for example in examples:
        (kept if all(name in store for name in pictures(example)) else left_out).append(example)
    if left_out and not kept:
        store.rows([name for example in left_out for name in pictures(example)])
    return kept, left_out


def tell_left_out(context: StageContext, lines: Iterable[str]) -> dict[str, float]:
    """List what was left out in `without_regions.txt`; its number as the metric `without_regions`."""
    lines = list(dict.fromkeys(lines))  # a split may be read twice
    context.list_left_out(
        "without_regions.txt", lines, "examples are left out, whose pictures have no regions"
    )
    return {"without_regions": float(len(lines))}


def check_fits(model: nn.Module, start: StartingPoint, store: RegionStore, max_length: int) -> None:
    """UserError where a model cannot read these regions or sentences, because it has learnt with others."""
    config = model.config
    if store.feature_width != config.feature_width:
        raise UserError(
            f"{start.name}: reads features of {config.feature_width:,} numbers, and the stage `regions` has "
            f"{store.feature_width:,}; expected regions of the detector that the model has learnt with"
        )
    largest = max(start.tokenizer.get_vocab().values(), default=-1)
    if largest >= config.vocab_size:
        raise UserError(
            f"{start.name}: knows {config.vocab_size:,} word pieces, and the tokenizer has the id {largest:,}; name "
            "the model's own in `tokenizer`"
        )
    if max_length > config.max_positions:
        raise UserError(
            f"max_length: {max_length} tokens, and {start.name} reads {config.max_positions} at most; lower it"
        )


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
    """What is fine-tuned on: questions (`answering.Asked`) or pairs of pictures (`nlvr2.Judged`)."""

    title: str
    file: str  # of all results
    loss: str  # as the model's forward calls it
    start: StartingPoint

    @property
    def training(self) -> Examples: ...

    @property
    def majority(self) -> float:
        """The validation score of the best constant answer."""

    def make(self) -> nn.Module:
        """The model as it starts."""

    def answered(self, model: nn.Module, split: str, device: str) -> Answered:
        """What the model says to a split."""


def fine_tune(
    task: Task, config: LxmertFineTuningConfig, folder: Path, work: Path, seed: int, device: str
) -> dict[str, Any]:
    """Fine-tune with one seed and answer the splits; works in `work`, resumes there, and writes answers to `folder`.

    Returns: seed, value (the validation score), majority, metrics (of the validation split), splits (metrics of the
    others that have labels), diverged ("" or why), note ("" or what is remarkable), losses, scores (validation after
    each epoch), kept (updates of the weights that are kept; none: the last), loss and updates.
    """

    def score(model: nn.Module) -> float:
        return task.answered(model, config.valid, device).value

    trained = finetuning.train(
        task.make, task.training, task.loss, config, work, seed, device,
        drop_last=True, score=score if config.best else None, optimiser=config.optimiser,
    )  # fmt: skip
    found = {}
    for split in dict.fromkeys((config.valid, *config.test)):
        found[split] = task.answered(trained.model, split, device)
        found[split].write(folder)
    if config.keep_models:
        save_model(work / "model", trained.model, task.start.tokenizer)
    valid = found.pop(config.valid)
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


def run_seeds(context: StageContext, task: Task) -> dict[str, float]:
    """Fine-tune with every seed; writes `task.file`, and of each seed its answers as the benchmark takes them.

    Metrics: those of the validation split and, with `<split>_`, of the others, as means over the seeds with `_std`;
    `majority`, and the number of `diverged` runs.
    """
    config: LxmertFineTuningConfig = context.config

    def job(seed: int) -> Job:
        return Job(
            f"seed-{seed}",
            lambda folder, work: [fine_tune(task, config, folder, work, seed, context.device)],
        )

    def line(result: Mapping[str, Any]) -> str:
        note = f"   {result['note']}" if result["note"] else ""
        return f"{task.title} seed {result['seed']}: {100 * result['value']:6.2f}{note}"

    results = finetuning.run_jobs(context, [job(seed) for seed in config.seeds], line, task.file)
    return summary(results)


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
