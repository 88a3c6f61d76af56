"""Frozen backbones, run once: hidden states of captions and picture features on disk.

With frozen backbones only two small heads are trained (1.34 M parameters in the paper's setting), so the
cache turns twenty epochs of matching into minutes, and batches may be as large as the loss likes. The cache
holds, per split, several random views and the evaluation views of every picture, and the concatenated
hidden states of every caption, in half precision. Instead of the training captions it may hold spans of them, each
read among spans of other captions (`splice`).

Differs from the original: it ran both backbones again for every epoch. Work is cut in shards (`data/shards.py`), and
a view is a function of (seed, split, picture, number of the view).
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from pydantic import Field
from torch import Tensor

from vlpnb.config import Config, Seed, Shares
from vlpnb.data.captions import CaptionedImage
from vlpnb.data.description import SPLITS, load_captions
from vlpnb.data.images import BrokenImage, decoded, none_readable
from vlpnb.data.shards import Shards
from vlpnb.data.store import check_finite
from vlpnb.data.text_files import read_json
from vlpnb.files import write_text
from vlpnb.foundations.captions import splits_only
from vlpnb.foundations.feature_store import PRODUCER, FeatureStore
from vlpnb.nn.transformer import Encoder, init_weights
from vlpnb.outside import ModelName
from vlpnb.stage import Request, Stage, StageContext
from vlpnb.text.backbones import LanguageBackbone, load_language
from vlpnb.text.splicing import Span, splice
from vlpnb.train.sampling import seed_of
from vlpnb.vision.backbones import Backbone, load_backbone

BACKBONES = "backbones.json"
SHOWN = 100  # broken pictures that a store names, as its attributes end at 64 KiB; it counts all
MIXED = 256  # pictures whose captions' spans are spliced with each other, whatever the shards' size


class FeaturesConfig(Config):
    """Which backbones, and what of their output is kept. Defaults: the paper's."""

    language: ModelName = "bert-base-uncased"
    """"stage", a folder, a hub name, "package:NAME", "minilm", or "gpt2" …"""
    vision: ModelName = "resnext101_32x8d"
    """"stage", a folder, a torchvision name, or "efficientnet_lite0"."""
    vision_weights: ModelName | None = "DEFAULT"
    """Of a torchvision model: published name, a file, or none (random)."""
    language_weights: bool = True
    """False: new random ones, for a backbone that is trained."""
    layers: tuple[Annotated[int, Field(le=-1, ge=-1000)], ...] = (
        -4,
        -3,
        -2,
        -1,
    )
    """Hidden states that are concatenated."""
    splice: int = Field(0, ge=0)
    """So many spans of each training caption, read among spans of others (`text.splicing`); 0: captions as they are."""
    max_length: int = Field(20, ge=3)
    """Word pieces of a caption, special tokens included."""
    train_views: int = Field(5, ge=1)
    """Random crops per training picture."""
    eval_views: tuple[str, ...] = ("centre",)
    """Of transforms.EVAL_VIEWS; a picture's vector is their mean."""
    crop_scale: Shares = (0.08, 1.0)
    """Share of the picture's area that a random crop keeps."""
    max_images: int | None = Field(None, ge=1)
    """Only the first pictures of the training split."""
    seed: Seed = 9595
    """Of the random crops."""
    cache: bool = True
    """False: only the pictures are checked; for fine-tuning, which reads no features."""
    shard: int = Field(256, ge=1, json_schema_extra={"hash": False})
    """Pictures per shard."""
    batch: int = Field(32, ge=1, json_schema_extra={"hash": False})
    """Pictures per forward pass."""


def backbone_inputs(config: FeaturesConfig) -> dict[str, Request]:
    """The captions, and the stages behind backbones called "stage"."""
    inputs = {"captions": splits_only}
    if config.language == "stage":
        inputs["language"] = Request("language")
    if config.vision == "stage":
        inputs["vision"] = Request("vision")
    return inputs


