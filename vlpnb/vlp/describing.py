"""Captioning a split of pictures with a model of VLP, and scoring what it says.

Paper: VLP (Zhou et al. 2020): greedily in validation, by a beam search of width 5 in the test. Beside the
scores of `vlpnb.metrics.captions` stand what the caption of another picture and one caption for all pictures would
score; and in the world, where the scene is known, the shares of things, colours and colours of things that are true.

Differs from the original: captions are written before they are scored; pictures without regions are counted and listed.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from pydantic import Field

from vlpnb.data.captions import CaptionedImage
from vlpnb.data.description import CaptionData
from vlpnb.data.submissions import caption_results
from vlpnb.downstream.pictured import PicturedConfig
from vlpnb.downstream.seeds import Answered
from vlpnb.files import write_text
from vlpnb.metrics import captions as metrics
from vlpnb.stage import Request
from vlpnb.vlp.generating import VlpDecoder
from vlpnb.vlp.heads import VlpForGeneration
from vlpnb.vlp.pictures import Pictures
from vlpnb.world.truth import caption_truth
from vlpnb.world.writers import load_scenes


class DecodingConfig(PicturedConfig):
    """How captions are searched for, and of which pictures."""

    captions: dict[str, Any] = Field(default_factory=dict)
    """Fields of the stage `captions` that are other than the run's, such as {format: karpathy, annotations: …}."""

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


def captions_of(config: DecodingConfig) -> Request:
    """The captions of the splits, without the sets beside them."""
    return Request("captions", {"sets": None, **config.captions})


class Splits:
    """The captioned pictures of the splits that have regions, read when they are first asked for."""

    def __init__(self, data: CaptionData, pictures: Pictures, config: Any):
        self.data, self.pictures, self.config = data, pictures, config
        self.left_out: list[str] = []
        self._known: dict[str, list[CaptionedImage]] = {}

    def __call__(self, split: str) -> list[CaptionedImage]:
        """The pictures of a split; of the validation split at most `max_valid`."""
        if split not in self._known:
            images = self.data.annotated(split)
            kept = [image for image in images if image.image_id in self.pictures.store]
            self.left_out += [
                f"{split} {i.image_id}" for i in images if i.image_id not in self.pictures.store
            ]
            if not kept:
                self.pictures.rows([image.image_id for image in images], f"the captions of split '{split}'")
            self._known[split] = kept[: self.config.max_valid if split == self.config.valid else None]
        return self._known[split]

    def training(self) -> list[CaptionedImage]:
        """The pictures that are trained on."""
        images = [image for split in self.config.train for image in self(split)]
        return images[: self.config.max_images]

    @cached_property
    def scenes(self) -> Mapping[str, Any] | None:
        """What is really in the pictures of the world; None of photographs."""
        return load_scenes(self.data.scenes) if self.data.scenes is not None else None


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


def scored(
    said: Mapping[str, str],
    images: Sequence[CaptionedImage],
    split: str,
    constant: str,
    scenes: Mapping[str, Any] | None,
) -> Answered:
    """Captions of a split with their scores, controls, and in the world what of them is true."""
    references = {image.image_id: image.sentences for image in images}
    found = {name: value for name, value in metrics.score(said, references).items() if name != "tokens"}
    found |= metrics.controls(said, references, constant)
    if scenes is not None:
        found |= caption_truth(said, scenes)
    return Answered(
        found,
        found["cider"],
        len(said) > 1 and found["different"] == 1,
        lambda folder: write_text(folder / f"captions_{split}.json", caption_results(said, images)),
    )
