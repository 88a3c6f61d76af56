"""Answering questions about pictures, whatever the system: questions, targets, and what is answered and reported.

Papers: LXMERT (Tan and Bansal 2019), section 4.2; VLP (Zhou et al. 2020). A question has answers with
scores (soft targets: some of ten people said so); a head gives every answer of the task a score of its own, trained
with binary cross-entropy summed over the answers, and the highest one is the answer. A question whose answers are all
outside the task's list keeps a target of zeros; such questions are counted. `objective: best` takes cross-entropy with
the best answer, and leaves those out.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from vlpnb.data.asked import AskedQuestion
from vlpnb.data.asked_data import QuestionData
from vlpnb.data.limits import limit_images
from vlpnb.data.region_store import RegionStore
from vlpnb.data.submissions import vqa_submission
from vlpnb.downstream.pictured import TRAIN, Sentences, Shown, tell_left_out, with_regions
from vlpnb.downstream.seeds import Answered, run_seeds
from vlpnb.errors import UserError
from vlpnb.files import read_back, write_json, write_text
from vlpnb.metrics.vqa import Spelling, vqa_scores
from vlpnb.stage import StageContext

ANSWERS = "answers.json"


@dataclass(frozen=True)
class Benchmark:
    """How VQA and GQA differ."""

    name: Literal["vqa", "gqa"]
    title: str
    score: Callable[[Mapping[Any, str], Sequence[AskedQuestion], QuestionData, str], dict[str, float]]
    """(question → answer, questions, the data and split that they are of) → metrics, `accuracy` among them."""
    submission: Callable[[Mapping[Any, str]], str]
    """Question → answer in the form that the benchmark takes."""


def vqa(spelling: Spelling = "official") -> Benchmark:
    """VQA v2 (Goyal et al. 2017), by the program `spelling`: over ten people's answers, or the scores of given answers.

    Metrics: `accuracy`, and by type of answer `yes_no`, `number` and `other` where questions have one.
    """

    def score(
        said: Mapping[Any, str], asked: Sequence[AskedQuestion], data: QuestionData, split: str
    ) -> dict[str, float]:
        return {name.replace("/", "_"): value for name, value in vqa_scores(said, asked, spelling).items()}

    return Benchmark("vqa", "VQA", score, vqa_submission)


class Questions:
    """Questions as token ids, with their pictures' regions and soft targets, padded batch by batch."""

    def __init__(
        self,
        questions: Sequence[AskedQuestion],
        answers: Sequence[str],
        sentences: Sentences,
        pictures: Shown,
    ):
        self.sentences, self.pictures, self.lengths = sentences, pictures, sentences.lengths
        index, self.classes = {answer: i for i, answer in enumerate(answers)}, len(answers)
        known = [[(index[a], s) for a, s in q.targets.items() if a in index] for q in questions]
        self._starts = np.concatenate([[0], np.cumsum([len(row) for row in known])]).astype(np.int64)
        self._answers = np.array([answer for row in known for answer, _ in row], np.int64)
        self._scores = np.array([score for row in known for _, score in row], np.float32)

    def __len__(self) -> int:
        return len(self.lengths)

    def targets(self, rows: Sequence[int] | np.ndarray) -> Float[Tensor, "B Q"]:
        """The score of every answer; zeros where none of a question's answers is in the task's list."""
        rows = np.asarray(rows)
        found = np.zeros((len(rows), self.classes), np.float32)
        for i, row in enumerate(rows):
            part = slice(self._starts[row], self._starts[row + 1])
            found[i, self._answers[part]] = self._scores[part]
        return torch.from_numpy(found)

    def majority(self) -> float:
        """The score of the best constant answer."""
        return float(np.bincount(self._answers, self._scores, minlength=1).max() / len(self))

    def batch(self, rows: Sequence[int] | np.ndarray) -> dict[str, Tensor]:
        """ids, mask [B T], what the pictures give (features [B R F], …), and targets [B Q]."""
        return {
            **self.sentences.batch(rows),
            **self.pictures.batch(self.pictures.rows[rows]),
            "targets": self.targets(rows),
        }


class Reader(Protocol):
    """What a system does with questions."""

    name: str  # of the weights that it starts from, as the log says it
    weights: str  # their folder or file
    plan: Mapping[str, Any]  # further fields of the `TrainingPlan`

    def fresh(self, answers: Sequence[str]) -> nn.Module:
        """The model as its training starts."""

    def finished(self, answers: Sequence[str]) -> nn.Module:
        """A fine-tuned model as it is; UserError where it has another number of answers."""

    def sentences(self, texts: Sequence[str]) -> Sentences:
        """Questions as the model reads them."""

    def pictures(self, names: Sequence[str], where: str) -> Shown:
        """Pictures as the model sees them."""

    def altered(self, batch: dict[str, Tensor], update: int, seed: int) -> dict[str, Tensor]:
        """A training batch as the model gets it; a pure function of its arguments."""

    def answer(self, model: nn.Module, data: Questions, device: str) -> Int[np.ndarray, " N"]:
        """The answer with the highest score of every question, in order."""

    def save(self, folder: Path, model: nn.Module) -> None:
        """Keep a fine-tuned model."""


