"""Stage `vlp.pretraining`: masked words beside pictures, three quarters from left to right, one quarter both ways.

Paper: VLP (Zhou et al. 2020). One encoder learns to write and to understand by the share of its
examples that have the seq2seq mask (`s2s`): 0.75 in the paper, whose ablations are 1 and 0. There is no other loss: no
matching, and the pretext of masked regions (`region_mask_rate`) is in no recipe. The paper starts from UniLM, which
learned from text alone; `pictures: false` does that, and `start: text` begins with it.

Differs from the original: what is hidden is a function of (seed, update) and means are over the update on all processes
(`examples.py`), a killed run continues to the bit (VLP-11), and the fc7 layer of the regions' detector is welcome but
not insisted on (VLP-16).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, model_validator
from transformers import PreTrainedTokenizerFast

from vlpnb.config import Name, Seed, one_of
from vlpnb.data.description import CaptionData, load_captions, load_text
from vlpnb.foundations.own_words import open_tokenizer
from vlpnb.foundations.regions import load_regions
from vlpnb.outside import ModelName, OutsidePath
from vlpnb.stage import Request, Stage, StageContext
from vlpnb.text.caption_table import CaptionTable, caption_table
from vlpnb.text.tokenizers import load_tokenizer
from vlpnb.text.unseen import held_out, unseen_sentences
from vlpnb.train.distributed import barrier
from vlpnb.train.loop import Precision, TrainingPlan, warming_up
from vlpnb.train.pretraining import NewWeights, measured, plan_of, pretrain, speed, told, updates_of
from vlpnb.vlp.evaluation import evaluate
from vlpnb.vlp.examples import Batches, Hiding, Targets
from vlpnb.vlp.heads import VlpForGeneration
from vlpnb.vlp.model import SIZES, VlpConfig
from vlpnb.vlp.objectives import Guessing
from vlpnb.vlp.original.beginning import load_fc7, start_from
from vlpnb.vlp.original.weights import save_model
from vlpnb.vlp.pictures import OriginalExamples, Pictures, regions_of
from vlpnb.vlp.start import MODEL, NEEDS, STARTS, begin, special_ids

OWN = "captions"  # the tokenizer that is learned from what is trained on
Captioned = list[
    tuple[str, Sequence[str]]
]  # (image id, captions) of each picture; of text alone "" and a sentence


class OriginalPretraining(OriginalExamples):
    """What the released code does otherwise."""

    visible_regions: bool = False
    """Hidden regions keep their place in the attention (VLP-07)."""
    slots: Literal[1, 4] = 1
    """4: the word head has a transform for each kind of example ("relaxed projection", in no recipe)."""
    joint_norm: bool = False
    """With four slots one norm over all of them (VLP-08)."""


class PretrainingConfig(NewWeights):
    """How to pre-train. Defaults: the paper's."""

    seed: Seed = 42
    """Of initial weights, order, modes, hidden words and dropout."""
    size: Annotated[str, one_of(SIZES)] = "base"
    """A key of `vlp.model.SIZES`: layers and width."""
    layers: int | None = Field(None, ge=1)
    """Layers in place of the size's."""
    visual_hidden: int = Field(0, ge=0)
    """Width between the two layers that read a region's feature; 0: the feature's own, as in the paper."""
    tokenizer: ModelName = ""
    """Empty: that of the stage `language`; "captions": word pieces learned from what is trained on; else a folder or a
    hub name, such as bert-base-cased.
    """
    vocab_size: int = Field(3000, ge=100)
    """Word pieces of "captions", at most."""
    text_length: int = Field(20, ge=2, le=400)
    """Word pieces of a caption without its [SEP]; longer ones are cut."""
    pictures: bool = True
    """False: sentences alone, as UniLM learned."""
    regions: dict[str, Any] = Field(default_factory=dict)
    """Fields of the stage `regions` that are other than the run's, such as {source: vlp}."""
    captions: dict[str, Any] = Field(default_factory=dict)
    """Fields of the stage `captions` that are other than the run's."""
    sets: tuple[Name, ...] = ("conceptual",)
    """Sets or splits of the stage `captions` that are trained on, where there are pictures."""
    text: dict[str, Any] = Field(default_factory=dict)
    """Fields of the stage `text` that are other than the run's, for sentences without pictures."""
    sentences: int | None = Field(None, ge=1)
    """At most so many sentences without pictures."""
    limit_images: int | None = Field(None, ge=1)
    """Only the first pictures of each set: for a dry run on real data."""
    start: ModelName = "scratch"
    """"scratch"; "bert": the tokenizer's; "text": this pre-training without pictures; or a folder or file of VLP's."""
    fc7: OutsidePath = ""
    """Folder of the detector's second layer, fc7_w.pkl and fc7_b.pkl, which reads the features first (VLP-16)."""
    s2s: float = Field(0.75, ge=0, le=1)
    """Share of the examples that are read from left to right; the others are read both ways."""
    mask_rate: float = Field(0.15, gt=0, lt=1)
    """Share of the word pieces to guess …"""
    most_targets: int = Field(3, ge=1)
    """… but at most so many of a caption."""
    targets: Targets = "masked"
    """Of examples from left to right: "masked" words, or "every" word by a [MASK] of its own (VLP-05)."""
    region_mask_rate: float = Field(0.0, ge=0, lt=1)
    """Share of the regions to be recognised among those hidden; in no recipe."""
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    """What is taken from the right word and given to the others."""
    drop_worst: float = Field(0.0, ge=0, lt=1)
    """Share of a micro-batch with the greatest loss that is left out …"""
    drop_after: float = Field(6.0, ge=0)
    """… after so many epochs."""
    batch: int = Field(512, ge=1)
    """Examples per update, over all processes."""
    by_length: bool = False
    """Batches of captions of similar length, which have less padding."""
    epochs: float = Field(30.0, gt=0)
    """Passes over the captions, unless `updates` is given."""
    optimiser: Literal["vlp_adam", "adamw"] = "vlp_adam"
    """The original's, with its schedule, whose first rate is 0, and every tensor's gradient clipped by itself (VLP-03);
    or AdamW with the course's.
    """
    lr: float = Field(1e-4, gt=0)
    """Peak learning rate."""
    warmup: float = Field(0.1, ge=0, le=1)
    """Share of the updates with a rising rate; it falls to 0 afterwards."""
    precision: Precision = "float32"
    """Of matrix products on a GPU; the published commands train in float32 (VLP-19)."""
    evaluations: int = Field(30, ge=1)
    """Evaluations, evenly spaced, the last one at the end."""
    eval_captions: int = Field(4096, ge=1)
    """At most so many captions of the validation split."""
    original: OriginalPretraining = OriginalPretraining()
    """What the released code does otherwise."""

    @model_validator(mode="after")
    def _goes_together(self) -> "PretrainingConfig":
        if self.start == "bert" and self.tokenizer == OWN:
            raise ValueError(
                "word pieces of one's own belong to no BERT to start from; name a BERT as `tokenizer`"
            )
        if self.start == "text" and not self.pictures:
            raise ValueError(
                "start: 'text' is this pre-training without pictures; expected another start for it"
            )
        if self.region_mask_rate and not self.pictures:
            raise ValueError("region_mask_rate: there are no regions where `pictures` is false")
        return self

    @property
    def hiding(self) -> Hiding:
        """What is asked of a caption in training."""
        return Hiding(self.s2s, self.mask_rate, self.most_targets, self.targets, self.region_mask_rate)


