"""Weights of LXMERT in files: the original's, HuggingFace's, and those of our stages, which are HuggingFace's too.

| read | what it is |
|---|---|
| a folder, or a name of the hub | HuggingFace's: `config.json` beside `model.safetensors` or `pytorch_model.bin` |
| any other file | a state dict of the original: pre-training (`..._LXRT.pth`), or a fine-tuned `BEST.pth` |

A file is opened as tensors only, and compared name by name and shape by shape: one message lists all that is missing
and all that is not expected (LXM-17). Heads that a model does not have are left out where they are known ones.
A state dict does not tell its number of attention heads; it is hidden / 64, as in the original, unless given.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from vlpnb.data.lxmert import AnswerTable, normalise_answer
from vlpnb.errors import UserError
from vlpnb.files import atomic, write_text
from vlpnb.lxmert.heads import AnsweringModel, LxmertForPretraining, PairModel, PooledHead
from vlpnb.lxmert.model import BOX, Lxmert, LxmertConfig
from vlpnb.lxmert.original.names import (
    DECODER,
    NOT_NEEDED,
    WORDS,
    Layout,
    from_file,
    original_name,
    to_file,
)
from vlpnb.nn.checkpoints import open_checkpoint, read_settings, read_tensors
from vlpnb.nn.folders import model_folder

FILES = ("model.safetensors", "pytorch_model.bin")
HEAD_WIDTH = 64  # of the original, whatever its width
SHOWN = 8  # names in a message
HEADS = ("cls.*", "obj_predict_head.*", "answer_head.*")
ARCHITECTURES = {
    LxmertForPretraining: "LxmertForPreTraining",
    AnsweringModel: "LxmertForQuestionAnswering",
    PairModel: "LxmertForPairs",  # ours alone
    Lxmert: "LxmertModel",
}
LEFT_OUT = {
    LxmertForPretraining: (),
    AnsweringModel: ("cls.*", "obj_predict_head.*"),
    PairModel: ("cls.*", "obj_predict_head.*"),
    Lxmert: HEADS,
}
"""What each model may leave out of a file."""
CONFIG = {
    "vocab_size": "vocab_size",
    "hidden": "hidden_size",
    "heads": "num_attention_heads",
    "ffn": "intermediate_size",
    "text_layers": "l_layers",
    "visual_layers": "r_layers",
    "cross_layers": "x_layers",
    "feature_width": "visual_feat_dim",
    "objects": "num_object_labels",
    "attributes": "num_attr_labels",
    "answers": "num_qa_labels",
    "max_positions": "max_position_embeddings",
    "type_vocab": "type_vocab_size",
    "dropout": "hidden_dropout_prob",
    "attention_dropout": "attention_probs_dropout_prob",
    "init_std": "initializer_range",
}
"""Fields of `LxmertConfig` in HuggingFace's config.json."""
FIXED = {"visual_pos_dim": BOX, "hidden_act": "gelu"}
"""Fields with one supported value."""
SIZES = {  # field → a tensor, and which of its dimensions; where the tensor is absent, the field keeps its default
    "vocab_size": (WORDS, 0),
    "hidden": (WORDS, 1),
    "max_positions": ("bert.embeddings.position_embeddings.weight", 0),
    "type_vocab": ("bert.embeddings.token_type_embeddings.weight", 0),
    "feature_width": ("bert.encoder.visn_fc.visn_fc.weight", 1),
    "ffn": ("bert.encoder.x_layers.0.lang_inter.dense.weight", 0),
    "objects": ("obj_predict_head.decoder_dict.obj.weight", 0),
    "attributes": ("obj_predict_head.decoder_dict.attr.weight", 0),
    "answers": ("answer_head.logit_fc.3.weight", 0),
}
LAYERS = {"text_layers": "layer", "visual_layers": "r_layers", "cross_layers": "x_layers"}
Model = TypeVar("Model", Lxmert, LxmertForPretraining, AnsweringModel, PairModel)


