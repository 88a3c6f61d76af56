"""Stage `cclm.xgqa`: answer questions about pictures. Learnt from GQA's English questions; answers are always English.

Paper: CCLM (Zeng et al., ACL 2023), section 4.1; xGQA (Pfeiffer et al. 2022). The model, `answering.AnsweringModel`,
ranks the task's answers. Training questions have up to 30 words, those that are asked up to 50. A control that sees no
picture (`blind`) is the question alone.

Differs from the original: the score counts every piece of an answer once (CCL-52; `original.first_twice`). As there,
each of a question's n answers weighs 1/n in training, whatever weight the file gives it (CCL-53).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from vlpnb.cclm.answering import AnsweringModel
from vlpnb.cclm.finetuning import CclmFineTuningConfig, task_stage
from vlpnb.cclm.start import StartingPoint
from vlpnb.config import Config
from vlpnb.data.iglue_data import Iglue
from vlpnb.data.xgqa import QuestionRow
from vlpnb.downstream.answer_ranking import Answers, rank
from vlpnb.downstream.pictured import Sentences
from vlpnb.downstream.transfer_rows import Benchmark, Views
from vlpnb.metrics.iglue import xgqa_scores

ANSWER_PIECES = 32  # with both special ones; longer candidates are cut


class OriginalXgqa(Config):
    """What the released code does otherwise."""

    first_twice: bool = False
    """The first piece of an answer counts twice in its score (CCL-52)."""


class XgqaConfig(CclmFineTuningConfig):
    """How to fine-tune, and what to ask then. Defaults: the paper's."""

    epochs: float = Field(5.0, gt=0)
    """Passes over the English training questions."""
    max_words: int = Field(30, ge=1)
    """Words of a training question, of which the first are kept."""
    max_words_test: int = Field(50, ge=1)
    """Words of a question that is asked."""
    max_length: int = Field(40, ge=3)
    """Word pieces of a question with the two special ones."""
    k: int = Field(128, ge=1)
    """Candidates that are scored of each question: those whose first pieces are the likeliest."""
    original: OriginalXgqa = OriginalXgqa()
    """What the released code does otherwise."""


@dataclass(frozen=True)
class Asked:
    """Questions with their pictures and answers, padded batch by batch; −1 is an answer that is no candidate."""

    texts: Sentences
    views: Views
    answers: Answers
    right: tuple[tuple[int, ...], ...]  # rows of `answers.ids` of each question

    @property
    def lengths(self) -> np.ndarray:
        """Word pieces of each."""
        return self.texts.lengths

    def __len__(self) -> int:
        return len(self.right)

    def batch(
        self, rows: Sequence[int] | np.ndarray, random: np.random.Generator | None = None
    ) -> dict[str, Tensor]:
        """ids, mask [B T], patches [n 1+P F], picture [B]; answer_ids, answer_mask [M L], answer_of and _weight [M]."""
        patches, which = self.views.batch(rows, random)
        right = [self.right[row] for row in rows]
        told = torch.tensor([answer for each in right for answer in each], dtype=torch.long)
        counts = torch.tensor([len(each) for each in right])
        longest = int(self.answers.mask[told].sum(1).max()) if len(told) else 1
        return {
            **self.texts.batch(rows),
            "patches": patches,
            "picture": which[:, 0],
            "answer_ids": self.answers.ids[told, :longest],
            "answer_mask": self.answers.mask[told, :longest],
            "answer_of": torch.arange(len(right)).repeat_interleave(counts),
            "answer_weight": (1 / counts).repeat_interleave(counts),
        }


def candidates(iglue: Iglue, start: StartingPoint) -> Answers:
    """The task's answers as the decoder writes them."""
    texts = iglue.answers()
    pieces = start.pieces.encode(
        texts, max_words=ANSWER_PIECES, max_tokens=ANSWER_PIECES, question=True
    )  # an answer is cleaned as a question is
    return Answers.of(texts, [ids.tolist() for ids in pieces], start.pieces.pad_id)


def examples(answers: Answers, rows: Sequence[QuestionRow], texts: Sentences, views: Views) -> Asked:
    """Rows as tensors; answers that are no candidates cannot be learnt, and are left out."""
    place = {text: answers.row[i] for i, text in enumerate(answers.texts)}
    right = tuple(tuple(place[said] for said in row.answers if said in place) for row in rows)
    return Asked(texts, views, answers, right)


def say(
    answers: Answers, k: int, first_twice: bool, model: AnsweringModel, batch: dict[str, Tensor]
) -> list[str]:
    """The best candidate of each question."""
    views = model.backbone.pictures(batch["patches"])
    states = model.read(batch["ids"], batch["mask"], views, batch["picture"])
    ranked = rank(model.decoder, states, batch["mask"], answers.to(states.device), k, first_twice)
    return [answers.texts[answers.first[row]] for row in ranked.rows[:, 0].tolist()]


def benchmark(config: XgqaConfig, iglue: Iglue, start: StartingPoint) -> Benchmark:
    """XGQA for `downstream.transfer`."""
    answers = candidates(iglue, start)
    known = frozenset(answers.texts)
    return Benchmark(
        "xgqa", "cclm.xgqa", "xGQA", "answers", AnsweringModel, (), True,
        text=lambda row: row.question,
        pictures=lambda row: (row.image_id,),
        gold=lambda row: row.answer,
        learnable=lambda row: not known.isdisjoint(row.answers),
        group=lambda row: row.image_id,
        identifier=lambda row: row.question_id,
        examples=partial(examples, answers),
        say=partial(say, answers, config.k, config.original.first_twice),
        score=xgqa_scores,
        max_words_test=config.max_words_test,
    )  # fmt: skip


XGQA = task_stage(
    "xgqa", XgqaConfig, benchmark,
    "Fine-tune CCLM on GQA's English questions, and ask it in every language.",
)  # fmt: skip