def inputs(config: PretrainingConfig) -> Mapping[str, Request]:
    """Captions, and regions or text; the tokenizer's stage, and the pre-training on text where it is the start."""
    needed = {"captions": Request("captions", config.captions)}
    if config.pictures:
        needed["regions"] = regions_of(config)
    if not config.pictures:
        needed["text"] = Request("text", config.text)
    if config.start == "text":
        needed["start"] = Request("vlp.pretraining", STARTS["text"])
    return needed if config.tokenizer else {**needed, "language": Request("language")}


def picture_inputs(context: StageContext) -> Pictures | None:
    """The regions that are read, or None for text alone; what their classes are is said."""
    config = context.config
    if not config.pictures:
        return None
    pictures = Pictures(load_regions(context.inputs["regions"]), config.original.estimated_sizes)
    context.log(f"{len(pictures.store):,} pictures, whose regions have {pictures.said}")
    return pictures


def tables(
    context: StageContext, pictures: Pictures | None
) -> tuple[dict[str, CaptionTable], PreTrainedTokenizerFast]:
    """What is trained on and what is evaluated on, and the tokenizer. What is left out is counted and listed."""
    config: PretrainingConfig = context.config
    data = load_captions(context.inputs["captions"])
    if pictures is None:
        unseen, text = held_out(data), load_text(context.inputs["text"])
        most = {"train": config.sentences, "valid": config.eval_captions}
        captioned: dict[str, Captioned] = {
            split: [("", list(unseen_sentences(text, split, unseen, limit)))] for split, limit in most.items()
        }
    else:
        captioned = {
            "train": _captions_of(data, config.sets)[: config.limit_images],
            "valid": _captions_of(data, ("valid",))[: config.limit_images],
        }
    if config.tokenizer == OWN and "start" in context.inputs:  # the words of the training on text
        tokenizer = load_tokenizer(context.inputs["start"] / MODEL, NEEDS)
    else:
        later = (
            () if "train" in config.sets else _captions_of(data, ("train",))
        )  # for fine-tuning, of the same words
        lines = (line for _, said in (*captioned["train"], *later) for line in said)
        tokenizer = open_tokenizer(context, OWN, lines, NEEDS)
    rows = None if pictures is None else pictures.store.by_name
    found = {
        name: caption_table(each, rows, tokenizer, config.text_length, f"vlp.pretraining, what is {use}")
        for (name, each), use in zip(captioned.items(), ("trained on", "evaluated on"), strict=True)
    }
    left_out = [line for table in found.values() for line in table.left_out]
    context.list_left_out("left_out.txt", left_out, "captions or pictures are left out")
    return found, tokenizer