@dataclass
class Weights:
    """A file that has been read: tensors by the names of the original's pre-training."""

    file: Path
    tensors: dict[str, Tensor]
    config: LxmertConfig
    """What the file says of its model."""

    def fill(self, module: nn.Module, ignore: Iterable[str] = ()) -> None:
        """Copy into a model; UserError lists what is missing, unexpected (but for `ignore`) or misshapen."""
        inside = "backbone." if isinstance(module, Lxmert) else ""
        wanted = {original_name(inside + ours): (ours, t) for ours, t in module.state_dict().items()}
        missing = [name for name in wanted if name not in self.tensors]
        patterns = (DECODER, *NOT_NEEDED, *ignore)
        unexpected = [
            name
            for name in self.tensors
            if name not in wanted and not any(fnmatch(name, pattern) for pattern in patterns)
        ]
        misshapen = [
            f"{name} {list(self.tensors[name].shape)}, expected {list(tensor.shape)}"
            for name, (_, tensor) in wanted.items()
            if name in self.tensors and self.tensors[name].shape != tensor.shape
        ]
        found = {"missing": missing, "unexpected": unexpected, "of another shape": misshapen}
        if any(found.values()):
            told = "; ".join(f"{len(names)} {what}: {_some(names)}" for what, names in found.items() if names)
            raise UserError(
                f"{self.file} does not hold the weights of {type(module).__name__}: {told}. Names are those of the "
                "original's pre-training. Name the right file; of another model take the backbone alone"
            )
        decoder = self.tensors.get(DECODER)
        if decoder is not None and not torch.equal(decoder, self.tensors[WORDS]):
            raise UserError(f"{self.file}: {DECODER} differs from {WORDS}; expected them to be tied, equal")
        module.load_state_dict({ours: self.tensors[name] for name, (ours, _) in wanted.items()})


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + " …" * (len(names) > SHOWN)


def open_weights(name: str | Path, heads: int | None = None) -> Weights:
    """Read a file, folder or model of the hub; see the table above.

    Args:
        heads: attention heads of a state dict whose heads are not 64 wide; a folder's config.json tells its own.
    Raises:
        UserError: it is absent, damaged, holds more than tensors, or is no LXMERT.
    """
    path, settings = Path(name).expanduser(), {}
    if not path.is_file():
        folder = model_folder(name)
        settings = _settings_of(folder / "config.json")
        path = next((folder / file for file in FILES if (folder / file).is_file()), folder / FILES[0])
        if not path.is_file():
            raise UserError(f"no weights in {folder}: expected {' or '.join(FILES)} in one piece")
    tensors: dict[str, Tensor] = {}
    for given, tensor in read_tensors(path).items():
        if tensors.setdefault(from_file(given), tensor) is not tensor:
            raise UserError(f"{path}: two tensors mean {from_file(given)!r}, {given!r} is one; expected one")
    return Weights(path, tensors, _config_of(tensors, path, heads, settings))


