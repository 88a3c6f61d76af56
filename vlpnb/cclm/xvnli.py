"""Stage `cclm.xvnli`: does a picture entail a sentence, contradict it, or leave it open? Learnt in English.

Paper: CCLM (Zeng et al., ACL 2023), section 4.1; IGLUE (Bugliarello et al. 2022), section 3.1. The hypothesis is read
beside its picture by all layers, and a head reads position 0. Nobody reads the premise that people read. A control that
sees no picture (`blind`) is the hypothesis alone.

Rows whose gold label is "-" are not learnt from. Two accuracies tell of them in the test sets: of the labelled rows, as
the original counts, and of all, as IGLUE does (CCL-31).
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from vlpnb.cclm.finetuning import CclmFineTuningConfig, task_stage
from vlpnb.cclm.model import Cclm, ScoreHead
from vlpnb.cclm.pairs import NEW, freeze_unread
from vlpnb.data.iglue import LABELS, EntailmentRow
from vlpnb.downstream.pictured import Sentences
from vlpnb.downstream.transfer_rows import Benchmark, Labelled, Views
from vlpnb.metrics.iglue import xvnli_scores


class EntailmentModel(nn.Module):
    """The backbone, and a head of three classes in the order of `LABELS`."""

    def __init__(self, backbone: Cclm):
        super().__init__()
        self.config, self.backbone = backbone.config, backbone
        self.head = ScoreHead(backbone.config.hidden, len(LABELS))
        freeze_unread(backbone)

    def scores(
        self,
        ids: Int[Tensor, "B T"],
        mask: Bool[Tensor, "B T"],
        patches: Float[Tensor, "N ..."],
        picture: Int[Tensor, " B"],
    ) -> Float[Tensor, "B C"]:
        """A score for each class, of sentences about pictures, whose rows in `patches` are `picture`."""
        keys = self.backbone.memory_keys(self.backbone.pictures(patches)).rows(picture)
        text = self.backbone.text(ids, mask)
        return self.head(self.backbone.fuse(text, mask, cached=keys, places=ids.new_zeros(len(ids), 1)))

    def forward(self, label: Int[Tensor, " B"], **batch: Tensor) -> dict[str, Float[Tensor, ""]]:
        """The loss "labels", summed over the sentences; `batch` as `scores` takes it."""
        return {"labels": F.cross_entropy(self.scores(**batch).float(), label, reduction="sum")}


def examples(rows: Sequence[EntailmentRow], texts: Sentences, views: Views) -> Labelled:
    """Rows as tensors."""
    labels = [-1 if row.label is None else LABELS.index(row.label) for row in rows]
    return Labelled(texts, views, torch.tensor(labels), ("picture",))


def say(model: EntailmentModel, batch: dict[str, Tensor]) -> list[str]:
    """The label with the highest score of each row."""
    batch = {name: value for name, value in batch.items() if name != "label"}
    return [LABELS[best] for best in model.scores(**batch).float().nan_to_num().argmax(1).tolist()]


def benchmark(*_: object) -> Benchmark:
    """XVNLI for `downstream.transfer`."""
    return Benchmark(
        "xvnli", "cclm.xvnli", "XVNLI", "labels", EntailmentModel, NEW, False,
        text=lambda row: row.hypothesis,
        pictures=lambda row: (row.image_id,),
        gold=lambda row: row.label,
        learnable=lambda row: row.label is not None,
        group=lambda row: row.image_id,
        identifier=lambda row: row.identifier,
        examples=examples, say=say, score=xvnli_scores,
    )  # fmt: skip


class XvnliConfig(CclmFineTuningConfig):
    """How to fine-tune, and what to ask then. Defaults: the paper's."""


XVNLI = task_stage(
    "xvnli", XvnliConfig, benchmark,
    "Fine-tune CCLM on entailment from pictures in English, and ask it in every language.",
)  # fmt: skip
