"""Names of parameters: ours ↔ the original's ↔ HuggingFace's, as data. `#` stands for the number of a layer.

The original and HuggingFace differ in the prefix of the backbone alone, `bert.` and `lxmert.`; the tables hold what
follows it. Fine-tuned snapshots of the original have `lxrt_encoder.model.` before everything but their head.
"""

import re
from collections.abc import Mapping

from vlpnb.nn.renaming import BERT_MLM

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

BACKBONE = {
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
HEADS = {
    **{f"words.{ours}".rstrip("."): theirs for ours, theirs in BERT_MLM.items()},
    "match": "cls.seq_relationship",
    "regions.transform.dense": "obj_predict_head.transform.dense",
    "regions.transform.norm": "obj_predict_head.transform.LayerNorm",
    "regions.objects": "obj_predict_head.decoder_dict.obj",
    "regions.attributes": "obj_predict_head.decoder_dict.attr",
    "regions.features": "obj_predict_head.decoder_dict.feat",
    **{f"answers.{ours}": f"answer_head.{theirs}" for ours, theirs in _POOLED.items()},
}
"""Of pre-training, and of HuggingFace's class for question answering."""
FINE_TUNED_HEADS = {
    f"{head}.{ours}": theirs for head in ("answers", "pair") for ours, theirs in _POOLED.items()
}
"""Of the original's VQA and GQA, and of its NLVR2."""
DECODER = "cls.predictions.decoder.weight"
"""A second copy of the word table, in files of either."""

ORIGINAL, HUGGING_FACE, FINE_TUNED = "bert.", "lxmert.", "lxrt_encoder.model.bert."
"""Prefixes of the backbone, which tell a file's kind."""


def theirs_of(ours: str, prefix: str) -> str:
    """The name in a file of the kind that `prefix` tells; KeyError for a name that is not ours."""
    module, _, leaf = ours.rpartition(".")
    number = re.search(r"\d+", module)
    general = re.sub(r"\d+", "#", module)
    if general.startswith("backbone."):
        theirs = prefix + BACKBONE[general.removeprefix("backbone.")]
    else:
        theirs = (FINE_TUNED_HEADS if prefix == FINE_TUNED else HEADS)[general]
    return f"{theirs.replace('#', number[0]) if number else theirs}.{leaf}"


def to_theirs(tensors: Mapping[str, object], prefix: str) -> dict[str, object]:
    """The same values by the names of a file."""
    return {theirs_of(ours, prefix): value for ours, value in tensors.items()}
