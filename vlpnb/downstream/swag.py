"""SWAG: fine-tune a pre-trained model to choose the right one of four endings.

The paper reports accuracy on SWAG with BERT's settings; its code holds none of it, so this follows BERT (Devlin et
al. 2019, section 4.4): each ending is read beside the story as a pair of its own, one number is computed from its
first token, and the four numbers are the scores of a softmax.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from vlpnb.data.description import load_folder
from vlpnb.data.swag import SwagExample, read_swag
from vlpnb.downstream import finetuning
from vlpnb.downstream.finetuning import FineTuningConfig, Job
from vlpnb.nn.checkpoints import load_classifier, save_hf
from vlpnb.nn.heads import ClassificationHead
from vlpnb.stage import StageContext
from vlpnb.text.tokenizers import PAIRED, load_tokenizer


class SwagConfig(FineTuningConfig):
    """How to fine-tune. Defaults: BERT's, as in the paper."""

    lr: float = Field(2e-5, gt=0)
    """Peak learning rate."""
    batch: int = Field(16, ge=1)
    """Examples (of four endings) per update."""
    max_length: int = Field(128, ge=8)
    """Tokens of a story with one ending and special tokens."""


class EndingChooser(nn.Module):
    """An encoder and a head of one number per ending, with their loss."""

    def __init__(self, encoder: nn.Module, head: ClassificationHead):
        super().__init__()
        self.encoder, self.head = encoder, head

    def logits(
        self, ids: Int[Tensor, "B E T"], mask: Bool[Tensor, "B E T"], types: Int[Tensor, "B E T"]
    ) -> Float[Tensor, "B E"]:
        """Scores of the E endings of each example."""
        flat = [x.flatten(0, 1) for x in (ids, mask, types)]  # (B·E, T)
        if self.encoder.config.type_vocab < 2:
            flat[2] = None
        return self.head(self.encoder(*flat).last).view(ids.shape[:2])

    def forward(
        self, ids: Tensor, mask: Tensor, types: Tensor, labels: Tensor
    ) -> dict[str, Float[Tensor, ""]]:
        """Cross-entropy over the endings, summed over the batch."""
        logits = self.logits(ids, mask, types).float()
        return {"choice": F.cross_entropy(logits, labels, reduction="sum")}


class Endings:
    """Examples as token ids, padded batch by batch; what does not fit is cut from the longer of story and ending."""

    def __init__(self, examples: Sequence[SwagExample], tokenizer, max_length: int):
        self.choices = len(examples[0].endings)
        stories = [example.first for example in examples for _ in example.endings]
        endings = [f"{example.second} {ending}" for example in examples for ending in example.endings]
        made = tokenizer(stories, endings, truncation=True, max_length=max_length, return_token_type_ids=True)
        self.ids, self.types = made["input_ids"], made["token_type_ids"]
        self.lengths = np.array([len(row) for row in self.ids]).reshape(-1, self.choices)
        self.labels = torch.tensor([-1 if example.label is None else example.label for example in examples])
        self.pad = tokenizer.pad_token_id

    def __len__(self) -> int:
        return len(self.lengths)

    def batch(self, rows: Sequence[int] | np.ndarray) -> dict[str, Tensor]:
        """ids, mask, types [B E T] and labels [B] of some examples."""
        lengths = self.lengths[rows]
        shape = (*lengths.shape, int(lengths.max()))
        ids, types = np.full(shape, self.pad), np.zeros(shape, np.int64)
        for i, row in enumerate(rows):
            for j in range(self.choices):
                at = row * self.choices + j
                ids[i, j, : lengths[i, j]], types[i, j, : lengths[i, j]] = self.ids[at], self.types[at]
        mask = np.arange(shape[-1]) < lengths[..., None]
        arrays = {"ids": ids, "mask": mask, "types": types}
        return {name: torch.from_numpy(array) for name, array in arrays.items()} | {
            "labels": self.labels[rows]
        }


@torch.no_grad()
def predict(model: EndingChooser, data: Endings, device: str, rows_at_once: int = 32) -> np.ndarray:
    """The chosen ending of every example, int64 [N], in order; batches go from short to long."""
    model.eval()
    found = np.zeros(len(data), np.int64)
    for rows, batch in finetuning.batches_by_length(data, rows_at_once, device):
        logits = model.logits(batch["ids"], batch["mask"], batch["types"]).float()
        found[rows] = logits.nan_to_num().argmax(1).cpu().numpy()
    return found


def fine_tune(
    folder: Path, model_folder: Path, root: Path, config: SwagConfig, seed: int, device: str
) -> dict:
    """Fine-tune with one seed and score it; works in `folder` and resumes there.

    Returns: seed, value (accuracy), majority (of the best constant answer), diverged ("" or why), loss, updates.
    """
    tokenizer = load_tokenizer(model_folder, PAIRED)

    def make() -> EndingChooser:
        return EndingChooser(*load_classifier(model_folder, labels=1))

    data = Endings(read_swag(root, "train")[: config.max_train], tokenizer, config.max_length)
    trained = finetuning.train(make, data, "choice", config, folder, seed, device)
    model = trained.model
    valid = Endings(read_swag(root, "valid")[: config.max_valid], tokenizer, config.max_length)
    labels, chosen = valid.labels.numpy(), predict(model, valid, device)
    accuracy = float((chosen == labels).mean())
    majority = float(np.bincount(labels).max() / len(labels))
    if config.keep_models:
        save_hf(folder / "model", model.encoder, choice=model.head, tokenizer=tokenizer)
    constant = np.ptp(chosen) == 0
    return {
        "seed": seed,
        "value": accuracy,
        "majority": majority,
        "diverged": trained.reason or finetuning.divergence(constant, trained.losses, accuracy, majority),
        **trained.summary(),
    }


def run(context: StageContext, source: Path) -> dict[str, float]:
    """Fine-tune the model in the folder `source` with every seed; writes `swag.json`.

    Metrics: `accuracy` (the median over the seeds) and `majority`, fractions of one, and the number of `diverged`
    runs.
    """
    config: SwagConfig = context.config
    root = load_folder(context.inputs["swag_data"], "swag_data").folder
    context.log(f"fine-tuning {source.parent.name}/{source.name} on SWAG")

    def job(seed: int) -> Job:
        return Job(
            f"seed-{seed}",
            lambda folder, work: [fine_tune(work, source, root, config, seed, context.device)],
        )

    results = finetuning.run_jobs(context, [job(seed) for seed in config.seeds], line, "swag.json")
    return {
        "accuracy": float(median(result["value"] for result in results)),
        "majority": results[0]["majority"],
        "diverged": float(sum(bool(result["diverged"]) for result in results)),
    }


def line(result: Mapping) -> str:
    """A result as the log says it."""
    return f"SWAG seed {result['seed']}: {100 * result['value']:6.2f}"
