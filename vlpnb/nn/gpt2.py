"""GPT-2 (Radford et al. 2019) in HuggingFace folders ↔ `Encoder`, pre-norm and causal.

Loading is strict, as in `checkpoints.py`. What is peculiar to these folders: one matrix holds query, key and value, and
matrices stand with their input first. The parameters are named as those of `Encoder`, and VaLM's decoder has the same
names, so that the tensors fit both.

Folders saved here load in transformers' `AutoModelForCausalLM` and give the same outputs.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from vlpnb.errors import UserError
from vlpnb.files import atomic, write_text
from vlpnb.nn.checkpoints import read_settings, read_tensors
from vlpnb.nn.folders import model_folder
from vlpnb.nn.renaming import ACTIVATION
from vlpnb.nn.transformer import Encoder, TransformerConfig

FILES = ("model.safetensors", "pytorch_model.bin")
NAMES = {  # ours → theirs; `#` is the number of a layer. Matrices are turned but for the two tables.
    "embeddings.words": "wte",
    "embeddings.positions": "wpe",
    "blocks.#.look.norm": "h.#.ln_1",
    "blocks.#.look.attention.out": "h.#.attn.c_proj",
    "blocks.#.think.norm": "h.#.ln_2",
    "blocks.#.think.inner": "h.#.mlp.c_fc",
    "blocks.#.think.outer": "h.#.mlp.c_proj",
    "norm": "ln_f",
}
JOINED = "h.#.attn.c_attn"
PARTS = tuple(f"blocks.#.look.attention.{part}" for part in ("query", "key", "value"))
NOT_NEEDED = (".attn.bias", ".attn.masked_bias")  # triangles saved as buffers
WORDS, DECODER = "wte.weight", "lm_head.weight"
CONFIG = {
    "vocab_size": "vocab_size",
    "hidden": "n_embd",
    "layers": "n_layer",
    "heads": "n_head",
    "ffn": "n_inner",
    "max_positions": "n_positions",
    "norm_eps": "layer_norm_epsilon",
    "dropout": "resid_pdrop",
    "attention_dropout": "attn_pdrop",
}
REQUIRED = ("vocab_size", "n_embd", "n_layer", "n_head", "n_positions")
FIXED = {
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "add_cross_attention": False,
    "tie_word_embeddings": True,
}
"""Fields with one supported value: refused when a folder says something else."""


def load_gpt2(name: str | Path) -> Encoder:
    """The decoder of a folder (or a hub name), in eval mode, float32; its scores are by the word table.

    Raises:
        UserError: the folder is no GPT-2, or a tensor is missing, unexpected, broken or of the wrong shape.
    """
    config, state, file = read_gpt2(name)
    with torch.device("meta"):
        encoder = Encoder(config)
    wanted = {ours: list(tensor.shape) for ours, tensor in encoder.state_dict().items()}
    for ours, shape in wanted.items():
        if ours not in state:
            raise UserError(f"{file}: the tensor for {ours!r} is missing; expected the weights of a GPT-2")
        if list(state[ours].shape) != shape:
            raise UserError(
                f"{file}: {ours!r} has the shape {list(state[ours].shape)}; config.json asks for {shape}"
            )
    if unexpected := [ours for ours in state if ours not in wanted]:
        raise UserError(
            f"{file}: unexpected tensor {unexpected[0]!r}; config.json asks for {config.layers} layers"
        )
    encoder.load_state_dict(state, assign=True)
    return encoder.eval()


def read_gpt2(name: str | Path) -> tuple[TransformerConfig, dict[str, Tensor], Path]:
    """A folder's configuration, its tensors by our names, and the file that holds them."""
    folder = model_folder(name)
    settings = read_settings(folder / "config.json")
    if settings.get("model_type") != "gpt2":
        raise UserError(
            f"{folder / 'config.json'}: model_type is {settings.get('model_type')!r}; expected 'gpt2'"
        )
    file = next((folder / file for file in FILES if (folder / file).is_file()), None)
    if file is None:
        raise UserError(f"no weights in {folder}: expected {' or '.join(FILES)} in one piece")
    theirs = {name.removeprefix("transformer."): tensor for name, tensor in read_tensors(file).items()}
    words = theirs.get(WORDS)
    if words is not None and DECODER in theirs and not torch.equal(theirs[DECODER], words):
        raise UserError(
            f"{file}: {DECODER!r} differs from the word embeddings; only tied weights are supported"
        )
    state = {}
    for key, tensor in theirs.items():
        if key != DECODER and not key.endswith(NOT_NEEDED):
            state |= _ours(key, tensor.float(), file)
    return _config(settings, folder / "config.json"), state, file


