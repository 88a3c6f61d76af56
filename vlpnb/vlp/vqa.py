"""Stage `vlp.vqa`: fine-tune a model to answer questions about pictures.

Paper: VLP (Zhou et al. 2020), VQA 2.0: 20 epochs at 2e-5, batches of 2 × 64. The question stands behind the regions
under the bidirectional mask; the product of the states of [CLS] and of the [SEP] behind the regions goes through a head
with a score for every answer, trained by binary cross-entropy summed over the answers. Questions, seeds and results are
those of `vlpnb.downstream.answering`.

Of the original are kept: one word piece of a training question, or its [SEP], is hidden or replaced, though no loss
asks for it (VLP-17; `corrupt`); targets from what people said, spelt as the original's files spell it; class 0 is "none
of the answers", which is no target and never said (VLP-18), and is put in front of lists that lack it.

Nothing is kept between the questions of a picture: in this mode its regions see the question, so that every question
has its own pass over all of them (captioning, whose regions see themselves alone, computes them once). Questions are
read in batches of similar length.

Differs from the original: several seeds with their spread; batches padded to their own longest question; AdamW and
cross-entropy with the best answer on request, for short trainings; accuracy by today's official program, and by that of
2019 on request (VLP-14); the weights of the best epoch are chosen here, not by hand.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from vlpnb.config import Config
from vlpnb.data.asked import AskedQuestion
from vlpnb.data.asked_data import load_questions
from vlpnb.data.vqa_labels import imdb_targets, with_unknown
from vlpnb.downstream.answering import ANSWERS, Asked, Questions, run_asked, vqa
from vlpnb.downstream.finetuning import batches_by_length
from vlpnb.downstream.pictured import Chosen, PicturedConfig, Sentences, something_to_answer_with
from vlpnb.downstream.seeds import kept_model
from vlpnb.errors import UserError
from vlpnb.files import read_back
from vlpnb.foundations.regions import load_regions
from vlpnb.metrics.vqa import Spelling
from vlpnb.nn.losses import AnswerObjective
from vlpnb.stage import Request, Stage, StageContext
from vlpnb.text.masking import Words, hide
from vlpnb.text.tokenizers import load_tokenizer
from vlpnb.vlp.heads import VlpForAnswers, best_answers
from vlpnb.vlp.original.weights import load_model, save_model
from vlpnb.vlp.pictures import Pictures
from vlpnb.vlp.start import StartConfig, StartingPoint, pretraining_of, starting_point

ROWS_AT_ONCE = 256


class OriginalVqa(Config):
    """What the released code does otherwise."""

    any_random: bool = False
    """A corrupted word may become a special or unused piece too (VLP-12)."""
    estimated_sizes: bool = False
    """A picture's size is the farthest edge of its boxes (VLP-04); published weights expect it."""
    spelling: Spelling = "official"
    """Whose program counts the accuracy: "official", today's; "pythia", of 2019 (VLP-14)."""


class VqaConfig(StartConfig, PicturedConfig):
    """How to fine-tune. Defaults: the paper's."""

    lr: float = Field(2e-5, gt=0)
    """Peak learning rate."""
    epochs: float = Field(20.0, ge=0)
    """Passes over the training questions. 0: none are read; `model` is a fine-tuned one, and answers as it is."""
    batch: int = Field(128, ge=1)
    """Questions per update; what fills no batch at the end of an epoch is left out."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """Of the whole model, in training."""
    text_length: int = Field(20, ge=1, le=400)
    """Word pieces of a question without its [SEP]; longer ones are cut."""
    corrupt: bool = True
    """Hide or replace one word piece of every training question (VLP-17)."""
    objective: AnswerObjective = "soft"
    """"soft": binary cross-entropy of all answers; "best": cross-entropy with the best one, times their number."""
    original: OriginalVqa = OriginalVqa()
    """What the released code does otherwise."""

    _answers = model_validator(mode="after")(something_to_answer_with)


def with_lengths(batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A batch with `lengths` [B], word pieces without the [SEP], in the place of its `mask`."""
    rest = {name: value for name, value in batch.items() if name != "mask"}
    return {**rest, "lengths": batch["mask"].sum(dim=1) - 1}


def corrupted(
    ids: Int[Tensor, "B T"], lengths: Int[Tensor, " B"], words: Words, *seed: int
) -> Int[Tensor, "B T"]:
    """Questions of each of which one word piece, or the [SEP], is [MASK] (80 %), another piece (10 %) or as it was."""
    hidden, _ = hide(ids.numpy(), lengths.numpy(), words, 0.0, 1, np.random.default_rng(seed))
    return torch.from_numpy(hidden[:, : ids.shape[1]])


@torch.no_grad()
def answer(model: VlpForAnswers, data: Questions, device: str) -> Int[np.ndarray, " N"]:
    """The best answer of every question, in order; never class 0 (VLP-18)."""
    model.eval()
    found = np.zeros(len(data), np.int64)
    for rows, batch in batches_by_length(data, ROWS_AT_ONCE, device):
        batch.pop("targets")
        found[rows] = best_answers(model.scores(**with_lengths(batch)).float().nan_to_num()).cpu().numpy()
    return found


