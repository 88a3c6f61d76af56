"""Learnt in English, asked in every language: what the stages of XVNLI, xGQA and MaRVL do with their rows.

Paper: CCLM (Zeng et al., ACL 2023), section 4.1 and tables 2 and 3. Each seed trains once, on English; the weights of
the epoch with the highest English validation score are kept (never chosen on a test set) and asked the test set of
every language: *zero-shot*; and those that a machine translated to English: *translate-test*. For *few-shot* settings
(`fewshot: "de,10"`) the English weights learn on from the few rows of that language, at the rate of `fewshot_lr` that
is best on its validation set where there is one, else on the English one. A control never sees a picture (`blind`).

Files: `<task>.json`, what each seed reached; `seed-N/predictions_<split>.jsonl`, a line for each row that was asked.
Intervals are over the rows' groups (pictures, statements of MaRVL), which stand or fall together, of means over seeds.

Differs from the original: an incomplete batch is learnt from, so that few rows make a step, and no file is both
validation and test set (CCL-54); a validation follows every epoch (CCL-57).
"""

import copy
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from vlpnb.data.iglue_data import Iglue, load_iglue
from vlpnb.data.text_files import read_json_lines
from vlpnb.downstream import finetuning
from vlpnb.downstream.finetuning import Trained, batches_by_length, longest
from vlpnb.downstream.pictured import PictureStore, Sentences
from vlpnb.downstream.seeds import Answered, run_seeds, seed_result
from vlpnb.downstream.transfer_rows import (
    SHOTS,
    Benchmark,
    Examples,
    Row,
    Said,
    Shots,
    TransferConfig,
    Views,
)
from vlpnb.errors import UserError
from vlpnb.files import write_text
from vlpnb.metrics.bootstrap import interval
from vlpnb.metrics.iglue import without_english
from vlpnb.stage import StageContext
from vlpnb.text.pieces import Pieces
from vlpnb.train.sampling import EpochSampler, Update

ENGLISH, TRAIN, VALID, TEST = "en", "train", "valid", "test"
TRANSLATED = "_translated"  # the end of a split's name
BETAS, EPSILON = (0.9, 0.98), 1e-8
ROWS_AT_ONCE = 256
RATES = ("accuracy", "accuracy_all", "consistency")  # beside the counts of what was scored


class Start(Protocol):
    """Where the weights come from, as `cclm.start.StartingPoint` says it."""

    name: str  # as the log says it
    pieces: Pieces

    def store(self) -> PictureStore:
        """The run's pictures as the model reads them."""

    def model(self, **changes: Any) -> nn.Module:
        """The pre-trained model, whose `config` has `max_tokens`; `changes`: fields of it, such as dropout."""

    def finetuned(self, folder: str, kind: type[nn.Module], **changes: Any) -> nn.Module:
        """A fine-tuned model."""

    def save(self, folder: Path, model: nn.Module) -> None:
        """Keep a fine-tuned model with its tokenizer."""


@dataclass(frozen=True)
class Split:
    """Rows that are asked."""

    rows: list[Row]
    data: Examples


