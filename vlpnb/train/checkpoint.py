"""Training checkpoints: everything that is needed to continue, in one file that appears whole or not at all.

The schedule, the position in the data and the random numbers (masks, dropout) are functions of the number of
updates done (`vlpnb.train.sampling`), so model, optimiser and that number are the whole state. Written with
`torch.save`, read with `weights_only=True`: no code is ever unpickled.
"""

import warnings
import zipfile
from collections.abc import Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vlpnb.errors import UserError
from vlpnb.files import PatientFile, atomic

NAME = "checkpoint.pt"


def save_checkpoint(
    folder: Path,
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    step: int,
    seed: int,
    log: Mapping[str, Any] | None = None,
) -> None:
    """Replaces the folder's checkpoint atomically; a kill at any moment leaves the old one or the new one.

    Args:
        log: what was measured so far (numbers, lists and tensors); `load_checkpoint` gives it back.
    Raises:
        UserError: it cannot be written; the old one is kept and nothing is left beside it.
    """
    state = {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "step": step, "seed": seed}
    with atomic(folder / NAME) as temporary, closing(PatientFile(temporary)) as file:
        torch.save({**state, "log": dict(log or {})}, file)
        file.check()


def load_checkpoint(
    folder: Path, model: nn.Module, optimiser: torch.optim.Optimizer, seed: int
) -> tuple[int, dict[str, Any]]:
    """Restores model and optimiser in place. Returns the number of updates done and the saved log; 0 and {}
    where there is no checkpoint, or only a damaged one: that is named in a warning and moved aside.

    Raises:
        UserError: the file belongs to another model or seed.
    """
    path = folder / NAME
    if not path.exists():
        return 0, {}
    state = _read_whole(path)
    if state is None:
        return 0, {}
    try:
        if state["seed"] != seed:
            raise ValueError(f"it was written with seed {state['seed']}, this run has seed {seed}")
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
    except Exception as error:
        raise UserError(
            f"{path}: this training checkpoint cannot be continued ({error}). "
            f"Delete the file to train from the beginning."
        ) from error
    return int(state["step"]), state.get("log", {})


def _read_whole(path: Path) -> dict[str, Any] | None:
    """What a checkpoint holds, or None if any byte of it is not what was written.

    `torch.save` writes a ZIP archive with a sum for each tensor, which `torch.load` does not look at.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            bad = archive.testzip()
        if bad is None:
            return torch.load(path, map_location="cpu", weights_only=True)
        reason = f"{bad} does not hold what was written"
    except Exception as error:  # whatever the two libraries make of damage
        reason = str(error) or type(error).__name__
    aside = path.with_name(f"{NAME}.damaged")
    with suppress(FileNotFoundError):  # another process of this training did it
        path.replace(aside)
    warnings.warn(f"{path} is damaged ({reason}): moved to {aside.name}, training starts anew", stacklevel=3)
    return None


def clear_checkpoint(folder: Path) -> None:
    """Removes the checkpoint of a finished training: it is twice as large as the model and of no more use."""
    (folder / NAME).unlink(missing_ok=True)
