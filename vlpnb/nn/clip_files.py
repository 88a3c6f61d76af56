"""CLIP in files: OpenAI's state dicts and HuggingFace's folders, read and written by their names.

| read | what it is |
|---|---|
| a folder with `model_type: clip` | HuggingFace's, image tower a ViT |
| a folder with `model_type: clip_resnet` | ours for a ResNet, which HuggingFace has not; tensors have OpenAI's names |
| a file | OpenAI's: a TorchScript archive as published (of which only the tensors are taken), or a state dict |

OpenAI's files do not tell their attention heads: those of all published sizes are 64 wide. Weights in half precision
are read as float32. Loading is strict: one message lists all that is missing, unexpected or of another shape.
"""

import json
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from vlpnb.errors import UserError
from vlpnb.files import atomic, write_text
from vlpnb.nn.checkpoints import read_settings, read_tensors, refuse_nan
from vlpnb.nn.clip import END, HEAD_WIDTH, PAD, START, Clip, ClipConfig, ResNet
from vlpnb.nn.folders import model_folder

FILES = ("model.safetensors", "pytorch_model.bin")
SHOWN = 8  # names in a message
SIZES = (
    "input_resolution",
    "context_length",
    "vocab_size",
)  # numbers that OpenAI's archives hold beside tensors
IN_PROJECTION = ("query", "key", "value")  # stacked in OpenAI's `in_proj`, in this order

# ours → (OpenAI's, HuggingFace's); `#` is a layer's number
BLOCK = {
    "look.norm": ("ln_1", "layer_norm1"),
    "look.attention.query": ("attn.in_proj", "self_attn.q_proj"),
    "look.attention.key": ("attn.in_proj", "self_attn.k_proj"),
    "look.attention.value": ("attn.in_proj", "self_attn.v_proj"),
    "look.attention.out": ("attn.out_proj", "self_attn.out_proj"),
    "think.norm": ("ln_2", "layer_norm2"),
    "think.inner": ("mlp.c_fc", "mlp.fc1"),
    "think.outer": ("mlp.c_proj", "mlp.fc2"),
}
PLAIN = {
    "text.embeddings.words.weight": (
        "token_embedding.weight",
        "text_model.embeddings.token_embedding.weight",
    ),
    "text.embeddings.positions.weight": (
        "positional_embedding",
        "text_model.embeddings.position_embedding.weight",
    ),
    "text.norm.weight": ("ln_final.weight", "text_model.final_layer_norm.weight"),
    "text.norm.bias": ("ln_final.bias", "text_model.final_layer_norm.bias"),
    "text_projection.weight": ("text_projection", "text_projection.weight"),
    "image.class_token": ("visual.class_embedding", "vision_model.embeddings.class_embedding"),
    "image.patches.weight": ("visual.conv1.weight", "vision_model.embeddings.patch_embedding.weight"),
    "image.positions": ("visual.positional_embedding", "vision_model.embeddings.position_embedding.weight"),
    "image.norm_before.weight": ("visual.ln_pre.weight", "vision_model.pre_layrnorm.weight"),
    "image.norm_before.bias": ("visual.ln_pre.bias", "vision_model.pre_layrnorm.bias"),
    "image.norm_after.weight": ("visual.ln_post.weight", "vision_model.post_layernorm.weight"),
    "image.norm_after.bias": ("visual.ln_post.bias", "vision_model.post_layernorm.bias"),
    "image.projection.weight": ("visual.proj", "visual_projection.weight"),
    "log_scale": ("logit_scale", "logit_scale"),
}
TRANSPOSED = ("text_projection.weight", "image.projection.weight")  # OpenAI multiplies from the other side
LAYERS = {
    "text": ("transformer", "text_model.encoder"),
    "image": ("visual.transformer", "vision_model.encoder"),
}


def their_name(ours: str, kind: int) -> str:
    """OpenAI's (0) or HuggingFace's (1) name of a tensor; the three that OpenAI stacks have one."""
    if ours in PLAIN:
        return PLAIN[ours][kind]
    if match := re.fullmatch(r"(text|image)\.blocks\.(\d+)\.(.+)\.(weight|bias)", ours):
        tower, number, part, leaf = match.groups()
        listed = "resblocks" if kind == 0 else "layers"
        inside = BLOCK[part][kind]
        return f"{LAYERS[tower][kind]}.{listed}.{number}.{inside}{'_' if inside.endswith('in_proj') else '.'}{leaf}"
    return ours.replace("image.", "visual.", 1)  # of a ResNet


def openai_state(model: Clip) -> dict[str, Tensor]:
    """The model's tensors by OpenAI's names."""
    found: dict[str, Tensor] = {}
    for ours, tensor in model.state_dict().items():
        tensor, theirs = tensor.detach().cpu(), their_name(ours, 0)
        if ours in TRANSPOSED:
            tensor = tensor.T
        found[theirs] = torch.cat([found[theirs], tensor]) if theirs in found else tensor
    return {name: tensor.contiguous() for name, tensor in found.items()}