class Asked:
    """A benchmark's questions, read and encoded when they are first asked for (`seeds.Task`)."""

    loss = "answers"

    def __init__(
        self,
        benchmark: Benchmark,
        config: Any,
        data: QuestionData,
        store: RegionStore,
        reader: Reader,
        answers: Sequence[str] | None = None,
        read: Callable[[str], list[AskedQuestion]] | None = None,
        stage: str = "",
    ):
        """`answers`, `read` (a split's questions) and `stage` (its name in messages) where they are not the data's."""
        self.benchmark, self.config, self.data, self.store, self.reader = (
            benchmark,
            config,
            data,
            store,
            reader,
        )
        self.title, self.file, self.stage = benchmark.title, f"{benchmark.name}.json", stage or benchmark.name
        self.answers = tuple(data.answers(benchmark.name) if answers is None else answers)
        self.outside = 0  # known once `training` is
        self.without_regions: list[str] = []  # of the splits that were read
        self._read_split = read or (lambda split: data.read(benchmark.name, split))
        self._known: dict[str, tuple[list[AskedQuestion], Questions]] = {}

    @property
    def plan(self) -> Mapping[str, Any]:
        """Further fields of the `TrainingPlan`."""
        return self.reader.plan

    @cached_property
    def training(self) -> Questions:
        """The training questions; with `objective: best` those that have an answer."""
        asked = self._read(TRAIN)[: self.config.max_train]
        answerable = [q for q in asked if not self._listed.isdisjoint(q.targets)]
        self.outside = len(asked) - len(answerable)
        return self._encoded(answerable if self.config.objective == "best" else asked)

    def split(self, name: str) -> tuple[list[AskedQuestion], Questions]:
        """The questions of a split that is answered; of the validation split `max_valid`."""
        if name not in self._known:
            asked = self._read(name)[: self.config.max_valid if name == self.config.valid else None]
            self._known[name] = asked, self._encoded(asked)
        return self._known[name]

    @property
    def majority(self) -> float:
        """The validation score of the best constant answer."""
        return self.split(self.config.valid)[1].majority()

    def make(self) -> nn.Module:
        """The model as it starts; of 0 epochs a finished one, which must have learnt these answers."""
        if self.config.epochs:
            return self.reader.fresh(self.answers)
        file = (
            Path(self.reader.weights).parent.parent / ANSWERS
        )  # of a stage, in whose folder `seed-1/model` is
        if file.is_file() and tuple(read_back(file)) != self.answers:
            raise UserError(
                f"{self.reader.name}: learnt the answers of {file}, and those of the task differ; name that file in "
                f"`questions.{self.benchmark.name}.answers`"
            )
        return self.reader.finished(self.answers)

    def altered(self, batch: dict[str, Tensor], update: int, seed: int) -> dict[str, Tensor]:
        """A training batch as the system's model gets it."""
        return self.reader.altered(batch, update, seed)

    def save(self, folder: Path, model: nn.Module) -> None:
        """Keep a fine-tuned model."""
        self.reader.save(folder, model)

    def answered(self, model: nn.Module, split: str, device: str) -> Answered:
        """What the model says to a split. UserError where the validation split has no answers."""
        asked, encoded = self.split(split)
        rows = self.reader.answer(model, encoded, device)
        said = {question.question_id: self.answers[row] for question, row in zip(asked, rows, strict=True)}
        metrics = {}
        if self._has_answers(asked):
            metrics = self.benchmark.score(said, asked, self.data, split)
        elif split == self.config.valid and self.config.epochs:
            raise UserError(
                f"{self.stage}.valid: the questions of '{split}' have no answers; name another split"
            )
        return Answered(
            metrics,
            metrics.get("accuracy", math.nan),
            len(rows) > 1 and int(np.ptp(rows)) == 0,
            lambda folder: write_text(folder / f"predictions_{split}.json", self.benchmark.submission(said)),
        )

    def _has_answers(self, asked: Sequence[AskedQuestion]) -> bool:
        """Whether a split can be scored. LXMERT's files of VQA have questions without any answer of the list: they
        count 0 whatever is said.
        """
        return (any if self.benchmark.name == "vqa" else all)(bool(question.targets) for question in asked)

    @cached_property
    def _listed(self) -> frozenset[str]:
        return frozenset(self.answers)

    def _read(self, split: str) -> list[AskedQuestion]:
        asked, left_out = with_regions(
            self._read_split(split), lambda question: (question.image_id,), self.store
        )
        self.without_regions += [f"{split} {q.question_id} {q.image_id}" for q in left_out]
        if split not in (TRAIN, self.config.valid):
            return asked
        return limit_images(asked, self.config.limit_images)

    def _encoded(self, asked: list[AskedQuestion]) -> Questions:
        if not asked:
            raise UserError(f"{self.title}: no questions to train on or to answer; expected at least one")
        sentences = self.reader.sentences([q.sentence for q in asked])
        return Questions(
            asked, self.answers, sentences, self.reader.pictures([q.image_id for q in asked], self.title)
        )


def run_asked(context: StageContext, asked: Asked) -> dict[str, float]:
    """Fine-tune with every seed; files and metrics as `seeds.run_seeds` says.

    Also `outside`: training questions none of whose answers is in the task's list; and `without_regions`.
    """
    if context.config.epochs:
        context.log(
            f"fine-tuning {asked.reader.name} on {len(asked.training):,} questions, {len(asked.answers):,} answers"
            + (f"; the answers of {asked.outside:,} questions are none of these" if asked.outside else "")
        )
    else:
        context.log(f"answering with {asked.reader.name}, which is not trained")
    for split in (context.config.valid, *context.config.test):
        asked.split(split)  # what is wrong with one is told before the training, not after it
    left_out = tell_left_out(context, asked.without_regions)
    if context.rank == 0:
        write_json(context.folder / ANSWERS, asked.answers)
    return {**run_seeds(context, asked), "outside": float(asked.outside), **left_out}
