"""Names of parameters: ours ↔ the original's ↔ HuggingFace's, as data. `#` stands for the number of a layer.

| file | backbone | heads |
|---|---|---|
| the original's pre-training | `bert.` | `cls.`, `obj_predict_head.`, `answer_head.` |
| HuggingFace's | `lxmert.`, nothing where there is no head | the same |
| the original's fine-tuning | `lxrt_encoder.model.bert.` | `logit_fc.`, of answers or of pairs |

Any of them may have `module.` in front, or, fine-tuned, after `lxrt_encoder.model.`: the marks of several GPUs.
"""

import re
from typing import Literal

from vlpnb.nn.checkpoints import their_name
from vlpnb.nn.renaming import BACKBONE as BARE
from vlpnb.nn.renaming import BERT_MLM, OLD_LEAVES

Layout = Literal["original", "hugging_face", "fine_tuned"]

BLOCK = {
    "look.attention.query": "attention.self.query",
    "look.attention.key": "attention.self.key",
    "look.attention.value": "attention.self.value",
    "look.attention.out": "attention.output.dense",
    "look.norm": "attention.output.LayerNorm",
    "think.inner": "intermediate.dense",
    "think.outer": "output.dense",
    "think.norm": "output.LayerNorm",
}
"""Of a layer of either stream."""


def _in_cross_layer(side: str) -> dict[str, str]:
    """The block of a stream inside a cross layer; `side` is "lang" or "visn"."""
    renamed = {"attention": f"{side}_self_att", "intermediate": f"{side}_inter", "output": f"{side}_output"}
    names = {}
    for ours, theirs in BLOCK.items():
        first, _, rest = theirs.partition(".")
        names[ours] = f"{renamed[first]}.{rest}"
    return names


CROSS_LAYER = {
    # The one attention of both directions; the original's name tells of one.
    "cross.attention.query": "visual_attention.att.query",
    "cross.attention.key": "visual_attention.att.key",
    "cross.attention.value": "visual_attention.att.value",
    "cross.attention.out": "visual_attention.output.dense",
    "cross.norm": "visual_attention.output.LayerNorm",
    **{f"text.{ours}": theirs for ours, theirs in _in_cross_layer("lang").items()},
    **{f"visual.{ours}": theirs for ours, theirs in _in_cross_layer("visn").items()},
}

_BACKBONE = {
    "embeddings.words": "embeddings.word_embeddings",
    "embeddings.positions": "embeddings.position_embeddings",
    "embeddings.types": "embeddings.token_type_embeddings",
    "embeddings.norm": "embeddings.LayerNorm",
    "visual_embedding.feature": "encoder.visn_fc.visn_fc",
    "visual_embedding.feature_norm": "encoder.visn_fc.visn_layer_norm",
    "visual_embedding.box": "encoder.visn_fc.box_fc",
    "visual_embedding.box_norm": "encoder.visn_fc.box_layer_norm",
    **{f"text_blocks.#.{ours}": f"encoder.layer.#.{theirs}" for ours, theirs in BLOCK.items()},
    **{f"visual_blocks.#.{ours}": f"encoder.r_layers.#.{theirs}" for ours, theirs in BLOCK.items()},
    **{f"cross_layers.#.{ours}": f"encoder.x_layers.#.{theirs}" for ours, theirs in CROSS_LAYER.items()},
    "pooler.dense": "pooler.dense",
}
_POOLED = {"inner": "logit_fc.0", "norm": "logit_fc.2", "out": "logit_fc.3"}
RULES = {
    **{f"backbone.{ours}": f"bert.{theirs}" for ours, theirs in _BACKBONE.items()},
    **{f"words.{ours}".rstrip("."): theirs for ours, theirs in BERT_MLM.items()},
    "match": "cls.seq_relationship",
    "regions.transform.dense": "obj_predict_head.transform.dense",
    "regions.transform.norm": "obj_predict_head.transform.LayerNorm",
    "regions.objects": "obj_predict_head.decoder_dict.obj",
    "regions.attributes": "obj_predict_head.decoder_dict.attr",
    "regions.features": "obj_predict_head.decoder_dict.feat",
    **{
        f"{head}.{ours}": f"answer_head.{theirs}"
        for head in ("answers", "pair")
        for ours, theirs in _POOLED.items()
    },
}
"""Modules: ours → those of the original's pre-training. A model has answers or pairs, never both."""
WORDS = "bert.embeddings.word_embeddings.weight"
DECODER = "cls.predictions.decoder.weight"
"""A second copy of the word table, in the original's files and some of HuggingFace's."""
NOT_NEEDED = ("bert.embeddings.position_ids", "cls.predictions.decoder.bias")
"""Left out in silence: a counter saved as a buffer, a second copy of a tied bias."""
_FINE_TUNED = "lxrt_encoder.model."


def original_name(ours: str) -> str:
    """`backbone.text_blocks.3.think.norm.bias` → `bert.encoder.layer.3.output.LayerNorm.bias`."""
    return their_name(ours, RULES)


def from_file(name: str) -> str:
    """The name in the original's pre-training of a tensor in any of the files."""
    name = name.removeprefix("module.")
    if name.startswith(_FINE_TUNED):
        name = name.removeprefix(_FINE_TUNED).removeprefix("module.")
    if name.startswith("logit_fc."):
        name = f"answer_head.{name}"
    name = re.sub(r"^lxmert\.", "bert.", name)
    if name.startswith(BARE):
        name = f"bert.{name}"
    module, _, leaf = name.rpartition(".")
    return f"{module}.{OLD_LEAVES.get(leaf, leaf)}".removeprefix(".")


def to_file(name: str, layout: Layout) -> str:
    """The reverse of `from_file`, without the marks of several GPUs."""
    if layout == "hugging_face" and name.startswith("bert."):
        return f"lxmert.{name.removeprefix('bert.')}"
    if layout == "fine_tuned":
        return _FINE_TUNED + name if name.startswith("bert.") else name.removeprefix("answer_head.")
    return name
