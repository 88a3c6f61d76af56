"""Stage `lxmert.pretraining`: five tasks on sentences, questions and the regions of their pictures.

Paper: LXMERT (Tan and Bansal 2019), sections 3 and 4.2, and its appendix.

Differs from the original: evaluation masks are fixed and answers scored on matched pairs (`evaluation.py`), means are
over all targets of an update on all processes, a killed run continues to the bit, and neither the number of processes
nor the size of micro-batches changes what is drawn (`examples.py`). Where paper and released code part, the paper's
settings are the defaults, except for what the released code says more exactly: labels of all regions (LXM-03) and
smooth-L1 on features (LXM-05).
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import Field, field_validator, model_validator
from transformers import PreTrainedTokenizerFast

from vlpnb.config import Config, Seed, one_of
from vlpnb.data.lxmert import AnswerTable
from vlpnb.data.region_store import RegionStore
from vlpnb.errors import UserError
from vlpnb.files import write_json
from vlpnb.foundations.regions import load_regions
from vlpnb.lxmert.evaluation import (
    EVALUATION_SEED,
    evaluate,
    evenly_spaced,
    grounding,
    hidden_words,
    visible_words,
)
from vlpnb.lxmert.examples import Batches, Masking, Task, VisualLoss, Wanted
from vlpnb.lxmert.heads import LxmertForPretraining
from vlpnb.lxmert.model import SIZES, LxmertConfig
from vlpnb.lxmert.original.weights import load_model, save_model, start_from_bert
from vlpnb.lxmert.sentence_table import OWN, bert_of, tables
from vlpnb.lxmert.start import MODEL, TABLE
from vlpnb.outside import ModelName
from vlpnb.stage import Request, Stage, StageContext
from vlpnb.text.tokenizers import load_tokenizer
from vlpnb.train.distributed import barrier
from vlpnb.train.loop import TrainingPlan, warming_up
from vlpnb.train.pretraining import PretrainingFields, measured, plan_of, pretrain, speed, told, updates_of

VISUAL_WEIGHT = 1 / 0.15  # of the losses of regions, whatever share is masked (LXM-04)
PAPERS_MISMATCH = 0.5  # evaluation pairs are mismatched so often, whatever training does


class OriginalPretraining(Config):
    """What the released code does otherwise."""

    answers_at_once: bool = False
    """Questions are answered from the first update on, with weight 1 (LXM-24); `qa_start_epoch` and `qa_weight` say
    nothing then.
    """
    fresh_evaluation: bool = False
    """Each evaluation draws masks and pairs of its own (LXM-22)."""


class PretrainingConfig(PretrainingFields):
    """How to pre-train. Defaults: the paper's."""

    seed: Seed = 9595
    """Of initial weights, order, masks, pairs and dropout."""
    size: Annotated[str, one_of(SIZES)] = "lxr955"
    """A key of `lxmert.model.SIZES`: layers and width."""
    text_layers: int | None = Field(None, ge=0)
    """Language layers in place of the size's."""
    visual_layers: int | None = Field(None, ge=0)
    """Object-relationship layers in place of the size's."""
    cross_layers: int | None = Field(None, ge=1)
    """Cross-modality layers in place of the size's."""
    tokenizer: ModelName = ""
    """Empty: that of the stage `language`; "sentences": word pieces learned from the training sentences; else a folder
    or a hub name, such as bert-base-uncased.
    """
    vocab_size: int = Field(2000, ge=100)
    """Word pieces of "sentences", at most."""
    text_length: int = Field(20, ge=4, le=512)
    """Word pieces of a sentence with [CLS] and [SEP]; longer ones are cut."""
    start: ModelName = "scratch"
    """"scratch"; "bert": what there is of the tokenizer's BERT; or a pre-trained LXMERT: folder, file or hub name."""
    sources: dict[str, Annotated[float, Field(ge=0, le=1)]] = Field(default_factory=dict)
    """Share of a source's sentences that is trained on, such as {vqa: 0.5}; all of those not named."""
    answers: tuple[str, ...] = ()
    """Sources whose answers are in the answer table; empty: all."""
    limit_images: int | None = Field(None, ge=1)
    """Only so many pictures of each split, chosen by their ids: for a dry run on real data."""
    tasks: tuple[Task, ...] = ("words", "match", "objects", "answers")
    """Without `match` no pair is mismatched; words and regions are masked whatever the tasks."""
    visual_losses: tuple[VisualLoss, ...] = ("objects", "attributes", "features")
    """Of the task `objects`; those that the regions have no classes for are left out, and said so."""
    visual_label_scope: Literal["all", "masked"] = "all"
    """Regions whose object and attribute are to be told; the paper says the masked ones (LXM-03)."""
    feature_loss: Literal["smooth_l1", "l2"] = "smooth_l1"
    """Of the features; the paper says L2 (LXM-05)."""
    mismatch_rate: float = Field(0.5, ge=0, lt=1)
    """Share of the sentences that are swapped for those of other pictures."""
    word_mask_rate: float = Field(0.15, gt=0, lt=1)
    """Share of the word pieces to guess."""
    object_mask_rate: float = Field(0.15, ge=0, lt=1)
    """Share of the regions to guess."""
    qa_start_epoch: float = Field(10.0, ge=0)
    """Epochs before questions are answered; until then they are sentences like others."""
    qa_weight: float = Field(2.0, ge=0)
    """Weight of the answers' loss then."""
    batch: int = Field(256, ge=1)
    """Examples per update, over all processes."""
    by_length: bool = False
    """Batches of sentences of similar length, which have less padding."""
    epochs: float = Field(20.0, gt=0)
    """Passes over the examples, unless `updates` is given."""
    optimiser: Literal["bert_adam", "adamw"] = "bert_adam"
    """The original's, with its schedule, whose first rate is 0, and decay of everything; or AdamW with the course's."""
    lr: float = Field(1e-4, gt=0)
    """Peak learning rate."""
    warmup: float = Field(0.05, ge=0, le=1)
    """Share of the updates with a rising rate; it falls to 0 afterwards."""
    init_std: float = Field(0.02, gt=0)
    """Of the initial weights; narrow models start better with 1/√hidden."""
    evaluations: int = Field(20, ge=1)
    """Evaluations, evenly spaced, the last one at the end."""
    eval_examples: int = Field(8192, ge=1)
    """At most so many examples of the validation split, and so many hidden words."""
    original: OriginalPretraining = OriginalPretraining()
    """What the released code does otherwise."""

    @field_validator("tasks", "visual_losses")
    @classmethod
    def _once(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(values)) < len(values):
            raise ValueError("one of them is named twice")
        return values

    @model_validator(mode="after")
    def _something_to_learn(self) -> "PretrainingConfig":
        if not self.wanted.losses:
            raise ValueError("no loss is left: give `tasks`, and `visual_losses` with the task 'objects'")
        if self.start == "bert" and self.tokenizer == OWN:
            raise ValueError(
                "word pieces of one's own belong to no BERT to start from; name a BERT as `tokenizer`"
            )
        return self

    @property
    def wanted(self) -> Wanted:
        """The losses."""
        return Wanted(self.tasks, self.visual_losses, self.visual_label_scope)

    @property
    def masking(self) -> Masking:
        """How much is hidden in training."""
        mismatched = self.mismatch_rate if "match" in self.tasks else 0.0
        return Masking(mismatched, self.word_mask_rate, self.object_mask_rate)

    @property
    def answers_from(self) -> tuple[float, float]:
        """The epoch in which the answers' loss begins, and its weight."""
        return (0.0, 1.0) if self.original.answers_at_once else (self.qa_start_epoch, self.qa_weight)


