"""Stage `towers`: the frozen pair of towers that pictures are looked up with.

Paper: VaLM (Wang et al. 2022, section 2.2) takes OpenAI's CLIP RN50x16. `clip` names a CLIP on this machine; else a
dual encoder is trained on the captioned pictures of the run, whose backbone is that of the stage `features` and stays
frozen: every language model of part 4 can be made without a download.

A training example is a picture with one to `sentences` of its captions in any order, as paragraphs of the language
model's text have them, and a batch never has a picture twice. Which captions, which view and which state inside the
text are a function of (seed, update), so that a killed run continues to the bit. It runs on one process whatever their
number: InfoNCE compares a whole batch, and it takes a minute or two.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn.functional import normalize
from transformers import PreTrainedTokenizerFast

from vlpnb.config import Config, Seed
from vlpnb.data.captions import CaptionedImage
from vlpnb.data.description import CaptionData, load_captions
from vlpnb.errors import UserError
from vlpnb.files import write_json
from vlpnb.foundations.backbones import KEPT, keep_backbones
from vlpnb.foundations.captions import splits_only
from vlpnb.foundations.feature_store import FeatureStore
from vlpnb.foundations.features import read_backbones, views_of
from vlpnb.foundations.tower_pair import ABOUT, MODEL
from vlpnb.metrics.retrieval import ranks, recall
from vlpnb.nn.clip_files import load_clip, save_clip
from vlpnb.nn.dual_encoder import DualEncoder, DualEncoderConfig, save_dual_encoder
from vlpnb.nn.text_states import token_states
from vlpnb.outside import ModelName
from vlpnb.stage import Request, Stage, StageContext
from vlpnb.text.clip import MARKS, NAME, cleaning, is_clip
from vlpnb.text.tokenizers import encode_lines, load_tokenizer, vocabulary_hash
from vlpnb.train.loop import Precision, TrainingPlan, fit
from vlpnb.train.sampling import EpochSampler, Update, evenly

WEIGHT_FILES = (".safetensors", ".pth", ".pt", ".bin")
POOL = 200  # pictures that a recall is among, whatever the split's size: numbers of different runs compare


class TowersConfig(Config):
    """Which towers, or how to train them. The sizes are the course's; the paper's towers are a CLIP."""

    clip: ModelName = ""
    """A CLIP: a HuggingFace folder or a file of OpenAI's; empty: a dual encoder is trained, as all below says."""
    tokenizer: ModelName = ""
    """Empty: that of the stage `language`, or of CLIP's folder; a file of OpenAI's needs CLIP's merges here. Where the
    language model has the same pieces, each of them asks with its own state.
    """
    hidden: int = Field(192, ge=8)
    """Width of the text side."""
    layers: int = Field(3, ge=1)
    """Its blocks."""
    heads: int = Field(4, ge=1)
    """Its attention heads."""
    width: int = Field(128, ge=2)
    """Of the common space."""
    image_hidden: int = Field(0, ge=0)
    """Width of a layer inside the picture side; 0: features are projected at once."""
    longest: int = Field(75, ge=4, le=1000)
    """Word pieces of a text; CLIP's."""
    sentences: int = Field(3, ge=1)
    """Captions of a training example, at most."""
    prefix_weight: float = Field(0.0, ge=0)
    """Weight of the loss of one state inside each text; 0: the end alone learns, as in CLIP."""
    epochs: float = Field(60.0, gt=0)
    """Passes over the pictures, unless `updates` is given."""
    updates: int | None = Field(None, ge=0)
    """Optimiser steps."""
    batch: int = Field(256, ge=2)
    """Pictures of an update."""
    lr: float = Field(1e-3, gt=0)
    """Peak learning rate; it falls to 0 along a line."""
    warmup: float = Field(0.05, ge=0, le=1)
    """Share of the updates with a rising rate."""
    weight_decay: float = Field(0.1, ge=0)
    """Decay of the weights, biases and norms spared."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """Share of units and of picture features left out in training."""
    temperature: float = Field(0.07, gt=0)
    """At the start; it is learned."""
    init_std: float | None = Field(None, gt=0)
    """Of the initial weights; none: 1/√hidden."""
    precision: Precision = "float32"
    """Of matrix products on a GPU."""
    seed: Seed = 42
    """Of initial weights, order, captions, views and dropout."""
    evaluations: int = Field(4, ge=1)
    """Evaluations, evenly spaced, the last one at the end."""
    log_every: int = Field(50, ge=1, json_schema_extra={"hash": False})
    """Updates per line of `metrics.jsonl`."""
    checkpoint_seconds: float = Field(30.0, ge=0, json_schema_extra={"hash": False})
    """A kill loses at most so many seconds of work."""

    @model_validator(mode="after")
    def _divides(self) -> "TowersConfig":
        if self.hidden % self.heads:
            raise ValueError(f"hidden {self.hidden} cannot be split into {self.heads} heads")
        return self


def inputs(config: TowersConfig) -> Mapping[str, Request]:
    """Captions, the features of their pictures, and the tokenizer; nothing for a CLIP."""
    if config.clip:
        return {}
    needed = {"captions": splits_only, "features": Request("features")}
    return needed if config.tokenizer else {**needed, "language": Request("language")}


@dataclass(frozen=True)
class Captioned:
    """N pictures with their captions as ids, and the pictures' features."""

    captions: list[list[Int[np.ndarray, " _"]]]
    """Of each picture."""
    views: Float[np.ndarray, "N K F"]
    """Of each picture, random ones first."""
    random_views: int

    def __len__(self) -> int:
        return len(self.captions)

    def fixed(self) -> Float[Tensor, "N F"]:
        """The features of the view that pictures are looked up by."""
        return torch.from_numpy(np.asarray(self.views[:, self.random_views], np.float32))


