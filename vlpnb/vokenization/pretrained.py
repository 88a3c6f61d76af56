"""The pre-trained model of which something is asked: the fields that name it, and its folder.

Shared by the stages `glue`, `squad`, `swag` and `probes` of this part; what they ask is in `vlpnb.downstream`.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from vlpnb.config import Config, Seed
from vlpnb.errors import UserError
from vlpnb.nn.folders import model_folder
from vlpnb.outside import ModelName
from vlpnb.stage import Request, Stage, StageContext
from vlpnb.vokenization.pretraining import snapshots_made
from vlpnb.vokenization.supervision import Supervision


class Pretrained(Config):
    """Which model is asked."""

    supervision: Supervision = "vokens"
    """Of the pre-trained model."""
    seed: Seed = 95
    """Of the pre-trained model."""
    snapshot: int = Field(-1, ge=-1000)
    """Which of its snapshots, −1 the last."""
    model: ModelName = ""
    """A HuggingFace folder or name instead."""


def asking(
    name: str,
    config: type[Pretrained],
    run: Callable[[StageContext, Path], dict[str, float]],
    data: str,
    **about: Any,
) -> Stage:
    """The stage `vokenization.<name>`: what `run` asks of the model's folder, with the examples of the stage `data`."""
    return Stage(
        f"vokenization.{name}", config, lambda context: run(context, pretrained_folder(context)),
        lambda config: model_and(data, config), variant=("supervision", "seed"), **about,
    )  # fmt: skip


def model_and(data: str, config: Pretrained) -> Mapping[str, Request]:
    """The stage of the questions and, unless the configuration names a model, the one that pre-trains it."""
    needed = {data: Request(data)}
    if not config.model:
        chosen = {"supervision": config.supervision, "seed": config.seed}
        needed["pretraining"] = Request("vokenization.pretraining", chosen)
    return needed


def pretrained_folder(context: StageContext) -> Path:
    """The folder of the model: the configuration's `model`, or a snapshot of its pre-training.

    Raises:
        UserError: no such model, or no such snapshot.
    """
    config: Pretrained = context.config
    if config.model:
        return model_folder(config.model)
    found = snapshots_made(context.inputs["pretraining"])
    if not -len(found) <= config.snapshot < len(found):
        raise UserError(
            f"{context.name or 'fine-tuning'}.snapshot: found {config.snapshot}, expected a number from "
            f"{-len(found)} to {len(found) - 1}: {context.inputs['pretraining']} holds {len(found)} snapshots"
        )
    chosen = found[config.snapshot]
    if not (chosen / "config.json").is_file():
        raise UserError(
            f"{context.name or 'fine-tuning'}.snapshot: {chosen} has been removed; choose another snapshot, or remove "
            f"{chosen.parent.name} to train it again"
        )
    return chosen