def inputs(config: PretrainingConfig) -> Mapping[str, Request]:
    """Regions of sentences' pictures, and the stage `language` where its tokenizer is used."""
    needed = {"sentences": Request("sentences"), "regions": Request("regions")}
    return needed if config.tokenizer else {**needed, "language": Request("language")}


def available(wanted: Wanted, store: RegionStore, table: AnswerTable) -> Wanted:
    """The losses without those of classes that the store's detector does not know, and of answers without a table."""
    absent = {"objects": not store.objects, "attributes": not store.attributes, "answers": not len(table)}
    return replace(
        wanted,
        tasks=tuple(task for task in wanted.tasks if task != "answers" or not absent["answers"]),
        visual=tuple(loss for loss in wanted.visual if not absent.get(loss)),
    )


def new_model(
    context: StageContext, store: RegionStore, tokenizer: PreTrainedTokenizerFast, table: AnswerTable
) -> LxmertForPretraining:
    """The model as it begins. UserError where it does not fit what it is to start from."""
    config: PretrainingConfig = context.config
    layers = {name: getattr(config, name) for name in ("text_layers", "visual_layers", "cross_layers")}
    shape = LxmertConfig(
        **SIZES[config.size] | {name: number for name, number in layers.items() if number is not None},
        vocab_size=len(tokenizer),
        feature_width=store.feature_width,
        objects=max(len(store.objects), 1),
        attributes=max(len(store.attributes), 1),
        answers=max(len(table), 1),
        dropout=config.dropout,
        attention_dropout=config.dropout,
        init_std=config.init_std,
    )
    if config.start not in ("scratch", "bert"):
        return _continued(config, shape, tokenizer, table)
    torch.manual_seed(config.seed)
    model = LxmertForPretraining(shape, config.feature_loss)
    if config.start == "bert":
        for line in start_from_bert(model, bert_of(context)):
            context.log(line)
    return model


