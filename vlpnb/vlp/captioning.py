"""Stage `vlp.captioning`: fine-tune on captions, write captions of the validation and test pictures, score them.

Paper: VLP (Zhou et al. 2020). Captioning is pre-training from left to right alone, on COCO or
Flickr30k; the weights with the highest CIDEr on the validation pictures caption the test pictures. What captions score
is in `vlpnb.downstream.captions`.

Differs from the original: every word of a caption is asked for in one pass (`targets`, VLP-05), the captions of a
picture stand behind one (`packed`, VLP-06), both equal to the plain way; several seeds with their spread.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import nn

from vlpnb.data.description import load_captions
from vlpnb.downstream.captions import CaptioningFields, Splits, captions_of
from vlpnb.downstream.seeds import Answered, fine_tune_on_batches, run_seeds
from vlpnb.foundations.regions import load_regions
from vlpnb.stage import Request, Stage, StageContext
from vlpnb.text.caption_table import CaptionTable, caption_table
from vlpnb.vlp.examples import Batches, Hiding, Targets
from vlpnb.vlp.generating import VlpDecoder
from vlpnb.vlp.heads import VlpForGeneration
from vlpnb.vlp.objectives import Guessing
from vlpnb.vlp.original.weights import save_model
from vlpnb.vlp.pictures import OriginalExamples, Pictures, regions_of
from vlpnb.vlp.start import StartConfig, StartingPoint, pretraining_of, starting_point


class CaptioningConfig(StartConfig, CaptioningFields):
    """How to fine-tune. Defaults: the paper's."""

    targets: Targets = "every"
    """Every word is asked for in one pass; "masked": up to `most_targets`, as the original does (VLP-05)."""
    packed: bool = True
    """All captions of a picture stand behind one picture; false: one caption a pass, as in the original (VLP-06)."""
    mask_rate: float = Field(0.15, gt=0, lt=1)
    """Of "masked": share of the word pieces to guess …"""
    most_targets: int = Field(3, ge=1)
    """… but at most so many of a caption."""
    epochs: float = Field(30.0, ge=0)
    """Passes over the training captions; 0 captions with the weights as they are."""
    batch: int = Field(512, ge=1)
    """Captions per update; packed ones of as many pictures as have that many on average."""
    micro_batch: int = Field(64, ge=1, json_schema_extra={"hash": False})
    """Captions, or packed pictures, at a time."""
    lr: float = Field(3e-5, gt=0)
    """Peak learning rate; without pre-training the original takes 3e-4."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """Share of units and of attention weights left out in training."""
    attention_dropout: float | None = Field(None, ge=0, lt=1)
    """That of attention weights where it is another; 0 is faster."""
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    """What is taken from the right word and given to the others."""
    drop_worst: float = Field(0.0, ge=0, lt=1)
    """Share of a batch with the greatest loss that is left out …"""
    drop_after: float = Field(6.0, ge=0)
    """… after so many epochs."""
    original: OriginalExamples = OriginalExamples()
    """What the released code does otherwise."""
    by_length: bool = False
    """Batches of captions of similar length, which have less padding."""


def inputs(config: CaptioningConfig) -> Mapping[str, Request]:
    """Captions, regions, and unless a model is named the pre-training that `start` says."""
    return {
        "captions": captions_of(config),
        "regions": regions_of(config),
        **pretraining_of(config),
    }


class Captioned:
    """The captions as a task (`downstream.seeds.Task`)."""

    title, file, loss, plan = "captioning", "captioning.json", "words", {}

    def __init__(self, config: CaptioningConfig, splits: Splits, pictures: Pictures, start: StartingPoint):
        self.config, self.splits, self.pictures, self.start = config, splits, pictures, start

    @cached_property
    def training(self) -> CaptionTable:
        """The captions that are trained on."""
        said = [(image.image_id, image.sentences) for image in self.splits.training()]
        return caption_table(
            said, self.pictures.store.by_name, self.start.tokenizer, self.config.text_length, "vlp.captioning"
        )

    @property
    def majority(self) -> float:
        """The validation CIDEr of one caption for all."""
        return self.splits.majority

    def batches(self, seed: int) -> Batches:
        """The updates of a training."""
        config, table = self.config, self.training
        each = len(table) / (len(table.together()) - 1) if config.packed else 1
        return Batches(
            table, self.pictures, self.start.tokenizer,
            Hiding(1.0, config.mask_rate, config.most_targets, config.targets),
            batch=max(1, round(config.batch / each)), micro_batch=config.micro_batch, packed=config.packed,
            any_random=config.original.any_random, seed=seed, by_length=config.by_length, drop=config.drop_worst,
            drop_after=config.drop_after,
        )  # fmt: skip

    def make(self) -> Guessing:
        """The model as it starts."""
        same = {name: getattr(self.config, name) for name in ("dropout", "attention_dropout", "text_length")}
        model = self.start.model(VlpForGeneration, self.pictures, **same)
        model.label_smoothing = self.config.label_smoothing
        return Guessing(model)

    def captions(self, model: Guessing, split: str, device: str) -> dict[str, str]:
        """What the model says to the pictures of a split."""
        names, config = list(self.splits.references(split)), self.config
        return describe(
            model.model, self.start.tokenizer, self.pictures, names, config.decode_batch, device,
            **config.search(split),
        )  # fmt: skip

    def cider(self, model: Guessing, device: str) -> float:
        """The score of the validation split, greedily."""
        split = self.config.valid
        return self.splits.cider(self.captions(model, split, device), split)

    def answered(self, model: nn.Module, split: str, device: str) -> Answered:
        """What the model says to a split, scored."""
        return self.splits.answered(self.captions(model, split, device), split)

    def save(self, folder: Path, model: Guessing) -> None:
        """Keep a fine-tuned model with its word pieces."""
        save_model(folder, model.model, self.start.tokenizer)


def describe(
    model: VlpForGeneration,
    tokenizer: Any,
    pictures: Pictures,
    names: Sequence[str],
    at_once: int,
    device: str,
    **search: Any,
) -> dict[str, str]:
    """The best caption of each picture; `search` are options of `VlpDecoder.captions`."""
    model.eval()
    decoder, found = VlpDecoder(model, tokenizer), {}
    for first in range(0, len(names), at_once):
        some = names[first : first + at_once]
        given = pictures.batch(pictures.rows(some, "captioning"))
        with torch.no_grad():
            prefix = decoder.see(**{name: value.to(device) for name, value in given.items()})
            said = decoder.captions(prefix, **search)
        found |= {name: caption.text for name, caption in zip(some, said, strict=True)}
    return found


def run(context: StageContext) -> dict[str, float]:
    """Fine-tune with every seed and caption; writes `captioning.json`, and of each seed `captions_<split>.json` as the
    official evaluation takes them, and its `model`.

    Metrics, of the validation split and with `test_` of the others, as means over the seeds with `_std`: those of
    `metrics.captions.score` and `controls`, in the world those of `caption_truth`; `majority`, `diverged`, `left_out`.
    """
    config: CaptioningConfig = context.config
    data, store = load_captions(context.inputs["captions"]), load_regions(context.inputs["regions"])
    pictures = Pictures(store, config.original.estimated_sizes, config.blind)
    splits = Splits(data, store, config)
    task = Captioned(config, splits, pictures, starting_point(context))
    batches = task.batches(config.seeds[0])
    context.log(
        f"{task.start.name}: {len(task.training):,} captions of {len(splits.training()):,} pictures, "
        f"{batches.sampler.batch} {'pictures' if config.packed else 'captions'} per update; regions with "
        f"{pictures.said}"
    )
    for split in (config.valid, *config.test):
        splits(split)  # what is wrong with one is told before the training, not after it
    left_out = [*splits.left_out, *task.training.left_out]
    context.list_left_out("left_out.txt", left_out, "captions or pictures are left out")
    return {**run_seeds(context, task, fine_tune_on_batches), "left_out": float(len(left_out))}


CAPTIONING = Stage(
    name="vlp.captioning",
    config=CaptioningConfig,
    run=run,
    inputs=inputs,
    variant=("start", "model", "targets", "packed", "blind", "epochs", "width"),
    distributed=True,
    doc="Fine-tune VLP on captions, and caption.",
)
