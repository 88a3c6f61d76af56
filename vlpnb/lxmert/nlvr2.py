"""Stage `lxmert.nlvr2`: fine-tune a model to say whether a sentence is true of two pictures.

Paper: LXMERT (Tan and Bansal 2019), section 4.2. The backbone reads the sentence beside each of the two pictures, and a
head reads both pooled vectors, the left one first. No head of pre-training is taken over. Consistency is the share of
sentences that are judged right of all their pairs.

A model that learnt nothing says the more frequent answer to everything: 50.86 % of NLVR2's development set, the figure
of all of the paper's models without pre-training. Where a run's accuracy is exactly that share, its result says so.

Differs from the original: at inference every picture is seen once, whatever the number of its pairs, and every sentence
of a batch is read once for both pictures (tested equal to the plain pass).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from pydantic import Field
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from vlpnb.data.asked_data import Pair, PairData, load_pairs
from vlpnb.data.limits import limit_images
from vlpnb.data.region_store import RegionStore
from vlpnb.data.submissions import nlvr2_submission
from vlpnb.downstream.pictured import TRAIN, Pictures, Sentences, tell_left_out, with_regions
from vlpnb.downstream.seeds import Answered, kept_model, run_seeds
from vlpnb.errors import UserError
from vlpnb.files import write_text
from vlpnb.foundations.regions import load_regions
from vlpnb.lxmert import finetuning as shared
from vlpnb.lxmert.finetuning import LxmertFineTuningConfig, check_fits
from vlpnb.lxmert.heads import PairModel
from vlpnb.lxmert.original.weights import load_model, save_model
from vlpnb.lxmert.start import StartingPoint, starting_point
from vlpnb.metrics.nlvr2 import nlvr2_scores
from vlpnb.stage import Request, Stage, StageContext
from vlpnb.text.tokenizers import load_tokenizer


class Nlvr2Config(LxmertFineTuningConfig):
    """How to fine-tune. Defaults: the paper's."""

    lr: float = Field(5e-5, gt=0)
    """Peak learning rate."""


class Statements:
    """Statements as token ids with the regions of their two pictures, padded batch by batch."""

    def __init__(self, labels: Sequence[bool | None], sentences: Sentences, left: Pictures, right: Pictures):
        self.sentences, self.lengths, self.pictures = sentences, sentences.lengths, left
        self.rows = np.stack([left.rows, right.rows], axis=1)  # [N 2], rows of the region store
        self.labels = torch.tensor([-1 if label is None else int(label) for label in labels])

    def __len__(self) -> int:
        return len(self.lengths)

    def batch(self, rows: Sequence[int] | np.ndarray) -> dict[str, Tensor]:
        """ids, mask [B T], features [B 2 R F], boxes [B 2 R 4], visual_mask [B 2 R] if needed, and label [B]."""
        rows = np.asarray(rows)
        regions = self.pictures.batch(self.rows[rows].reshape(-1))  # left, right, left, …
        pairs = {name: value.unflatten(0, (len(rows), 2)) for name, value in regions.items()}
        return {**self.sentences.batch(rows), **pairs, "label": self.labels[rows]}


