"""The model of a folder of recorded numbers, and what the checks of `verify.py` and `verify_writing.py` share."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vlpnb.data.agreement import Case, Tolerance
from vlpnb.data.recorded import Entries, RecordedFolder
from vlpnb.vlp.heads import VlpForAnswers, VlpForGeneration
from vlpnb.vlp.model import VlpConfig
from vlpnb.vlp.original.names import from_file, original_name
from vlpnb.vlp.original.weights import Model, load_model, open_weights

WEIGHTS = "weights.safetensors"
UNTOLD = {  # by a state dict: in the folder's config → of our configuration
    "heads": "heads", "regions": "regions", "max_text": "text_length", "layer_norm_eps": "norm_eps", "pad": "pad_id",
    "unk": "unk_id", "cls": "cls_id", "sep": "sep_id", "mask": "mask_id",
}  # fmt: skip


def _untold(folder: RecordedFolder) -> dict[str, Any]:
    about = folder.json("config.json")
    return {ours: about[theirs] for theirs, ours in UNTOLD.items()}


def config_of(folder: RecordedFolder) -> VlpConfig:
    """The configuration of the recorded model."""
    return open_weights(folder.path(WEIGHTS), **_untold(folder)).config


def load(folder: RecordedFolder, kind: type[Model], file: Path | None = None, **given: Any) -> Model:
    """A model with the folder's weights, or those of another file of its sizes."""
    return load_model(file or folder.path(WEIGHTS), kind, **_untold(folder), **given)


def state_of(folder: RecordedFolder) -> dict[str, Tensor]:
    """The folder's weights by their names."""
    return {from_file(name): tensor for name, tensor in folder.tensors(WEIGHTS).items()}


def tolerances(about: Entries, scale: float = 1e-6) -> Callable[[str], Tolerance]:
    """The absolute tolerances that a file states, by their names; `scale` is what float32 needs of a large number."""
    stated = about["tolerance"]
    return lambda name: Tolerance(stated[name], relative=scale)


def whole_rows(config: VlpConfig, ids: Tensor) -> Tensor:
    """Rows of the original: [CLS], an unknown word for each region, [SEP], and the text."""
    row = [config.cls_id, *[config.unk_id] * config.regions, config.sep_id]
    return torch.cat([torch.tensor(row).expand(len(ids), -1), ids], dim=1)


def gradient_cases(
    recorded: Entries, norms: Entries, model: VlpForGeneration | VlpForAnswers, loss: Tensor, allowed: Tolerance,
    prefix: str = "",
) -> Iterator[Case]:  # fmt: skip
    """The norm of every parameter's gradient, and the recorded gradients; a head that we do not have gets none."""
    model.zero_grad(set_to_none=True)
    loss.backward()
    found = {original_name(name): p.grad for name, p in model.named_parameters()}
    found |= {name: None for name in norms if name not in found and name.startswith(_other_head(model))}
    for name, gradient in found.items():
        norm = None if gradient is None else gradient.norm()
        if name in norms:
            yield norms.case(name, norm, Tolerance(allowed.absolute, relative=1e-5))
        elif norm is not None:
            yield Case(norms.file.name, f"{norms.prefix}{name}", norm, "nothing")
    for name in recorded:
        if name.startswith(f"{prefix}grad."):
            yield recorded.case(name, found[name.removeprefix(f"{prefix}grad.")], allowed)


def _other_head(model: nn.Module) -> str:
    return "cls." if isinstance(model, VlpForAnswers) else "ans_classifier."
