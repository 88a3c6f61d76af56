"""The voken heads in the original project's weights: their names there, and how they are found among them.

With a trunk that the word head shares, the decoder is all that the voken head has of its own.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from vlpnb.errors import UserError
from vlpnb.vokenization.voken_heads import OBJECTIVES, Objective, VokenRegression, VokenScorer

HEADS = {
    "cls": {
        "head.transform.dense": "visual_cls_head.dense",
        "head.transform.norm": "visual_cls_head.layer_norm",
        "head.decoder": "visual_cls_head.decoder",
    },
    "ctr": {
        "query.0": "visual_ctr_head.dense",
        "query.2": "visual_ctr_head.layer_norm_x",
        "embed": "visual_ctr_head.decoder_voken_feat",
        "embed_norm": "visual_ctr_head.layer_norm_y",
    },
    "reg": {
        "transform.dense": "visual_reg_head.dense",
        "transform.norm": "visual_reg_head.layer_norm",
        "out": "visual_reg_head.decoder",
    },
}
SHARED = {"cls": {"decoder": "cls.visn_decoder"}, "ctr": {"embed": "cls.visn_decoder"}}
FEATURES = "voken_feat_emb.weight"


def original_names(head: VokenRegression | VokenScorer) -> dict[str, str]:
    """Names of a head's tensors in the original project's weights: ours → theirs."""
    shared = isinstance(head, VokenScorer) and head.shared
    parts = (SHARED if shared else HEADS)[head.objective]
    names = {}
    for ours in head.state_dict():
        part, _, leaf = ours.rpartition(".")
        names[ours] = f"{parts[part]}.{leaf}" if part else FEATURES
    return names


def our_tensors(tensors: Mapping[str, Tensor], settings: Mapping[str, Any], file: Path) -> dict[str, Tensor]:
    """The voken heads among the original project's weights, by the names in a snapshot's own file.

    UserError names a tensor that a head needs and the weights lack.
    """
    objectives, shared = _objectives(tensors, settings)
    found = {}
    for objective in objectives:
        for ours, theirs in (SHARED if shared else HEADS)[objective].items():
            biased = shared or ours != "embed"  # which has no bias of its own unless it is the shared trunk's
            for leaf in ("weight", "bias") if biased else ("weight",):
                if f"{theirs}.{leaf}" not in tensors:
                    raise UserError(f"{file}: tensor '{theirs}.{leaf}' of the voken head is missing")
                found[f"{objective}.{ours}.{leaf}"] = tensors[f"{theirs}.{leaf}"]
    if set(objectives) - {"cls"}:
        found["features"] = tensors[FEATURES]
    return found


def _objectives(tensors: Mapping[str, Tensor], settings: Mapping[str, Any]) -> tuple[list[Objective], bool]:
    """The objectives whose heads are among the original project's weights, and whether their trunk is shared.

    Those that need the image features are left out where the weights do not hold them.
    """
    having = [name for name in OBJECTIVES if name == "cls" or FEATURES in tensors]
    if f"{SHARED['cls']['decoder']}.weight" in tensors:
        name = "ctr" if settings.get("do_voken_ctr") else "cls"
        return ([name], True) if name in having else ([], False)
    decoders = {"cls": "head.decoder", "ctr": "embed", "reg": "out"}
    return [name for name in having if f"{HEADS[name][decoders[name]]}.weight" in tensors], False
