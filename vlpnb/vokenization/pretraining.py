"""Stage `vokenization.pretraining`: pre-train a language model on a tokenised corpus, with or without vokens.

Paper: Vokenization (Tan & Bansal 2020), sections 2 and 4.2. One stage run is one kind of supervision (the
table in `supervision.py`) and one seed.

Differs from the original: all kinds of supervision share model initialisation, order of blocks, masks and
schedule (the original gave the baseline 10 % more updates and another order, and so does `original.baseline`);
evaluation masks are fixed (VOK-22) and voken accuracy is computed; a killed run continues; masks are a function of
(seed, update) and drawn for the whole update, so the number of processes and micro-batches does not change them.
"""

import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field, field_validator, model_validator

from vlpnb.config import Config, Indices, Seed
from vlpnb.errors import UserError
from vlpnb.foundations.picture_keys import Source
from vlpnb.nn.language_model import language_model_config
from vlpnb.nn.transformer import init_weights
from vlpnb.stage import Request, Stage, StageContext, files_made
from vlpnb.text.packing import trimmed
from vlpnb.text.tokenizers import MASKED, load_tokenizer
from vlpnb.train.distributed import barrier, sum_of_dicts
from vlpnb.train.loop import TrainingPlan, autocast
from vlpnb.train.pretraining import PretrainingFields, measured, plan_of, pretrain, speed, told
from vlpnb.train.sampling import evenly, seed_of
from vlpnb.vokenization.batches import Batches
from vlpnb.vokenization.keys import voken_features
from vlpnb.vokenization.supervision import (
    Examples,
    Supervision,
    VokenLabels,
    training_data,
    voken_count,
)
from vlpnb.vokenization.visual_lm import VisuallySupervisedLM, save_snapshot
from vlpnb.vokenization.voken_heads import objectives_of
from vlpnb.vokenization.vokeniser import Granularity

EVALUATION_SEED = 9595  # of the fixed evaluation masks, the same for every run


class OriginalPretraining(Config):
    """What the original does otherwise."""

    baseline: bool = False
    """The baseline as published: 10 % more updates, and shuffled if `epochs` count. Says nothing about other runs."""
    blocks: bool = False
    """Leave out up to two full blocks and the tail (VOK-14)."""
    exclude: Indices | None = None
    """Tokens of the training corpus to leave out; the published ones are a list of Wikipedia's counties."""
    mean_over_all: bool = False
    """The objective "reg" divides by all positions, labelled or not."""


