"""Loading and saving HuggingFace folders of BERT, RoBERTa and XLM-R: config.json beside model.safetensors.

Loading compares names and shapes one by one and stops at the first tensor that is missing, unexpected or of
another shape, with its name and file; nothing is filled with random numbers in silence. Files with pickles
(pytorch_model.bin) are opened as tensors only. Which name becomes which is data, in `renaming.py`.

Folders saved here load in transformers' `AutoModel`, `AutoModelForMaskedLM`, `AutoModelForSequenceClassification`,
`AutoModelForMultipleChoice` and `AutoModelForQuestionAnswering` and give the same outputs;
`tests/nn/test_checkpoints.py` shows both ways.
"""

import json
import pickle
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from vlpnb.errors import UserError
from vlpnb.files import atomic, write_text
from vlpnb.nn import renaming
from vlpnb.nn.folders import model_folder
from vlpnb.nn.heads import ClassificationHead, MLMHead, Pooler, SpanHead
from vlpnb.nn.transformer import Encoder, TransformerConfig


@dataclass
class Checkpoint:
    """A folder that has been read: tensors by their names without prefix, and where they come from."""

    folder: Path
    file: Path
    model_type: str
    settings: dict[str, Any]
    config: TransformerConfig
    tensors: dict[str, Tensor]

    def fill(self, part: str, module: nn.Module) -> None:
        """Copy the tensors of `part` into `module`; UserError names the first missing or misshapen one."""
        rules = renaming.RULES[self.model_type][part]
        state = {}
        for ours, parameter in module.state_dict().items():
            theirs = their_name(ours, rules)
            if theirs not in self.tensors:
                raise UserError(
                    f"{self.file}: tensor {theirs!r} is missing (needed for the {part}); the file holds "
                    f"{len(self.tensors)} tensors. Is this a folder with a trained {part}?"
                )
            found = self.tensors[theirs]
            if found.shape != parameter.shape:
                raise UserError(
                    f"{self.file}: tensor {theirs!r} has the shape {tuple(found.shape)}; "
                    f"{self.folder / 'config.json'} asks for {tuple(parameter.shape)}"
                )
            state[ours] = found
        module.load_state_dict(state)

    def refuse_unexpected(self, ignore: Sequence[str] = ()) -> None:
        """UserError for a tensor that no part of this kind of model has and that `ignore` does not name."""
        layers = range(self.config.layers)
        known = {
            name.replace("#", str(layer)) + leaf
            for part, rules in renaming.RULES[self.model_type].items()
            if part not in renaming.ONLY_WRITTEN
            for name in rules.values()
            for layer in layers
            for leaf in (".weight", ".bias")
        }
        for name in self.tensors:
            patterns = (*renaming.DECODERS, *renaming.NOT_NEEDED, *ignore)
            if name not in known and not any(fnmatch(name, pattern) for pattern in patterns):
                raise UserError(
                    f"{self.file}: unexpected tensor {name!r} {tuple(self.tensors[name].shape)} in a "
                    f"{self.model_type} model of {self.config.layers} layers; if it may be left out, name it "
                    f"(or a pattern such as {name.split('.')[0] + '.*'!r}) in `ignore`"
                )

    def refuse_untied(self) -> None:
        """UserError when the folder's decoder is not its word table."""
        words = self.tensors.get("embeddings.word_embeddings.weight")
        for name in renaming.DECODERS:
            if name in self.tensors and words is not None and not torch.equal(self.tensors[name], words):
                raise UserError(
                    f"{self.file}: {name!r} differs from the word embeddings; only tied weights are supported"
                )


def load_encoder(name: str | Path, ignore: Sequence[str] = ()) -> Encoder:
    """The encoder of a HuggingFace folder (or a hub name, see `model_folder`), in eval mode, float32.

    Heads in the folder are left out. `ignore` lists patterns of further tensors that may be left out.

    Raises:
        UserError: the folder, config.json or a tensor is missing, unexpected, broken or of the wrong shape.
    """
    checkpoint = open_checkpoint(name)
    checkpoint.refuse_unexpected(ignore)
    return _encoder(checkpoint)