def _captions_of(data: CaptionData, names: Sequence[str]) -> Captioned:
    """The captions of some splits or sets, whether the pictures' files are there or not."""
    return [(image.image_id, image.sentences) for name in names for image in data.annotated(name)]


def model_shape(config: Any, tokenizer: PreTrainedTokenizerFast, pictures: Pictures | None) -> VlpConfig:
    """The configuration of a new model for these words and regions."""
    same = ("text_length", "visual_hidden", "dropout", "init_std", "calm")
    layers = {} if config.layers is None else {"layers": config.layers}
    return VlpConfig(
        **SIZES[config.size] | layers,
        **{name: getattr(config, name) for name in same},
        vocab_size=len(tokenizer),
        feature_width=1 if pictures is None else pictures.feature_width,
        classes=1 if pictures is None else pictures.classes,
        slots=config.original.slots,
        joint_norm=config.original.joint_norm,
        **special_ids(tokenizer),
    )


def new_model(
    context: StageContext, tokenizer: PreTrainedTokenizerFast, pictures: Pictures | None
) -> VlpForGeneration:
    """The model as it begins. UserError where it does not fit what it is to start from."""
    config: PretrainingConfig = context.config
    regions = (
        ("visible" if config.original.visible_regions else "hidden") if config.region_mask_rate else "off"
    )
    torch.manual_seed(config.seed)
    model = VlpForGeneration(model_shape(config, tokenizer, pictures), config.label_smoothing, regions)
    if config.start == "bert":
        lines = start_from(model, config.tokenizer or context.inputs["language"] / MODEL)
    elif config.start == "scratch":
        lines = []
    else:
        source = context.inputs["start"] if config.start == "text" else config.start
        lines = begin(model, source, tokenizer, "vlp.pretraining.start")
    for line in lines:
        context.log(line)
    if config.fc7:
        load_fc7(model.backbone, Path(config.fc7) / "fc7_w.pkl", Path(config.fc7) / "fc7_b.pkl")
    return model


def training_plan(config: PretrainingConfig, per_epoch: int) -> TrainingPlan:
    """The optimisation of so many updates per epoch."""
    updates = updates_of(config, per_epoch)
    return plan_of(config, updates, **warming_up(config.optimiser, config.warmup, updates))


def run(context: StageContext) -> dict[str, float]:
    """Train, evaluate, save `model`.

    Metrics: those of `evaluate`, at the end also with `_shuffled` pictures; updates, epochs, captions, left_out,
    parameters, tokens_per_second.
    """
    config: PretrainingConfig = context.config
    pictures = picture_inputs(context)
    found, tokenizer = tables(context, pictures)
    if config.drop_worst and context.world_size * config.micro_batch < config.batch:
        context.log(
            "`drop_worst` leaves out the worst of every micro-batch, as the original does of every process's"
        )
    shared = {
        "pictures": pictures, "tokenizer": tokenizer, "any_random": config.original.any_random,
        "micro_batch": config.micro_batch, "rank": context.rank, "world_size": context.world_size,
    }  # fmt: skip
    batches = Batches(
        found["train"], hiding=config.hiding, batch=config.batch, seed=config.seed, by_length=config.by_length,
        drop=config.drop_worst, drop_after=config.drop_after, **shared,
    )  # fmt: skip
    valid = Batches(found["valid"], hiding=Hiding(), **shared)
    model = Guessing(new_model(context, tokenizer, pictures))
    plan = training_plan(config, batches.sampler.per_epoch)
    parameters = sum(p.numel() for p in model.parameters())
    context.log(
        f"{parameters / 1e6:.2f} M parameters, {len(found['train']):,} {'captions' if pictures else 'sentences'}, "
        f"{len(tokenizer):,} word pieces, {plan.updates:,} updates of {batches.sampler.batch}; {config.s2s:.0%} from "
        "left to right"
    )

    def at(step: int) -> Mapping[str, float]:
        now = evaluate(model, valid, config.eval_captions, context.device, config.precision)
        if step == plan.updates and pictures is not None:
            other = evaluate(
                model, valid, config.eval_captions, context.device, config.precision, shuffled=True
            )
            now |= {f"{name}_shuffled": value for name, value in other.items()}
        return told(context, step, now)

    records = pretrain(context, model, batches, plan, at)
    if context.rank == 0:
        save_model(context.folder / MODEL, model.model, tokenizer)
    barrier(context.world_size)
    return {
        **measured(records),
        "updates": plan.updates,
        "epochs": plan.updates / batches.sampler.per_epoch,
        "captions": len(found["train"]),
        "left_out": sum(len(table.left_out) for table in found.values()),
        "parameters": parameters,
        **speed(records),
    }


PRETRAINING = Stage(
    name="vlp.pretraining",
    config=PretrainingConfig,
    run=run,
    inputs=inputs,
    variant=("s2s", "targets", "pictures", "start", "seed"),
    doc="Pre-train VLP: masked words, from left to right and both ways.",
    distributed=True,
)
