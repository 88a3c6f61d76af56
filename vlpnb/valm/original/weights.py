"""Weights of VaLM in files: folders of our stages, the release's state dicts, and GPT-2's folders.

| read | what it is | names |
|---|---|---|
| `load_model` | a folder of ours, `config.json` beside `model.safetensors` | ours |
| `load_original` | a state dict of the release, or its checkpoint, as tensors only | fairseq's |
| `load_gpt2_lm` | a HuggingFace folder of GPT-2 | HuggingFace's |

Loading is strict: what is missing, unexpected or of another shape is named. A state dict of the release does not tell
its attention heads (hidden / 64 unless given). Its matrices for pictures that nothing uses are left out (VAL-01).
"""

import json
import re
from argparse import Namespace
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from vlpnb.errors import UserError, did_you_mean
from vlpnb.files import atomic, write_text
from vlpnb.nn.checkpoints import fill_module, read_settings, read_tensors, read_weights, refuse_nan
from vlpnb.nn.folders import model_folder
from vlpnb.nn.gpt2 import load_gpt2, save_gpt2
from vlpnb.valm.config import SIZES, ValmConfig, text_only
from vlpnb.valm.model import FusionBlock
from vlpnb.valm.objectives import ValmLM

WEIGHTS = "model.safetensors"
KIND = "ValmLM"
HEAD_WIDTH = 64
NAMES = {  # ours, below `model.` → the release's, below `decoder.`; `#` is the number of a layer
    "embeddings.words": "embed_tokens",
    "blocks.#.look.attention.query": "layers.#.self_attn.q_proj",
    "blocks.#.look.attention.key": "layers.#.self_attn.k_proj",
    "blocks.#.look.attention.value": "layers.#.self_attn.v_proj",
    "blocks.#.look.attention.out": "layers.#.self_attn.out_proj",
    "blocks.#.look.attention.reading.norm": "layers.#.self_attn.img_layer_norm",
    "blocks.#.look.attention.image_key": "layers.#.self_attn.img_k_proj",
    "blocks.#.look.attention.image_value": "layers.#.self_attn.img_v_proj",
    "blocks.#.look.norm": "layers.#.self_attn_layer_norm",
    "blocks.#.think.inner": "layers.#.fc1",
    "blocks.#.think.outer": "layers.#.fc2",
    "blocks.#.think.norm": "layers.#.final_layer_norm",
    "norm": "layer_norm",
}
DEAD = ("decoder.layers.*.self_attn.img_[kv]_proj.weight",)
"""What the release allocates and never uses (VAL-01)."""
NOT_NEEDED = ("decoder.version", "decoder.output_projection.weight", "decoder.embed_positions.*")
"""A counter, the copy of the word table, and positions, which are computed."""
WORDS, DECODER = "decoder.embed_tokens.weight", "decoder.output_projection.weight"


def original_name(ours: str) -> str:
    """The release's name of a tensor of `ValmLM`; UserError where it has none."""
    module, _, leaf = ours.removeprefix("model.").rpartition(".")
    if leaf in ("image_key_bias", "image_value_bias"):
        module, leaf = f"{module}.{leaf.removesuffix('_bias')}", "bias"
    number = re.search(r"\d+", module)
    theirs = NAMES.get(re.sub(r"\d+", "#", module))
    if theirs is None:
        raise UserError(f"the release of VaLM has no tensor for {ours!r}; save a folder of ours instead")
    return f"decoder.{theirs.replace('#', number[0]) if number else theirs}.{leaf}"


def fill_original(lm: nn.Module, tensors: Mapping[str, Tensor], file: Path | str) -> None:
    """Copy tensors by the release's names into a model; UserError names all that does not fit."""
    state = lm.state_dict()
    names = {original_name(ours): ours for ours in state}
    missing = [name for name in names if name not in tensors]
    ignored = (*DEAD, *NOT_NEEDED)
    unexpected = [
        name for name in tensors if name not in names and not any(fnmatch(name, p) for p in ignored)
    ]
    misshapen = [
        f"{name} {list(tensors[name].shape)}, expected {list(state[ours].shape)}"
        for name, ours in names.items()
        if name in tensors and tensors[name].shape != state[ours].shape
    ]
    found = {"missing": missing, "unexpected": unexpected, "of another shape": misshapen}
    if any(found.values()):
        told = "; ".join(f"{len(n)} {what}: {', '.join(n[:8])}" for what, n in found.items() if n)
        raise UserError(
            f"{file} does not hold the weights of this VaLM: {told}. Names are those of the release"
        )
    if DECODER in tensors and not torch.equal(tensors[DECODER], tensors[WORDS]):
        raise UserError(f"{file}: {DECODER} differs from {WORDS}; expected them to be tied, equal")
    lm.load_state_dict({ours: tensors[name] for name, ours in names.items()})


