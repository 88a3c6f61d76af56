"""What the fine-tuning stages share: the model they start from, one training, and when a run counts as diverged."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from vlpnb.errors import UserError
from vlpnb.stage import StageContext
from vlpnb.train.loop import Diverged, Plan, fit
from vlpnb.train.sampling import Update
from vlpnb.vokenization.pretraining import snapshot_folders

Fields = Any  # a stage's Config with epochs, lr, warmup, weight_decay, clip and checkpoint_seconds


def pretrained_folder(context: StageContext) -> Path:
    """The folder of the model to fine-tune: the configuration's `model`, or a snapshot of its `vlm` stage.

    Raises:
        UserError: no such model, or no such snapshot.
    """
    config = context.config
    if config.model:
        from vlpnb.nn.folders import model_folder

        return model_folder(config.model)
    found = snapshot_folders(context.inputs["vlm"])
    if not -len(found) <= config.snapshot < len(found):
        raise UserError(
            f"{context.name or 'fine-tuning'}.snapshot: found {config.snapshot}, expected a number from "
            f"{-len(found)} to {len(found) - 1}: {context.inputs['vlm']} holds {len(found)} snapshots"
        )
    return found[config.snapshot]


def train(
    model: nn.Module,
    batches: Callable[[int], Update],
    per_epoch: int,
    config: Fields,
    folder: Path,
    seed: int,
    device: str,
) -> tuple[list[float], str, int]:
    """Train in place, continuing from the folder's checkpoint; returns losses, why it diverged ("" if not), updates.

    The losses are those of the log lines; one NaN when the training diverged.
    """
    updates = max(1, round(config.epochs * per_epoch))
    plan = Plan(
        updates=updates,
        lr=config.lr,
        warmup=round(config.warmup * updates),
        weight_decay=config.weight_decay,
        clip=config.clip,
        seed=seed,
        log_every=max(1, updates // 20),
        checkpoint_seconds=config.checkpoint_seconds,
    )
    try:
        records = fit(model, batches, plan, folder, device=device, keep=True)
    except Diverged as error:
        return [float("nan")], str(error), updates
    return [record["loss"] for record in records], "", updates


def divergence(constant: bool, losses: Sequence[float], value: float, trivial: float) -> str:
    """Why a run counts as diverged, in words; "" when it does not.

    It does when it gives every example the same answer (`constant`), or when its training loss did not fall (last
    quarter against first quarter) and its value is not above `trivial`, that of an answer without reading.
    """
    if constant:
        return "it gives every example the same answer"
    quarter = max(1, len(losses) // 4)
    fell = np.mean(losses[-quarter:]) < 0.98 * np.mean(losses[:quarter])
    if not fell and value <= trivial + 1e-9:
        return "its training loss did not fall and it scores no better than a constant answer"
    return ""