def huggingface_state(model: Clip) -> dict[str, Tensor]:
    """The model's tensors by HuggingFace's names. UserError for a ResNet."""
    _refuse_resnet(model)
    state = model.state_dict().items()
    return {their_name(ours, 1): tensor.detach().cpu().contiguous() for ours, tensor in state}


def _refuse_resnet(model: Clip) -> None:
    if isinstance(model.image, ResNet):
        raise UserError(
            "HuggingFace's CLIP has no ResNet; save it with `save_clip` or as OpenAI's state dict"
        )


def fill(model: Clip, tensors: Mapping[str, Tensor], kind: int, file: Path) -> Clip:
    """Copy tensors by OpenAI's (0) or HuggingFace's (1) names into a model, in place; UserError lists what is wrong."""
    state, used, missing, misshapen = {}, set(), [], []
    for ours, own in model.state_dict().items():
        theirs = their_name(ours, kind)
        used.add(theirs)
        if theirs not in tensors:
            missing += [theirs] * (theirs not in missing)
            continue
        tensor = tensors[theirs]
        if kind == 0 and ours in TRANSPOSED and tensor.ndim == 2:
            tensor = tensor.T
        if kind == 0 and "in_proj" in theirs and len(tensor) == 3 * len(own):
            tensor = tensor.chunk(3)[IN_PROJECTION.index(ours.split(".")[-2])]
        if tensor.shape != own.shape:
            misshapen.append(f"{theirs} {list(tensor.shape)}, expected that of {list(own.shape)}")
            continue
        state[ours] = tensor.float() if tensor.is_floating_point() else tensor
    unexpected = [name for name in tensors if name not in used and not name.endswith("position_ids")]
    found = {"missing": missing, "unexpected": unexpected, "of another shape": misshapen}
    if any(found.values()):
        told = "; ".join(
            f"{len(names)} {what}: {', '.join(names[:SHOWN])}{' …' * (len(names) > SHOWN)}"
            for what, names in found.items()
            if names
        )
        raise UserError(f"{file} does not hold the weights of this CLIP: {told}")
    model.load_state_dict(state)
    return model.eval()


