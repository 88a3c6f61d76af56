"""Weights that the matcher starts from: its own of an earlier run, or the original project's.

| `vokenization.matching.load` | read |
|---|---|
| a folder | its `matcher.safetensors`, else its `BEST.pth` |
| `matcher.safetensors` | the heads f and g, and a backbone where it was trained |
| a state dict (`BEST.pth`) | the original's module: on each side a backbone and an MLP of two Linear layers |

Of the original's names only the structure is taken for granted. `module.` in front is taken off. The first part of
a name that holds `lang`, or `visn` or `vision`, tells its side. The MLP of a side is the two Linear layers (weight
and bias) outside anything called `backbone`; where there are more than two, those with the shapes of our head.
What comes after the part `backbone` (else: after the side's) is a name of transformers or torchvision.

The heads are read whatever is trained. A backbone is read where this run trains it; where it is frozen, the
file's must equal it, because heads mean nothing on other features. The original took the weights of torchvision's
first release, `features.vision_weights=IMAGENET1K_V1`; "DEFAULT" has changed since.

Differs from the original: files are opened as tensors only, so that the module pickled beside its state dict
(`BEST.pth.model`) is refused.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from vlpnb.errors import UserError
from vlpnb.foundations.features import Backbones
from vlpnb.nn.checkpoints import read_tensors, their_name
from vlpnb.nn.renaming import ENCODER
from vlpnb.nn.transformer import Encoder
from vlpnb.vokenization.matcher import WEIGHTS, Matcher

ORIGINAL = "BEST.pth"
HINTS = {"language": ("lang",), "vision": ("visn", "vision")}
HEADS = {"language": "f", "vision": "g"}
LAYERS = (0, 3)  # the Linear layers of a head
SHOWN = 5  # names in a message


def weights_file(load: str) -> Path:
    """The file that `vokenization.matching.load` means; it need not exist."""
    path = Path(load).expanduser()
    if not path.is_dir():
        return path
    both = path / WEIGHTS, path / ORIGINAL
    return next((file for file in both if file.is_file()), both[0])


def load_weights(matcher: Matcher, load: str, source: Backbones | None) -> list[str]:
    """Copy the weights that `vokenization.matching.load` names into a matcher, in place; returns lines for the log.

    Args:
        source: opens the backbones that the matcher came without, to compare them with the file's; None promises
            that the file holds none of those.
    Raises:
        UserError: no such file, not a file of tensors, no heads of the matcher's shapes in it, or a backbone that
            does not fit or, frozen here, differs. It names the tensor.
    """
    file = weights_file(load)
    if not file.is_file():
        raise UserError(
            f"vokenization.matching.load: {file} not found; expected a folder with {WEIGHTS} or {ORIGINAL}"
        )
    tensors = {name.removeprefix("module."): tensor for name, tensor in read_tensors(file).items()}
    own = {"f.0.weight", "g.0.weight"} <= tensors.keys()
    state: dict[str, Tensor] = {}
    used: set[str] = set()
    missing, heads = [], []
    for side, head in HEADS.items():
        if own:
            outer = [name for name in tensors if name.startswith(f"{head}.")]
            inner = [name for name in tensors if name.startswith(f"{side}.")]
        else:
            outer = inner = [name for name in tensors if _side(name) == side]
        layers = _linear_layers({name: tensors[name] for name in outer}, getattr(matcher, head), side, file)
        heads += layers
        for index, layer in zip(LAYERS, layers, strict=True):
            for leaf in ("weight", "bias"):
                state[f"{head}.{index}.{leaf}"] = tensors[f"{layer}.{leaf}"]
                used.add(f"{layer}.{leaf}")
        rest = {_inside(name, "net" if own else "backbone"): name for name in inner if name not in used}
        backbone = getattr(matcher, side)
        if rest and backbone is None:
            backbone = source.open_language() if side == "language" else source.open_vision()
        if backbone is None or (backbone.frozen and not rest):
            continue
        names = _backbone_names(backbone.net, own)
        part = {ours: tensors[rest[theirs]] for theirs, ours in names.items() if theirs in rest}
        used |= {rest[theirs] for theirs in names if theirs in rest}
        missing += [f"{side} {theirs}" for theirs in names if theirs not in rest]
        if rest:
            _check_backbone(backbone, part, side, file, next(iter(rest.values())))
        if not backbone.frozen:
            state |= {f"{side}.net.{name}": tensor for name, tensor in part.items()}
    matcher.load_state_dict(state, strict=False)
    lines = [f"starts from {file}: f is {heads[0]} and {heads[1]}, g is {heads[2]} and {heads[3]}"]
    for what, found in (("missing there", missing), ("not used", [n for n in tensors if n not in used])):
        if found:
            lines.append(f"{what}: {', '.join(found[:SHOWN])}" + f" … ({len(found)})" * (len(found) > SHOWN))
    return lines


def _side(name: str) -> str | None:
    """Which side a tensor of the original belongs to."""
    for part in name.lower().split("."):
        for side, hints in HINTS.items():
            if any(hint in part for hint in hints):
                return side
    return None


def _inside(name: str, mark: str) -> str:
    """What a tensor is called within its backbone: what comes after the part `mark`, else after the side's."""
    parts = name.split(".")
    at = parts.index(mark) if mark in parts else next(i for i, part in enumerate(parts) if _side(part))
    return ".".join(parts[at + 1 :])


