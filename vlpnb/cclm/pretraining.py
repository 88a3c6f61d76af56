"""Stage `cclm.pretraining`: one model for pictures and sentences of many languages, by one set of objectives.

Paper: Zeng et al., "Cross-View Language Modeling: Towards Unified Cross-Lingual Cross-Modal Pre-training" (ACL 2023),
section 3: a picture and a caption, or a sentence and its translation, are two views of one thing; between them stand a
contrastive loss, matching with hard negatives, and words guessed from the other view. The 4M model also sees regions
and predicts their boxes. `variant` leaves objectives out: "no_regions" is the 3M recipe, "all" the 4M one,
"no_parallel" has no translations, "contrastive_only" no fusion layers to train.

Differs from the original:

* An update holds an image–text batch (or regions) *and* a parallel batch; there each has an update of its own, under
  one step of the schedule (CCL-44).
* Every batch is a pure function of (seed, update): a killed run continues to the bit, and all processes draw the same
  coin between captions and regions without being seeded alike (CCL-45).
* The gradient of the contrastive losses is that of the whole batch, whatever the number of processes;
  `original.local_gradient` divides it by their number again (CCL-01).
* Pictures of one identity are no negatives of each other; `original.no_identities` makes them so.
"""

import os
from collections.abc import Mapping
from typing import Annotated, Any

import torch
from pydantic import Field, model_validator

from vlpnb.cclm.config import SIZES, size_config
from vlpnb.cclm.mixing import batches_of
from vlpnb.cclm.model import Cclm
from vlpnb.cclm.objectives import CclmPretraining
from vlpnb.cclm.original.names import learning
from vlpnb.cclm.original.weights import is_cclm, load_model, save_model, start_from_xlmr
from vlpnb.cclm.start import ABOUT, MODEL, Variant
from vlpnb.config import Config, Name, Seed, one_of
from vlpnb.downstream.image_retrieval import ask, compare, look
from vlpnb.errors import UserError
from vlpnb.files import write_json
from vlpnb.foundations.multilingual import load_multilingual
from vlpnb.foundations.patches import fill_tower, open_patches
from vlpnb.foundations.picture_store import PatchStore
from vlpnb.foundations.pieces import load_pieces
from vlpnb.foundations.region_text import load_region_text
from vlpnb.nn.transformer import init_weights
from vlpnb.outside import ModelName
from vlpnb.stage import Request, Stage, StageContext
from vlpnb.text.pieces import Pieces
from vlpnb.train.distributed import barrier
from vlpnb.train.loop import TrainingPlan
from vlpnb.train.optim import Optimiser, Schedule
from vlpnb.train.pretraining import NewWeights, measured, plan_of, pretrain, speed, updates_of

Decay = Annotated[float, Field(ge=0, lt=1)]
OBJECTIVES: Mapping[Variant, tuple[str, ...]] = {
    "all": ("itc", "itm", "words", "boxes", "giou", "ttc", "ttm", "parallel_words"),
    "no_parallel": ("itc", "itm", "words", "boxes", "giou"),
    "contrastive_only": ("itc", "ttc"),
    "no_regions": ("itc", "itm", "words", "ttc", "ttm", "parallel_words"),
}


class OriginalPretraining(Config):
    """What the released code does otherwise."""

    local_gradient: bool = False
    """The contrastive gradient of the encoders over the number of processes (CCL-01)."""
    no_identities: bool = False
    """Captions of one picture in a batch are negatives of each other (CCL-05)."""
    decay_by_name: bool = False
    """What is spared from weight decay goes by parts of the original's names (CCL-09)."""
    positions_from_zero: bool = False
    """Positions 0, 1, 2, …, as the released weights have them; XLM-R's begin at 2."""