def original_config(tensors: Mapping[str, Tensor], file: Path | str, **given: Any) -> ValmConfig:
    """The configuration that a state dict's names and shapes tell, but for the fields given (such as `heads`)."""
    fc1 = "decoder.layers.0.fc1.weight"
    for name in (WORDS, fc1):
        if name not in tensors or tensors[name].ndim != 2:
            raise UserError(
                f"{file}: no matrix {name!r}; expected a state dict of VaLM, names beginning with 'decoder.'"
            )
    layers = {int(name.split(".")[2]) for name in tensors if name.startswith("decoder.layers.")}
    fused = {
        int(name.split(".")[2]) for name in tensors if fnmatch(name, "*.self_attn.img_layer_norm.weight")
    }
    vocabulary, hidden = tensors[WORDS].shape
    fields = {
        "vocab_size": vocabulary, "hidden": hidden, "layers": len(layers), "heads": max(1, hidden // HEAD_WIDTH),
        "ffn": len(tensors[fc1]), "image_width": hidden, "fusion": tuple(sorted(fused)), "scale": "model",
    }  # fmt: skip
    return ValmConfig(**(fields | given))


def load_original(file: str | Path, **given: Any) -> ValmLM:
    """A model with the weights of a state dict, or of the `model` of a checkpoint, of the release, in eval mode.

    Args:
        given: fields of `ValmConfig` that a state dict does not tell, such as `heads`. The scale is the release's.
    """
    path = Path(file).expanduser()
    if not path.is_file():
        raise UserError(f"{path} not found; expected a state dict of VaLM")
    tensors = _tensors_of(path)
    lm = ValmLM(original_config(tensors, path, **given))
    fill_original(lm, tensors, path)
    return lm.eval()


def _tensors_of(path: Path) -> dict[str, Tensor]:
    """A state dict's tensors in float32; of a checkpoint of fairseq's, what its `model` is."""
    if path.suffix == ".safetensors":
        return {name: tensor.float() for name, tensor in read_tensors(path).items()}
    try:
        with torch.serialization.safe_globals([Namespace]):
            found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a pickle raises what it likes
        raise UserError(
            f"{path} cannot be read as tensors ({error}); is it complete, and a state dict?"
        ) from error
    found = found.get("model", found) if isinstance(found, dict) else found
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise UserError(f"{path} is no state dict; expected a name and a tensor each")
    return refuse_nan({name: tensor.float() for name, tensor in found.items()}, path)


def save_original(file: str | Path, lm: ValmLM) -> Path:
    """A state dict by the release's names. UserError: the model has parts that the release has not."""
    state = {original_name(name): tensor.detach().cpu() for name, tensor in lm.state_dict().items()}
    with atomic(Path(file)) as temporary:
        torch.save(state, temporary)
    return Path(file)


def save_model(folder: str | Path, lm: ValmLM, tokenizer: Any = None) -> Path:
    """A folder that `load_model` opens. The weights are replaced atomically; config.json is written last."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in lm.state_dict().items()}
    with atomic(folder / WEIGHTS) as temporary:
        save_file(state, temporary, metadata={"format": "pt"})
    settings = {"architectures": [KIND], **asdict(lm.config)}
    write_text(folder / "config.json", json.dumps(settings, indent=2) + "\n")
    return folder


def load_model(folder: str | Path) -> ValmLM:
    """The model of a folder that `save_model` wrote, in eval mode. UserError: it is absent, damaged or no VaLM."""
    folder = model_folder(folder)
    lm = ValmLM(read_config(folder / "config.json"))
    fill_module(lm, read_weights(folder / WEIGHTS), folder / WEIGHTS)
    return lm.eval()


def read_config(file: Path) -> ValmConfig:
    """The configuration of a folder of ours."""
    if not file.is_file():
        raise UserError(f"{file} not found; expected the folder of a VaLM")
    settings = read_settings(file)
    if settings.get("architectures") != [KIND]:
        raise UserError(
            f"{file}: architectures is {settings.get('architectures')!r}; expected [{KIND!r}], a VaLM"
        )
    settings.pop("architectures")
    defaults = asdict(ValmConfig())
    for name, value in settings.items():
        if name not in defaults:
            raise UserError(f"{file}: a VaLM has no field {name!r}{did_you_mean(name, defaults)}")
        kind = type(defaults[name])
        if kind is tuple and isinstance(value, list) and all(type(layer) is int for layer in value):
            settings[name] = tuple(value)
        elif type(value) is not kind and not (kind is float and type(value) is int):
            raise UserError(
                f"{file}: {name} is {value!r}; expected {'a list' if kind is tuple else kind.__name__}"
            )
    return ValmConfig(**settings)


def load_gpt2_lm(name: str | Path, **changes: Any) -> ValmLM:
    """A VaLM that begins with a GPT-2 of HuggingFace's, in eval mode; without `fusion` it is that GPT-2.

    Pictures begin with the words' matrices and biases. With `projection="gated"` the first step is that GPT-2 too.

    Args:
        name: a folder or a hub name.
        changes: fields of `ValmConfig`: `fusion` (none unless given), `image_width`, `projection`, ….
    """
    encoder = load_gpt2(name)
    theirs = encoder.config
    fields = (
        "vocab_size",
        "hidden",
        "layers",
        "heads",
        "ffn",
        "max_positions",
        "dropout",
        "norm_eps",
        "activation",
    )
    sizes = SIZES["gpt2"] | {field: getattr(theirs, field) for field in fields}
    last = theirs.vocab_size - 1  # GPT-2's end of a text is its last piece
    lm = ValmLM(ValmConfig(**({**sizes, "eos_id": last, "mask_id": last, "fusion": ()} | changes)))
    state = {f"model.{name}": tensor for name, tensor in encoder.state_dict().items()}
    missing, unexpected = lm.load_state_dict(state, strict=False)
    if unexpected:
        raise UserError(f"{name}: the changed model has no place for {', '.join(unexpected[:4])}")
    new = ("reading.", "image_key", "image_value", "see.", "masked_words.")
    if left := [name for name in missing if not any(part in name for part in new)]:
        raise UserError(f"{name}: a GPT-2 of {theirs.layers} layers has no {', '.join(left[:4])}")
    begin_with_words(lm)
    return lm.eval()


@torch.no_grad()
def begin_with_words(lm: ValmLM) -> None:
    """Let the pictures' own matrices and biases of every joint attention begin as the words' are."""
    for block in lm.model.blocks:
        if not isinstance(block, FusionBlock) or block.see is not None:
            continue
        attention = block.look.attention
        for ours, words in (("key", attention.key), ("value", attention.value)):
            if (own := getattr(attention, f"image_{ours}")) is not None:
                own.load_state_dict(words.state_dict())
            elif (bias := getattr(attention, f"image_{ours}_bias")) is not None:
                bias.copy_(words.bias)


def save_gpt2_lm(folder: str | Path, lm: ValmLM, tokenizer: Any = None) -> Path:
    """A GPT-2 folder of HuggingFace's. UserError: the model has pictures, or is not of GPT-2's form."""
    config = lm.config
    wanted = {"positions": "learned", "embed_scale": False, "mlm_head": False, "fusion": (), "stack": 0}
    for field, value in wanted.items():
        if getattr(config, field) != value:
            raise UserError(
                f"cannot save as GPT-2: {field} is {getattr(config, field)!r}, expected {value!r}"
            )
    state = {name.removeprefix("model."): tensor for name, tensor in lm.state_dict().items()}
    return save_gpt2(
        folder, config.transformer, state, tokenizer, eos_token_id=config.eos_id, bos_token_id=config.eos_id
    )


def freeze(lm: nn.Module, but: Iterable[str] = ("reading.", "image_key", "image_value", "see.")) -> None:
    """Train nothing but parameters whose names hold one of these parts: what looks at pictures."""
    for name, parameter in lm.named_parameters():
        parameter.requires_grad_(any(part in name for part in but))


def without_pictures(lm: ValmLM) -> ValmLM:
    """The same weights as a model of text alone, with ordinary blocks in the place of fusion layers."""
    config = replace(text_only(lm.config), scale="head")
    plain = ValmLM(config).to(lm.model.word_weight)
    state = lm.state_dict()
    plain.load_state_dict({name: state[name] for name in plain.state_dict()})
    return plain.train(lm.training)
