"""Stage `swag`: fine-tune a pre-trained model to choose the right one of four endings (spec section 13).

The paper reports accuracy on SWAG with BERT's settings; its code holds none of it, so this follows BERT (Devlin et
al. 2019, section 4.4): each ending is read beside the story as a pair of its own, one number is computed from its
first token, and the four numbers are the scores of a softmax.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from vlpnb.config import Config
from vlpnb.data.description import load_dataset
from vlpnb.data.files import write_text_atomic
from vlpnb.data.swag import SwagExample, read_swag
from vlpnb.errors import UserError
from vlpnb.nn.checkpoints import load_classifier
from vlpnb.nn.heads import ClassificationHead
from vlpnb.stage import Request, Stage, StageContext
from vlpnb.text.tokenizers import load_tokenizer
from vlpnb.train.sampling import EpochSampler, Update
from vlpnb.vokenization import finetuning
from vlpnb.vokenization.pretraining import Supervision


class SwagConfig(Config):
    """How to fine-tune. Defaults: BERT's, as the spec suggests them (section 13)."""

    supervision: Supervision = "vokens"  # of the pre-trained model
    seed: int = 95  # of the pre-trained model
    snapshot: int = -1  # which of its snapshots, −1 the last
    model: str = ""  # a HuggingFace folder or name to fine-tune instead
    seeds: tuple[int, ...] = (9595,)  # of fine-tuning: the new layers, the order, dropout
    epochs: float = Field(3.0, gt=0)
    lr: float = Field(2e-5, gt=0)  # peak learning rate
    batch: int = Field(16, ge=1)  # examples (of four endings) per update
    max_length: int = Field(128, ge=8)  # tokens of a story with one ending and special tokens
    warmup: float = Field(0.1, ge=0, le=1)  # share of the updates
    weight_decay: float = 0.0
    clip: float = 1.0  # largest gradient norm
    max_train: int | None = None  # at most so many training examples
    max_valid: int | None = None
    checkpoint_seconds: float = Field(60.0, ge=0, json_schema_extra={"hash": False})


def inputs(config: SwagConfig) -> Mapping[str, Request]:
    needed = {"dataset": Request("dataset")}
    if not config.model:
        needed["vlm"] = Request("vlm", {"supervision": config.supervision, "seed": config.seed})
    return needed


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

    def batch(self, rows: Sequence[int]) -> dict[str, Tensor]:
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
    order = np.argsort(data.lengths.max(1), kind="stable")
    for start in range(0, len(order), rows_at_once):
        rows = order[start : start + rows_at_once]
        batch = {name: value.to(device) for name, value in data.batch(rows).items() if name != "labels"}
        found[rows] = model.logits(**batch).float().nan_to_num().argmax(1).cpu().numpy()
    return found


def fine_tune(
    folder: Path, model_folder: Path, root: Path, config: SwagConfig, seed: int, device: str
) -> dict:
    """Fine-tune with one seed and score it; works in `folder` and resumes there.

    Returns: seed, value (accuracy), majority (of the best constant answer), diverged ("" or why), loss, updates.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = load_tokenizer(model_folder)
    train = Endings(read_swag(root, "train")[: config.max_train], tokenizer, config.max_length)
    torch.manual_seed(seed)
    model = EndingChooser(*load_classifier(model_folder, labels=1))
    sampler = EpochSampler(len(train), min(config.batch, len(train)), seed, lengths=train.lengths.max(1))

    def batches(update: int) -> Update:
        batch = train.batch(sampler(update))
        return Update([batch], {"choice": len(batch["labels"])}, tokens=batch["ids"].numel())

    losses, reason, updates = finetuning.train(
        model, batches, sampler.per_epoch, config, folder, seed, device
    )
    valid = Endings(read_swag(root, "valid")[: config.max_valid], tokenizer, config.max_length)
    labels, chosen = valid.labels.numpy(), predict(model, valid, device)
    accuracy = float((chosen == labels).mean())
    majority = float(np.bincount(labels).max() / len(labels))
    return {
        "seed": seed,
        "value": accuracy,
        "majority": majority,
        "diverged": reason or finetuning.divergence(np.ptp(chosen) == 0, losses, accuracy, majority),
        "loss": losses[-1] if np.isfinite(losses[-1]) else None,
        "updates": updates,
    }


def run(context: StageContext) -> dict[str, float]:
    """Fine-tune with every seed; writes `swag.json`.

    Metrics: `accuracy` (the median over the seeds) and `majority`, fractions of one, and the number of `diverged`
    runs.
    """
    config: SwagConfig = context.config
    dataset = load_dataset(context.inputs["dataset"])
    if dataset.swag is None:
        raise UserError(f"the dataset at {dataset.root} has no SWAG folder; set `dataset.swag` to one")
    source = finetuning.pretrained_folder(context)
    context.log(f"fine-tuning {source.parent.name}/{source.name} on SWAG")
    results = []
    for number, seed in enumerate(config.seeds):
        folder = context.folder / f"seed-{seed}"
        file, work = folder / "result.json", folder / "work"
        if not file.is_file():
            result = fine_tune(work, source, dataset.swag, config, seed, context.device)
            write_text_atomic(file, json.dumps(result, indent=1))
        shutil.rmtree(work, ignore_errors=True)
        result = json.loads(file.read_text())
        results.append(result)
        note = f"   DIVERGED: {result['diverged']}" if result["diverged"] else ""
        context.log(f"SWAG seed {seed}: {100 * result['value']:6.2f}{note}")
        context.progress(number + 1, len(config.seeds))
    write_text_atomic(context.folder / "swag.json", json.dumps(results, indent=1))
    return {
        "accuracy": float(median(result["value"] for result in results)),
        "majority": results[0]["majority"],
        "diverged": float(sum(bool(result["diverged"]) for result in results)),
    }


SWAG = Stage(
    name="swag",
    config=SwagConfig,
    run=run,
    inputs=inputs,
    variant=("supervision", "seed"),
    doc="Fine-tune a pre-trained model on SWAG.",
)