@dataclass(frozen=True)
class Backbones:
    """The two backbones behind a folder: what `backbones.json` in it says. `inputs` are those that lie in folders."""

    config: FeaturesConfig
    inputs: Mapping[str, Path]
    language_width: int
    vision_width: int

    def open_language(self) -> LanguageBackbone:
        """The language backbone, frozen."""
        return open_language(self.config, self.inputs)

    def open_vision(self) -> Backbone:
        """The vision backbone, frozen; not fused."""
        return open_vision(self.config, self.inputs)


def write_backbones(folder: Path, backbones: Backbones) -> None:
    """Write `backbones.json`; folders of other stages relative to `folder`, so that a run may be moved."""
    about = {
        "config": backbones.config.model_dump(mode="json"),
        "inputs": {role: os.path.relpath(path, folder) for role, path in backbones.inputs.items()},
        "language_width": backbones.language_width,
        "vision_width": backbones.vision_width,
    }
    write_text(folder / BACKBONES, json.dumps(about, indent=1) + "\n")


def read_backbones(folder: Path) -> Backbones:
    """Read `backbones.json` of the folder of features or of a matcher; UserError if it is not there."""
    about = read_json(Path(folder) / BACKBONES, "the names of two backbones (stage `features`)")
    inputs = {role: Path(folder) / path for role, path in about["inputs"].items()}
    config = FeaturesConfig.model_validate(about["config"])
    return Backbones(config, inputs, about["language_width"], about["vision_width"])


def open_language(config: FeaturesConfig, inputs: Mapping[str, Path]) -> LanguageBackbone:
    """The language backbone that a configuration names; random weights are a function of the seed."""
    language = load_language(inputs.get("language", config.language), config.layers)
    if not config.language_weights:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            if isinstance(language.net, Encoder):
                init_weights(language.net)
            else:
                language.net = type(language.net)(language.net.config)
        language.freeze(language.frozen).eval()
    return language


def open_vision(config: FeaturesConfig, inputs: Mapping[str, Path]) -> Backbone:
    """The vision backbone that a configuration names; `fuse()` it where it stays frozen.

    Random weights are a function of the seed: every stage that opens them has the same.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return load_backbone(
            inputs.get("vision", config.vision), inputs.get("vision_weights", config.vision_weights)
        )


@torch.no_grad()
def picture_features(
    backbone: Backbone, pixels: Sequence[Float[Tensor, "3 S S2"]], batch: int = 32
) -> Float[Tensor, "N D"]:
    """Features of some pictures on the host, float32, `batch` pictures at a time."""
    device = next(backbone.net.parameters()).device
    parts = [
        backbone(torch.stack(list(pixels[i : i + batch])).to(device)) for i in range(0, len(pixels), batch)
    ]
    return torch.cat([part.float().cpu() for part in parts])


def views_of(split: str, config: FeaturesConfig) -> tuple[int, tuple[str, ...]]:
    """How many random views, and which fixed ones, a split's pictures have; training has one fixed view."""
    return (config.train_views, config.eval_views[:1]) if split == "train" else (0, config.eval_views)


def spliced(split: str, config: FeaturesConfig) -> bool:
    """Whether a split's captions are spans that were read in foreign company: those of training, if configured."""
    return split == "train" and config.splice > 0


