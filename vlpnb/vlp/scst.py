"""Stage `vlp.scst`: go on with a captioner by its own captions, rewarded by CIDEr.

Paper: VLP (Zhou et al. 2020), after Rennie et al. 2017: self-critical learning with rate 1e-6, from the
captioner that cross-entropy has made. CIDEr rises, by what it takes to raise it; so `bad_endings`, the number of
`different` captions and, on the world, what is true stand beside it, each also as it was before (`before_…`).

Differs from the original, whose ways are fields of `original`: captions are drawn as decoding writes them (VLP-01), the
reward has all references, words and the training split's frequencies, and is less that of the picture's other samples
(VLP-02), and the loss ends with [SEP] (VLP-13). An example is a picture, of which `samples` captions are drawn; the
probability of all their words comes out of one pass, all captions of a picture behind one prefix.
"""

from collections.abc import Mapping
from copy import copy
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field, model_validator
from torch import Tensor, nn

from vlpnb.config import Config
from vlpnb.data.description import load_captions
from vlpnb.data.text_files import read_json_lines
from vlpnb.downstream.captions import CaptioningFields, Splits, captions_of
from vlpnb.downstream.finetuning import FLAT
from vlpnb.downstream.seeds import fine_tune_on_batches, kept_model, run_seeds
from vlpnb.downstream.self_critical import CiderRewards, against_others, counted, ended_words, policy_loss
from vlpnb.files import read_back
from vlpnb.foundations.regions import load_regions
from vlpnb.metrics.cider import Frequencies
from vlpnb.nn.decoding import sample
from vlpnb.stage import Request, Stage, StageContext
from vlpnb.text.caption_table import text_of
from vlpnb.text.tokenizers import load_tokenizer
from vlpnb.train.sampling import EpochSampler, Update, share
from vlpnb.vlp.captioning import Captioned
from vlpnb.vlp.generating import VlpDecoder, log_probs_of
from vlpnb.vlp.heads import VlpForGeneration
from vlpnb.vlp.original.self_critical import losses_of_batch, reference_ids
from vlpnb.vlp.pictures import Pictures, regions_of
from vlpnb.vlp.start import NEEDS, StartConfig, StartingPoint, starting_point

SAFE_RATE, WIDE = 1e-6, 768  # from this width on a higher rate is warned of
COMPARED = ("cider", "bleu_4", "different", "bad_endings", "kinds", "colours", "bound", "recall")


class OriginalScst(Config):
    """What the released code does otherwise."""

    reference_view: bool = False
    """Captions are drawn with the mask and segments of a reference (VLP-01)."""
    batch_reward: bool = False
    """The reward is CIDEr over ids of word pieces, one reference and the batch's frequencies, less that of the greedy
    caption; an example is a caption (VLP-02).
    """
    past_end: bool = False
    """The loss goes one word beyond [SEP], and is a mean over words (VLP-13)."""
    estimated_sizes: bool = False
    """A picture's size is the farthest edge of its boxes (VLP-04); published weights expect it."""

    @model_validator(mode="after")
    def _one_reference(self) -> "OriginalScst":
        if self.reference_view and not self.batch_reward:
            raise ValueError("reference_view: there is one reference only with batch_reward; expected both")
        return self


class ScstConfig(StartConfig, CaptioningFields):
    """How to go on. Defaults: the paper's, but for `dropout`."""

    captioning: dict[str, Any] = Field(default_factory=dict)
    """Fields of the stage `vlp.captioning`, from which it goes on, that are other than the run's."""
    samples: int = Field(5, ge=2, le=64)
    """Captions drawn of each picture, which are one another's baseline; with `batch_reward` one, against the greedy."""
    temperature: float = Field(1.0, gt=0)
    """Divides the scores when captions are drawn; below 1 likely words become likelier."""
    epochs: float = Field(30.0, gt=0)
    """Passes over the training pictures."""
    batch: int = Field(64, ge=1)
    """Pictures per update; with `batch_reward` captions."""
    micro_batch: int = Field(16, ge=1, json_schema_extra={"hash": False})
    """Pictures at a time; with `batch_reward` it is what document frequencies are counted over, as in the original."""
    lr: float = Field(1e-6, gt=0)
    """Peak learning rate; users of the original who took 3e-5 ended far below its figures."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Share of units left out; with 0 captions are drawn by the very network that learns. The original's is 0.1."""
    text_length: int = Field(20, ge=2, le=400)
    """Word pieces of a caption without its [SEP]."""
    original: OriginalScst = OriginalScst()
    """What the released code does otherwise."""


def inputs(config: ScstConfig) -> Mapping[str, Request]:
    """Captions, regions, and unless a model is named the captioning that `start` says."""
    needed = {"captions": captions_of(config), "regions": regions_of(config)}
    if config.model:
        return needed
    chosen = {name: getattr(config, name) for name in ("start", "seed", "regions", "captions")}
    return {**needed, "captioning": Request("vlp.captioning", {**chosen, **config.captioning})}