def _settings_of(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise UserError(f"{file} not found; expected a HuggingFace folder of LXMERT, or a file of tensors")
    settings = read_settings(file)
    if settings.get("model_type") != "lxmert":
        raise UserError(f"{file}: model_type is {settings.get('model_type')!r}; expected 'lxmert'")
    for field, value in FIXED.items():
        if settings.get(field, value) != value:
            raise UserError(f"{file}: {field} is {settings[field]!r}; only {value!r} is supported")
    return settings


def _config_of(
    tensors: Mapping[str, Tensor], file: Path, heads: int | None, settings: Mapping[str, Any]
) -> LxmertConfig:
    """What config.json says; from the tensors what it does not say."""
    if WORDS not in tensors:
        raise UserError(
            f"{file} holds no LXMERT: {WORDS} is missing among {len(tensors)} tensors ({_some([*tensors])})"
        )
    sizes = {field: tensors[name].shape[axis] for field, (name, axis) in SIZES.items() if name in tensors}
    for field, part in LAYERS.items():
        numbers = [re.match(rf"bert\.encoder\.{part}\.(\d+)\.", name) for name in tensors]
        sizes[field] = max((int(found[1]) + 1 for found in numbers if found), default=0)
    sizes["heads"] = heads or max(1, sizes["hidden"] // HEAD_WIDTH)
    told = {ours: settings[theirs] for ours, theirs in CONFIG.items() if theirs in settings}
    values = sizes | told
    try:
        return LxmertConfig(**values)
    except UserError as error:
        raise UserError(f"{file}: {error}; is it a whole LXMERT?") from error


def load_model(
    name: str | Path, kind: type[Model], *, heads: int | None = None, ignore: Iterable[str] = ()
) -> Model:
    """A model of ours with the weights of a file, in eval mode.

    Args:
        name: a file, a folder, or a name of the hub.
        kind: `Lxmert` (the backbone alone, of any file), `LxmertForPretraining`, `AnsweringModel` or `PairModel`
            (each of a file that holds its head).
        heads: as in `open_weights`.
        ignore: patterns of further names that may be left out.
    Raises:
        UserError: see `open_weights`; and it lists names that are missing, unexpected or of another shape.
    """
    weights = open_weights(name, heads)
    model = new_model(kind, weights.config)
    weights.fill(model, (*LEFT_OUT[kind], *ignore))
    return model.eval()


def new_model(kind: type[Model], config: LxmertConfig) -> Model:
    """A model of ours with new weights; an `AnsweringModel` has the configuration's answers."""
    return kind(config, config.answers) if kind is AnsweringModel else kind(config)


def original_state(model: nn.Module, layout: Layout) -> dict[str, Tensor]:
    """The model's tensors by the names of a file: the original's, its fine-tuning's, or HuggingFace's."""
    inside = "backbone." if isinstance(model, Lxmert) else ""
    state = {
        to_file(original_name(inside + ours), layout): tensor.detach().cpu().contiguous()
        for ours, tensor in model.state_dict().items()
    }
    if layout == "original" and isinstance(model, LxmertForPretraining):
        state[DECODER] = state[WORDS]  # the original's strict loading asks for it
    return state


def save_original(file: str | Path, model: nn.Module) -> Path:
    """A state dict that the original loads: as pre-trained weights, or for a fine-tuned model as its snapshot."""
    fine_tuned = isinstance(model, AnsweringModel | PairModel)
    with atomic(Path(file)) as temporary:
        torch.save(original_state(model, "fine_tuned" if fine_tuned else "original"), temporary)
    return Path(file)


def save_model(folder: str | Path, model: nn.Module, tokenizer: Any = None) -> Path:
    """A folder that HuggingFace's class of the same task opens (a `PairModel` has none there), and `load_model`.

    The weights are replaced atomically; config.json is written last.
    """
    folder, config = Path(folder), model.config
    if isinstance(model, AnsweringModel):
        config = replace(config, answers=model.answers.out.out_features)
    settings = {"model_type": "lxmert", "architectures": [ARCHITECTURES[type(model)]]}
    settings |= {theirs: getattr(config, ours) for ours, theirs in CONFIG.items()} | FIXED
    folder.mkdir(parents=True, exist_ok=True)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
    with atomic(folder / FILES[0]) as temporary:
        save_file(original_state(model, "hugging_face"), temporary, metadata={"format": "pt"})
    write_text(folder / "config.json", json.dumps(settings, indent=2) + "\n")
    return folder


def start_from_bert(model: LxmertForPretraining | Lxmert, name: str | Path) -> list[str]:
    """Copy what a BERT has under the same names, in place: embeddings, its *first* N_L layers, pooler, word head, and
    the next-sentence head for matching (LXM-09). All else stays as it is. Returns lines for the log.

    Raises:
        UserError: the folder is no BERT, or a tensor has another shape; it names all of them.
    """
    bert = open_checkpoint(name)
    if bert.model_type != "bert":
        raise UserError(
            f"{bert.folder}: model_type is {bert.model_type!r}; LXMERT can start from 'bert' alone"
        )
    inside = "backbone." if isinstance(model, Lxmert) else ""
    own = model.state_dict()
    named = {ours: original_name(inside + ours).removeprefix("bert.") for ours in own}
    state = {ours: bert.tensors[theirs] for ours, theirs in named.items() if theirs in bert.tensors}
    wrong = [
        f"{named[ours]} {list(tensor.shape)}, expected {list(own[ours].shape)}"
        for ours, tensor in state.items()
        if tensor.shape != own[ours].shape
    ]
    if wrong:
        raise UserError(
            f"{bert.file}: {len(wrong)} tensors have another shape than this LXMERT: {_some(wrong)}. Choose a model of "
            "its width and vocabulary, or its width and vocabulary after the model"
        )
    model.load_state_dict({**own, **state})
    layers = len(
        {ours.split(".text_blocks.")[1].split(".")[0] for ours in state if ".text_blocks." in f".{ours}"}
    )
    return [f"starts from {bert.file}: {len(state)} of {len(own)} tensors, {layers} language layers"]


def load_answers(
    head: PooledHead, source: PooledHead, labels: Sequence[str], table: AnswerTable
) -> list[str]:
    """Start a head of answers from that of pre-training, in place (LXM-18); returns the labels that found no row.

    The first dense layer and the norm are copied; so is the row (weight and bias) of every label whose normalised form
    stands in the table. The others' rows are zero.

    Raises:
        UserError: the heads differ in width, or the labels or the table in number of rows.
    """
    wanted = (("labels", len(labels), head), ("answer table", len(table), source))
    for what, count, of in wanted:
        if count != of.out.out_features:
            raise UserError(
                f"{count} rows of the {what}, but the head has {of.out.out_features}; expected one for each"
            )
    if head.inner.weight.shape != source.inner.weight.shape:
        shapes = [list(one.inner.weight.shape) for one in (head, source)]
        raise UserError(f"the heads differ in width: {shapes[0]} and {shapes[1]}; expected the same model's")
    rows = [table.index(normalise_answer(label)) for label in labels]
    found = torch.tensor([row is not None for row in rows])
    index = torch.tensor([row or 0 for row in rows])
    head.inner.load_state_dict(source.inner.state_dict())
    head.norm.load_state_dict(source.norm.state_dict())
    with torch.no_grad():
        for one, other in zip(head.out.parameters(), source.out.parameters(), strict=True):
            kept = found.to(other.device)
            one.copy_(other[index.to(other.device)] * (kept[:, None] if one.ndim == 2 else kept))
    return [label for label, row in zip(labels, rows, strict=True) if row is None]