class PretrainingConfig(PretrainingFields):
    """How to pre-train. Defaults: the paper's small model on Wikitext-103."""

    supervision: Supervision = "vokens"
    """See the table in `supervision.py`."""
    seed: Seed = 95
    """Of initial weights, order, masks and dropout."""
    size: str = "small"
    """A key of `nn.language_model.SIZES`."""
    objective: str = "cls"
    """"cls", "ctr" (contrast with features), "reg" (regression to them), or a sum: "cls+reg"."""
    image_features: Source = "matcher"
    """Of "reg" and "ctr": the matcher's keys, or the backbone's."""
    shared_head: bool = False
    """The voken objective, cls or ctr alone, uses the MLM head's trunk."""
    voken_labels: VokenLabels = "all"
    """Which positions carry a voken label."""
    mlm_ratio: float = Field(1.0, ge=0)
    """Weight of the masked-word loss."""
    mask_rate: float = Field(0.15, gt=0, lt=1)
    """Share of tokens that the model must guess."""
    examples: Examples = "blocks"
    """Blocks of the token stream, or its lines cut to that length."""
    block: int = Field(126, ge=4, le=510)
    """Tokens per example, without the two special tokens."""
    batch: int = Field(256, ge=1)
    """Examples per update, over all processes."""
    micro_batch: int = Field(32, ge=1, json_schema_extra={"hash": False})
    """Examples per process at a time."""
    epochs: float = Field(40.0, gt=0)
    """Passes over the corpus, unless `updates` is given."""
    updates: int | None = Field(None, ge=1)
    """Optimiser steps."""
    warmup: int = Field(10_000, ge=0)
    """Updates of linear warm-up."""
    warmup_share: float | None = Field(None, ge=0, le=1)
    """Share of the updates, in place of `warmup`."""
    optimiser: Literal["adamw", "lamb"] = "adamw"
    """LAMB for batches of thousands."""
    lr: float = Field(2e-4, gt=0)
    """Peak learning rate."""
    init_std: float = Field(0.02, gt=0)
    """Of the initial weights; narrow models start better with 1/√hidden."""
    shuffle: bool = False
    """A new order each epoch; the paper's voken runs read the corpus in order."""
    snapshots: int = Field(1, ge=1)
    """Saved models, evenly spaced, the last one at the end."""
    eval_blocks: int = Field(1024, ge=1)
    """At most so many examples of the validation corpus."""
    log_every: int = Field(20, ge=1, json_schema_extra={"hash": False})
    """Updates per line of `metrics.jsonl`."""
    original: OriginalPretraining = OriginalPretraining()
    """What the original does otherwise."""

    @field_validator("objective")
    @classmethod
    def _known(cls, value: str) -> str:
        try:
            return "+".join(objectives_of(value))
        except UserError as error:
            raise ValueError(str(error)) from None

    @model_validator(mode="after")
    def _consistent(self) -> "PretrainingConfig":
        if self.shared_head and self.objective not in ("cls", "ctr"):
            raise ValueError(
                f"objective {self.objective!r} cannot use the shared head; set shared_head to false"
            )
        if self.supervision == "token" and self.objective != "cls":
            raise ValueError("supervision 'token' has no image features; its objective must be 'cls'")
        if self.supervision == "visual-only" and self.voken_labels == "mask":
            raise ValueError("'visual-only' has no masked words to label; voken_labels must not be 'mask'")
        if self.examples == "lines" and self.original.blocks:
            raise ValueError("original.blocks counts blocks; set it to false where examples are 'lines'")
        return self

    @property
    def longer_baseline(self) -> bool:
        """Whether this is the baseline as published, with 10 % more updates than the other runs."""
        return self.original.baseline and self.supervision == "mlm"

    @property
    def shuffled(self) -> bool:
        """Whether epochs have an order of their own; the published script with epochs shuffles its baseline."""
        return self.shuffle or (self.longer_baseline and self.updates is None)

    def identity(self) -> dict[str, Any]:
        """Runs with vokens are not trained again for a longer baseline: `original.baseline` says nothing about them."""
        if self.supervision != "mlm" and self.original.baseline:
            original = self.original.model_copy(update={"baseline": False})
            return self.model_copy(update={"original": original}).identity()
        return super().identity()

    @property
    def needs_vokens(self) -> bool:
        """Whether the voken stage must have run; random labels only need its number of images."""
        return self.supervision not in ("mlm", "token")

    @property
    def granularity(self) -> Granularity:
        """At which granularity the vokens must have been retrieved."""
        kinds: dict[str, Granularity] = {"sentence": "sentence", "propagated": "sentence", "term": "term"}
        return kinds.get(self.supervision, "token")

    @property
    def mlm_weight(self) -> float:
        return 0.0 if self.supervision == "visual-only" else self.mlm_ratio


def inputs(config: PretrainingConfig) -> Mapping[str, Request]:
    needed = {"corpus": Request("corpus")}
    if config.needs_vokens:
        needed["vokens"] = Request("vokenization.vokens", {"granularity": config.granularity})
        if config.objective != "cls":
            needed["keys"] = Request("vokenization.keys", {"source": config.image_features})
    return needed


def evaluate(
    model: VisuallySupervisedLM, batches: Batches, device: str, blocks: int, rows_at_once: int = 64
) -> dict[str, float]:
    """perplexity, and voken_loss, voken_top1, voken_top5 when the model has a voken head.

    With several voken objectives voken_loss is their sum, and each is there too (voken_cls_loss …), all as means over
    the labelled positions; the guesses are those of cls if it is among them, else of ctr, else of reg.
    Masks are fixed, so that a call repeats to the bit. Processes share the blocks.
    """
    was_training = model.training
    model.eval()
    totals: dict[str, float] = {}
    rows = np.arange(min(len(batches.data), blocks))
    for number, start in enumerate(range(0, len(rows), rows_at_once)):
        generator = torch.Generator().manual_seed(seed_of(EVALUATION_SEED, number))
        made = batches.examples(rows[start : start + rows_at_once], generator)
        mine = slice(batches.rank, None, batches.world_size)
        made = trimmed({name: value[mine].to(device) for name, value in made.items()})
        with autocast(torch.device(device), batches.config.precision):
            for name, value in model.measure(**made).items():
                totals[name] = totals.get(name, 0.0) + value
    model.train(was_training)
    totals = sum_of_dicts(totals, batches.world_size, device)
    result = {"perplexity": math.exp(min(totals["mlm"] / totals["mlm_count"], 50.0))}
    if "voken" in totals:
        names = {"voken": "voken_loss", "top1": "voken_top1", "top5": "voken_top5"}
        names |= {name: f"{name}_loss" for name in model.heads}
        result |= {ours: totals[name] / totals["voken_count"] for name, ours in names.items()}
    return result