class Transfer:
    """A task's rows, read and encoded when they are first asked for (`downstream.seeds.Task`)."""

    plan: Mapping[str, Any] = {}

    def __init__(self, benchmark: Benchmark, config: TransferConfig, iglue: Iglue, start: Start):
        self.benchmark, self.config, self.iglue, self.start = benchmark, config, iglue, start
        self.title, self.file, self.loss = benchmark.title, f"{benchmark.name}.json", benchmark.loss
        self.store = start.store()
        self.left_out: list[str] = []  # rows of the splits that were read, whose pictures have no patches
        self._known: dict[str, Split] = {}

    @cached_property
    def tests(self) -> dict[str, dict[str, Any]]:
        """The test sets by name, and how they are read: those of the languages, and the translated ones."""
        there = self.iglue.languages(self.benchmark.name)
        strange = [language for language in self.config.languages if language not in there]
        if strange:
            raise UserError(
                f"{self.benchmark.stage}.languages: {', '.join(strange)} have no test set; there are "
                f"{', '.join(there)}"
            )
        languages = self.config.languages or there
        found = {language: {"language": language} for language in languages}
        if self.config.translated:
            for language in self.iglue.translated(self.benchmark.name):
                if language in languages:
                    found[f"{language}{TRANSLATED}"] = {"language": language, "translated": True}
        return found

    @cached_property
    def training(self) -> Examples:
        """The English training rows that teach something."""
        return self.examples(self._read(TRAIN, ENGLISH)[: self.config.max_train])

    def few(self, shots: Shots) -> Examples:
        """The rows of a few-shot setting. UserError: there are none of this number."""
        name = self.benchmark.name
        there = self.iglue.shots(name, shots.language)
        if shots.count not in there:
            raise UserError(
                f"{self.benchmark.stage}.fewshot: '{shots.language},{shots.count}' has no file; of this "
                f"language there are {', '.join(there) or 'none'}"
            )
        return self.examples(self._read(TRAIN, shots.language, shots=shots.count))

    def valid_of(self, language: str) -> str:
        """The split that few-shot training of a language is chosen on: its own validation set, or the English one."""
        own = f"{language}_{VALID}"
        return own if language in self.iglue.valid_languages(self.benchmark.name) else VALID

    def split(self, name: str) -> Split:
        """A test set, a validation set, or for the results of a few-shot setting the test set of its language."""
        if name.endswith(SHOTS):
            name = name.split("_")[0]
        if name not in self._known:
            if name in self.tests:
                rows = self._read(TEST, **self.tests[name])
            else:
                rows = self._read(VALID, name.removesuffix(VALID).rstrip("_") or ENGLISH)
                rows = [row for row in rows if self.benchmark.gold(row) is not None]
                rows = rows[: self.config.max_valid]
            self._known[name] = Split(rows, self.examples(rows, self.benchmark.max_words_test))
        return self._known[name]

    def examples(self, rows: Sequence[Row], max_words: int | None = None) -> Examples:
        """Rows as the model reads them. UserError: there is none."""
        if not rows:
            raise UserError(f"{self.title}: no rows to learn from or to ask; expected at least one")
        texts = Sentences.of_pieces(
            [self.benchmark.text(row) for row in rows], self.start.pieces, max_words or self.config.max_words,
            self.config.max_length, question=self.benchmark.question,
        )  # fmt: skip
        views = Views(self.store, [self.benchmark.pictures(row) for row in rows], self.config.blind)
        return self.benchmark.examples(rows, texts, views)

    def _read(self, split: str, language: str, **how: Any) -> list[Row]:
        """Rows all of whose pictures have patches; to learn from, those that teach something."""
        kept, bare = [], []
        for row in self.iglue.rows(self.benchmark.name, split, language, **how):
            if split == TRAIN and not self.benchmark.learnable(row):
                continue
            seen = all(name in self.store for name in self.benchmark.pictures(row))
            (kept if seen else bare).append(row)
        self.left_out += [f"{split} {language} {self.benchmark.identifier(row)}" for row in bare]
        return kept

    @property
    def majority(self) -> float:
        """The share of the most frequent right answer among the validation rows."""
        gold = [self.benchmark.gold(row) for row in self.split(VALID).rows]
        return max(map(gold.count, set(gold))) / len(gold)

    def make(self) -> nn.Module:
        """The model as its English training starts, or a fine-tuned one."""
        changes = {"dropout": self.config.dropout}
        if self.config.finetuned:
            return self.start.finetuned(self.config.finetuned, self.benchmark.kind, **changes)
        backbone = self.start.model(**changes)
        if self.config.max_length > backbone.config.max_tokens:
            raise UserError(
                f"max_length: {self.config.max_length} word pieces, and {self.start.name} reads "
                f"{backbone.config.max_tokens} at most; lower it"
            )
        return self.benchmark.kind(backbone)

    def altered(self, batch: dict[str, Tensor], update: int, seed: int) -> dict[str, Tensor]:
        """The batch as it is."""
        return batch

    def save(self, folder: Path, model: nn.Module) -> None:
        """Keep a fine-tuned model with its tokenizer."""
        self.start.save(folder, model)

    def answered(self, model: nn.Module, split: str, device: str) -> Answered:
        """What a model says to a split."""
        asked = self.split(split)
        said = ask(self.benchmark, model, asked.data, device)
        scores = self.benchmark.score(said, asked.rows)
        metrics = {name: scores[name] for name in RATES if name in scores}
        lines = [self._line(row, answer) for row, answer in zip(asked.rows, said, strict=True)]
        return Answered(
            metrics, metrics["accuracy"], len(set(said)) < 2 <= len(said),
            lambda folder: write_text(folder / predictions(split), "".join(f"{line}\n" for line in lines)),
        )  # fmt: skip

    def _line(self, row: Row, said: Said) -> str:
        gold = self.benchmark.gold(row)
        told = {
            "id": self.benchmark.identifier(row), "group": self.benchmark.group(row), "said": said, "gold": gold,
            "right": None if gold is None else said == gold,
        }  # fmt: skip
        return json.dumps(told, ensure_ascii=False)