class PretrainingConfig(NewWeights):
    """How to pre-train. Defaults: the paper's 4M recipe."""

    seed: Seed = 42
    """Of initial weights, order, hidden words and dropout."""
    variant: Variant = "all"
    """Objectives: all, no_parallel, contrastive_only, no_regions (the 3M recipe)."""
    size: Annotated[str, one_of(SIZES)] = "large"
    """A key of `cclm.SIZES`: layers and width."""
    text_layers: int | None = Field(None, ge=1)
    """Layers of the text encoder in place of the size's."""
    fusion_layers: int | None = Field(None, ge=1)
    """Layers that look at the other view in place of the size's."""
    patch_dropout: float = Field(0.0, ge=0, lt=1)
    """Share of the numbers of a frozen network's patches that is left out in training; `dropout` begins behind them."""
    start: ModelName = "scratch"
    """"scratch", a folder of XLM-R of twice as many layers, or a model of CCLM."""
    temperature: float = Field(0.07, gt=0)
    """Of the contrastive losses at the beginning; it is learned."""
    multilingual: dict[str, Any] = Field(default_factory=dict)
    """Fields of the stage `multilingual` that are other than the run's."""
    pieces: dict[str, Any] = Field(default_factory=dict)
    """Fields of the stage `pieces` that are other than the run's."""
    patches: dict[str, Any] = Field(default_factory=dict)
    """Fields of the stage `patches` that are other than the run's."""
    pictures_in: tuple[Name, ...] = ()
    """Languages of the captions that are trained on; empty: all that the pictures have."""
    languages: tuple[Name, ...] = ()
    """Languages of the parallel text that is trained on; empty: all."""
    withheld: tuple[Name, ...] = ()
    """Languages that are trained on nowhere, to see what is left without them."""
    max_words: int = Field(40, ge=1)
    """Words of a caption that are read."""
    max_tokens: int = Field(40, ge=3)
    """Word pieces of a caption, special tokens included."""
    parallel_max_words: int = Field(64, ge=1)
    """Words of a sentence of parallel text that are read."""
    parallel_max_tokens: int = Field(64, ge=3)
    """Word pieces of a sentence of parallel text, special tokens included."""
    mask_rate: float = Field(0.4, gt=0, lt=1)
    """Share of the word pieces to guess …"""
    max_masks: int = Field(12, ge=1)
    """… but at most so many of a caption …"""
    parallel_max_masks: int = Field(20, ge=1)
    """… and of a sentence of parallel text."""
    region_rate: float = Field(0.5, ge=0, le=1)
    """Share of the updates that see regions in place of captions."""
    region_pictures: int = Field(384, ge=1)
    """Pictures of a batch of regions, over all processes; it has `batch` texts of them."""
    batch: int = Field(1024, ge=1)
    """Captions per update, over all processes."""
    fused: int | None = Field(None, ge=2)
    """At most so many of them also meet the other view, for matching and for words: that costs most. None: all."""
    parallel_batch: int | None = Field(None, ge=1)
    """Pairs of sentences per update, over all processes; none: as many as captions."""
    epochs: float = Field(30.0, gt=0)
    """Passes over the pictures, unless `updates` is given."""
    optimiser: Optimiser = "transformers_adamw"
    """The original's, or PyTorch's "adamw"."""
    schedule: Schedule = "bert"
    """What follows the warm-up; with "bert" the first update has the rate 0, as in the original."""
    lr: float = Field(1e-4, gt=0)
    """Peak learning rate."""
    new_rate: float = Field(2.0, gt=0)
    """Times the rate for what no start brings: attention to the other view, projections, temperature, heads."""
    words_rate: float = Field(1.0, gt=0)
    """Times the rate for the table of word pieces, of which an update touches few rows."""
    warmup: int = Field(2500, ge=0)
    """Updates with a rising rate."""
    betas: tuple[Decay, Decay] = (0.9, 0.98)
    """Adam's decay of its two means."""
    contrastive_weight: float = Field(1.0, ge=0)
    """Of both contrastive losses in the sum; the published runs have 1/8 for the encoders (CCL-01)."""
    matching_weight: float = Field(1.0, ge=0)
    """Of both matching losses in the sum."""
    words_weight: float = Field(1.0, ge=0)
    """Of guessed words in the sum, both kinds."""
    boxes_weight: float = Field(1.0, ge=0)
    """Of both losses of boxes in the sum."""
    evaluations: int = Field(6, ge=1)
    """Evaluations, evenly spaced, the last one at the end."""
    eval_pictures: int = Field(1000, ge=1)
    """At most so many pictures of the validation split."""
    original: OriginalPretraining = OriginalPretraining()
    """What the released code does otherwise."""

    @model_validator(mode="after")
    def _goes_together(self) -> "PretrainingConfig":
        for name in ("pictures_in", "languages"):
            both = sorted({*getattr(self, name)} & {*self.withheld})
            if both:
                raise ValueError(
                    f"{name}: {', '.join(both)} is also in `withheld`; expected it in one of them"
                )
        return self

    @property
    def losses(self) -> tuple[str, ...]:
        """What is minimised."""
        return tuple(
            name for name in OBJECTIVES[self.variant] if self.region_rate or name not in ("boxes", "giou")
        )