@torch.no_grad()
def judge(
    model: PairModel, data: Statements, device: str, pictures_at_once: int = 512, rows_at_once: int = 128
) -> Int[np.ndarray, " N"]:
    """1 where a statement is judged true, 0 where false, in order.

    Statements go in groups whose pictures are at most `pictures_at_once`, each of which is seen once in its group.
    """
    model.eval()
    found = np.zeros(len(data), np.int64)
    order = np.lexsort((data.rows[:, 1], data.rows[:, 0]))  # pairs of the same pictures come together
    for start in range(0, len(order), pictures_at_once // 2):
        group = order[start : start + pictures_at_once // 2]
        names, which = np.unique(data.rows[group], return_inverse=True)
        regions = {name: value.to(device) for name, value in data.pictures.batch(names).items()}
        seen = model.backbone.see(regions["features"], regions["boxes"], regions.get("visual_mask"))
        which = which.reshape(-1, 2)
        by_length = np.argsort(data.lengths[group], kind="stable")
        for at in range(0, len(group), rows_at_once):
            part = by_length[at : at + rows_at_once]
            text = {name: value.to(device) for name, value in data.sentences.batch(group[part]).items()}
            both = torch.from_numpy(which[part].reshape(-1)).to(device)  # left, right, left, …
            scores = model.scores(text["ids"], text["mask"], seen.rows(both))
            found[group[part]] = scores.float().nan_to_num().argmax(1).cpu().numpy()
    return found


class Judged:
    """NLVR2's statements, read and encoded when they are first asked for (`downstream.seeds.Task`)."""

    title, file, loss = "NLVR2", "nlvr2.json", "pairs"

    def __init__(self, config: Nlvr2Config, data: PairData, store: RegionStore, start: StartingPoint):
        self.config, self.data, self.store, self.start = config, data, store, start
        self.plan: Mapping[str, Any] = {}
        self.without_regions: list[str] = []  # of the splits that were read
        self._known: dict[str, tuple[list[Pair], Statements]] = {}

    @cached_property
    def training(self) -> Statements:
        """The training statements that have a label."""
        labelled = [pair for pair in self._read(TRAIN) if pair.label is not None][: self.config.max_train]
        return self._encoded(labelled)

    def split(self, name: str) -> tuple[list[Pair], Statements]:
        """The statements of a split that is judged; of the validation split `max_valid`."""
        if name not in self._known:
            pairs = self._read(name)[: self.config.max_valid if name == self.config.valid else None]
            self._known[name] = pairs, self._encoded(pairs)
        return self._known[name]

    @property
    def majority(self) -> float:
        """The share of the more frequent label among the validation statements."""
        true = float(np.mean([bool(pair.label) for pair in self.split(self.config.valid)[0]]))
        return max(true, 1 - true)

    def make(self) -> PairModel:
        """The model as it starts."""
        model = self.start.pairs() if self.config.epochs else self.start.finished(PairModel)
        check_fits(model, self.start, self.store, self.config.max_length)
        return model

    def altered(self, batch: dict[str, Tensor], update: int, seed: int) -> dict[str, Tensor]:
        """The batch as it is."""
        return batch

    def save(self, folder: Path, model: PairModel) -> None:
        """Keep a fine-tuned model with its tokenizer."""
        save_model(folder, model, self.start.tokenizer)

    def answered(self, model: PairModel, split: str, device: str) -> Answered:
        """What the model says to a split. UserError where the validation split has no labels."""
        pairs, encoded = self.split(split)
        true = judge(model, encoded, device).astype(bool).tolist()
        said = dict(zip((pair.identifier for pair in pairs), true, strict=True))
        metrics = {}
        if all(pair.label is not None for pair in pairs):
            metrics = nlvr2_scores(said, pairs)
        elif split == self.config.valid and self.config.epochs:
            raise UserError(
                f"lxmert.nlvr2.valid: the statements of '{split}' have no labels; name another split"
            )
        return Answered(
            metrics,
            metrics.get("accuracy", math.nan),
            len(set(true)) < 2 <= len(true),
            lambda folder: write_text(folder / f"predictions_{split}.csv", nlvr2_submission(said)),
        )

    def _read(self, split: str) -> list[Pair]:
        pairs, left_out = with_regions(
            self.data.read(split), lambda pair: (pair.left, pair.right), self.store
        )
        self.without_regions += [f"{split} {p.identifier} {p.left} {p.right}" for p in left_out]
        if split not in (TRAIN, self.config.valid):
            return pairs
        return limit_images(pairs, self.config.limit_images, attrgetter("left"))

    def _encoded(self, pairs: list[Pair]) -> Statements:
        if not pairs:
            raise UserError("NLVR2: no statements to train on or to judge; expected at least one")
        sentences = Sentences.of(
            [pair.sentence for pair in pairs], self.start.tokenizer, self.config.max_length
        )
        left, right = (
            Pictures(self.store, names, self.title, self.config.blind)
            for names in ([pair.left for pair in pairs], [pair.right for pair in pairs])
        )
        return Statements([pair.label for pair in pairs], sentences, left, right)


def inputs(config: Nlvr2Config) -> Mapping[str, Request]:
    """The stage `pairs`, the regions, and the pre-training unless a model is named."""
    return shared.inputs("pairs", config)


def run(context: StageContext) -> dict[str, float]:
    """Fine-tune with every seed; files and metrics as `downstream.seeds.run_seeds` says."""
    data, store = load_pairs(context.inputs["pairs"]), load_regions(context.inputs["regions"])
    judged = Judged(context.config, data, store, starting_point(context))
    if context.config.epochs:
        context.log(
            f"fine-tuning {judged.start.name} on {len(judged.training):,} statements about two pictures"
        )
    else:
        context.log(f"judging with {judged.start.name}, which is not trained")
    for split in (context.config.valid, *context.config.test):
        judged.split(split)  # what is wrong with one is told before the training, not after it
    left_out = tell_left_out(context, judged.without_regions)
    return {**run_seeds(context, judged), **left_out}


NLVR2 = Stage(
    name="lxmert.nlvr2",
    config=Nlvr2Config,
    run=run,
    inputs=inputs,
    variant=("start", "model", "blind"),
    distributed=True,
    doc="Fine-tune on statements about two pictures.",
)


@dataclass(frozen=True)
class PairReader:
    """A fine-tuned model and what it takes to ask it."""

    model: PairModel
    tokenizer: PreTrainedTokenizerFast


def load_pair_reader(folder: Path, seed: int | None = None) -> PairReader:
    """The model of a finished stage `lxmert.nlvr2`, of its first seed unless one is named.

    Raises:
        UserError: it was not kept.
    """
    model = kept_model(folder, seed)
    return PairReader(load_model(model, PairModel), load_tokenizer(model))