def predictions(split: str) -> str:
    """The name of a file of answers."""
    return f"predictions_{split}.jsonl"


@torch.no_grad()
def ask(benchmark: Benchmark, model: nn.Module, data: Examples, device: str) -> list[Said]:
    """What a model says to every row, in order."""
    model.eval()
    said: list[Said] = [None] * len(data)
    for rows, batch in batches_by_length(data, ROWS_AT_ONCE, device):
        for row, answer in zip(rows, benchmark.say(model, batch), strict=True):
            said[row] = answer
    return said


def learn(
    task: Transfer,
    config: TransferConfig,
    data: Examples,
    make: Callable[[], nn.Module],
    work: Path,
    seed: int,
    device: str,
    valid: str,
    every: int = 1,
) -> Trained:
    """A training, continued from the checkpoint in `work`, and validated on a split after each `every` epochs."""
    sampler = EpochSampler(
        len(data), min(config.batch, len(data)), seed, lengths=longest(data) if config.by_length else None
    )

    def batches(update: int) -> Update:
        rows = sampler(update)
        batch = data.batch(rows, np.random.default_rng([seed, update]) if config.augment else None)
        return Update([batch], {task.loss: len(rows)}, tokens=batch["ids"].numel())

    def score(model: nn.Module) -> float:
        return task.answered(model, valid, device).value

    work.mkdir(parents=True, exist_ok=True)
    plan = {"betas": BETAS, "eps": EPSILON, "factors": dict.fromkeys(task.benchmark.new, config.head_rate)}
    every = min(every, max(1, round(config.epochs)))
    spans = unclipped(config).model_copy(update={"epochs": config.epochs / every})
    return finetuning.train_on(
        make, batches, sampler.per_epoch * every, spans, work, seed, device,
        score=score if config.best else None, optimiser=config.optimiser, plan=plan,
    )  # fmt: skip


def unclipped(config: TransferConfig) -> TransferConfig:
    """With a largest gradient norm that is infinite where it is 0."""
    return config.model_copy(update={"clip": config.clip or math.inf})


def learn_few(
    task: Transfer,
    config: TransferConfig,
    shots: Shots,
    english: nn.Module,
    work: Path,
    seed: int,
    device: str,
) -> tuple[nn.Module, dict[str, Any]]:
    """From the English weights on with few rows: the model of the best rate on a validation set; and how each did."""
    data, valid = task.few(shots), task.valid_of(shots.language)
    found: list[tuple[float, float, Trained]] = []
    for number, lr in enumerate(config.fewshot_lr):
        changed = config.model_copy(update={"epochs": config.fewshot_epochs, "lr": lr})
        trained = learn(
            task, changed, data, lambda: copy.deepcopy(english), work / f"{shots.split}-{number}", seed, device,
            valid, config.fewshot_every,
        )  # fmt: skip
        value = task.answered(trained.model, valid, device).value
        found.append((value, lr, trained))
    value, lr, trained = max(found, key=lambda each: each[0])  # of equal ones the first
    told = {"rows": len(data), "lr": lr, "valid": valid, "value": value, "diverged": trained.reason}
    return trained.model, {**told, "tried": {str(lr): value for value, lr, _ in found}, **trained.summary()}


