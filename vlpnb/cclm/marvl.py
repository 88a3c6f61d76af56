"""Stage `cclm.marvl`: is a sentence true of two pictures? Learnt from NLVR2, in English, asked in MaRVL's languages.

Paper: CCLM (Zeng et al., ACL 2023), section 4.1; MaRVL (Liu et al. 2021); NLVR2 (Suhr et al. 2019). The model is
`pairs.PairModel`. Consistency is the share of sentences that are judged right of all their pairs of pictures; intervals
are over sentences. A control that sees no picture (`blind`) is the sentence alone.
"""

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor

from vlpnb.cclm.finetuning import CclmFineTuningConfig, task_stage
from vlpnb.cclm.pairs import NEW, PairModel
from vlpnb.data.iglue import PairRow
from vlpnb.downstream.pictured import Sentences
from vlpnb.downstream.transfer_rows import Benchmark, Labelled, Views
from vlpnb.metrics.iglue import marvl_scores


class MarvlConfig(CclmFineTuningConfig):
    """How to fine-tune, and what to ask then. Defaults: the paper's."""

    max_words: int = Field(30, ge=1)
    """Words of a sentence, of which the first are kept."""


def examples(rows: Sequence[PairRow], texts: Sentences, views: Views) -> Labelled:
    """Rows as tensors."""
    labels = [-1 if row.label is None else int(row.label) for row in rows]
    return Labelled(texts, views, torch.tensor(labels), ("left", "right"))


def say(model: PairModel, batch: dict[str, Tensor]) -> list[bool]:
    """Whether each sentence is judged true of its pictures."""
    keys = model.backbone.memory_keys(model.backbone.pictures(batch["patches"]))
    scores = model.scores(batch["ids"], batch["mask"], keys, batch["left"], batch["right"])
    return scores.float().nan_to_num().argmax(1).bool().tolist()


def benchmark(*_: object) -> Benchmark:
    """MaRVL for `downstream.transfer`."""
    return Benchmark(
        "marvl", "cclm.marvl", "MaRVL", "pairs", PairModel, NEW, False,
        text=lambda row: row.sentence,
        pictures=lambda row: (row.left, row.right),
        gold=lambda row: row.label,
        learnable=lambda row: row.label is not None,
        group=lambda row: row.group,
        identifier=lambda row: row.identifier,
        examples=examples, say=say, score=marvl_scores,
    )  # fmt: skip


MARVL = task_stage(
    "marvl", MarvlConfig, benchmark,
    "Fine-tune CCLM on NLVR2's statements about two pictures, and ask it in every language.",
)  # fmt: skip
