"""Weights of CCLM in files: folders of our stages, the original's checkpoints, and XLM-R to start from.

| read | what it is | names |
|---|---|---|
| a folder | ours: `config.json` beside `model.safetensors` | the original's |
| a `.th`, or another file | a checkpoint of the original, or its `model`, as tensors only | the original's |
| `start_from_xlmr` | a HuggingFace folder of XLM-R, 24 layers → 6 + 6 | HuggingFace's |

Fine-tuned files are read too: without the level `bert.` and without heads that their task does not ask; what a file
lacks is named, or told where it may lack. Second copies of tied tensors must be equal, buffers are left out. A state
dict does not tell its attention heads (hidden / 64 unless given), and neither that positions begin at 0, as all of the
original's do (CCL-03).
"""

import json
import pickle
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from vlpnb.cclm.config import CclmConfig
from vlpnb.cclm.model import Cclm
from vlpnb.cclm.original.names import (
    BUFFERS,
    COPIES,
    HEADS,
    POSITIONS,
    READER,
    STACK,
    SWIN,
    UNREAD,
    WORDS,
    original_names,
    pre_training_name,
    xlmr_names,
)
from vlpnb.errors import UserError, did_you_mean
from vlpnb.files import atomic, write_text
from vlpnb.nn.checkpoints import open_checkpoint, read_settings, read_tensors, refuse_nan
from vlpnb.nn.folders import model_folder

FILE = "model.safetensors"
KINDS = ("Cclm", "EntailmentModel", "PairModel", "AnsweringModel")
HEAD_WIDTH = 64  # of XLM-R, whatever its width
SHOWN = 8  # names in a message
Model = TypeVar("Model", bound=nn.Module)