def _backbone_names(net: nn.Module, own: bool) -> dict[str, str]:
    """Names of a backbone's tensors: in the file → in `net`. How many batches a norm has seen is left out."""
    ours = [name for name in net.state_dict() if not name.endswith("num_batches_tracked")]
    if isinstance(net, Encoder) and not own:
        return {their_name(name, ENCODER): name for name in ours}
    return {name: name for name in ours}


def _linear_layers(
    tensors: Mapping[str, Tensor], head: nn.Sequential, side: str, file: Path
) -> Sequence[str]:
    """The two Linear layers of a side's MLP, in the order of their use; UserError where they are not to be told."""
    wanted = [tuple(head[index].weight.shape) for index in LAYERS]
    biases = {name.removesuffix(".bias"): tensor.shape for name, tensor in tensors.items()}
    found = {
        name.removesuffix(".weight"): tuple(tensor.shape)
        for name, tensor in tensors.items()
        if name.endswith(".weight")
        and tensor.ndim == 2
        and biases.get(name.removesuffix(".weight")) == tensor.shape[:1]
    }
    heads = {name: shape for name, shape in found.items() if "backbone" not in name.split(".")}
    if len(heads) > 2:
        heads = {name: shape for name, shape in heads.items() if shape in wanted}
    for layers in (list(heads), list(heads)[::-1]):
        if [heads[layer] for layer in layers] == wanted:
            return layers
    listed = ", ".join(f"{name} {list(shape)}" for name, shape in list((heads or found).items())[:SHOWN])
    hints = " or ".join(repr(hint) for hint in HINTS[side])
    raise UserError(
        f"{file}: expected two Linear layers {list(wanted[0])} and {list(wanted[1])} on the {side} side (names with "
        f"{hints}, outside a backbone), found {listed or 'none'}. The shapes follow from vokenization.matching.hidden, "
        "vokenization.matching.joint, and the backbones and layers of `features`"
    )


def _check_backbone(
    backbone: nn.Module, part: Mapping[str, Tensor], side: str, file: Path, example: str
) -> None:
    """UserError where the file's backbone is of another kind, or, when ours is frozen, has other weights.

    Half precision on the way is no difference.
    """
    if not part:
        raise UserError(
            f"{file}: {example!r} and the other tensors of its {side} backbone have no counterpart in "
            f"features.{side}; name the backbone that this matcher was trained with"
        )
    ours = backbone.net.state_dict()
    for name, tensor in part.items():
        mine = ours[name].cpu()
        if tensor.shape != mine.shape:
            raise UserError(
                f"{file}: tensor {name!r} of the {side} backbone has the shape {list(tensor.shape)}, expected "
                f"{list(mine.shape)}; name the backbone that this matcher was trained with in features.{side}"
            )
        if backbone.frozen and not torch.allclose(tensor.to(mine), mine, rtol=1e-3, atol=1e-6):
            raise UserError(
                f"{file}: tensor {name!r} of the {side} backbone differs from features.{side}, so its heads do not "
                f"fit the features of this run. Name the weights that it was trained with in `features`, or set "
                f"matching.train_{side} to true, which starts from the file's"
            )
