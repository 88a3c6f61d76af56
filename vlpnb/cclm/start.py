"""Where a model of CCLM starts: from nothing, or from the run's pre-training with all or some of its objectives.

Paper: Zeng et al., "Cross-View Language Modeling" (ACL 2023), section 3 and its ablations: without parallel text,
with the contrastive losses alone, without regions (the 3M model; with them it is the 4M one). "From scratch" is a
pre-training of no update, so that words, pictures and shape are those of the others.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field
from torch import nn

from vlpnb.cclm.model import Cclm
from vlpnb.cclm.original.weights import load_model, save_model
from vlpnb.config import Config, Seed
from vlpnb.downstream.seeds import kept_model
from vlpnb.errors import UserError
from vlpnb.foundations.patches import open_patches
from vlpnb.foundations.picture_store import PatchStore
from vlpnb.foundations.pieces import load_pieces
from vlpnb.outside import ModelName
from vlpnb.stage import Request, StageContext
from vlpnb.text.pieces import Pieces

MODEL = "model"  # in the folder of a pre-training or of a fine-tuning
ABOUT = "about.json"  # beside it: what of the run it was made with
Variant = Literal["all", "no_parallel", "contrastive_only", "no_regions"]
Start = Literal["all", "no_parallel", "contrastive_only", "no_regions", "scratch"]
STARTS: Mapping[Start, Mapping[str, Any]] = {
    "all": {"variant": "all"},
    "no_parallel": {"variant": "no_parallel"},
    "contrastive_only": {"variant": "contrastive_only"},
    "no_regions": {"variant": "no_regions"},
    "scratch": {"variant": "all", "updates": 0},
}  # what the stage `cclm.pretraining` does otherwise
NAMES: Mapping[str, str] = {
    "all": "all objectives",
    "no_parallel": "without parallel text",
    "contrastive_only": "contrastive losses alone",
    "no_regions": "without regions",
    "scratch": "no pre-training",
}


class StartConfig(Config):
    """Which weights are fine-tuned or asked."""

    start: Start = "all"
    """The run's pre-training by its objectives; or "scratch", nothing was learnt."""
    model: ModelName = ""
    """Instead: a folder of a pre-training, of a fine-tuning or of a model, or a file of the release (.th)."""
    seed: Seed = 42
    """Of the pre-training."""
    pretraining: dict[str, Any] = Field(default_factory=dict)
    """Further fields of the stage `cclm.pretraining` that are other than the run's, such as {withheld: [zh]}."""
    patches: dict[str, Any] = Field(default_factory=dict)
    """Fields of the stage `patches` that are other than the run's."""
    pieces: dict[str, Any] = Field(default_factory=dict)
    """Fields of the stage `pieces` that are other than the run's, such as the `tokenizer` of a `model`."""


def start_inputs(config: StartConfig) -> dict[str, Request]:
    """The pictures' patches, the word pieces, and the pre-training that `start` says unless a model is named."""
    read = {name: getattr(config, name) for name in ("patches", "pieces")}
    needed = {name: Request(name, fields) for name, fields in read.items()}
    if config.model:
        return needed
    fields = {**STARTS[config.start], "seed": config.seed, **config.pretraining}
    fields |= {name: value for name, value in read.items() if value}
    return {**needed, "pretraining": Request("cclm.pretraining", fields)}


@dataclass(frozen=True)
class StartingPoint:
    """Where the weights of a model come from, and what came with them."""

    name: str  # as the log says it
    weights: Path
    """A folder of a model, or a file of the release."""
    pieces: Pieces
    patches: Path
    """Folder of the stage `patches`."""
    fresh: bool = False
    """Take the shape alone: every fine-tuning seed draws weights of its own."""

    def store(self) -> PatchStore:
        """The patches of the run's pictures."""
        return open_patches(self.patches)

    def model(self, **changes: Any) -> Cclm:
        """The model as it starts; `changes`: fields of `CclmConfig`, such as dropout.

        Raises:
            UserError: it has learnt with other word pieces, or with patches of another width.
        """
        model = load_model(self.weights, **changes)
        has = {"vocab_size": model.config.vocab_size}
        given = {"vocab_size": self.pieces.size}
        if model.config.vision == "patches":
            has["image_width"], given["image_width"] = model.config.image_width, self.store().width
        for field, number in has.items():
            if number != given[field]:
                stage = "pieces" if field == "vocab_size" else "patches"
                raise UserError(
                    f"{self.name}: has learnt with {field} = {number:,}, and the stage `{stage}` has "
                    f"{given[field]:,}; expected those that it has learnt with"
                )
        return Cclm(model.config) if self.fresh else model

    def finetuned(self, folder: str, kind: type[nn.Module], **changes: Any) -> nn.Module:
        """A model that was fine-tuned for a task: of a stage's folder, of a model's, or a file of the release."""
        return load_model(saved_model(Path(folder)), kind, **changes)

    def save(self, folder: Path, model: nn.Module) -> None:
        """Keep a fine-tuned model with its tokenizer."""
        save_model(folder, model, self.pieces.tokenizer)


def saved_model(folder: Path) -> Path:
    """The folder of the model in the folder of a finished stage, or what is given where it is a model itself."""
    if folder.is_dir() and any(folder.glob("seed-*")):
        return kept_model(folder)
    return folder / MODEL if (folder / MODEL).is_dir() else folder


def starting_point(context: StageContext) -> StartingPoint:
    """What the configuration says: the run's pre-training, or a model from outside."""
    config: StartConfig = context.config
    folder = Path(config.model) if config.model else context.inputs["pretraining"]
    return StartingPoint(
        config.model or NAMES[config.start],
        saved_model(folder),
        load_pieces(context.inputs["pieces"]),
        context.inputs["patches"],
        fresh=not config.model and config.start == "scratch",
    )