class _Part:
    """Some pictures of a split with their captions, through both backbones."""

    def __init__(
        self, split: str, language: LanguageBackbone, vision: Backbone, config: FeaturesConfig, first: int
    ):
        self.split, self.language, self.vision = split, language, vision
        self.config, self.first = config, first

    def _pixels(self, position: int, picture: Image.Image) -> list[Float[Tensor, "3 S S2"]]:
        """The views of one picture, random ones first; called in any thread."""
        config, (random_views, fixed_views) = self.config, views_of(self.split, self.config)
        found = []
        for view in range(random_views):
            seed = seed_of(config.seed, SPLITS.index(self.split), self.first + position, view)
            generator = torch.Generator().manual_seed(seed)
            found.append(self.vision.train_pixels(picture, generator, config.crop_scale))
        return found + [self.vision.eval_pixels(picture, view) for view in fixed_views]

    def _views(self, images: Sequence[CaptionedImage]) -> tuple[np.ndarray, list[CaptionedImage], list]:
        """Half-precision features of the pictures that can be read, those pictures, and the others' reasons."""
        kept, broken, pixels, views = [], [], [], []
        for image, found in zip(images, decoded([i.path for i in images], self._pixels), strict=True):
            if isinstance(found, BrokenImage):
                broken.append([str(image.path), found.reason])
                continue
            kept.append(image)
            pixels += found
            if len(pixels) >= self.config.batch:
                views.append(picture_features(self.vision, pixels, self.config.batch))
                pixels = []
        if pixels:
            views.append(picture_features(self.vision, pixels, self.config.batch))
        random_views, fixed_views = views_of(self.split, self.config)
        features = torch.cat([*views, torch.empty(0, self.vision.width)]).half()
        shape = (len(kept), random_views + len(fixed_views), self.vision.width)
        return features.reshape(shape).numpy(), kept, broken

    @torch.no_grad()
    def _states(self, rows: Sequence[Sequence[int]]) -> list[np.ndarray]:
        """Half-precision hidden states of all tokens of each row."""
        language = self.language
        states: list[np.ndarray] = [np.empty((0, language.width), np.float16)] * len(rows)
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        for at in range(0, len(order), 64):
            chosen = order[at : at + 64]
            ids, mask = language.pad([rows[i] for i in chosen])
            hidden = language(ids, mask).half().cpu().numpy()
            for i, state in zip(chosen, hidden, strict=True):
                states[i] = state[: len(rows[i])].copy()
        return states

    def _rows(self, sentences: Sequence[str]) -> tuple[list[list[int]], list[Span]]:
        """What the language backbone reads, and where in it each caption is, or each span of one."""
        language, config = self.language, self.config
        rows = language.encode(sentences, config.max_length)
        if not spliced(self.split, config):
            return rows, [Span(i, i, 0, len(row)) for i, row in enumerate(rows)]
        start, specials = len(language.prefix), len(language.prefix) + len(language.suffix)
        bodies = [row[start : start + len(row) - specials] for row in rows]
        random = np.random.default_rng([config.seed, SPLITS.index(self.split), self.first])
        joined, spans = splice(bodies, config.splice, random)
        moved = [replace(s, start=s.start + start, end=s.end + start) for s in spans]
        return [language.wrap(row) for row in joined], moved

    def __call__(self, images: Sequence[CaptionedImage]) -> tuple[dict[str, np.ndarray], dict[str, list]]:
        """The arrays of `FeatureStore` for these pictures, with lengths in place of offsets."""
        views, kept, broken = self._views(images)
        rows, spans = self._rows([sentence for image in kept for sentence in image.sentences])
        states = self._states(rows)
        cut = [states[s.row][s.start : s.end] for s in spans]
        owner = np.repeat(np.arange(len(kept), dtype=np.int32), [len(image.sentences) for image in kept])
        which = f"pictures from {images[0].path} on"
        hidden = np.concatenate([*cut, np.empty((0, self.language.width), np.float16)])
        arrays = {
            "views": check_finite(views, f"the features of the {which}"),
            "states": check_finite(hidden, f"the features of the captions of the {which}"),
            "tokens": np.array([i for s in spans for i in rows[s.row][s.start : s.end]], dtype=np.int32),
            "offsets": np.array([s.end - s.start for s in spans], dtype=np.int32),
            "owner": owner[np.array([s.sentence for s in spans], dtype=np.int64)],
        }
        return arrays, {"ids": [image.image_id for image in kept], "broken": broken}


