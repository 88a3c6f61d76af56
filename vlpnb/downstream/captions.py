"""Captions of the pictures of some splits, whatever writes them: how they are searched for, and what they score.

Paper: VLP (Zhou et al. 2020): greedily in validation, by a beam search of width 5 in the test. Beside the scores of
`vlpnb.metrics.captions` stand what the caption of another picture and one caption for all pictures would score; in the
world, where the scene is known, the shares of things, colours and colours of things that are true; and what captions
score that no model wrote: one for all pictures, that of the most similar training picture, the consensus of the ten
most similar, and one person against the others (`vlpnb.metrics.caption_baselines`). Pictures are compared by the
regions that a captioner reads, so that these baselines see what it sees.

Differs from the original: captions are written before they are scored; pictures without regions are counted and listed.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from vlpnb.config import Name, Seed
from vlpnb.data.captions import CaptionedImage
from vlpnb.data.description import CaptionData
from vlpnb.data.region_store import RegionStore
from vlpnb.data.submissions import caption_results
from vlpnb.downstream.pictured import PicturedConfig, rows_of
from vlpnb.downstream.seeds import Answered
from vlpnb.files import write_text
from vlpnb.metrics import captions as metrics
from vlpnb.metrics.caption_baselines import (
    NEIGHBOURS,
    consensus_captions,
    constant_caption,
    nearest_captions,
    one_against_others,
)
from vlpnb.stage import Request
from vlpnb.world.truth import caption_truth
from vlpnb.world.writers import load_scenes

TOLD = ("cider", "bleu_4")  # of each baseline
AT_ONCE = 256  # pictures


class CaptioningFields(PicturedConfig):
    """What fine-tuning on captions asks, whatever the system: of which pictures, and how captions are searched for."""

    captions: dict[str, Any] = Field(default_factory=dict)
    """Fields of the stage `captions` that are other than the run's, such as {format: karpathy, annotations: …}."""
    seeds: tuple[Seed, ...] = Field((42,), min_length=1)
    """Of fine-tuning: order, what is hidden or drawn, dropout."""
    train: tuple[Name, ...] = Field(("train",), min_length=1)
    """Splits to train on (Karpathy's restval belongs to train)."""
    max_images: int | None = Field(None, ge=1)
    """Only the first training pictures."""
    width: int = Field(5, ge=1)
    """Beams, of the test pictures; 1 is greedy, as the validation pictures always are."""
    length_bonus: float = Field(0.0, ge=-100, le=100)
    """Added to a caption's score for each word."""
    min_length: int = Field(0, ge=0)
    """Word pieces before a caption may end."""
    no_repeat: int = Field(0, ge=0)
    """No run of so many words comes twice in a caption; 0: any may."""
    decode_batch: int = Field(100, ge=1, json_schema_extra={"hash": False})
    """Pictures that are captioned at a time."""
    keep_models: bool = True
    """Save the fine-tuned models, for `vlpnb caption` and for stages that go on with them."""

    def search(self, split: str) -> dict[str, Any]:
        """How captions of a split are searched for: greedily in validation."""
        if split == self.valid:
            return {"width": 1}
        return {name: getattr(self, name) for name in ("width", "length_bonus", "min_length", "no_repeat")}


def captions_of(config: CaptioningFields) -> Request:
    """The captions of the splits, without the sets beside them."""
    return Request("captions", {"sets": None, **config.captions})