def captioner(captioning: Path, seed: int) -> StartingPoint:
    """The captioner of a seed, of the folder of a stage `vlp.captioning`. UserError where it was not kept."""
    weights = str(kept_model(captioning, seed))
    return StartingPoint(f"the captioner of seed {seed}", weights, load_tokenizer(weights, NEEDS))


class SelfCritical(nn.Module):
    """A captioner with the loss of its own captions, as `train.loop.fit` takes it."""

    def __init__(
        self, model: VlpForGeneration, tokenizer: Any, rewards: CiderRewards | None, config: ScstConfig
    ):
        super().__init__()
        self.model, self.tokenizer, self.rewards, self.config = model, tokenizer, rewards, config
        self.decoder = VlpDecoder(model, tokenizer, config.text_length + 1)

    def forward(
        self,
        features: Float[Tensor, "B R F"],
        geometry: Float[Tensor, "B R G"],
        picture: Int[Tensor, " B"],
        visual_mask: Bool[Tensor, "B R"] | None = None,
        reference: Int[Tensor, "B T"] | None = None,
    ) -> dict[str, Float[Tensor, ""]]:
        """The sums of "policy", the loss, and of "reward", both over captions.

        Args:
            picture: places among the training pictures.
            reference: the paired captions, their [SEP] and padding, for the original's reward.
        """
        prefix = self.decoder.see(features, geometry, visual_mask)
        config, ids = self.config, self.model.config
        if reference is not None:
            return losses_of_batch(
                self.decoder, prefix, (features, geometry, visual_mask), reference, temperature=config.temperature,
                reference_view=config.original.reference_view, past_end=config.original.past_end,
            )  # fmt: skip
        with torch.no_grad():
            drawn = sample(
                self.decoder.step(prefix), self.decoder.steps, ids.sep_id, samples=config.samples,
                temperature=config.temperature, pad_id=ids.pad_id,
            ).ids  # fmt: skip
        rewards = drawn.new_tensor(
            [
                self._reward(place, row)
                for place, row in zip(self._places(picture), drawn.tolist(), strict=True)
            ],
            dtype=torch.float32,
        ).unflatten(0, (len(picture), config.samples))
        words = counted(drawn, ids.pad_id, config.original.past_end)
        log_probs = log_probs_of(self.model, prefix, drawn, counted=words)
        advantages = against_others(rewards).flatten()
        loss = policy_loss(log_probs, advantages, words)
        if config.original.past_end:
            loss = loss * len(drawn) / words.sum()
        return {"policy": loss, "reward": rewards.sum()}

    def _places(self, picture: Int[Tensor, " B"]) -> list[int]:
        """The picture of each sample."""
        return [place for place in picture.tolist() for _ in range(self.config.samples)]

    def _reward(self, place: int, row: list[int]) -> float:
        sep, pad = self.model.config.sep_id, self.model.config.pad_id
        return self.rewards(place, text_of(self.tokenizer, row, sep, pad), ended=sep in row)


class Drawn(Captioned):
    """The pictures as a task (`downstream.seeds.Task`), to be captioned and rewarded."""

    title, file, loss = "self-critical captioning", "scst.json", "policy"
    plan: Mapping[str, Any] = {"weights": {"reward": 0.0}}  # it is only told

    def __init__(
        self, config: ScstConfig, splits: Splits, pictures: Pictures, start: StartingPoint,
        captioning: Path | None = None,
    ):  # fmt: skip
        """`captioning`: the stage's folder, where the start is one of its models."""
        super().__init__(config, splits, pictures, start)
        self.captioning = captioning

    def of_seed(self, seed: int) -> "Drawn":
        """The same with the captioner of a seed. UserError where that was not kept."""
        if self.captioning is None:
            return self
        other = copy(self)
        other.start = captioner(self.captioning, seed)
        return other

    def before(self, seed: int) -> Mapping[str, Any]:
        """The result of the captioner of a seed; nothing of a model from outside."""
        results = read_back(self.captioning / Captioned.file) if self.captioning else []
        return next((result for result in results if result["seed"] == seed), {})

    @cached_property
    def rewards(self) -> CiderRewards:
        """CIDEr by the training pictures' captions, with document frequencies of all pictures of their splits."""
        all_of_them = (image for split in self.config.train for image in self.splits(split))
        frequencies = Frequencies.of(ended_words(image.sentences) for image in all_of_them)
        return CiderRewards([image.sentences for image in self.splits.training()], frequencies)

    def batches(self, seed: int) -> "PictureBatches":
        """The updates of a training."""
        return PictureBatches(self, seed)

    def make(self) -> SelfCritical:
        """The model as it starts."""
        model = self.start.model(
            VlpForGeneration, self.pictures, dropout=self.config.dropout, text_length=self.config.text_length
        )
        rewards = None if self.config.original.batch_reward else self.rewards
        return SelfCritical(model, self.start.tokenizer, rewards, self.config)


