"""Weights of VLP in files: the original's state dicts and the folders of our stages.

| read | what it is |
|---|---|
| a folder | ours: `config.json` beside `model.safetensors`, whose names are the original's |
| any other file | a state dict of the original (`model.30.bin`), as tensors only |

Loading is strict: one message lists all that is missing, unexpected or of another shape. How a model begins with a
part of another's weights is in `beginning.py`. A state dict does not tell its attention heads (hidden / 64 unless
given), its regions (100 unless given) and the ids of its tokenizer (BERT's).
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from vlpnb.errors import UserError, did_you_mean
from vlpnb.files import atomic, write_text
from vlpnb.nn.checkpoints import read_settings, read_tensors
from vlpnb.nn.folders import model_folder
from vlpnb.vlp.geometry import PLACE
from vlpnb.vlp.heads import VlpForAnswers, VlpForGeneration
from vlpnb.vlp.model import Vlp, VlpConfig
from vlpnb.vlp.original.names import (
    DECODER,
    NOT_NEEDED,
    POSITIONS,
    SEGMENTS,
    TRANSFORM,
    WORDS,
    from_file,
    original_name,
)

FILES = ("model.safetensors", "pytorch_model.bin")
HEAD_WIDTH = 64  # of BERT, whatever its width
SHOWN = 8  # names in a message
LEFT_OUT = {
    Vlp: ("cls.*", "ans_classifier.*"),
    VlpForGeneration: ("ans_classifier.*",),
    VlpForAnswers: ("cls.*",),
}
"""What each model may leave out of a file."""
SIZES = {  # field → a tensor, which of its dimensions, and what to take off; where it is absent the default stands
    "vocab_size": (WORDS, 0, 0),
    "hidden": (WORDS, 1, 0),
    "max_positions": (POSITIONS, 0, 0),
    "segments": (SEGMENTS, 0, 0),
    "ffn": ("bert.encoder.layer.0.intermediate.dense.weight", 0, 0),
    "feature_width": ("vis_embed.0.weight", 1, 0),
    "classes": ("vis_pe_embed.0.weight", 1, PLACE),
    "answers": ("ans_classifier.2.weight", 0, 0),
}
Model = TypeVar("Model", Vlp, VlpForGeneration, VlpForAnswers)


@dataclass
class Weights:
    """A file that has been read: tensors by the names of the original's state dicts."""

    file: Path
    tensors: dict[str, Tensor]
    config: VlpConfig
    """What the file says of its model."""

    def fill(self, module: nn.Module, ignore: Iterable[str] = ()) -> None:
        """Copy into a model; UserError lists what is missing, unexpected (but for `ignore`) or misshapen."""
        wanted = named_tensors(module)
        missing = [name for name in wanted if name not in self.tensors]
        patterns = (DECODER, *NOT_NEEDED, *ignore)
        unexpected = [
            name
            for name in self.tensors
            if name not in wanted and not any(fnmatch(name, pattern) for pattern in patterns)
        ]
        misshapen = _misshapen(self.tensors, wanted)
        found = {"missing": missing, "unexpected": unexpected, "of another shape": misshapen}
        if any(found.values()):
            told = "; ".join(f"{len(names)} {what}: {some(names)}" for what, names in found.items() if names)
            raise UserError(
                f"{self.file} does not hold the weights of {type(module).__name__}: {told}. Names are those of the "
                "original. Name the right file; to begin with what a file has, choose it as the start of a training"
            )
        refuse_untied(self.tensors, self.file)
        ours = our_names(module)
        module.load_state_dict({ours[name]: self.tensors[name] for name in wanted})


def our_names(module: nn.Module) -> dict[str, str]:
    """The original's name of each of a model's tensors → ours."""
    inside = "backbone." if isinstance(module, Vlp) else ""
    return {original_name(inside + name): name for name in module.state_dict()}


def named_tensors(module: nn.Module) -> dict[str, Tensor]:
    """A model's tensors by the original's names."""
    state = module.state_dict()
    return {theirs: state[name] for theirs, name in our_names(module).items()}


def _misshapen(tensors: dict[str, Tensor], wanted: dict[str, Tensor]) -> list[str]:
    return [
        f"{name} {list(tensors[name].shape)}, expected {list(tensor.shape)}"
        for name, tensor in wanted.items()
        if name in tensors and tensors[name].shape != tensor.shape
    ]


def some(names: Sequence[str]) -> str:
    """The first of many names, for a message."""
    return ", ".join(names[:SHOWN]) + " …" * (len(names) > SHOWN)


def refuse_untied(tensors: dict[str, Tensor], file: Path) -> None:
    """UserError where a file's decoder is not its word table."""
    decoder = tensors.get(DECODER)
    if decoder is not None and WORDS in tensors and not torch.equal(decoder, tensors[WORDS]):
        raise UserError(f"{file}: {DECODER} differs from {WORDS}; expected them to be tied, equal")


def read_state(file: Path) -> dict[str, Tensor]:
    """The tensors of a file by the original's names, in float32."""
    tensors: dict[str, Tensor] = {}
    for given, tensor in read_tensors(file).items():
        if tensors.setdefault(from_file(given), tensor) is not tensor:
            raise UserError(f"{file}: two tensors mean {from_file(given)!r}, {given!r} is one; expected one")
    return {name: t.float() if t.is_floating_point() else t for name, t in tensors.items()}