def read_captioned(data: CaptionData, features: Path, split: str, tokenizer) -> Captioned:
    """The pictures of a split that have features and a caption with a word piece.

    Raises:
        UserError: the stage `features` has none of them, or kept no features.
    """
    if not (features / f"{split}.hdf5").is_file():
        raise UserError(f"towers: {features} has no features of split '{split}'; set features.cache to true")
    store = FeatureStore(features, split)
    row_of = {image_id: row for row, image_id in enumerate(store.image_ids)}
    images: list[CaptionedImage] = [image for image in data.captioned(split) if image.image_id in row_of]
    flat = encode_lines(tokenizer, [sentence for image in images for sentence in image.sentences])
    rows, captions, first = [], [], 0
    for image in images:
        own = [ids for ids in flat[first : first + len(image.sentences)] if len(ids)]
        first += len(image.sentences)
        if own:
            rows.append(row_of[image.image_id])
            captions.append(own)
    if not rows:
        raise UserError(f"towers: no picture of split '{split}' has both features ({features}) and a caption")
    random_views, _ = views_of(split, read_backbones(features).config)
    return Captioned(captions, store.views[np.array(rows)], random_views)


class PairBatches:
    """Update number → a batch of distinct pictures, each with some of its captions."""

    def __init__(self, pictures: Captioned, config: TowersConfig, shape: DualEncoderConfig):
        self.pictures, self.config, self.shape = pictures, config, shape
        self.sampler = EpochSampler(
            len(pictures), min(config.batch, len(pictures)), config.seed, drop_last=True
        )

    def __call__(self, update: int) -> Update:
        rows, shape = self.sampler(update), self.shape
        random = np.random.default_rng([self.config.seed, 1, update])
        views = random.integers(0, max(1, self.pictures.random_views), len(rows))
        texts = [self._text(self.pictures.captions[row], random) for row in rows]
        ends = np.array([len(text) + 1 for text in texts])
        ids = np.full((len(rows), int(ends.max()) + 1), shape.pad_id, np.int64)
        ids[:, 0] = shape.start_id
        for i, text in enumerate(texts):
            ids[i, 1 : len(text) + 1] = text
            ids[i, len(text) + 1] = shape.end_id
        features = np.asarray(self.pictures.views[rows, views], np.float32)
        micro = {
            "ids": torch.from_numpy(ids),
            "features": torch.from_numpy(features),
            "ends": torch.from_numpy(ends),
        }
        counts = {"pairs": len(rows)}
        if self.config.prefix_weight:
            micro["inside"] = torch.from_numpy(random.integers(1, ends))  # after so many word pieces
            counts["prefixes"] = len(rows)
        return Update([micro], counts, tokens=int(ends.sum() + len(rows)))

    def _text(
        self, captions: Sequence[Int[np.ndarray, " _"]], random: np.random.Generator
    ) -> Int[np.ndarray, " n"]:
        """Some captions of a picture, in any order, as one text."""
        count = int(random.integers(1, min(self.config.sentences, len(captions)) + 1))
        chosen = random.permutation(len(captions))[:count]
        return np.concatenate([captions[i] for i in chosen])[: self.shape.longest]