class PictureBatches:
    """Update number → its pictures, or with the original's reward its captions, in micro-batches."""

    def __init__(self, task: Drawn, seed: int):
        config = task.config
        self.task, self.captions = task, config.original.batch_reward
        images = task.splits.training()
        self.rows = task.pictures.rows([image.image_id for image in images], "vlp.scst")
        units = len(task.training) if self.captions else len(images)
        self.sampler = EpochSampler(units, min(config.batch, units), seed)
        self.micro = -(-self.sampler.batch // config.micro_batch)
        self.samples = 1 if self.captions else config.samples

    def __call__(self, update: int) -> Update:
        units = self.sampler(update)
        micro = [self._tensors(part) for part in share(units, 0, 1, self.micro) if len(part)]
        count = len(units) * self.samples
        return Update(micro, {"policy": count, "reward": count}, count * (self.task.config.text_length + 1))

    def _tensors(self, units: np.ndarray) -> dict[str, Tensor]:
        if not self.captions:
            return {"picture": torch.from_numpy(units), **self.task.pictures.batch(self.rows[units])}
        table, places = self.task.training, self.task.config.text_length + 1
        return {
            "picture": torch.from_numpy(units),
            "reference": reference_ids(table, units, places, self.task.start.tokenizer),
            **self.task.pictures.batch(table.pictures[units]),
        }


def fine_tune(
    task: Drawn, config: ScstConfig, folder: Path, work: Path, seed: int, device: str
) -> dict[str, Any]:
    """Go on with one seed and caption the splits, as `downstream.seeds.fine_tune` does.

    Adds `before_…` to the metrics, and `rewards`: the mean of the updates of each line of the log.
    """
    found = fine_tune_on_batches(task.of_seed(seed), config, folder, work, seed, device)
    if found["diverged"] == FLAT and found["metrics"]["different"] > 1:
        found["diverged"] = ""  # the loss of one's own captions need not fall
    lines = [line for _, line in read_json_lines(work / "metrics.jsonl", "lines of a training")]
    found["rewards"] = [line["reward"] for line in lines if "reward" in line]
    before = task.before(seed)
    found["metrics"] = {**found["metrics"], **_compared(before.get("metrics", {}))}
    splits = before.get("splits", {})
    found["splits"] = {
        name: {**values, **_compared(splits.get(name, {}))} for name, values in found["splits"].items()
    }
    return found


def _compared(before: Mapping[str, float]) -> dict[str, float]:
    return {f"before_{name}": before[name] for name in COMPARED if name in before}


def warnings(config: ScstConfig, width: int) -> list[str]:
    """What is worth saying before so long a training."""
    if config.lr > SAFE_RATE and width >= WIDE:
        return [
            f"lr = {config.lr:g} is above {SAFE_RATE:g}, with which the paper's CIDEr of 129 was reached; users of the "
            "original who took 3e-5 came to 120"
        ]
    return []


def run(context: StageContext) -> dict[str, float]:
    """Go on with every seed and caption; writes `scst.json`, and of each seed `captions_<split>.json` and its `model`.

    Metrics: those of `vlp.captioning`, and `before_…`: the same of the captioner that it began with.
    """
    config: ScstConfig = context.config
    data, store = load_captions(context.inputs["captions"]), load_regions(context.inputs["regions"])
    pictures = Pictures(store, config.original.estimated_sizes, config.blind)
    splits = Splits(data, store, config)
    captioning = context.inputs.get("captioning")
    start = starting_point(context) if captioning is None else captioner(captioning, config.seeds[0])
    task = Drawn(config, splits, pictures, start, captioning)
    batches = task.batches(config.seeds[0])
    per_update = (
        "captions" if config.original.batch_reward else f"pictures, {config.samples} samples of each,"
    )
    context.log(
        f"{start.name}, {len(splits.training()):,} pictures; {batches.sampler.batch} {per_update} per update"
    )
    for line in warnings(config, task.make().model.config.hidden):
        context.log(line)
    for split in (config.valid, *config.test):
        splits(split)  # what is wrong with one is told before the training, not after it
    for seed in config.seeds:
        task.of_seed(seed)
    context.list_left_out("left_out.txt", splits.left_out, "pictures are left out")
    return {**run_seeds(context, task, fine_tune), "left_out": float(len(splits.left_out))}


SCST = Stage(
    name="vlp.scst",
    config=ScstConfig,
    run=run,
    inputs=inputs,
    variant=("start", "model", "samples", "original"),
    distributed=True,
    doc="Go on with a captioner of VLP by the CIDEr of its own captions.",
)