@dataclass(frozen=True)
class VlpReader:
    """VLP as a reader of questions (`downstream.answering.Reader`)."""

    config: VqaConfig
    shown: Pictures
    start: StartingPoint
    words: Words
    plan: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Of the weights that it starts from."""
        return self.start.name

    @property
    def weights(self) -> str:
        """Their folder or file."""
        return self.start.weights

    def fresh(self, answers: Sequence[str]) -> VlpForAnswers:
        """The model as its training starts; its head of answers is new."""
        model = self.start.model(VlpForAnswers, self.shown, answers=len(answers), dropout=self.config.dropout)
        model.objective = self.config.objective
        return model

    def finished(self, answers: Sequence[str]) -> VlpForAnswers:
        """A fine-tuned model as it is. UserError where it has another number of answers, or learnt other regions."""
        model = load_model(self.weights, VlpForAnswers, **self.start.untold)
        if (classes := model.answers.out.out_features) != len(answers):
            raise UserError(
                f"{self.name}: has {classes:,} answers, and the task {len(answers):,} with the one that is none of "
                "them; name the file of its answers in `questions.vqa.answers`"
            )
        self.start.check(model.config, self.shown)
        return model

    def sentences(self, texts: Sequence[str]) -> Sentences:
        """Questions with [SEP]."""
        return Sentences.closed(texts, self.start.tokenizer, self.config.text_length)

    def pictures(self, names: Sequence[str], where: str) -> Chosen:
        """Features and geometry."""
        return Chosen(self.shown, self.shown.rows(names, where))

    def altered(self, batch: dict[str, Tensor], update: int, seed: int) -> dict[str, Tensor]:
        """With lengths, and if so configured a word of each question corrupted."""
        batch = with_lengths(batch)
        if self.config.corrupt:
            batch["ids"] = corrupted(batch["ids"], batch["lengths"], self.words, seed, update)
        return batch

    def answer(self, model: VlpForAnswers, data: Questions, device: str) -> Int[np.ndarray, " N"]:
        """The best answer of every question, in order."""
        return answer(model, data, device)

    def save(self, folder: Path, model: VlpForAnswers) -> None:
        """Keep a fine-tuned model with its tokenizer."""
        save_model(folder, model, self.start.tokenizer)


def with_targets(question: AskedQuestion, answers: Sequence[str]) -> AskedQuestion:
    """A question with the targets of what people said; where a file gives scores alone, with those."""
    if not question.human:
        return question
    return replace(question, targets=imdb_targets(question.human, answers))


def asked_of(config: VqaConfig, inputs: Mapping[str, Path], start: StartingPoint) -> Asked:
    """The questions for VLP; `inputs` has the folders of the stages `questions` and `regions`."""
    data, store = load_questions(inputs["questions"]), load_regions(inputs["regions"])
    pictures = Pictures(store, config.original.estimated_sizes, config.blind)
    answers = with_unknown(data.answers("vqa"))
    listed = frozenset(answers)
    return Asked(
        vqa(config.original.spelling), config, data, store,
        VlpReader(config, pictures, start, Words.of(start.tokenizer, config.original.any_random)),
        answers, lambda split: [with_targets(q, listed) for q in data.read("vqa", split)], stage="vlp.vqa",
    )  # fmt: skip


def inputs(config: VqaConfig) -> Mapping[str, Request]:
    """The stage `questions`, the regions, and the pre-training unless a model is named."""
    return {
        "questions": Request("questions"),
        "regions": Request("regions", config.regions),
        **pretraining_of(config),
    }


def run(context: StageContext) -> dict[str, float]:
    """Fine-tune with every seed; files and metrics as `downstream.answering.run_asked` says."""
    asked = asked_of(context.config, context.inputs, starting_point(context))
    context.log(f"regions with {asked.reader.shown.said}")
    return run_asked(context, asked)


VQA = Stage(
    name="vlp.vqa",
    config=VqaConfig,
    run=run,
    inputs=inputs,
    variant=("start", "model", "blind", "corrupt", "objective"),
    distributed=True,
    doc="Fine-tune VLP on VQA v2.",
)


@dataclass(frozen=True)
class Answerer:
    """A fine-tuned model and what it takes to ask it."""

    model: VlpForAnswers
    answers: tuple[str, ...]
    tokenizer: PreTrainedTokenizerFast

    def read(self, questions: Sequence[str]) -> dict[str, Tensor]:
        """`ids` [B T] and `lengths` [B] of some questions, as the model takes them."""
        sentences = Sentences.closed(questions, self.tokenizer, self.model.config.text_length)
        return with_lengths(sentences.batch(range(len(questions))))

    @torch.no_grad()
    def scores(self, regions: Mapping[str, Tensor], questions: Sequence[str]) -> Float[Tensor, "B A"]:
        """A score for every answer of `answers`, of each question about the picture in its row of `regions`."""
        return self.model.eval().scores(**regions, **self.read(questions))


def load_answerer(folder: Path, seed: int | None = None) -> Answerer:
    """The model of a finished stage `vlp.vqa`, of its first seed unless one is named.

    Raises:
        UserError: it was not kept.
    """
    model = kept_model(folder, seed)
    answers = tuple(read_back(folder / ANSWERS))
    return Answerer(load_model(model, VlpForAnswers), answers, load_tokenizer(model))