def config_of(tensors: Mapping[str, Tensor], file: Path, **given: Any) -> ClipConfig:
    """The configuration that the shapes of an OpenAI state dict tell; `given` fields go first."""
    wanted = ("token_embedding.weight", "positional_embedding", "text_projection", "visual.conv1.weight")
    for name in wanted:
        if name not in tensors:
            raise UserError(f"{file}: no tensor {name!r}; expected a state dict of OpenAI's CLIP")
    vit = "visual.proj" in tensors
    words, conv = tensors["token_embedding.weight"], tensors["visual.conv1.weight"]
    places = tensors.get("visual.positional_embedding" if vit else "visual.attnpool.positional_embedding")
    inside = tensors.get("transformer.resblocks.0.mlp.c_fc.weight")
    if places is None or inside is None:
        raise UserError(f"{file}: an image tower or a text tower is not whole; expected OpenAI's CLIP")
    patch = conv.shape[-1] if vit else 0
    width = conv.shape[0] if vit else 2 * conv.shape[0]
    fields: dict[str, Any] = {
        "vocab_size": len(words),
        "context": len(tensors["positional_embedding"]),
        "hidden": words.shape[1],
        "layers": _numbers(tensors, r"transformer\.resblocks\.(\d+)\."),
        "heads": max(1, words.shape[1] // HEAD_WIDTH),
        "ffn": len(inside),
        "width": tensors["text_projection"].shape[1],
        "patch": patch,
        "image_size": round((len(places) - 1) ** 0.5) * (patch or 32),
        "image_hidden": width,
    }
    if vit:
        fields |= {
            "image_layers": (_numbers(tensors, r"visual\.transformer\.resblocks\.(\d+)\."),),
            "image_heads": max(1, width // HEAD_WIDTH),
            "image_ffn": len(tensors.get("visual.transformer.resblocks.0.mlp.c_fc.weight", ())),
        }
    else:
        stages = range(1, 5)
        fields |= {
            "image_layers": tuple(_numbers(tensors, rf"visual\.layer{s}\.(\d+)\.") for s in stages),
            "image_heads": max(1, 32 * width // HEAD_WIDTH),
            "image_ffn": 0,
        }
    return ClipConfig(**(fields | given))


def _numbers(tensors: Mapping[str, Tensor], pattern: str) -> int:
    return len({match[1] for name in tensors if (match := re.match(pattern, name))})


def read_openai(file: Path) -> dict[str, Tensor]:
    """The tensors of a file of OpenAI's; UserError where it holds none or is damaged."""
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            scripted = any("/code/" in name for name in archive.namelist())
        if scripted:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # that TorchScript is on its way out
                    state = torch.jit.load(str(file), map_location="cpu").state_dict()
            except RuntimeError as error:
                raise UserError(f"{file} cannot be read ({str(error)[:200]}); is it complete?") from error
            state = refuse_nan(dict(state), file)
            return {name: tensor for name, tensor in state.items() if name not in SIZES}
    return {name: tensor for name, tensor in read_tensors(file).items() if name not in SIZES}


def _config_of_folder(settings: dict[str, Any], file: Path) -> ClipConfig:
    """The configuration in HuggingFace's config.json; what it leaves out is ViT-B/32's."""
    text, vision = (settings.get(name) or {} for name in ("text_config", "vision_config"))
    for part, where in ((text, "text_config"), (vision, "vision_config")):
        if part.get("layer_norm_eps", 1e-5) != 1e-5:
            raise UserError(
                f"{file}: {where}.layer_norm_eps is {part['layer_norm_eps']}; only 1e-05 is known"
            )
    acts = {text.get("hidden_act", "quick_gelu"), vision.get("hidden_act", "quick_gelu")}
    if len(acts) > 1 or not acts <= {"quick_gelu", "gelu"}:
        raise UserError(f"{file}: hidden_act is {sorted(acts)}; expected quick_gelu or gelu for both towers")
    usual = ClipConfig()
    return ClipConfig(
        vocab_size=text.get("vocab_size", usual.vocab_size),
        context=text.get("max_position_embeddings", usual.context),
        hidden=text.get("hidden_size", usual.hidden),
        layers=text.get("num_hidden_layers", usual.layers),
        heads=text.get("num_attention_heads", usual.heads),
        ffn=text.get("intermediate_size", usual.ffn),
        width=settings.get("projection_dim", usual.width),
        image_size=vision.get("image_size", usual.image_size),
        patch=vision.get("patch_size", usual.patch),
        image_hidden=vision.get("hidden_size", usual.image_hidden),
        image_layers=(vision.get("num_hidden_layers", usual.image_layers[0]),),
        image_heads=vision.get("num_attention_heads", usual.image_heads),
        image_ffn=vision.get("intermediate_size", usual.image_ffn),
        activation=acts.pop(),
    )


def load_clip(name: str | Path, **given: Any) -> Clip:
    """A CLIP of a file or a folder, in eval mode and float32; see the table above.

    Args:
        given: fields of `ClipConfig` that OpenAI's files do not tell, such as `heads`.
    Raises:
        UserError: it is absent, damaged, or no CLIP; all tensors that do not fit are listed.
    """
    path = Path(name).expanduser()
    if path.is_file():
        tensors = read_openai(path)
        return fill(Clip(config_of(tensors, path, **given)), tensors, 0, path)
    folder = model_folder(name)
    settings_file = folder / "config.json"
    settings = read_settings(settings_file)
    kind = settings.pop("model_type", None)
    if kind not in ("clip", "clip_resnet"):
        raise UserError(f"{settings_file}: model_type is {kind!r}; expected 'clip' or 'clip_resnet'")
    weights = next((folder / file for file in FILES if (folder / file).is_file()), None)
    if weights is None:
        raise UserError(f"no weights in {folder}: expected {' or '.join(FILES)} in one piece")
    if kind == "clip":
        config = replace(_config_of_folder(settings, settings_file), **given)
        return fill(Clip(config), read_tensors(weights), 1, weights)
    if wrong := sorted(settings.keys() ^ asdict(ClipConfig()).keys()):
        raise UserError(
            f"{settings_file}: missing or unknown: {', '.join(wrong)}; expected a CLIP's settings"
        )
    return fill(Clip(replace(ClipConfig(**settings), **given)), read_tensors(weights), 0, weights)


def save_clip(folder: str | Path, model: Clip) -> Path:
    """A folder that `load_clip` opens, and HuggingFace's CLIPModel where the image tower is a ViT."""
    folder, c = Path(folder), model.config
    folder.mkdir(parents=True, exist_ok=True)
    if c.patch:
        state = huggingface_state(model)
        shared = {"hidden_act": c.activation, "layer_norm_eps": 1e-5, "projection_dim": c.width}
        settings = {
            "model_type": "clip",
            "architectures": ["CLIPModel"],
            "projection_dim": c.width,
            "text_config": shared | {
                "vocab_size": c.vocab_size, "max_position_embeddings": c.context, "hidden_size": c.hidden,
                "num_hidden_layers": c.layers, "num_attention_heads": c.heads, "intermediate_size": c.ffn,
                "bos_token_id": START, "eos_token_id": END, "pad_token_id": PAD,
            },
            "vision_config": shared | {
                "image_size": c.image_size, "patch_size": c.patch, "hidden_size": c.image_hidden,
                "num_hidden_layers": c.image_layers[0], "num_attention_heads": c.image_heads,
                "intermediate_size": c.image_ffn,
            },
        }  # fmt: skip
    else:
        state, settings = openai_state(model), {"model_type": "clip_resnet", **asdict(c)}
    with atomic(folder / FILES[0]) as temporary:
        save_file(state, temporary, metadata={"format": "pt"})
    write_text(folder / "config.json", json.dumps(settings, indent=2) + "\n")
    return folder


def save_openai(file: str | Path, model: Clip) -> Path:
    """A state dict by OpenAI's names."""
    with atomic(Path(file)) as temporary:
        torch.save(openai_state(model), temporary)
    return Path(file)