def _continued(
    config: PretrainingConfig, shape: LxmertConfig, tokenizer: PreTrainedTokenizerFast, table: AnswerTable
) -> LxmertForPretraining:
    """A pre-trained model with the dropout of this training."""
    where, start = f"lxmert.pretraining.start: {config.start}", Path(config.start)
    folder = start / MODEL if (start / MODEL).is_dir() else start
    loaded = load_model(folder if folder.is_dir() else config.start, LxmertForPretraining)
    own = {name: getattr(shape, name) for name in ("dropout", "attention_dropout", "init_std")}
    found, shape = replace(loaded.config, **own), replace(shape, max_positions=loaded.config.max_positions)
    if found != shape:
        others = [name for name, value in vars(found).items() if value != getattr(shape, name)]
        told = ", ".join(f"{name} {getattr(found, name)}, expected {getattr(shape, name)}" for name in others)
        raise UserError(
            f"{where} has another shape: {told}. These come from `size` and the layers, the tokenizer, the regions and "
            "the answer table"
        )
    if config.text_length > found.max_positions:
        raise UserError(
            f"{where} reads {found.max_positions} word pieces at most; lower `text_length` ({config.text_length})"
        )
    if (start / TABLE).is_file() and load_answers(start).answers != table.answers:
        raise UserError(
            f"{where}/{TABLE} is not the answer table of the sentences; expected the same, row by row"
        )
    if (folder / "tokenizer.json").is_file() and load_tokenizer(folder).get_vocab() != tokenizer.get_vocab():
        raise UserError(f"{where} was trained with other word pieces; set `tokenizer` to {folder}")
    torch.manual_seed(config.seed)
    model = LxmertForPretraining(shape, config.feature_loss)
    model.load_state_dict(loaded.state_dict())
    return model


def training_plan(config: PretrainingConfig, losses: tuple[str, ...], per_epoch: int) -> TrainingPlan:
    """The optimisation of so many updates per epoch."""
    updates = updates_of(config, per_epoch)
    begin, weight = config.answers_from
    first = round(begin * per_epoch)
    visual = {loss: VISUAL_WEIGHT for loss in losses if loss in ("objects", "attributes", "features")}
    return plan_of(
        config, updates, weights=lambda update: {**visual, "answers": weight if update >= first else 0.0},
        **warming_up(config.optimiser, config.warmup, updates),
    )  # fmt: skip