def snapshot_folders(folder: Path) -> list[Path]:
    """The snapshots of a pre-training's folder, oldest first. UserError when there are none."""
    found = sorted(path for path in Path(folder).glob("snapshot-*") if (path / "config.json").is_file())
    if not found:
        raise UserError(
            f"{folder} holds no folder snapshot-…; expected the folder of a finished stage `pretraining`"
        )
    return found


def snapshots_made(folder: Path) -> list[Path]:
    """The snapshots that a pre-training saved, oldest first, those too that somebody has removed since."""
    made = sorted({name.split("/")[0] for name in files_made(folder) if name.startswith("snapshot-")})
    return [folder / name for name in made] or snapshot_folders(folder)


def older_snapshots(names: Collection[str]) -> list[str]:
    """The files of all snapshots but the last, which is the model."""
    snapshots = sorted({name.split("/")[0] for name in names if name.startswith("snapshot-")})
    return [name for name in names if name.split("/")[0] in snapshots[:-1]]


def training_plan(config: PretrainingConfig, per_epoch: int) -> TrainingPlan:
    """The published optimisation of a corpus with so many updates per epoch."""
    updates = config.updates or max(1, round(config.epochs * per_epoch))
    if config.longer_baseline:
        updates = round(1.1 * updates)
    warmup = config.warmup if config.warmup_share is None else round(config.warmup_share * updates)
    return plan_of(
        config, updates, warmup=min(warmup, updates), weights={"mlm": config.mlm_weight},
        evaluate_at=frozenset([*evenly(updates, config.evaluations), *evenly(updates, config.snapshots)]),
    )  # fmt: skip


def run(context: StageContext) -> dict[str, float]:
    """Train, evaluate, save snapshots. Metrics: perplexity, voken_loss, voken_top1, voken_top5, updates, tokens.

    With several voken objectives also the loss of each, such as voken_cls_loss.
    """
    config: PretrainingConfig = context.config
    tokenizer = load_tokenizer(context.inputs["corpus"] / "tokenizer", MASKED)
    vokens = {"mlm": 0, "token": len(tokenizer)}.get(config.supervision, 0)
    features = None
    if config.needs_vokens:
        vokens = voken_count(context.inputs["vokens"])
        if config.objective != "cls":
            names = context.inputs["vokens"] / "train.ids"
            features = voken_features(context.inputs["keys"], names, config.image_features)

    torch.manual_seed(config.seed)  # encoder and MLM head first: the same start for every kind of supervision
    model = VisuallySupervisedLM(
        language_model_config(config.size, tokenizer, config.dropout),
        vokens,
        config.objective,
        config.shared_head,
        features,
    )
    init_weights(model, config.init_std)
    if config.mlm_weight == 0 and not config.shared_head:
        model.mlm.requires_grad_(False)

    parts = {split: training_data(context, split, tokenizer) for split in ("train", "valid")}
    batches, valid = (
        Batches(config, part, tokenizer, vokens, context.rank, context.world_size) for part in parts.values()
    )
    plan = training_plan(config, batches.sampler.per_epoch)
    updates, snapshots = plan.updates, evenly(plan.updates, config.snapshots)
    parameters = sum(p.numel() for p in model.parameters())
    context.log(
        f"{parameters / 1e6:.1f} M parameters, {len(parts['train']):,} {config.examples}, {updates:,} updates of "
        f"{batches.sampler.batch} {config.examples}, {vokens:,} vokens"
    )

    def at(step: int) -> Mapping[str, float]:
        if step in snapshots and context.rank == 0:
            save_snapshot(context.folder / f"snapshot-{step:07d}", model, tokenizer)
        return told(context, step, evaluate(model, valid, context.device, config.eval_blocks))

    records = pretrain(context, model, batches, plan, at)
    barrier(context.world_size)
    return {
        **measured(records),
        "updates": updates,
        "tokens": batches.tokens(updates),
        **speed(records),
    }


PRETRAINING = Stage(
    name="vokenization.pretraining",
    config=PretrainingConfig,
    run=run,
    inputs=inputs,
    variant=("supervision", "seed"),
    spare=older_snapshots,
    doc="Pre-train a language model with masked words and vokens.",
    distributed=True,
)