def _ours(key: str, tensor: Tensor, file: Path) -> dict[str, Tensor]:
    """One of their tensors under our name, or under the three that it joins."""
    pieces = key.split(".")
    number = pieces[1] if pieces[0] == "h" and len(pieces) > 2 else ""
    module, leaf = ".".join("#" if i == 1 and number else p for i, p in enumerate(pieces[:-1])), pieces[-1]
    if tensor.ndim == 2 and number:
        tensor = tensor.T
    if module == JOINED:
        parts = zip(PARTS, tensor.chunk(3), strict=True)
        return {f"{ours.replace('#', number)}.{leaf}": part.contiguous() for ours, part in parts}
    for ours, name in NAMES.items():
        if name == module:
            return {f"{ours.replace('#', number)}.{leaf}": tensor.contiguous()}
    raise UserError(f"{file}: unexpected tensor {key!r} {list(tensor.shape)} in a GPT-2")


def _config(settings: dict[str, Any], file: Path) -> TransformerConfig:
    for field in REQUIRED:
        if field not in settings:
            raise UserError(f"{file}: field {field!r} is missing")
    for field, usual in FIXED.items():
        if settings.get(field, usual) != usual:
            raise UserError(f"{file}: {field} is {settings[field]!r}; only {usual!r} is supported")
    activation = settings.get("activation_function", "gelu_new")
    if activation not in ACTIVATION:
        raise UserError(
            f"{file}: activation_function is {activation!r}; expected one of {', '.join(ACTIVATION)}"
        )
    given = {ours: settings.get(theirs) for ours, theirs in CONFIG.items()}
    values = {"norm_eps": 1e-5, "ffn": 4 * settings["n_embd"]}
    values |= {ours: value for ours, value in given.items() if value is not None}
    return TransformerConfig(
        **values, type_vocab=0, norm="pre", causal=True, activation=ACTIVATION[activation]
    )


def save_gpt2(
    folder: str | Path,
    config: TransformerConfig,
    state: dict[str, Tensor],
    tokenizer: Any = None,
    **settings: Any,
) -> Path:
    """Write a folder that transformers loads with equal outputs; the weights first, config.json last.

    Args:
        config: pre-norm, causal, without segment types.
        state: tensors by the names of `Encoder`.
        tokenizer: a transformers tokenizer, saved beside the weights.
        settings: further fields of config.json, such as `eos_token_id`.

    Raises:
        UserError: the configuration is not GPT-2's.
    """
    wanted = {"norm": "pre", "causal": True, "type_vocab": 0, "position_offset": 0}
    for field, value in wanted.items():
        if getattr(config, field) != value:
            raise UserError(
                f"cannot save as GPT-2: {field} is {getattr(config, field)!r}, expected {value!r}"
            )
    tensors = {}
    for ours, theirs in NAMES.items():
        numbers = [str(i) for i in range(config.layers)] if "#" in ours else [""]
        for number in numbers:
            for leaf in ("weight", "bias"):
                tensor = state.get(f"{ours.replace('#', number)}.{leaf}")
                if tensor is not None:
                    turned = tensor.T if tensor.ndim == 2 and number else tensor
                    tensors[f"transformer.{theirs.replace('#', number)}.{leaf}"] = turned
    for layer in range(config.layers):
        for leaf in ("weight", "bias"):
            joined = torch.cat([state[f"{part.replace('#', str(layer))}.{leaf}"] for part in PARTS])
            tensors[f"transformer.{JOINED.replace('#', str(layer))}.{leaf}"] = (
                joined.T if joined.ndim == 2 else joined
            )
    about = {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}
    about |= {theirs: getattr(config, ours) for ours, theirs in CONFIG.items()}
    about |= {"embd_pdrop": config.dropout, **FIXED}
    about["activation_function"] = next(t for t, ours in ACTIVATION.items() if ours == config.activation)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
    with atomic(folder / FILES[0]) as temporary:
        plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        save_file(plain, temporary, metadata={"format": "pt"})
    write_text(folder / "config.json", json.dumps(about | settings, indent=2) + "\n")
    return folder