def tune(
    task: Transfer, config: TransferConfig, folder: Path, work: Path, seed: int, device: str
) -> dict[str, Any]:
    """All of one seed: the English training, every test set, the few-shot settings. See `seeds.answer_splits`."""
    if config.finetuned:
        english = Trained(task.make().to(device), [], "", 0)
    else:
        english = learn(task, config, task.training, task.make, work / ENGLISH, seed, device, VALID)
    found = {name: task.answered(english.model, name, device) for name in (VALID, *task.tests)}
    few: dict[str, Any] = {}
    for shots in config.shots:
        model, few[shots.split] = learn_few(task, config, shots, english.model, work, seed, device)
        found[shots.split] = task.answered(model, shots.split, device)
    for answered in found.values():
        answered.write(folder)
    if config.keep_models:
        task.save(work / "model", english.model)
    told = seed_result(task, config, seed, english, found, learnt=not config.finetuned)
    return {**told, "fewshot": few}


def intervals(folders: Iterable[Path], splits: Iterable[str]) -> dict[str, float]:
    """`<split>_low`, `<split>_high`: 95 % of the accuracies lie there when other pictures are drawn, seeds averaged."""
    folders, found = list(folders), {}
    for split in splits:
        told = [
            [row for _, row in read_json_lines(folder / predictions(split), "predictions")]
            for folder in folders
        ]
        right = np.array(
            [[math.nan if row["right"] is None else row["right"] for row in seed] for seed in told]
        )
        found[f"{split}_low"], found[f"{split}_high"] = interval(
            right.astype(np.float64).mean(0), [row["group"] for row in told[0]]
        )
    return found


def run(
    context: StageContext, benchmark: Callable[[TransferConfig, Iglue, Start], Benchmark], start: Start
) -> dict[str, float]:
    """Fine-tune with every seed, and ask; writes the files that the head of this file names.

    Metrics: those of the English validation set, and with `<split>_` of the test sets (`en`, `de`, `de_translated`,
    `de_10_shots`): means over the seeds with `_std` of `accuracy`, of XVNLI also `accuracy_all`, which counts rows with
    "-" as wrong, of MaRVL also `consistency`; `<split>_low`, `<split>_high`; `average_accuracy` of the languages
    other than English; `majority`; the number of `diverged` runs and of rows `without_patches`.
    """
    config: TransferConfig = context.config
    iglue = load_iglue(context.inputs["iglue"])
    task = Transfer(benchmark(config, iglue, start), config, iglue, start)
    for name in (VALID, *task.tests):
        task.split(name)  # what is wrong with one is told before the training, not after it
    for shots in config.shots:
        task.few(shots)
    if config.finetuned:
        context.log(f"asking {config.finetuned}, which is not trained on English")
    else:
        seen = " without pictures" if config.blind else ""
        context.log(f"fine-tuning {start.name} on {len(task.training):,} rows of {task.title}{seen}")
    context.list_left_out(
        "without_patches.txt", list(dict.fromkeys(task.left_out)), "rows are left out, whose pictures have no patches"
    )  # fmt: skip
    found = run_seeds(context, task, tune)
    splits = [VALID, *task.tests, *(shots.split for shots in config.shots)]
    folders = [context.folder / f"seed-{seed}" for seed in dict.fromkeys(config.seeds)]
    found |= intervals(folders, splits)
    by_language = {name: found[f"{name}_accuracy"] for name in task.tests if not name.endswith(TRANSLATED)}
    if set(by_language) - {ENGLISH}:
        found["average_accuracy"] = without_english(by_language)
    for name in (*task.tests, *(shots.split for shots in config.shots)):
        low, high = 100 * found[f"{name}_low"], 100 * found[f"{name}_high"]
        context.log(f"{name}: {100 * found[f'{name}_accuracy']:.2f} ({low:.2f} to {high:.2f})")
    return {**found, "without_patches": float(len(set(task.left_out)))}