def inputs(config: PretrainingConfig) -> Mapping[str, Request]:
    """Pictures and parallel text, their word pieces, and what the frozen backbone saw."""
    needed = {
        "multilingual": Request("multilingual", config.multilingual),
        "pieces": Request("pieces", config.pieces),
        "patches": Request("patches", config.patches),
    }
    return {**needed, "regions": Request("region_text")} if "boxes" in config.losses else needed


def new_model(config: PretrainingConfig, pieces: Pieces, store: PatchStore) -> tuple[Cclm, list[str]]:
    """The model as it begins, and lines for the log. UserError where it does not fit what it is to start from."""
    torch.manual_seed(config.seed)
    wanted = {"text_layers": config.text_layers, "fusion_layers": config.fusion_layers}
    shape = size_config(
        config.size,
        **{name: layers for name, layers in wanted.items() if layers is not None},
        vocab_size=pieces.size,
        pad_id=pieces.pad_id,
        mask_id=pieces.mask_id,
        **picture_fields(store),
        position_start=0 if config.original.positions_from_zero else 2,
        dropout=config.dropout,
        patch_dropout=config.patch_dropout,
        temperature=config.temperature,
        boxes="boxes" in config.losses,
    )
    if config.start == "scratch":
        model = initialised(Cclm(shape), config.init_std, config.calm)
        fill_tower(model.vision, store.folder)
        return model, []
    if not is_cclm(config.start):
        model = Cclm(shape)
        fill_tower(model.vision, store.folder)
        return model, start_from_xlmr(model, config.start)
    model = load_model(config.start, dropout=config.dropout, patch_dropout=config.patch_dropout)
    if model.config.vocab_size != pieces.size:
        raise UserError(
            f"cclm.pretraining.start: {config.start} knows {model.config.vocab_size:,} word pieces, and the stage "
            f"`pieces` has {pieces.size:,}; set `pieces.tokenizer` to the tokenizer that it learnt with"
        )
    return model, [f"starts from {config.start}"]


def picture_fields(store: PatchStore) -> Mapping[str, Any]:
    """The fields of `CclmConfig` that say what the model reads of pictures."""
    if store.swin is not None:
        return {"vision": "swin", "swin": store.swin, "image_width": store.width, "image_patches": 0}
    return {"image_width": store.width, "image_patches": store.patches}


def initialised(model: Cclm, std: float, calm: float = 1.0) -> Cclm:
    """The model with weights drawn anew with this spread; positions and the text layers begin `calm`."""
    init_weights(model.embeddings, std)
    model.embeddings.positions.weight.data.mul_(calm)
    init_weights(model.text_layers, std, calm)
    for part in (model.fusion_layers, model.word_head):
        init_weights(part, std)
    return model