def load_pooler(name: str | Path) -> Pooler | None:
    """The pooler of a folder, or None when it has none (masked language models have none)."""
    checkpoint = open_checkpoint(name)
    if "pooler.dense.weight" not in checkpoint.tensors:
        return None
    pooler = Pooler(checkpoint.config.hidden)
    checkpoint.fill("pooler", pooler)
    return pooler.eval()


def load_mlm(name: str | Path, ignore: Sequence[str] = ()) -> tuple[Encoder, MLMHead]:
    """Encoder and masked-language-model head of a folder; errors as in `load_encoder`."""
    checkpoint = open_checkpoint(name)
    checkpoint.refuse_unexpected(ignore)
    checkpoint.refuse_untied()
    head = MLMHead(checkpoint.config, None if checkpoint.model_type == "bert" else "gelu")
    checkpoint.fill("mlm", head)
    return _encoder(checkpoint), head.eval()


def load_classifier(
    name: str | Path, labels: int | None = None, ignore: Sequence[str] = ()
) -> tuple[Encoder, ClassificationHead]:
    """Encoder and classification head of a folder, or a new head for fine-tuning.

    Args:
        name: folder or hub name.
        labels: None loads the folder's own trained head. A number makes a new head with so many labels; its
            pooler comes from the folder if it has one (BERT's has), else it is new too.
        ignore: as in `load_encoder`.
    """
    checkpoint = open_checkpoint(name)
    checkpoint.refuse_unexpected(ignore)
    settings, config = checkpoint.settings, checkpoint.config
    dropout = settings.get("classifier_dropout")
    dropout = config.dropout if dropout is None else dropout
    style = "bert" if checkpoint.model_type == "bert" else "roberta"
    if labels is None:
        out = their_name("out.weight", renaming.RULES[checkpoint.model_type]["classifier"])
        trained = checkpoint.tensors.get(out)
        head = ClassificationHead(config.hidden, 2 if trained is None else len(trained), dropout, style)
        checkpoint.fill("classifier", head)
    else:
        head = ClassificationHead(config.hidden, labels, dropout, style)
        if style == "bert" and "pooler.dense.weight" in checkpoint.tensors:
            checkpoint.fill("pooler", head.pooler)
    return _encoder(checkpoint), head.eval()


def save_hf(
    folder: str | Path,
    encoder: Encoder,
    *,
    mlm: MLMHead | None = None,
    classifier: ClassificationHead | None = None,
    choice: ClassificationHead | None = None,
    span: SpanHead | None = None,
    pooler: Pooler | None = None,
    tokenizer: Any = None,
    model_type: str | None = None,
) -> Path:
    """Write an encoder and its heads as a HuggingFace folder that transformers loads with equal outputs.

    Args:
        folder: made when absent. The weights are replaced atomically; config.json is written last.
        encoder: post-norm, not causal, with segment types.
        mlm: its masked-language-model head.
        classifier: its classification head; brings the pooler with it in BERT style.
        choice: its head of one number for multiple choice; brings the pooler with it.
        span: its head for the start and the end of an answer.
        pooler: for folders without a head that brings one.
        tokenizer: a transformers tokenizer, saved beside the weights.
        model_type: "bert", "roberta" or "xlm-roberta"; by default BERT for `position_offset` 0, else RoBERTa.

    Raises:
        UserError: the model is not of the kind that `model_type` names.
    """
    model_type = model_type or ("roberta" if encoder.config.position_offset else "bert")
    style = "bert" if model_type == "bert" else "roberta"
    _refuse_foreign(encoder.config, model_type)
    parts = {"encoder": encoder, "pooler": pooler, "mlm": mlm}
    parts |= {"classifier": classifier, "choice": choice, "span": span}
    for head in (classifier, choice):
        if head is not None and head.style != style:
            raise UserError(f"a head in {head.style} style does not fit model_type {model_type!r}")
    poolers = [pooler, choice, classifier if style == "bert" else None]
    if sum(module is not None for module in poolers) > 1:
        raise UserError("give a classifier or choice (which holds its pooler) or a pooler, not both")
    heads = [module for part, module in parts.items() if part not in ("encoder", "pooler")]
    prefix = renaming.PREFIXES[model_type] if any(module is not None for module in heads) else ""
    tensors = {}
    for part, module in parts.items():
        if module is None:
            continue
        for ours, tensor in module.state_dict().items():
            name = their_name(ours, renaming.RULES[model_type][part])
            name = prefix + name if name.startswith(renaming.BACKBONE) else name
            tensors[name] = tensor.detach().cpu().contiguous()

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
    with atomic(folder / "model.safetensors") as temporary:
        save_file(tensors, temporary, metadata={"format": "pt"})
    write_text(folder / "config.json", json.dumps(_settings(encoder, model_type, parts), indent=2) + "\n")
    return folder