@dataclass
class Weights:
    """A file that has been read: tensors by the names of the original's pre-training layout."""

    file: Path
    tensors: dict[str, Tensor]
    config: CclmConfig
    """What the file says of its model."""

    def fill(self, model: nn.Module, may_lack: Iterable[str] = (), ignore: Iterable[str] = ()) -> list[str]:
        """Copy into a model.

        Args:
            may_lack: patterns of names that the file may lack; the model keeps what it has there.
            ignore: patterns of names in the file that the model has no place for.
        Returns:
            the names that it lacks.
        Raises:
            UserError: it lists what is missing, unexpected, of another shape, or a copy that differs.
        """
        ours, state = original_names(model), model.state_dict()
        wanted = {theirs: state[name] for name, theirs in ours.items()}
        tensors = self._resampled(wanted)
        refuse_untied(tensors, self.file)
        lacking = [name for name in wanted if name not in tensors]
        found = {
            "missing": [name for name in lacking if not _matches(name, may_lack)],
            "unexpected": [n for n in tensors if n not in wanted and not _matches(n, (*COPIES, *ignore))],
            "of another shape": [
                f"{name} {list(tensors[name].shape)}, expected {list(tensor.shape)}"
                for name, tensor in wanted.items()
                if name in tensors and tensors[name].shape != tensor.shape
            ],
        }
        if any(found.values()):
            told = "; ".join(f"{len(names)} {what}: {_some(names)}" for what, names in found.items() if names)
            raise UserError(
                f"{self.file} does not hold the weights of {type(model).__name__}: {told}. Names are those of the "
                "original's pre-training. Name the right file, or say what it may lack"
            )
        model.load_state_dict(
            {name: tensors[theirs] for name, theirs in ours.items() if theirs in tensors}, strict=False
        )
        return lacking

    def _resampled(self, wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The tensors, with relative-position tables of the windows that the model has."""
        tensors = dict(self.tensors)
        if not any(name.startswith(SWIN) for name in wanted):
            return tensors
        from vlpnb.vision.swin import TABLE, resample_table

        for name in wanted:
            if name.endswith(TABLE) and name in tensors and tensors[name].shape != wanted[name].shape:
                tensors[name] = resample_table(tensors[name], (round(len(wanted[name]) ** 0.5) + 1) // 2)
        return tensors


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)


def _some(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + " …" * (len(names) > SHOWN)


def refuse_untied(tensors: Mapping[str, Tensor], file: Path) -> None:
    """UserError where a second copy of a tied tensor differs from the first."""
    for copy, first in COPIES.items():
        if copy in tensors and first in tensors and not torch.equal(tensors[copy], tensors[first]):
            raise UserError(f"{file}: {copy} differs from {first}; expected them to be tied, equal")


def open_weights(name: str | Path, pairs: bool = False, **given: Any) -> Weights:
    """Read a file or a folder; see the table above.

    Args:
        pairs: it is a model for two pictures, whose fusion layers are there twice.
        given: fields of `CclmConfig` that take the place of what the file says, such as `heads` or `dropout`.
    Raises:
        UserError: it is absent, damaged, holds more than tensors, or is no CCLM.
    """
    path = Path(name).expanduser()
    if path.is_file():
        tensors = _canonical(_read(path), path)
        config = original_config(tensors, path, pairs, **given)
    else:
        folder = model_folder(name)
        config = replace(read_config(folder / "config.json"), **given)
        path = folder / FILE
        if not path.is_file():
            raise UserError(f"no weights in {folder}: expected {FILE} beside config.json")
        tensors = _canonical(read_tensors(path), path)
    if pairs:
        tensors = _without_second_keys(tensors, config, path)
    return Weights(path, tensors, config)


def _read(path: Path) -> dict[str, Tensor]:
    """A state dict's tensors; of a checkpoint of the original's, what its `model` is."""
    if path.suffix == ".safetensors":
        return read_tensors(path)
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(f"{path} holds more than tensors; not opened, for safety: {error}") from error
    except Exception as error:  # a pickle raises what it likes
        raise UserError(f"{path} cannot be read ({error}); is it complete, and a checkpoint?") from error
    found = found.get("model", found) if isinstance(found, dict) else found
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise UserError(f"{path} is no state dict; expected a name and a tensor each, or `model` with them")
    return refuse_nan(found, path)


def _canonical(tensors: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """In float32, by the names of the pre-training layout, without buffers."""
    found: dict[str, Tensor] = {}
    for given, tensor in tensors.items():
        name = pre_training_name(given.removeprefix("module."))
        if _matches(name, BUFFERS):
            continue
        if name in found:
            raise UserError(f"{path}: two tensors mean {name!r}, {given!r} is one; expected one")
        found[name] = tensor.float() if tensor.is_floating_point() else tensor
    return found


def _without_second_keys(tensors: dict[str, Tensor], config: CclmConfig, path: Path) -> dict[str, Tensor]:
    """The tensors of a model for two pictures without keys and values of second layers: they are the first's."""
    found = dict(tensors)
    for layer in range(config.text_layers, config.text_layers + 2 * config.fusion_layers, 2):
        for leaf in ("key.weight", "key.bias", "value.weight", "value.bias"):
            one, other = (f"{STACK}{layer + i}.crossattention.self.{leaf}" for i in (0, 1))
            if other in found and not torch.equal(found.pop(other), found.get(one, torch.empty(0))):
                raise UserError(f"{path}: {other} differs from {one}; expected them to be tied, equal")
    return found


def original_config(
    tensors: Mapping[str, Tensor], file: Path | str, pairs: bool = False, **given: Any
) -> CclmConfig:
    """The configuration that names and shapes tell, but for the fields given (such as `heads`)."""
    inner = f"{STACK}0.intermediate.dense.weight"
    for name in (WORDS, POSITIONS, inner):
        if name not in tensors or tensors[name].ndim != 2:
            raise UserError(
                f"{file}: no matrix {name!r}; expected a CCLM, names beginning with 'text_encoder.'"
            )
    layers = {int(name.split(".")[4]) for name in tensors if name.startswith(STACK)}
    fused = {
        int(name.split(".")[4]) for name in tensors if name.startswith(STACK) and ".crossattention." in name
    }
    vocabulary, hidden = tensors[WORDS].shape
    fields: dict[str, Any] = {
        "vocab_size": vocabulary, "hidden": hidden, "text_layers": len(layers - fused),
        "fusion_layers": len(fused) // (1 + pairs), "heads": max(1, hidden // HEAD_WIDTH), "ffn": len(tensors[inner]),
        "max_positions": len(tensors[POSITIONS]), "position_start": 0, "boxes": "bbox_head.0.weight" in tensors,
    }  # fmt: skip
    if "text_proj.weight" in tensors:
        fields["width"] = len(tensors["text_proj.weight"])
    if "temp" in tensors:
        fields["temperature"] = round(float(tensors["temp"]), 6)
    if any(name.startswith(SWIN) for name in tensors):
        from vlpnb.vision.swin import size_of, swin_state

        fields |= {"vision": "swin", "image_width": hidden, "swin": size_of(swin_state(tensors), file)}
    elif f"{READER}project.weight" in tensors:
        fields["image_width"] = tensors[f"{READER}project.weight"].shape[1]
        fields["image_patches"] = len(tensors.get(f"{READER}places", ()))
    return CclmConfig(**(fields | given))


def load_model(
    name: str | Path, kind: type[Model] = Cclm, may_lack: Iterable[str] = (), **changes: Any
) -> Model:
    """A model of ours with the weights of a file or folder, in eval mode.

    Args:
        kind: `Cclm`, or the class of a fine-tuned model, which is made of a `Cclm`.
        may_lack: patterns of names that it may lack beside those that the task does not read, and that stay new; such
            as "text_encoder.cls.*", the word head, which a model that was fine-tuned for retrieval has none of.
        changes: fields of `CclmConfig`, such as `dropout`.
    Raises:
        UserError: see `open_weights`; and it lists names that are missing, unexpected or of another shape.
    """
    weights = open_weights(name, kind.__name__ == "PairModel", **changes)
    model: nn.Module = Cclm(weights.config)
    if kind is not Cclm:
        model = kind(model, **_sizes(weights.tensors))
        weights.fill(model, (*UNREAD, *may_lack), UNREAD)
    else:
        weights.fill(model, may_lack, HEADS)
    return model.eval()


def _sizes(tensors: Mapping[str, Tensor]) -> dict[str, int]:
    """What a fine-tuned file says of its own part: layers of a decoder, outputs of a linear head."""
    found = {}
    layers = {name.split(".")[4] for name in tensors if name.startswith("text_decoder.bert.encoder.layer.")}
    if layers:
        found["layers"] = len(layers)
    if "ta_head.weight" in tensors:
        found["outputs"] = len(tensors["ta_head.weight"])
    return found


def original_state(model: nn.Module) -> dict[str, Tensor]:
    """The model's tensors by the original's names, each in memory of its own."""
    state = model.state_dict()
    return {
        theirs: state[name].detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, theirs in original_names(model).items()
    }


def save_model(folder: str | Path, model: nn.Module, tokenizer: Any = None) -> Path:
    """A folder that `load_model` opens. The weights are replaced atomically; config.json is written last."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
    with atomic(folder / FILE) as temporary:
        save_file(original_state(model), temporary, metadata={"format": "pt"})
    settings = {"architectures": [type(model).__name__], **asdict(model.config)}
    write_text(folder / "config.json", json.dumps(settings, indent=2) + "\n")
    return folder


def save_original(file: str | Path, model: nn.Module) -> Path:
    """A checkpoint that the original loads: `model`, with its copies of tied tensors, and an empty `config`."""
    state = original_state(model)
    state |= {copy: state[first] for copy, first in COPIES.items() if first in state}
    with atomic(Path(file)) as temporary:
        torch.save({"model": state, "config": {}}, temporary)
    return Path(file)


def is_cclm(name: str | Path) -> bool:
    """Whether a name means a file of tensors, or a folder of ours; else it may be a folder of XLM-R."""
    path = Path(name).expanduser()
    if path.is_dir() and (path / "config.json").is_file():
        return read_settings(path / "config.json").get("architectures") in [[kind] for kind in KINDS]
    return path.is_file()


def read_config(file: Path) -> CclmConfig:
    """The configuration of a folder of ours."""
    if not file.is_file():
        raise UserError(f"{file} not found; expected the folder of a CCLM, or a file of tensors")
    settings = read_settings(file)
    if (kind := settings.pop("architectures", None)) not in [[one] for one in KINDS]:
        raise UserError(f"{file}: architectures is {kind!r}; expected that of a CCLM, such as {[KINDS[0]]!r}")
    kinds = {name: type(value) for name, value in asdict(CclmConfig()).items()}
    for name, value in settings.items():
        if name not in kinds:
            raise UserError(f"{file}: a CCLM has no field {name!r}{did_you_mean(name, kinds)}")
        if name == "swin":
            if isinstance(value, dict):
                settings[name] = _swin(value, file)
        elif type(value) is not kinds[name] and not (kinds[name] is float and type(value) is int):
            raise UserError(f"{file}: {name} is {value!r}; expected {kinds[name].__name__}")
    return CclmConfig(**settings)


def _swin(settings: dict[str, Any], file: Path) -> Any:
    from vlpnb.vision.swin import SwinConfig

    defaults = asdict(SwinConfig())
    for name, value in settings.items():
        if name not in defaults:
            raise UserError(f"{file}: swin: a Swin has no field {name!r}{did_you_mean(name, defaults)}")
        if isinstance(value, list):
            settings[name] = tuple(value)
        elif type(value) is not type(defaults[name]) and not isinstance(value, int | float):
            raise UserError(f"{file}: swin.{name} is {value!r}; expected {type(defaults[name]).__name__}")
    return SwinConfig(**settings)


def start_from_xlmr(model: Cclm, name: str | Path) -> list[str]:
    """Begin embeddings, layers and word head with those of XLM-R (section 3.1); returns what is to be told.

    The m layers of the model take layers of the folder's n evenly, the last from the last; of positions it takes as
    many as it has. Attention to the other view, projections and matching stay new (CCL-07).

    Raises:
        UserError: the folder is no XLM-R with a word head, or is of another width or vocabulary.
    """
    source = open_checkpoint(name)
    source.refuse_untied()
    config, theirs = model.config, source.config
    same = {
        "vocab_size": "word pieces",
        "hidden": "numbers of a state",
        "heads": "heads",
        "ffn": "inner width",
    }
    for field, what in same.items():
        if getattr(config, field) != getattr(theirs, field):
            raise UserError(
                f"{source.folder}: {field} is {getattr(theirs, field)} ({what}), the model's {getattr(config, field)}; "
                "expected the same"
            )
    layers = config.text_layers + config.fusion_layers
    if layers > theirs.layers or config.max_positions > theirs.max_positions:
        raise UserError(
            f"{source.folder} has {theirs.layers} layers and {theirs.max_positions} positions; expected at least "
            f"{layers} and {config.max_positions}"
        )
    state, tensors = {}, source.tensors
    for ours, from_ in xlmr_names(layers, theirs.layers).items():
        key = from_.removeprefix("roberta.")
        key = "embeddings.word_embeddings.weight" if ours == WORDS else key
        if key not in tensors:
            raise UserError(f"{source.file}: tensor {from_!r} is missing; expected XLM-R with its word head")
        state[ours] = tensors[key][: config.max_positions] if ours == POSITIONS else tensors[key]
    own = {theirs: name for name, theirs in original_names(model).items()}
    model.load_state_dict({own[name]: tensor for name, tensor in state.items()}, strict=False)
    new = [name for name in own if name not in state]
    return [
        f"starts from {theirs.layers} layers of {name}: {layers} of them, {len(state)} tensors; {len(new)} are new"
    ]