class Splits:
    """The captioned pictures of the splits that have regions, read when they are first asked for."""

    def __init__(self, data: CaptionData, store: RegionStore, config: Any):
        self.data, self.store, self.config = data, store, config
        self.left_out: list[str] = []
        self._known: dict[str, list[CaptionedImage]] = {}

    def __call__(self, split: str) -> list[CaptionedImage]:
        """The pictures of a split; of the validation split at most `max_valid`."""
        if split not in self._known:
            images = self.data.annotated(split)
            kept = [image for image in images if image.image_id in self.store]
            self.left_out += [f"{split} {i.image_id}" for i in images if i.image_id not in self.store]
            if not kept:
                rows_of(self.store, [image.image_id for image in images], f"the captions of split '{split}'")
            self._known[split] = kept[: self.config.max_valid if split == self.config.valid else None]
        return self._known[split]

    def training(self) -> list[CaptionedImage]:
        """The pictures that are trained on."""
        images = [image for split in self.config.train for image in self(split)]
        return images[: self.config.max_images]

    def references(self, split: str) -> dict[str, Sequence[str]]:
        """The captions of each picture of a split."""
        return {image.image_id: image.sentences for image in self(split)}

    def cider(self, said: Mapping[str, str], split: str) -> float:
        """What captions of a split score."""
        return float(metrics.score(said, self.references(split))["cider"])

    @cached_property
    def constant(self) -> str:
        """The one caption that suits the training pictures best."""
        return constant_caption([image.sentences for image in self.training()])

    @property
    def majority(self) -> float:
        """The validation CIDEr of one caption for all."""
        return self.cider(dict.fromkeys(self.references(self.config.valid), self.constant), self.config.valid)

    @cached_property
    def scenes(self) -> Mapping[str, Any] | None:
        """What is really in the pictures of the world; None of photographs."""
        return load_scenes(self.data.scenes) if self.data.scenes is not None else None

    def answered(self, said: Mapping[str, str], split: str) -> Answered:
        """Captions of a split with their scores, controls, and in the world what of them is true."""
        images, references = self(split), self.references(split)
        found = {name: value for name, value in metrics.score(said, references).items() if name != "tokens"}
        found |= metrics.controls(said, references, self.constant)
        if self.scenes is not None:
            found |= caption_truth(said, self.scenes)
        return Answered(
            found,
            found["cider"],
            len(said) > 1 and found["different"] == 1,
            lambda folder: write_text(folder / f"captions_{split}.json", caption_results(said, images)),
        )


def picture_vectors(store: RegionStore, rows: Int[np.ndarray, " N"]) -> Float[Tensor, "N F"]:
    """The mean of the features of each picture's regions."""
    found = []
    for first in range(0, len(rows), AT_ONCE):
        given = store.batch(rows[first : first + AT_ONCE])
        mask = (
            given.mask if given.mask is not None else torch.ones(given.features.shape[:2], dtype=torch.bool)
        )
        weights = mask / mask.sum(dim=1, keepdim=True)
        found.append((given.features * weights[..., None]).sum(dim=1))
    return torch.cat(found)


def caption_baselines(
    store: RegionStore, training: Sequence[CaptionedImage], asked: Sequence[CaptionedImage]
) -> dict[str, float]:
    """`constant_cider`, `nearest_cider`, `consensus_cider`, `person_cider`, and the same of `bleu_4`.

    `person_…` only where pictures have several captions. Consensus is over as many as there are, at most ten.

    Args:
        training, asked: pictures with regions; the former lend their captions.
    Raises:
        UserError: the store lacks a picture.
    """
    vectors = [
        picture_vectors(store, rows_of(store, [image.image_id for image in images], "baselines"))
        for images in (training, asked)
    ]
    mean = vectors[0].mean(dim=0)  # what all pictures share does not decide
    known, new = (one - mean for one in vectors)
    captions = [image.sentences for image in training]
    names = [image.image_id for image in asked]
    references = {image.image_id: image.sentences for image in asked}
    said = {
        "constant": [constant_caption(captions)] * len(names),
        "nearest": nearest_captions(new, known, captions),
        "consensus": consensus_captions(new, known, captions, min(NEIGHBOURS, len(training))),
    }
    found = {
        name: metrics.score(dict(zip(names, texts, strict=True)), references) for name, texts in said.items()
    }
    if any(len(those) > 1 for those in references.values()):
        found["person"] = one_against_others(references)
    return {f"{name}_{metric}": float(values[metric]) for name, values in found.items() for metric in TOLD}


def baselines_of_test(data: CaptionData, store: RegionStore) -> dict[str, float]:
    """Scores × 100 on the test pictures of captions that nobody trained: `baseline.<name>.<metric>`."""
    training, asked = (
        [image for image in data.annotated(split) if image.image_id in store] for split in ("train", "test")
    )
    found = {}
    for name, value in caption_baselines(store, training, asked).items():
        who, _, metric = name.partition("_")
        found[f"baseline.{who}.{metric}"] = 100 * value
    return found
