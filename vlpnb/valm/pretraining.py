"""Stage `valm.pretraining`: the next word, from the words before it and the pictures that they bring to mind.

Paper: Wang et al., "Visually-Augmented Language Modeling" (ICLR 2023), section 3.3: a decoder of GPT-2's size learns
next words; the encoder that finds pictures and the store of their vectors are frozen. What a model sees beside the
words is its `variant` (`shown.py`): VaLM is "retrieved", the others are the controls. Nothing else differs between
them: order, hidden words and dropout are the same.

Differs from the original: rows of pictures come from tables made once, where it searches anew at every step; a killed
run continues to the bit; words may be masked in the input, and guessed in both directions (`objectives.py`).
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, model_validator

from vlpnb.config import Seed, one_of
from vlpnb.errors import UserError
from vlpnb.files import write_json
from vlpnb.foundations.blocks import Corpus, load_corpus
from vlpnb.outside import ModelName
from vlpnb.stage import Request, Stage, StageContext
from vlpnb.train.distributed import barrier
from vlpnb.train.loop import Precision, TrainingPlan
from vlpnb.train.optim import Schedule
from vlpnb.train.pretraining import PretrainingFields, measured, plan_of, pretrain, speed, told
from vlpnb.valm.config import PROJECTIONS, SIZES, ValmConfig, size_config
from vlpnb.valm.evaluation import evaluate, pieces_of
from vlpnb.valm.examples import Batches, Hiding, Objective
from vlpnb.valm.objectives import ValmLM
from vlpnb.valm.original.weights import freeze, load_gpt2_lm, save_model
from vlpnb.valm.shown import HELD_OUT, MODEL, SAID, Look, Variant, read_looks, save_looks
from vlpnb.world.scene import COLOURS

Decay = Annotated[float, Field(ge=0, lt=1)]


class PretrainingConfig(PretrainingFields):
    """How to pre-train. Defaults: the paper's."""

    seed: Seed = 1
    """Of initial weights, order, hidden words and dropout."""
    variant: Variant = "retrieved"
    """What stands beside the words: none, random, self, captions, oracle or retrieved."""
    size: Annotated[str, one_of(SIZES)] = "base"
    """A key of `valm.SIZES`: layers and width."""
    fusion: tuple[Annotated[int, Field(ge=-999, le=999)], ...] = (-2,)
    """Blocks that look at pictures; a negative number counts from the end."""
    projection: Annotated[str, one_of(PROJECTIONS)] = "shared_bias"
    """How keys and values of pictures are made (`valm.ValmConfig`)."""
    scale: Literal["head", "model"] = "head"
    """Scores of the fusion layer over the root of a head's width, or of the model's, as in the original (VAL-02)."""
    image_mode: Literal["drop", "zero", "null"] = "drop"
    """What a hidden picture is: nothing, zeros, or a learned vector."""
    start: ModelName = "scratch"
    """"scratch", or a folder or hub name of a GPT-2 whose words the corpus has; it brings its own size."""
    frozen: bool = False
    """Of a model that starts from GPT-2 only what looks at pictures is trained."""
    queries: dict[str, Any] = Field(default_factory=dict)
    """Fields of the stage `valm.queries` that are other than the run's."""
    images: dict[str, Any] = Field(default_factory=dict)
    """Fields of the stage `picture_vectors` that are other than the run's."""
    corpus: dict[str, Any] = Field(default_factory=dict)
    """Fields of the stage `blocks` that are other than the run's."""
    words_width: int = Field(256, ge=1)
    """Numbers of a vector of caption words."""
    standardise: bool = False
    """Image vectors are read less their mean over the store, over their spread; the paper reads them as they are."""
    objective: Objective = "next"
    """"next" words, "masked" words in both directions, or the sum of both."""
    masked_weight: float = Field(1.0, ge=0)
    """Of masked words in the sum."""
    word_rate: float = Field(0.0, ge=0, lt=1)
    """Share of the words that are read masked while next words are guessed."""
    masked_rate: float = Field(0.15, gt=0, lt=1)
    """Share of the words to guess in both directions."""
    image_rate: float = Field(0.0, ge=0, lt=1)
    """Share of the pictures that are hidden, each by itself."""
    all_rate: float = Field(0.0, ge=0, lt=1)
    """Share of the words whose pictures are all hidden."""
    exclusive: bool = False
    """A masked word keeps a picture."""
    batch: int = Field(128, ge=1)
    """Blocks per update, over all processes."""
    micro_batch: int = Field(8, ge=1, json_schema_extra={"hash": False})
    """Blocks per process at a time."""
    by_length: bool = False
    """Batches of blocks of similar length, where a block is a line."""
    updates: int = Field(500_000, ge=0)
    """Optimiser steps; 0 leaves a model that has learned nothing."""
    optimiser: Literal["fairseq_adam", "adamw"] = "fairseq_adam"
    """The original's, with decay on everything, or PyTorch's, with none on biases and norms."""
    schedule: Schedule = "inverse_sqrt"
    """What follows the warm-up."""
    lr: float = Field(5e-4, gt=0)
    """Peak learning rate."""
    warmup: int = Field(4000, ge=0)
    """Updates with a rising rate."""
    betas: tuple[Decay, Decay] = (0.9, 0.98)
    """Adam's decay of its two means."""
    clip: float = Field(2.0, gt=0)
    """Largest gradient norm."""
    precision: Precision = "float32"
    """Of matrix products on a GPU; the published command trains in float32."""
    eval_blocks: int = Field(1000, ge=1)
    """At most so many blocks of the validation text."""
    asked: tuple[str, ...] = tuple(COLOURS)
    """Words whose loss is told apart."""

    @model_validator(mode="after")
    def _goes_together(self) -> "PretrainingConfig":
        if self.variant == "none" and (self.image_rate or self.all_rate):
            raise ValueError("image_rate, all_rate: there are no pictures to hide where `variant` is none")
        if self.frozen and (self.start == "scratch" or self.variant == "none"):
            raise ValueError(
                "frozen: needs a `start` whose words are kept, and a variant with pictures to learn"
            )
        if self.variant != "none" and not self.fusion:
            raise ValueError(
                "fusion: empty, so that no block looks at pictures; expected variant none for it"
            )
        return self

    @property
    def hiding(self) -> Hiding:
        """What is hidden in training."""
        return Hiding(
            self.objective, self.word_rate, self.masked_rate, self.image_rate, self.all_rate, self.exclusive
        )


