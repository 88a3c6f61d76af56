"""Names of parameters: ours ↔ those of the original's files, as data. `#` stands for the number of a layer.

The original's text encoder and fusion encoder are one stack: fusion layer j is layer `text_layers` + j. Fine-tuned
models without a word head leave the level `bert.` out. A model for two pictures has every fusion layer twice, one after
the other; keys and values of the second are copies of the first's. Its picture encoder has the public Swin's names.
"""

import re
from collections.abc import Mapping
from fnmatch import fnmatch

from torch import nn

from vlpnb.nn.renaming import ENCODER, ROBERTA_MLM

STACK = "text_encoder.bert.encoder.layer."
WORDS = "text_encoder.bert.embeddings.word_embeddings.weight"
POSITIONS = "text_encoder.bert.embeddings.position_embeddings.weight"
SWIN, READER = "vision_encoder.", "vision_reader."  # the latter is ours: the original has no frozen networks
HEAD = {"inner": "0", "norm": "1", "out": "3"}

_LAYER = {  # of a text layer; a fusion layer has more
    ours.removeprefix("blocks.#."): theirs.removeprefix("encoder.layer.#.")
    for ours, theirs in ENCODER.items()
    if ours.startswith("blocks.")
}
_FUSION = _LAYER | {
    ours.replace("look", "meet"): theirs.replace("attention", "crossattention", 1)
    for ours, theirs in _LAYER.items()
    if ours.startswith("look")
}
_TABLES = {ours: theirs for ours, theirs in ENCODER.items() if ours.startswith("embeddings.")}
_WORD_HEAD = {
    "transform.dense": "transform.dense",
    "transform.norm": "transform.LayerNorm",
    "": "",
}


def _below(ours: str, theirs: str, inside: Mapping[str, str]) -> dict[str, str]:
    return {f"{ours}.{one}".rstrip("."): f"{theirs}.{other}".rstrip(".") for one, other in inside.items()}


RULES = {
    **{ours: f"text_encoder.bert.{theirs}" for ours, theirs in _TABLES.items()},
    **_below("text_layers.#", f"{STACK}#", _LAYER),
    **_below("fusion_layers.#", f"{STACK}#", _FUSION),
    **_below("seconds.#", f"{STACK}#", _FUSION),
    **_below("word_head", "text_encoder.cls.predictions", _WORD_HEAD),
    "image_projection": "vision_proj",
    "text_projection": "text_proj",
    **_below("match_head", "itm_head", HEAD),
    **_below("box_head", "bbox_head", HEAD),
    **_below("head", "cls_head", HEAD),
    "head": "ta_head",
    **{f"decoder.{ours}": f"text_decoder.bert.{theirs}" for ours, theirs in _TABLES.items()},
    **_below("decoder.layers.#", "text_decoder.bert.encoder.layer.#", _FUSION),
    **_below("decoder.word_head", "text_decoder.cls.predictions", _WORD_HEAD),
}
"""Modules: ours, without `backbone.` → the original's."""

BUFFERS = ("*.relative_position_index", "*.attn_mask", "*.position_ids")
"""Left out: they follow from the sizes."""
COPIES = {
    "text_encoder.cls.predictions.decoder.weight": WORDS,
    "text_encoder.cls.predictions.decoder.bias": "text_encoder.cls.predictions.bias",
    "text_decoder.cls.predictions.decoder.weight": "text_decoder.bert.embeddings.word_embeddings.weight",
    "text_decoder.cls.predictions.decoder.bias": "text_decoder.cls.predictions.bias",
}
"""Second names of tied tensors, which must be equal."""
UNREAD = ("text_encoder.cls.*", "vision_proj.*", "text_proj.*", "temp", "itm_head.*", "bbox_head.*")
"""What a fine-tuned model does not read of its backbone, and its file may lack."""
HEADS = ("cls_head.*", "ta_head.*", "text_decoder.*")
"""What a fine-tuned file has besides, and the backbone alone leaves out."""
NEW = (
    "text_encoder.*.crossattention.*", "vision_proj.*", "text_proj.*", "temp", "itm_head.*", "bbox_head.*",
    f"{READER}*",
)  # fmt: skip
"""What pre-training starts anew, and so learns faster."""
NEW_IN_TASKS = ("cls_head.*", "ta_head.*")
"""What fine-tuning starts anew: nothing in retrieval and answering."""
NOT_DECAYED = ("bias", "LayerNorm.weight", "norm.weight", "norm1.weight", "norm2.weight")
"""Parts of the names that the original spares: of its heads' own norms and the temperature there are none (CCL-09)."""