def run(context: StageContext) -> dict[str, float]:
    """Train, evaluate, save `model` and `answers.json`.

    Metrics: those of `evaluate` and `grounding`, updates, epochs, examples, without_regions, tokens_per_second.
    """
    config: PretrainingConfig = context.config
    store = load_regions(context.inputs["regions"])
    found, table, tokenizer = tables(context, store)
    wanted = available(config.wanted, store, table)
    if missing := sorted(set(config.wanted.losses) - set(wanted.losses)):
        context.log(
            f"no labels for the losses {', '.join(missing)}, which are left out: the regions have no classes, or the "
            "sentences no answer table"
        )
    if not wanted.losses:
        raise UserError(f"lxmert.pretraining: nothing is left to learn without {', '.join(missing)}")
    shared = {
        "store": store, "tokenizer": tokenizer, "wanted": wanted, "length": config.text_length,
        "micro_batch": config.micro_batch, "rank": context.rank, "world_size": context.world_size,
    }  # fmt: skip
    batches = Batches(
        found["train"], masking=config.masking, batch=config.batch, seed=config.seed, by_length=config.by_length,
        **shared,
    )  # fmt: skip
    mismatched = PAPERS_MISMATCH if "match" in config.tasks else 0.0
    valid = Batches(found["valid"], masking=replace(config.masking, mismatched=mismatched), **shared)
    model = new_model(context, store, tokenizer, table)
    model.freeze_what_lacks_a_loss(wanted.losses)
    plan = training_plan(config, wanted.losses, batches.sampler.per_epoch)
    parameters = sum(p.numel() for p in model.parameters())
    context.log(
        f"{parameters / 1e6:.1f} M parameters, {len(found['train']):,} sentences "
        f"({', '.join(found['train'].sources)}), {len(table):,} answers, {plan.updates:,} updates of "
        f"{batches.sampler.batch}; "
        f"losses: {', '.join(wanted.losses)}"
    )
    if "answers" in wanted.losses and plan.updates and not plan.weights(plan.updates - 1)["answers"]:
        context.log(
            "questions are answered from an epoch on that this training does not reach (`qa_start_epoch`)"
        )

    rows = evenly_spaced(len(found["valid"]), config.eval_examples)
    words = visible_words(store.objects, store.attributes)
    hidden = hidden_words(found["valid"], tokenizer, words, config.eval_examples)

    def at(step: int) -> Mapping[str, float]:
        seed = (EVALUATION_SEED, step) if config.original.fresh_evaluation else (EVALUATION_SEED,)
        now = evaluate(model, valid, rows, context.device, config.precision, *seed)
        if "words" in wanted.losses:
            now |= grounding(model, valid, hidden, context.device, config.precision)
        return told(context, step, now)

    records = pretrain(context, model, batches, plan, at)
    if context.rank == 0:
        model.requires_grad_(True)
        write_json(context.folder / TABLE, table.rows())
        save_model(context.folder / MODEL, model, tokenizer)
    barrier(context.world_size)
    return {
        **measured(records),
        "updates": plan.updates,
        "epochs": plan.updates / batches.sampler.per_epoch,
        "examples": len(found["train"]),
        "without_regions": sum(len(examples.without_regions) for examples in found.values()),
        **speed(records),
    }


def load_answers(folder: Path) -> AnswerTable:
    """The answer table of a finished pre-training: row i is class i of its answer head."""
    return AnswerTable.read(Path(folder) / TABLE)


PRETRAINING = Stage(
    name="lxmert.pretraining",
    config=PretrainingConfig,
    run=run,
    inputs=inputs,
    variant=("start", "tasks", "visual_losses", "mismatch_rate", "qa_start_epoch", "seed"),
    doc="Pre-train LXMERT: masked words and regions, matching, answers.",
    distributed=True,
)
