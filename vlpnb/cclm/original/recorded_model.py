"""The model of a recorded folder, and its inputs, for the modules that hold ours against it (`verify*.py`)."""

import torch
from jaxtyping import Float
from torch import Tensor

from vlpnb.cclm.model import Cclm
from vlpnb.cclm.original.weights import load_model
from vlpnb.data.agreement import Tolerance
from vlpnb.data.recorded import RecordedFolder

OUTPUT = Tolerance(2e-5)  # hidden states, scores, unit vectors
LOSS = Tolerance(1e-5)
GRADIENT = Tolerance(1e-6, relative=1e-3)
WEIGHTS = "weights.safetensors"


def recorded_model(folder: RecordedFolder, **changes: object) -> Cclm:
    """The whole pre-training model, in eval mode; opened in the way that opens the original's own files.

    Args:
        changes: fields of `CclmConfig` beside the heads and the epsilon, which weights do not tell.
    """
    about = folder.json("config.json")["model"]
    given = {"heads": about["heads"], "norm_eps": about["layer_norm_eps"]}
    return load_model(folder.path(WEIGHTS), **(given | changes))


def pixels(folder: RecordedFolder, images: Tensor) -> Float[Tensor, "N 3 S S"]:
    """Recorded pictures (uint8, N × 3 × S × S) as the model's input."""
    about = folder.json("config.json")
    mean, std = (torch.tensor(about[name])[:, None, None] for name in ("pixel_mean", "pixel_std"))
    return (images.float() / 255 - mean) / std