def training_plan(config: PretrainingConfig, per_epoch: int, model: CclmPretraining) -> TrainingPlan:
    """The optimisation of so many updates per epoch."""
    factors, spared = learning(model, config.new_rate, original=config.original.decay_by_name)
    if config.words_rate != 1:
        factors |= {"model.embeddings.words.weight": config.words_rate}
    updates = updates_of(config, per_epoch)
    weights = {
        "contrastive": ("itc", "ttc"),
        "matching": ("itm", "ttm"),
        "words": ("words", "parallel_words"),
        "boxes": ("boxes", "giou"),
    }
    return plan_of(
        config, updates, schedule=config.schedule, warmup=min(config.warmup, updates), betas=config.betas, eps=1e-8,
        weights={name: getattr(config, f"{key}_weight") for key, names in weights.items() for name in names},
        factors=factors, spared=spared,
    )  # fmt: skip


def run(context: StageContext) -> dict[str, float]:
    """Train, evaluate, save `model`, and in `about.json` what it was made with.

    Metrics: of validation pictures by the vectors alone, for each language that they have: `<language>_img_r10`
    (text→picture) and `<language>_r_mean`; the losses of the last lines; updates, epochs, pictures, parallel_pairs,
    parameters, tokens_per_second.
    """
    config: PretrainingConfig = context.config
    data = load_multilingual(context.inputs["multilingual"])
    pieces, store = load_pieces(context.inputs["pieces"]), open_patches(context.inputs["patches"])
    regions = load_region_text(context.inputs["regions"]) if "regions" in context.inputs else None
    batches = batches_of(config, data, regions, pieces, store, context.rank, context.world_size)
    backbone, lines = new_model(config, pieces, store)
    for line in lines:
        context.log(line)
    encoders = 1 / context.world_size if config.original.local_gradient else 1.0
    model = CclmPretraining(backbone, config.losses, encoders=encoders)
    plan = training_plan(config, batches.captions.per_epoch, model)
    parameters = sum(p.numel() for p in model.parameters())
    context.log(
        f"{parameters / 1e6:.2f} M parameters, {pieces.size:,} word pieces, {len(batches.captions):,} pictures in "
        f"{', '.join(batches.captions.languages)}; {batches.told}; {plan.updates:,} updates of {config.batch}"
    )
    valid = [picture for picture in data.pictures("valid") if picture.id in store][: config.eval_pictures]
    asked = {name: about for name in data.languages
             if len(about := ask(valid, name, pieces, config.max_words, config.max_tokens))}  # fmt: skip

    def at(step: int) -> dict[str, float]:
        gallery = look(backbone, store, [picture.id for picture in valid], context.device)
        found = compare(backbone, gallery, asked, 0, context.device)
        context.log(
            f"update {step:,}: text to picture R@10 "
            + ", ".join(f"{name} {each.metrics['vectors_img_r10']:.3f}" for name, each in found.items())
        )
        kept = {"img_r10": "vectors_img_r10", "r_mean": "vectors_r_mean"}
        return {
            f"{name}_{ours}": each.metrics[key] for name, each in found.items() for ours, key in kept.items()
        }

    records = pretrain(context, model, batches, plan, at)
    if context.rank == 0:
        save_model(context.folder / MODEL, backbone, pieces.tokenizer)
        where = {name: os.path.relpath(path, context.folder) for name, path in context.inputs.items()}
        text = {"max_words": config.max_words, "max_tokens": config.max_tokens}
        write_json(context.folder / ABOUT, {"inputs": where, **text})
    barrier(context.world_size)
    return {**summed_up(records), **batches.counts, "updates": plan.updates,
            "epochs": plan.updates / batches.captions.per_epoch, "parameters": parameters}  # fmt: skip


def summed_up(records: list[dict[str, float]]) -> dict[str, float]:
    """The last evaluation, the losses of the last line, and the median speed."""
    trained = next((record for record in reversed(records) if "loss" in record), {})
    losses = {f"loss_{name}": trained[name] for name in sum(OBJECTIVES.values(), ()) if name in trained}
    return {
        **measured(records),
        **losses,
        **speed(records),
    }


PRETRAINING = Stage(
    name="cclm.pretraining",
    config=PretrainingConfig,
    run=run,
    inputs=inputs,
    variant=("variant", "withheld", "pictures_in", "languages", "start", "seed"),
    doc="Pre-train CCLM: pictures and captions, sentences and translations, regions, by the same objectives.",
    distributed=True,
)