def open_weights(name: str | Path, **given: Any) -> Weights:
    """Read a file or a folder; see the table above.

    Args:
        given: fields of `VlpConfig` that a state dict does not tell, such as `heads`; a folder's config.json tells all.
    Raises:
        UserError: it is absent, damaged, holds more than tensors, or is no VLP.
    """
    path = Path(name).expanduser()
    if path.is_file():
        tensors = read_state(path)
        return Weights(path, tensors, _config_of(tensors, path, given))
    folder = model_folder(name)
    config = _read_config(folder / "config.json")
    path = next((folder / file for file in FILES if (folder / file).is_file()), folder / FILES[0])
    if not path.is_file():
        raise UserError(f"no weights in {folder}: expected {' or '.join(FILES)} in one piece")
    return Weights(path, read_state(path), replace(config, **given))


def _read_config(file: Path) -> VlpConfig:
    if not file.is_file():
        raise UserError(f"{file} not found; expected a folder of a VLP model, or a file of tensors")
    settings = read_settings(file)
    kind, known = settings.get("architectures"), [[kind.__name__] for kind in LEFT_OUT]
    if kind not in known:
        raise UserError(f"{file}: architectures is {kind!r}; expected that of a VLP, such as {known[1]!r}")
    values = {name: value for name, value in settings.items() if name not in ("model_type", "architectures")}
    plain = asdict(VlpConfig())  # what may be none is else a number
    kinds = {name: float if value is None else type(value) for name, value in plain.items()}
    for name, value in values.items():
        if name not in kinds:
            raise UserError(f"{file}: a VLP has no field {name!r}{did_you_mean(name, kinds)}")
        fits = type(value) is kinds[name] or (kinds[name] is float and type(value) is int)
        if not fits and value is not plain[name]:
            raise UserError(f"{file}: {name} is {value!r}; expected {kinds[name].__name__}")
    return VlpConfig(**values)


def _config_of(tensors: dict[str, Tensor], file: Path, given: dict[str, Any]) -> VlpConfig:
    """The configuration that a state dict's shapes tell."""
    for name in (WORDS, POSITIONS, SEGMENTS, "bert.encoder.layer.0.intermediate.dense.weight"):
        if name not in tensors or tensors[name].ndim != 2:
            raise UserError(
                f"{file}: no matrix {name!r}; expected a state dict of VLP, names beginning with 'bert.'"
            )
    fields: dict[str, Any] = {
        field: tensors[name].shape[at] - less
        for field, (name, at, less) in SIZES.items()
        if name in tensors and tensors[name].ndim > at
    }
    inside = len(tensors.get("vis_embed.0.weight", ()))
    fields["visual_hidden"] = 0 if inside == fields.get("feature_width") else inside
    fields["layers"] = len({n.split(".")[3] for n in tensors if n.startswith("bert.encoder.layer.")})
    fields["heads"] = max(1, fields["hidden"] // HEAD_WIDTH)
    if f"{TRANSFORM}dense.weight" in tensors:
        fields["slots"] = len(tensors[f"{TRANSFORM}dense.weight"]) // fields["hidden"]
    return VlpConfig(**(fields | given))


def load_model(name: str | Path, kind: type[Model], ignore: Iterable[str] = (), **given: Any) -> Model:
    """A model of ours with the weights of a file, in eval mode.

    Args:
        name: a file or a folder.
        kind: `Vlp` (the backbone alone, of any file), `VlpForGeneration` or `VlpForAnswers` (of a file with its head).
        ignore: patterns of further names that may be left out.
        given: as in `open_weights`.
    Raises:
        UserError: see `open_weights`; and it lists names that are missing, unexpected or of another shape.
    """
    weights = open_weights(name, **given)
    model = new_model(kind, weights.config)
    weights.fill(model, (*LEFT_OUT[kind], *ignore))
    return model.eval()


def new_model(kind: type[Model], config: VlpConfig) -> Model:
    """A model of ours with new weights; a `VlpForAnswers` has the configuration's answers."""
    return kind(config, config.answers) if kind is VlpForAnswers else kind(config)


def original_state(model: nn.Module) -> dict[str, Tensor]:
    """The model's tensors by the original's names, with the copy of the word table that it writes beside words."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in named_tensors(model).items()}
    if isinstance(model, VlpForGeneration):
        state[DECODER] = state[WORDS]
    return state


def save_original(file: str | Path, model: nn.Module) -> Path:
    """A state dict that the original loads, its `model.<epoch>.bin`."""
    with atomic(Path(file)) as temporary:
        torch.save(original_state(model), temporary)
    return Path(file)


def save_model(folder: str | Path, model: nn.Module, tokenizer: Any = None) -> Path:
    """A folder that `load_model` opens. The weights are replaced atomically; config.json is written last."""
    folder, config = Path(folder), model.config
    if isinstance(model, VlpForAnswers):
        config = replace(config, answers=model.answers.out.out_features)
    # Without a model_type: transformers, which reads this file beside a tokenizer, warns of one that it does not know.
    settings = {"architectures": [type(model).__name__], **asdict(config)}
    state = original_state(model)
    state.pop(DECODER, None)
    folder.mkdir(parents=True, exist_ok=True)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
    with atomic(folder / FILES[0]) as temporary:
        save_file(state, temporary, metadata={"format": "pt"})
    write_text(folder / "config.json", json.dumps(settings, indent=2) + "\n")
    return folder
