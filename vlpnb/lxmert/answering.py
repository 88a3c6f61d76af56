"""Answering questions about pictures with LXMERT: what the stages `lxmert.vqa` and `lxmert.gqa` share.

Paper: LXMERT (Tan and Bansal 2019), section 4.2. Questions, soft targets and results are those of
`vlpnb.downstream.answering`.

The head starts from that of pre-training (`load_answers`): its hidden layer, and of the last one the row of each answer
that the pre-training's table has; the other rows are zero.

At inference every picture is seen once, whatever the number of its questions; these are read in batches of similar
length. Tested equal to the plain pass.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from vlpnb.data.asked_data import load_questions
from vlpnb.data.region_store import RegionStore
from vlpnb.downstream.answering import Asked, Benchmark, Questions, fine_tuned, run_asked
from vlpnb.downstream.pictured import Pictures, Sentences
from vlpnb.errors import UserError
from vlpnb.foundations.regions import load_regions
from vlpnb.lxmert.finetuning import LxmertFineTuningConfig, check_fits
from vlpnb.lxmert.heads import AnsweringModel
from vlpnb.lxmert.original.weights import load_model, save_model
from vlpnb.lxmert.start import StartingPoint, starting_point
from vlpnb.nn.losses import AnswerObjective
from vlpnb.stage import StageContext
from vlpnb.text.tokenizers import load_tokenizer


class AnsweringConfig(LxmertFineTuningConfig):
    """What VQA and GQA have in common."""

    load_answers: bool = True
    """Start the head from that of pre-training; false: the backbone alone."""
    objective: AnswerObjective = "soft"
    """"soft": binary cross-entropy of all answers; "best": cross-entropy with the best one, times their number."""


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


@dataclass(frozen=True)
class LxmertReader:
    """LXMERT as a reader of questions (`downstream.answering.Reader`)."""

    config: AnsweringConfig
    store: RegionStore
    start: StartingPoint
    task: str  # vqa or gqa
    plan: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Of the weights that it starts from."""
        return self.start.name

    @property
    def weights(self) -> str:
        """Their folder or file."""
        return self.start.weights

    def fresh(self, answers: Sequence[str]) -> AnsweringModel:
        """The model as its training starts."""
        return self._fitting(self.start.answering(answers, self.config.load_answers, self.config.objective))

    def finished(self, answers: Sequence[str]) -> AnsweringModel:
        """A fine-tuned model as it is. UserError where it has another number of answers."""
        model = self.start.finished(AnsweringModel)
        classes = model.answers.out.out_features
        if classes != len(answers):
            raise UserError(
                f"{self.name}: has {classes:,} answers, and the task {len(answers):,}; name the file of its answers in "
                f"`questions.{self.task}.answers`"
            )
        return self._fitting(model)

    def _fitting(self, model: AnsweringModel) -> AnsweringModel:
        check_fits(model, self.start, self.store, self.config.max_length)
        return model

    def sentences(self, texts: Sequence[str]) -> Sentences:
        """Questions with [CLS] and [SEP]."""
        return Sentences.of(texts, self.start.tokenizer, self.config.max_length)

    def pictures(self, names: Sequence[str], where: str) -> Pictures:
        """Features and boxes."""
        return Pictures(self.store, names, where, self.config.blind)

    def altered(self, batch: dict[str, Tensor], update: int, seed: int) -> dict[str, Tensor]:
        """The batch as it is."""
        return batch

    def answer(self, model: AnsweringModel, data: Questions, device: str) -> Int[np.ndarray, " N"]:
        """The answer with the highest score of every question, in order."""
        return answer(model, data, device)

    def save(self, folder: Path, model: AnsweringModel) -> None:
        """Keep a fine-tuned model with its tokenizer."""
        save_model(folder, model, self.start.tokenizer)


def asked_of(
    benchmark: Benchmark, config: AnsweringConfig, inputs: Mapping[str, Path], start: StartingPoint
) -> Asked:
    """A benchmark's questions for LXMERT; `inputs` has the folders of the stages `questions` and `regions`."""
    store = load_regions(inputs["regions"])
    reader = LxmertReader(config, store, start, benchmark.name)
    data = load_questions(inputs["questions"])
    return Asked(benchmark, config, data, store, reader, stage=f"lxmert.{benchmark.name}")


def run(context: StageContext, benchmark: Benchmark) -> dict[str, float]:
    """Fine-tune with every seed; files and metrics as `downstream.answering.run_asked` says."""
    start = starting_point(context)
    return run_asked(context, asked_of(benchmark, context.config, context.inputs, start))


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
    model, answers = fine_tuned(folder, seed)
    return Answerer(load_model(model, AnsweringModel), answers, load_tokenizer(model))