def inputs(config: PretrainingConfig) -> Mapping[str, Request]:
    """The corpus; where there are pictures also their store, and what each word found."""
    needed = {"corpus": Request("blocks", config.corpus)}
    if config.variant == "none":
        return needed
    queries = {**config.queries, "images": config.images, "corpus": config.corpus}
    if config.variant == "self":
        queries["mode"] = "self"
    return {
        **needed,
        "images": Request("picture_vectors", config.images),
        "queries": Request("valm.queries", queries),
    }


def model_shape(config: PretrainingConfig, corpus: Corpus, image_width: int) -> ValmConfig:
    """The configuration of a new model for these words and pictures."""
    return size_config(
        config.size,
        vocab_size=corpus.vocab_size,
        max_positions=corpus.block,
        dropout=config.dropout,
        image_width=image_width,
        fusion=() if config.variant == "none" else config.fusion,
        projection=config.projection,
        scale=config.scale,
        image_mode=config.image_mode,
        mlm_head=config.objective != "next",
        pad_id=corpus.pad_id,
        eos_id=corpus.end_id,
        mask_id=corpus.mask_id,
    )


def new_model(config: PretrainingConfig, corpus: Corpus, image_width: int) -> ValmLM:
    """The model as it begins. UserError where the GPT-2 that it is to start from has other words than the corpus."""
    torch.manual_seed(config.seed)
    shape = model_shape(config, corpus, image_width)
    if config.start == "scratch":
        return ValmLM(shape)
    kept = (
        "image_width",
        "fusion",
        "projection",
        "scale",
        "image_mode",
        "mlm_head",
        "dropout",
        "eos_id",
        "mask_id",
    )
    model = load_gpt2_lm(config.start, **{name: getattr(shape, name) for name in kept})
    if model.config.vocab_size != shape.vocab_size or model.config.max_positions < shape.max_positions:
        raise UserError(
            f"valm.pretraining.start: {config.start} has {model.config.vocab_size:,} word pieces and reads at most "
            f"{model.config.max_positions:,}; the corpus has {shape.vocab_size:,}, in examples of "
            f"{shape.max_positions:,}. Make the corpus with its tokenizer (`blocks.tokenizer`) and shorter blocks"
        )
    if config.frozen:
        freeze(model)
    return model


