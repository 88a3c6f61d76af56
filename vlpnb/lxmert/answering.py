"""Answering questions about pictures: what the stages `lxmert.vqa` and `lxmert.gqa` share.

Paper: LXMERT (Tan and Bansal 2019), section 4.2. A question has answers with scores (soft targets: some of ten people
said so); the head gives every answer of the task a score of its own, trained with binary cross-entropy summed over the
answers, and the highest one is the answer. A question whose answers are all outside the task's list keeps a target of
zeros; such questions are counted. `objective: best` takes cross-entropy with the best answer, and leaves those out.

The head starts from that of pre-training (`load_answers`): its hidden layer, and of the last one the row of each answer
that the pre-training's table has; the other rows are zero.

At inference every picture is seen once, whatever the number of its questions; these are read in batches of similar
length. Tested equal to the plain pass.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from vlpnb.data.asked import AskedQuestion
from vlpnb.data.asked_data import QuestionData, load_questions
from vlpnb.data.limits import limit_images
from vlpnb.data.region_store import RegionStore
from vlpnb.errors import UserError
from vlpnb.files import read_back, write_json, write_text
from vlpnb.foundations.regions import load_regions
from vlpnb.lxmert.finetuning import (
    TRAIN,
    Answered,
    LxmertFineTuningConfig,
    Pictures,
    Sentences,
    check_fits,
    kept_model,
    run_seeds,
    tell_left_out,
    with_regions,
)
from vlpnb.lxmert.heads import AnsweringModel, Objective
from vlpnb.lxmert.original.weights import load_model
from vlpnb.lxmert.start import StartingPoint, starting_point
from vlpnb.stage import StageContext
from vlpnb.text.tokenizers import load_tokenizer

ANSWERS = "answers.json"


class AnsweringConfig(LxmertFineTuningConfig):
    """What VQA and GQA have in common."""

    load_answers: bool = True
    """Start the head from that of pre-training; false: the backbone alone."""
    objective: Objective = "soft"
    """"soft": binary cross-entropy of all answers; "best": cross-entropy with the best one, times their number."""


@dataclass(frozen=True)
class Benchmark:
    """How VQA and GQA differ."""

    name: Literal["vqa", "gqa"]
    title: str
    score: Callable[[Mapping[Any, str], Sequence[AskedQuestion], QuestionData, str], dict[str, float]]
    """(question → answer, questions, the data and split that they are of) → metrics, `accuracy` among them."""
    submission: Callable[[Mapping[Any, str]], str]
    """Question → answer in the form that the benchmark takes."""


class Questions:
    """Questions as token ids, with their pictures' regions and soft targets, padded batch by batch."""

    def __init__(
        self,
        questions: Sequence[AskedQuestion],
        answers: Sequence[str],
        sentences: Sentences,
        pictures: Pictures,
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
        """ids, mask [B T], features [B R F], boxes [B R 4], visual_mask [B R] if needed, and targets [B Q]."""
        return {
            **self.sentences.batch(rows),
            **self.pictures.batch(self.pictures.rows[rows]),
            "targets": self.targets(rows),
        }


@torch.no_grad()
def answer(
    model: AnsweringModel,
    data: Questions,
    device: str,
    pictures_at_once: int = 256,
    rows_at_once: int = 256,
) -> Int[np.ndarray, " N"]:
    """The answer with the highest score of every question, in order: every picture is seen once."""
    model.eval()
    found = np.zeros(len(data), np.int64)
    order = np.argsort(data.pictures.rows, kind="stable")
    distinct, first = np.unique(data.pictures.rows[order], return_index=True)
    bounds = [*first[::pictures_at_once], len(order)]
    for number, (start, stop) in enumerate(pairwise(bounds)):
        group = order[start:stop]
        names = distinct[number * pictures_at_once : (number + 1) * pictures_at_once]
        regions = {name: value.to(device) for name, value in data.pictures.batch(names).items()}
        seen = model.backbone.see(regions["features"], regions["boxes"], regions.get("visual_mask"))
        group = group[np.argsort(data.lengths[group], kind="stable")]
        for at in range(0, len(group), rows_at_once):
            rows = group[at : at + rows_at_once]
            text = {name: value.to(device) for name, value in data.sentences.batch(rows).items()}
            which = torch.from_numpy(np.searchsorted(names, data.pictures.rows[rows])).to(device)
            scores = model.scores(text["ids"], text["mask"], seen.rows(which))
            found[rows] = scores.float().nan_to_num().argmax(1).cpu().numpy()
    return found


class Asked:
    """A benchmark's questions, read and encoded when they are first asked for (`lxmert.finetuning.Task`)."""

    loss = "answers"

    def __init__(
        self,
        benchmark: Benchmark,
        config: AnsweringConfig,
        data: QuestionData,
        store: RegionStore,
        start: StartingPoint,
    ):
        self.benchmark, self.config, self.data, self.store, self.start = benchmark, config, data, store, start
        self.title, self.file = benchmark.title, f"{benchmark.name}.json"
        self.answers, self.outside = data.answers(benchmark.name), 0  # `outside` is known once `training` is
        self.without_regions: list[str] = []  # of the splits that were read
        self._known: dict[str, tuple[list[AskedQuestion], Questions]] = {}

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

    def make(self) -> AnsweringModel:
        """The model as it starts."""
        if self.config.epochs:
            model = self.start.answering(self.answers, self.config.load_answers, self.config.objective)
        else:
            model = self.start.finished(AnsweringModel)
            self._check_answers(model)
        check_fits(model, self.start, self.store, self.config.max_length)
        return model

    def answered(self, model: AnsweringModel, split: str, device: str) -> Answered:
        """What the model says to a split. UserError where the validation split has no answers."""
        asked, encoded = self.split(split)
        rows = answer(model, encoded, device)
        said = {question.question_id: self.answers[row] for question, row in zip(asked, rows, strict=True)}
        metrics = {}
        if self._has_answers(asked):
            metrics = self.benchmark.score(said, asked, self.data, split)
        elif split == self.config.valid and self.config.epochs:
            raise UserError(
                f"lxmert.{self.benchmark.name}.valid: the questions of '{split}' have no answers; name another split"
            )
        return Answered(
            metrics,
            metrics.get("accuracy", math.nan),
            len(rows) > 1 and int(np.ptp(rows)) == 0,
            lambda folder: write_text(folder / f"predictions_{split}.json", self.benchmark.submission(said)),
        )

    def _check_answers(self, model: AnsweringModel) -> None:
        """UserError where the answers of a fine-tuned model are not those of the task, class by class."""
        name, classes = self.start.name, model.answers.out.out_features
        if classes != len(self.answers):
            raise UserError(
                f"{name}: has {classes:,} answers, and the task {len(self.answers):,}; name the file of its answers in "
                f"`questions.{self.benchmark.name}.answers`"
            )
        file = (
            Path(self.start.weights).parent.parent / ANSWERS
        )  # of a stage, in whose folder `seed-1/model` is
        if file.is_file() and tuple(read_back(file)) != self.answers:
            raise UserError(
                f"{name}: learnt the answers of {file}, and those of the task differ; name that file in "
                f"`questions.{self.benchmark.name}.answers`"
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
        asked = self.data.read(self.benchmark.name, split)
        asked, left_out = with_regions(asked, lambda question: (question.image_id,), self.store)
        self.without_regions += [f"{split} {q.question_id} {q.image_id}" for q in left_out]
        if split not in (TRAIN, self.config.valid):
            return asked
        return limit_images(asked, self.config.limit_images)

    def _encoded(self, asked: list[AskedQuestion]) -> Questions:
        if not asked:
            raise UserError(f"{self.title}: no questions to train on or to answer; expected at least one")
        sentences = Sentences([q.sentence for q in asked], self.start.tokenizer, self.config.max_length)
        names = [q.image_id for q in asked]
        pictures = Pictures(self.store, names, self.title, self.config.blind)
        return Questions(asked, self.answers, sentences, pictures)


def run(context: StageContext, benchmark: Benchmark) -> dict[str, float]:
    """Fine-tune with every seed; files and metrics as `lxmert.finetuning.run_seeds` says.

    Also `outside`: training questions none of whose answers is in the task's list; and `without_regions`.
    """
    data, store = load_questions(context.inputs["questions"]), load_regions(context.inputs["regions"])
    asked = Asked(benchmark, context.config, data, store, starting_point(context))
    if context.config.epochs:
        context.log(
            f"fine-tuning {asked.start.name} on {len(asked.training):,} questions, {len(asked.answers):,} answers"
            + (f"; the answers of {asked.outside:,} questions are none of these" if asked.outside else "")
        )
    else:
        context.log(f"answering with {asked.start.name}, which is not trained")
    for split in (context.config.valid, *context.config.test):
        asked.split(split)  # what is wrong with one is told before the training, not after it
    left_out = tell_left_out(context, asked.without_regions)
    if context.rank == 0:
        write_json(context.folder / ANSWERS, asked.answers)
    return {**run_seeds(context, asked), "outside": float(asked.outside), **left_out}


@dataclass(frozen=True)
class Answerer:
    """A fine-tuned model and what it takes to ask it."""

    model: AnsweringModel
    answers: tuple[str, ...]
    tokenizer: PreTrainedTokenizerFast


def load_answerer(folder: Path, seed: int | None = None) -> Answerer:
    """The model of a finished stage `lxmert.vqa` or `lxmert.gqa`, of its first seed unless one is named.

    Raises:
        UserError: it was not kept.
    """
    model = kept_model(folder, seed)
    answers = tuple(read_back(folder / ANSWERS))
    return Answerer(load_model(model, AnsweringModel), answers, load_tokenizer(model))