def evaluate(model: DualEncoder, pictures: Captioned, device: str) -> dict[str, float]:
    """How well texts find their pictures among `POOL` of a split's.

    Returns:
        `sentence_r1`, `…5`, `…10`: single captions, by the state at their end; `paragraph_r10`: all captions of a
        picture as one text; `token_r10`: the state after each word piece of a caption; `pool`: pictures.
    """
    count, shape = min(POOL, len(pictures)), model.config
    vectors = normalize(model.image_vectors(pictures.fixed()[:count].to(device)), dim=-1).cpu()
    captions = [ids[: shape.longest] for own in pictures.captions[:count] for ids in own]
    owner = torch.tensor([i for i in range(count) for _ in pictures.captions[i]])
    paragraphs = [np.concatenate(own)[: shape.longest] for own in pictures.captions[:count]]
    special = {"start": shape.start_id, "end": shape.end_id, "pad": shape.pad_id, "longest": shape.longest}
    found = token_states(lambda ids: model.token_states(ids.to(device)), [*captions, *paragraphs], **special)
    single, whole = found[: len(captions)], found[len(captions) :]

    def rank(states: list[np.ndarray], own: Tensor) -> Tensor:
        return ranks(torch.from_numpy(np.stack(states)) @ vectors.T, own)

    tokens = np.concatenate([states[1:-1] for states in single])
    token_owner = owner.repeat_interleave(torch.tensor([len(states) - 2 for states in single]))
    return {
        **recall(rank([states[-1] for states in single], owner), prefix="sentence_r"),
        **recall(rank([states[-1] for states in whole], torch.arange(count)), (10,), "paragraph_r"),
        **recall(rank(list(tokens), token_owner), (10,), "token_r"),
        "pool": count,
    }


def pair_hash(*parts: str | bytes | Path) -> str:
    """One hash of what vectors depend on: names, bytes, and the content of files."""
    digest = hashlib.sha256()
    for part in parts:
        content = part.read_bytes() if isinstance(part, Path) else part
        digest.update(hashlib.sha256(content.encode() if isinstance(content, str) else content).digest())
    return digest.hexdigest()


def special_ids(tokenizer: PreTrainedTokenizerFast) -> dict[str, int]:
    """Which ids stand before, behind and beside texts. UserError where a tokenizer has none."""
    t = tokenizer
    found = {
        "start_id": t.bos_token_id if t.cls_token_id is None else t.cls_token_id,
        "end_id": t.eos_token_id if t.sep_token_id is None else t.sep_token_id,
        "pad_id": t.pad_token_id,
    }
    if None in found.values():
        raise UserError(f"towers.tokenizer: {t.name_or_path} has no token for the beginning, end or padding")
    return found


def describe(folder: Path, kind: str, name: str, tokenizer: PreTrainedTokenizerFast, *about: str) -> None:
    """Write `towers.json`, last of all: which towers the folder holds, and the hash of all that vectors depend on."""
    files = sorted(
        path for part in (MODEL, KEPT) for path in (folder / part).rglob("*") if path.suffix in WEIGHT_FILES
    )
    digest = pair_hash(kind, vocabulary_hash(tokenizer), *about, *files)
    repair = {"cleaning": cleaning()} if is_clip(tokenizer) else {}
    write_json(folder / ABOUT, {"kind": kind, "name": f"{name} {digest[:8]}", "hash": digest, **repair})