def original_names(model: nn.Module) -> dict[str, str]:
    """The original's name of each tensor of a `Cclm`, or of a model whose `backbone` is one.

    `fusion_layers.0.meet.norm.bias` → `text_encoder.bert.encoder.layer.6.crossattention.output.LayerNorm.bias`, behind
    6 text layers. Buffers are left out.
    """
    names = [name for name in model.state_dict() if not name.endswith(BUFFERS[0][1:])]
    pairs = any(name.startswith("seconds.") for name in names)
    swin = model.config.swin is not None
    return {
        name: _name(name.removeprefix("backbone."), model.config.text_layers, pairs, swin) for name in names
    }


def _name(ours: str, text_layers: int, pairs: bool, swin: bool) -> str:
    if ours == "temperature":
        return "temp"
    if ours.startswith("vision."):
        inside = ours.removeprefix("vision.")
        if not swin:
            return READER + inside
        from vlpnb.vision.swin import original_name  # torchvision takes its time

        return SWIN + original_name(inside)
    module, _, leaf = ours.rpartition(".")
    found = re.search(r"\d+", module)
    theirs = RULES[re.sub(r"\d+", "#", module)]
    if found is None:
        return f"{theirs}.{leaf}"
    number = int(found[0])
    if module.startswith(("fusion_layers.", "seconds.")):
        number = text_layers + number * (1 + pairs) + module.startswith("seconds.")
    return f"{theirs.replace('#', str(number))}.{leaf}"


def learning(
    module: nn.Module, factor: float, new: tuple[str, ...] = NEW, *, original: bool = False
) -> tuple[dict[str, float], frozenset[str] | None]:
    """How a model, or a module that trains one as its `model`, learns: `factors` and `spared` of a `TrainingPlan`.

    Args:
        factor: of the learning rate of what is new.
        new: patterns of the original's names.
        original: decay what the original decays, which goes by parts of names (CCL-09); else `spared` is None.
    """
    inside = getattr(module, "model", module)
    names = original_names(inside)
    prefix = "model." if inside is not module else ""
    faster = {
        f"{prefix}{ours}": factor
        for ours, theirs in names.items()
        if factor != 1 and any(fnmatch(theirs, pattern) for pattern in new)
    }
    spared = {f"{prefix}{o}" for o, theirs in names.items() if any(part in theirs for part in NOT_DECAYED)}
    return faster, frozenset(spared) if original else None


def pre_training_name(theirs: str) -> str:
    """The name that a tensor of a fine-tuned file has in the pre-training layout."""
    return re.sub(r"^(module\.)*text_encoder\.(?=embeddings\.|encoder\.)", "text_encoder.bert.", theirs)


def xlmr_names(layers: int, source_layers: int) -> dict[str, str]:
    """Where each tensor of a stack of layers that starts from XLM-R comes from; all others are new (section 3.1).

    m layers take those of n evenly, the last from the last: 12 of 24 every second one, 1, 3, … 23.
    """
    both = (".weight", ".bias")
    names = {}
    for module in _TABLES.values():
        for leaf in both if module.endswith("LayerNorm") else both[:1]:
            names[f"text_encoder.bert.{module}{leaf}"] = f"roberta.{module}{leaf}"
    names[WORDS] = "lm_head.decoder.weight"  # tied to the word table
    for layer in range(layers):
        source = (layer + 1) * source_layers // layers - 1
        for module in _LAYER.values():
            for leaf in both:
                names[f"{STACK}{layer}.{module}{leaf}"] = f"roberta.encoder.layer.{source}.{module}{leaf}"
    for ours, theirs in ROBERTA_MLM.items():
        for leaf in both if ours else both[1:]:
            names[RULES[f"word_head.{ours}".rstrip(".")] + leaf] = theirs + leaf
    return names
