"""Training checkpoints: everything that is needed to continue, in one file that appears whole or not at all.

The schedule, the position in the data and the random numbers (masks, dropout) are functions of the number of
updates done (`vlpnb.train.sampling`), so model, optimiser and that number are the whole state. Written with
`torch.save`, read with `weights_only=True`: no code is ever unpickled.
"""

import os
from pathlib import Path

import torch
from torch import nn

from vlpnb.errors import UserError

NAME = "checkpoint.pt"


def save_checkpoint(
    folder: Path, model: nn.Module, optimiser: torch.optim.Optimizer, step: int, seed: int
) -> None:
    """Replaces the folder's checkpoint atomically; a kill at any moment leaves the old one or the new one."""
    state = {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "step": step, "seed": seed}
    temporary = folder / f"{NAME}.tmp"
    with temporary.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(folder / NAME)


def load_checkpoint(folder: Path, model: nn.Module, optimiser: torch.optim.Optimizer, seed: int) -> int:
    """Restores model and optimiser in place and returns the number of updates done; 0 where there is no
    checkpoint.

    Raises:
        UserError: the file is unreadable, or belongs to another model or seed.
    """
    path = folder / NAME
    if not path.exists():
        return 0
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        if state["seed"] != seed:
            raise ValueError(f"it was written with seed {state['seed']}, this run has seed {seed}")
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
    except Exception as error:
        raise UserError(
            f"{path}: this training checkpoint cannot be continued ({error}). "
            f"Delete the file to train from the beginning."
        ) from error
    return int(state["step"])


def clear_checkpoint(folder: Path) -> None:
    """Removes the checkpoint of a finished training: it is twice as large as the model and of no more use."""
    (folder / NAME).unlink(missing_ok=True)
