"""Where a model of VLP starts: from nothing, from BERT, from text, or from the run's pre-training in one of its mixes.

Paper: VLP (Zhou et al. 2020) and its table of ablations: no pre-training beside UniLM's, seq2seq alone,
bidirectional alone, and both. "From scratch" is a pre-training of no update, so that the shape of the model and its
words are those of the pre-trained one; every fine-tuning seed draws weights of its own there.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import Field
from transformers import PreTrainedTokenizerFast

from vlpnb.config import Config, Seed
from vlpnb.downstream.seeds import kept_model
from vlpnb.errors import UserError
from vlpnb.outside import ModelName
from vlpnb.stage import Request, StageContext
from vlpnb.text.tokenizers import MASKED, load_tokenizer
from vlpnb.vlp.heads import VlpForAnswers, VlpForGeneration
from vlpnb.vlp.model import VlpConfig
from vlpnb.vlp.original.beginning import Mode, start_from
from vlpnb.vlp.original.weights import Model, new_model, open_weights
from vlpnb.vlp.pictures import Pictures
from vlpnb.vlp.reading_results import NAMES

MODEL = "model"  # in the folder of a pre-training
NEEDS = (*MASKED, "unk")  # special tokens
Start = Literal["pretrained", "scratch", "s2s", "bi", "text", "bert"]
STARTS: Mapping[Start, Mapping[str, Any]] = {
    "pretrained": {},
    "scratch": {"updates": 0, "start": "scratch"},
    "s2s": {"s2s": 1.0},
    "bi": {"s2s": 0.0},
    "text": {"pictures": False, "start": "scratch", "region_mask_rate": 0.0},
    "bert": {"updates": 0, "start": "bert"},
}  # what the stage `vlp.pretraining` does otherwise


class StartConfig(Config):
    """Which weights are fine-tuned, and by which optimiser."""

    start: Start = "pretrained"
    """The run's pre-training; "scratch", nothing was learnt; or a pre-training with another mix or without pictures."""
    model: ModelName = ""
    """Instead: a folder of a pre-training or of a model, or a state dict of the original (model.30.bin)."""
    tokenizer: ModelName = ""
    """Of a `model` that has none in its folder, such as bert-base-cased."""
    seed: Seed = 42
    """Of the pre-training."""
    optimiser: Literal["vlp_adam", "adamw"] = "vlp_adam"
    """The original's, with its schedule, whose first rate is 0, and every tensor's gradient clipped by itself (VLP-03);
    or AdamW with the course's.
    """
    weight_decay: float = Field(0.01, ge=0)
    """Decay of the weights, biases and norms spared."""
    regions: dict[str, Any] = Field(default_factory=dict)
    """Fields of the stage `regions` that are other than the run's, such as {source: vlp}."""


def special_ids(tokenizer: PreTrainedTokenizerFast) -> dict[str, int]:
    """The ids that `VlpConfig` has of a tokenizer."""
    return {f"{name}_id": getattr(tokenizer, f"{name}_token_id") for name in NEEDS}


def pretraining_of(config: StartConfig) -> Mapping[str, Request]:
    """The pre-training that `start` says, unless a model is named."""
    if config.model:
        return {}
    return {"pretraining": Request("vlp.pretraining", {**STARTS[config.start], "seed": config.seed})}


def learned_from_text(config: VlpConfig) -> bool:
    """Whether a model has never seen a picture, so that what reads regions is to be made anew."""
    return config.feature_width == config.classes == 1


def begin(
    model: VlpForGeneration, source: str | Path, tokenizer: PreTrainedTokenizerFast, where: str
) -> list[str]:
    """Give a model to pre-train the weights of a pre-trained one: a stage's folder, a model's, or a file.

    Returns lines for the log. UserError where its words are others or its shape is another; `where` is the field that
    names it.
    """
    folder = Path(source)
    place = folder / MODEL if (folder / MODEL).is_dir() else folder
    if (place / "tokenizer.json").is_file() and load_tokenizer(place).get_vocab() != tokenizer.get_vocab():
        raise UserError(f"{where}: {source} was trained with other word pieces; set `tokenizer` to {place}")
    return start_from(model, place, regions=not learned_from_text(open_weights(place).config))


@dataclass(frozen=True)
class StartingPoint:
    """Where the weights of a fine-tuned model come from, and what came with them."""

    name: str  # as the log says it
    weights: str
    """A folder or file."""
    tokenizer: PreTrainedTokenizerFast
    fresh: bool = False
    """Take the shape alone: every fine-tuning seed draws weights of its own."""

    @property
    def untold(self) -> dict[str, int]:
        """Fields of `VlpConfig` that a state dict does not tell and the tokenizer does."""
        return special_ids(self.tokenizer) if Path(self.weights).is_file() else {}

    def check(self, config: VlpConfig, pictures: Pictures) -> None:
        """UserError where a model cannot read these pictures, because it has learnt with others."""
        for field in ("feature_width", "classes"):
            has, given = getattr(config, field), getattr(pictures, field)
            if has != given:
                raise UserError(
                    f"{self.name}: was trained with {field} = {has:,}, and the stage `regions` has {given:,}; expected "
                    "regions of the source that it has learnt with"
                )

    def model(self, kind: type[Model], pictures: Pictures, **changes: Any) -> Model:
        """A model that begins with these weights, in the shape for these pictures.

        Args:
            changes: fields of `VlpConfig`, such as dropout.
        Raises:
            UserError: the weights do not fit the pictures.
        """
        weights = open_weights(self.weights, **self.untold)
        changes = {"attention_dropout": None, **changes}  # a training's own, which no other takes over
        if learned_from_text(weights.config):
            changes |= {"feature_width": pictures.feature_width, "classes": pictures.classes}
        shape = replace(weights.config, **changes)
        self.check(shape, pictures)
        model = new_model(kind, shape)
        if not self.fresh:
            mode: Mode = "bi" if kind is VlpForAnswers else "s2s"
            start_from(model, weights.file, mode, regions=not learned_from_text(weights.config))
        return model


def starting_point(context: StageContext) -> StartingPoint:
    """What the configuration says: the run's pre-training, or a model from outside.

    Raises:
        UserError: a model from outside has no tokenizer, and none is named.
    """
    config: StartConfig = context.config
    folder = Path(config.model) if config.model else context.inputs["pretraining"]
    if folder.is_dir() and any(folder.glob("seed-*")):
        folder = kept_model(folder)  # of a captioner, or of one that answers
    weights = str(folder / MODEL) if (folder / MODEL).is_dir() else str(folder)
    if not config.model:
        name = NAMES[config.start]
        return StartingPoint(name, weights, load_tokenizer(weights, NEEDS), fresh=config.start == "scratch")
    if Path(weights).is_file() and not config.tokenizer:
        raise UserError(
            f"{context.name}.tokenizer: {weights} has no tokenizer beside it; name it, such as bert-base-cased"
        )
    return StartingPoint(config.model, weights, load_tokenizer(config.tokenizer or weights, NEEDS))