def train(context: StageContext) -> dict[str, float]:
    """Train a dual encoder in the stage's folder. Metrics: those of `evaluate`, loss, updates, parameters …"""
    config: TowersConfig = context.config
    tokenizer = load_tokenizer(config.tokenizer or context.inputs["language"] / MODEL)
    data, features = load_captions(context.inputs["captions"]), context.inputs["features"]
    pictures, valid = (read_captioned(data, features, split, tokenizer) for split in ("train", "valid"))
    shape = DualEncoderConfig(
        vocab_size=len(tokenizer), **special_ids(tokenizer), longest=config.longest, hidden=config.hidden,
        layers=config.layers, heads=config.heads, ffn=4 * config.hidden, dropout=config.dropout,
        feature_width=pictures.views.shape[2], width=config.width, image_hidden=config.image_hidden,
        temperature=config.temperature, init_std=config.init_std or 1 / math.sqrt(config.hidden),
    )  # fmt: skip
    torch.manual_seed(config.seed)
    model, batches = DualEncoder(shape), PairBatches(pictures, config, shape)
    updates = round(config.epochs * batches.sampler.per_epoch) if config.updates is None else config.updates
    parameters = sum(p.numel() for p in model.parameters())
    context.log(
        f"{parameters / 1e6:.2f} M parameters, {len(pictures):,} pictures, {len(tokenizer):,} word pieces, "
        f"{updates:,} updates of {batches.sampler.batch}"
    )
    plan = TrainingPlan(
        updates=updates, lr=config.lr, warmup=round(config.warmup * updates), weight_decay=config.weight_decay,
        betas=(0.9, 0.98), seed=config.seed, precision=config.precision, weights={"prefixes": config.prefix_weight},
        evaluate_at=frozenset(evenly(updates, config.evaluations) if updates else (0,)), log_every=config.log_every,
        checkpoint_seconds=config.checkpoint_seconds,
    )  # fmt: skip

    def at(step: int) -> dict[str, float]:
        measured = evaluate(model, valid, context.device)
        context.log(
            f"update {step:,}: " + ", ".join(f"{name} {value:.3f}" for name, value in measured.items())
        )
        return measured

    records = fit(
        model, batches, plan, context.folder, device=context.device, evaluate=at, progress=context.progress, keep=True
    )  # fmt: skip
    save_dual_encoder(context.folder / MODEL, model)
    tokenizer.save_pretrained(context.folder / MODEL)
    source = read_backbones(features)
    keep_backbones(context.folder, source, ("vision", "vision_weights"))
    backbone = (
        f"{Path(source.config.vision).name} {source.config.vision_weights} {source.config.eval_views[0]}"
    )
    describe(context.folder, "dual_encoder", "dual encoder", tokenizer, backbone)
    final = next(record for record in reversed(records) if "pool" in record)
    losses = [record["loss"] for record in records if "loss" in record]
    speeds = [record["tokens_per_second"] for record in records if "tokens_per_second" in record]
    return {
        **{name: value for name, value in final.items() if name != "step"},
        **({"loss": losses[-1], "tokens_per_second": float(np.median(speeds))} if losses else {}),
        "updates": updates,
        "pictures": len(pictures),
        "parameters": parameters,
    }


def take_clip(context: StageContext) -> dict[str, float]:
    """Keep a CLIP and its tokenizer in the stage's folder. Metrics: parameters, width.

    Raises:
        UserError: no CLIP is there, or no tokenizer with CLIP's marks whose ids it knows.
    """
    config: TowersConfig = context.config
    model = load_clip(config.clip)
    where = config.tokenizer or config.clip
    if not config.tokenizer and Path(config.clip).is_file():
        raise UserError(
            f"towers.clip: {config.clip} is a file of weights alone; name CLIP's merges, {NAME}.gz, as "
            "towers.tokenizer"
        )
    tokenizer = load_tokenizer(where)
    if not is_clip(tokenizer) or len(tokenizer) != model.config.vocab_size:
        raise UserError(
            f"{where}: a tokenizer of {len(tokenizer):,} pieces; expected CLIP's, with {' and '.join(MARKS)}, and the "
            f"{model.config.vocab_size:,} pieces of {config.clip}"
        )
    save_clip(context.folder / MODEL, model)
    tokenizer.save_pretrained(context.folder / MODEL)
    describe(context.folder, "clip", f"CLIP {Path(config.clip).stem}", tokenizer)
    parameters = sum(p.numel() for p in model.parameters())
    context.log(f"{parameters / 1e6:.1f} M parameters, {model.config}; repair of text: {cleaning()}")
    return {"parameters": parameters, "width": model.config.width}


def run(context: StageContext) -> dict[str, float]:
    """Leave a pair of towers in the stage's folder, which `tower_pair.load_towers` opens."""
    return take_clip(context) if context.config.clip else train(context)


TOWERS = Stage(
    name="towers",
    config=TowersConfig,
    run=run,
    inputs=inputs,
    variant=("clip", "prefix_weight", "seed"),
    doc="Train the text and image towers that pictures are looked up with, or take a CLIP's.",
)