def cache_split(
    folder: Path,
    split: str,
    images: Sequence[CaptionedImage],
    language: LanguageBackbone,
    vision: Backbone,
    config: FeaturesConfig,
    progress: Callable[[int, int], None] = lambda done, total: None,
    rank: int = 0,
    world_size: int = 1,
) -> dict[str, int]:
    """Write `folder/<split>.hdf5` and `.ids`; returns the numbers of pictures, captions and broken pictures.

    Pictures that cannot be decoded are left out with their captions, counted (`broken_count` of the
    store) and listed in `<split>.broken.txt`; the first hundred are named in the store's attribute `broken`, too.
    """
    about = [config.model_dump(mode="json", exclude={"shard", "batch"})]
    about += [[image.image_id, *image.sentences] for image in images]
    identity = hashlib.sha256(json.dumps(about).encode()).hexdigest()
    size = MIXED if spliced(split, config) else config.shard
    firsts = range(0, len(images), size)
    sizes = [min(size, len(images) - first) for first in firsts]
    shards = Shards(folder / f"checkpoint-{split}", identity, sizes, rank, world_size, progress)

    def unit(i: int) -> tuple[dict[str, np.ndarray], dict[str, list]]:
        part = _Part(split, language, vision, config, firsts[i])
        return part(images[firsts[i] : firsts[i] + size])

    target = folder / f"{split}.hdf5"
    if not shards.complete(target):
        shards.make(unit)
        notes = shards.notes()
        if not notes.get("ids"):
            shards.publish(lambda: None)  # so that they are made again once the pictures are there
            paths = [image.path for image in images]
            raise none_readable(f"split '{split}'", paths, notes.get("broken", []))
        shards.publish(lambda: _join(shards, target, notes, language, spliced(split, config)))
    store = FeatureStore(folder, split)
    broken = store.attributes["broken_count"]
    return {"images": len(store.image_ids), "captions": len(store), "broken": broken}


def _join(
    shards: Shards, target: Path, notes: Mapping[str, list], language: LanguageBackbone, cut: bool
) -> None:
    # Before the store: where the store is, the work is done, and nobody comes back for its ids.
    write_text(target.with_suffix(".ids"), "".join(f"{i}\n" for i in notes["ids"]))
    broken = notes.get("broken", [])
    if broken:
        text = "".join(f"{path}\t{why}\n" for path, why in broken)
        write_text(target.with_suffix(".broken.txt"), text)
    # a span has no special tokens of its own
    about = {"prefix": 0 if cut else len(language.prefix), "suffix": 0 if cut else len(language.suffix)}
    about |= {"broken": broken[:SHOWN], "broken_count": len(broken)}
    shards.join(target, PRODUCER, about, offsets=["offsets"], indices={"owner": "views"})


def cache_features(context: StageContext) -> dict[str, float]:
    """Run both backbones over the captioned splits. Metrics per split: pictures, captions, broken ones."""
    config: FeaturesConfig = context.config
    captions = load_captions(context.inputs["captions"])
    images = {split: captions.captioned(split) for split in SPLITS}
    images["train"] = images["train"][: config.max_images]
    language = open_language(config, context.inputs).to(context.device)
    vision = open_vision(config, context.inputs).fuse().to(context.device)
    if context.rank == 0:
        inputs = {role: path for role, path in context.inputs.items() if role != "captions"}
        write_backbones(context.folder, Backbones(config, inputs, language.width, vision.width))
    total, before = sum(map(len, images.values())), 0
    metrics = {"language_width": float(language.width), "vision_width": float(vision.width)}
    if not config.cache:
        return metrics
    for split, listed in images.items():
        counts = cache_split(
            context.folder, split, listed, language, vision, config,
            lambda done, _, before=before: context.progress(before + done, total),
            context.rank, context.world_size,
        )  # fmt: skip
        before += len(listed)
        metrics |= {f"{split}_{name}": float(count) for name, count in counts.items()}
        if counts["broken"]:
            context.log(
                f"{split}: {counts['broken']} of {len(listed)} pictures cannot be read and are left out"
            )
    return metrics


FEATURES = Stage(
    "features", FeaturesConfig, cache_features, backbone_inputs, variant=("cache",), distributed=True,
    doc="Run the frozen backbones once over pictures and captions.",
)  # fmt: skip