AGAIN = "remove its folder and run the stage that writes it again"


def read_weights(file: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file that a stage wrote; UserError when it is absent, cut short or foreign."""
    try:
        return refuse_nan(load_file(file), file)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{file} cannot be read ({error}); {AGAIN}") from error


def refuse_nan(tensors: dict[str, Tensor], where: str | Path) -> dict[str, Tensor]:
    """The tensors themselves; UserError names the first one that holds a NaN or an infinity."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            row = int((~torch.isfinite(tensor)).nonzero()[0][0]) if tensor.ndim else 0
            raise UserError(
                f"{where}: tensor {name!r} holds a NaN or an infinity (first in row {row:,}); expected finite numbers. "
                "The training that made it went wrong, or the file is damaged: make or fetch it again."
            )
    return tensors


def fill_module(
    module: nn.Module, state: dict[str, Tensor], file: Path, optional: Sequence[str] = ()
) -> None:
    """Copy tensors read from `file` into a module; names that begin with one of `optional` may lack or be too many.

    UserError names the first tensor that is missing, unexpected or of another shape.
    """
    own = module.state_dict()
    for name in dict.fromkeys([*own, *state]):
        if name in own and name in state:
            if state[name].shape != own[name].shape:
                shapes = f"{tuple(state[name].shape)}, expected {tuple(own[name].shape)}"
                raise UserError(f"{file}: tensor {name!r} has the shape {shapes}; {AGAIN}")
        elif not name.startswith(tuple(optional)):
            raise UserError(
                f"{file}: tensor {name!r} is {'missing' if name in own else 'unexpected'}; {AGAIN}"
            )
    module.load_state_dict(state, strict=False)


def their_name(ours: str, rules: dict[str, str]) -> str:
    """Translate a parameter's name: `blocks.3.think.norm.bias` → `encoder.layer.3.output.LayerNorm.bias`."""
    module, _, leaf = ours.rpartition(".")
    number = re.search(r"\d+", module)
    theirs = rules[re.sub(r"\d+", "#", module)]
    return f"{theirs.replace('#', number[0]) if number else theirs}.{leaf}"


def open_checkpoint(name: str | Path) -> Checkpoint:
    """Read a folder; the tensors' names lose the prefix `bert.` or `roberta.` and old-fashioned leaves."""
    folder = model_folder(name)
    settings = _read_settings(folder / "config.json")
    config = _transformer_config(settings, folder / "config.json")
    file, raw = _read_tensors(folder)
    prefix = renaming.PREFIXES[settings["model_type"]]
    tensors = {}
    for key, tensor in raw.items():
        module, _, leaf = key.removeprefix(prefix).rpartition(".")
        tensors[f"{module}.{renaming.OLD_LEAVES.get(leaf, leaf)}".removeprefix(".")] = tensor
    return Checkpoint(folder, file, settings["model_type"], settings, config, tensors)


def _encoder(checkpoint: Checkpoint) -> Encoder:
    encoder = Encoder(checkpoint.config)
    checkpoint.fill("encoder", encoder)
    return encoder.eval()


def _read_settings(file: Path) -> dict[str, Any]:
    """config.json as a dictionary, refusing kinds of models that this file does not know."""
    if not file.is_file():
        raise UserError(f"{file} not found; expected a HuggingFace folder: config.json, model.safetensors")
    settings = read_settings(file)
    model_type = settings.get("model_type")
    if model_type not in renaming.PREFIXES:
        raise UserError(
            f"{file}: model_type is {model_type!r}; expected one of {', '.join(renaming.PREFIXES)}"
        )
    return settings


def read_settings(file: Path) -> dict[str, Any]:
    """A model's config.json, whatever its kind; UserError where it is no JSON object."""
    try:
        settings = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{file} is not valid JSON: {error}; expected the settings of a model") from error
    if not isinstance(settings, dict):
        raise UserError(
            f"{file}: expected the settings of a model, a JSON object; found {type(settings).__name__}"
        )
    return settings


def _transformer_config(settings: dict[str, Any], file: Path) -> TransformerConfig:
    """Our configuration from theirs."""
    for ours in renaming.REQUIRED:
        if renaming.CONFIG[ours] not in settings:
            raise UserError(f"{file}: field {renaming.CONFIG[ours]!r} is missing")
    for field, usual in renaming.FIXED.items():
        if settings.get(field) not in (usual, None):
            raise UserError(f"{file}: {field} is {settings[field]!r}; only {usual!r} is supported")
    activation = settings.get("hidden_act", "gelu")
    if activation not in renaming.ACTIVATION:
        raise UserError(
            f"{file}: hidden_act is {activation!r}; expected one of {', '.join(renaming.ACTIVATION)}"
        )
    bert = settings["model_type"] == "bert"
    given = {ours: settings.get(theirs) for ours, theirs in renaming.CONFIG.items()}
    values = {ours: value for ours, value in given.items() if value is not None}
    pad_id = values.setdefault("pad_id", 0 if bert else 1)
    return TransformerConfig(
        **values, activation=renaming.ACTIVATION[activation], position_offset=0 if bert else pad_id + 1
    )


def _read_tensors(folder: Path) -> tuple[Path, dict[str, Tensor]]:
    """The weights file and its tensors: safetensors if there is one, else the pickle, for tensors only."""
    for name in ("model.safetensors", "pytorch_model.bin"):
        if (folder / name).is_file():
            return folder / name, read_tensors(folder / name)
    raise UserError(f"no weights in {folder}: expected model.safetensors or pytorch_model.bin in one piece")


def read_tensors(file: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file, or of a state dict in any other; UserError when it holds anything else."""
    try:
        if file.suffix == ".safetensors":
            return refuse_nan(load_file(file), file)
        found = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(f"{file} holds more than tensors; not opened, for safety: {error}") from error
    except (SafetensorError, RuntimeError, EOFError, OSError) as error:
        raise UserError(f"{file} cannot be read ({error}); is it complete?") from error
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise UserError(f"{file} is no state dict; expected a name and a tensor each")
    return refuse_nan(found, file)


def _refuse_foreign(config: TransformerConfig, model_type: str) -> None:
    """UserError when transformers' model of this type cannot compute what ours computes."""
    if model_type not in renaming.PREFIXES:
        raise UserError(f"model_type is {model_type!r}; expected one of {', '.join(renaming.PREFIXES)}")
    offset = 0 if model_type == "bert" else config.pad_id + 1
    wanted = {"norm": "post", "causal": False, "position_offset": offset}
    for field, value in wanted.items():
        if getattr(config, field) != value:
            raise UserError(
                f"cannot save as {model_type!r}: {field} is {getattr(config, field)!r}, expected {value!r}"
            )
    if config.type_vocab == 0:
        raise UserError(f"cannot save as {model_type!r}: type_vocab is 0, expected at least 1")


def _settings(encoder: Encoder, model_type: str, parts: dict[str, nn.Module | None]) -> dict[str, Any]:
    """The contents of config.json."""
    config, classifier, choice = encoder.config, parts["classifier"], parts["choice"]
    names = renaming.ARCHITECTURES[model_type]
    heads = [names[part] for part in names if part != "encoder" and parts[part] is not None]
    settings = {"model_type": model_type, "architectures": heads or [names["encoder"]]}
    settings |= {theirs: getattr(config, ours) for ours, theirs in renaming.CONFIG.items()}
    settings["hidden_act"] = next(t for t, ours in renaming.ACTIVATION.items() if ours == config.activation)
    settings |= renaming.FIXED
    settings["dtype"] = str(encoder.word_weight.dtype).removeprefix("torch.")
    if classifier is not None:
        labels = range(classifier.out.out_features)
        settings["classifier_dropout"] = classifier.dropout.p
        settings["id2label"] = {str(i): f"LABEL_{i}" for i in labels}
        settings["label2id"] = {f"LABEL_{i}": i for i in labels}
    if choice is not None:
        settings["classifier_dropout"] = choice.dropout.p
    return settings