def training_plan(config: PretrainingConfig) -> TrainingPlan:
    """The optimisation."""
    return plan_of(
        config, config.updates, schedule=config.schedule, warmup=min(config.warmup, config.updates),
        betas=config.betas, eps=1e-8, weights={"masked": config.masked_weight},
    )  # fmt: skip


def run(context: StageContext) -> dict[str, float]:
    """Train, evaluate, save `model`, and in `looks.json` what stood beside the words.

    Metrics: nats per token of held-out text: `captions_loss` and `text_loss` (`evaluation.py`), `asked_loss` of some
    words; at the end also with pictures `_hidden`, `_random` or those that a caption is of, `_oracle`, where the model
    looks at some; updates, examples, parameters, tokens_per_second.
    """
    config: PretrainingConfig = context.config
    corpus = load_corpus(context.inputs["corpus"])
    look = Look(config.variant, config.words_width, config.standardise)
    looks = read_looks(context.inputs, look, corpus, context.device)
    model = new_model(config, corpus, looks.width)
    train = corpus.blocks("train")
    batches = Batches(
        train, corpus.words, looks.shown("train"), config.hiding, masked_shown=looks.live(corpus.words),
        batch=config.batch, micro_batch=config.micro_batch, seed=config.seed, by_length=config.by_length,
        rank=context.rank, world_size=context.world_size,
    )  # fmt: skip
    plan = training_plan(config)
    parameters = sum(p.numel() for p in model.parameters())
    context.log(
        f"{parameters / 1e6:.2f} M parameters, {len(train):,} examples of at most {corpus.block} tokens, "
        f"{plan.updates:,} updates of {batches.sampler.batch}; beside the words: {SAID[config.variant]}"
    )
    held_out = {split: corpus.blocks(split) for split in corpus.splits if split != "train"}
    asked = pieces_of(corpus.words, config.asked)

    def at(step: int) -> Mapping[str, float]:
        now: dict[str, float] = {}
        for setting in looks.settings(held_out.values()) if step == plan.updates else ("trained",):
            shown = {split: looks.shown(split, setting) for split in held_out}
            found = evaluate(
                model, held_out, shown, config.eval_blocks, asked, context.device, config.precision
            )
            now |= {name if setting == "trained" else f"{name}_{setting}": v for name, v in found.items()}
        return told(context, step, now)

    records = pretrain(context, model, batches, plan, at)
    found = measured(records)
    if context.rank == 0:
        write_json(context.folder / HELD_OUT, found)
        save_model(context.folder / MODEL, model, corpus.tokenizer)
        save_looks(context.folder, context.inputs, look)
    barrier(context.world_size)
    return {
        **found,
        "updates": plan.updates,
        "examples": len(train),
        "parameters": parameters,
        **speed(records),
    }


PRETRAINING = Stage(
    name="valm.pretraining",
    config=PretrainingConfig,
    run=run,
    inputs=inputs,
    variant=("variant", "seed"),
    doc="Pre-train VaLM, or a control: next words, and pictures beside them.",
    distributed=True,
)
