"""What captions of a split score that this system did not write, beside which its own stand.

One caption for all pictures, that of the most similar training picture, the consensus of the ten most similar, and one
person against the others (`vlpnb.metrics.caption_baselines`). Pictures are compared by the regions that the captioner
reads, so that the baselines see what it sees.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from vlpnb.data.captions import CaptionedImage
from vlpnb.metrics.caption_baselines import (
    NEIGHBOURS,
    consensus_captions,
    constant_caption,
    nearest_captions,
    one_against_others,
)
from vlpnb.metrics.captions import score
from vlpnb.vlp.pictures import Pictures

TOLD = ("cider", "bleu_4")  # of each baseline
AT_ONCE = 256  # pictures


def picture_vectors(pictures: Pictures, rows: Int[np.ndarray, " N"]) -> Float[Tensor, "N F"]:
    """The mean of the features of each picture's regions."""
    found = []
    for first in range(0, len(rows), AT_ONCE):
        given = pictures.batch(rows[first : first + AT_ONCE])
        mask = given.get("visual_mask", torch.ones(given["features"].shape[:2], dtype=torch.bool))
        weights = mask / mask.sum(dim=1, keepdim=True)
        found.append((given["features"] * weights[..., None]).sum(dim=1))
    return torch.cat(found)


def caption_baselines(
    pictures: Pictures, training: Sequence[CaptionedImage], asked: Sequence[CaptionedImage]
) -> dict[str, float]:
    """`constant_cider`, `nearest_cider`, `consensus_cider`, `person_cider`, and the same of `bleu_4`.

    `person_…` only where pictures have several captions. Consensus is over as many as there are, at most ten.

    Args:
        training, asked: pictures with regions; the former lend their captions.
    Raises:
        UserError: the store lacks a picture.
    """
    vectors = [
        picture_vectors(pictures, pictures.rows([image.image_id for image in images], "baselines"))
        for images in (training, asked)
    ]
    mean = vectors[0].mean(dim=0)  # what all pictures share does not decide
    known, new = (one - mean for one in vectors)
    captions = [image.sentences for image in training]
    names = [image.image_id for image in asked]
    references = {image.image_id: image.sentences for image in asked}
    said = {
        "constant": [constant_caption(captions)] * len(names),
        "nearest": nearest_captions(new, known, captions),
        "consensus": consensus_captions(new, known, captions, min(NEIGHBOURS, len(training))),
    }
    found = {name: score(dict(zip(names, texts, strict=True)), references) for name, texts in said.items()}
    if any(len(those) > 1 for those in references.values()):
        found["person"] = one_against_others(references)
    return {f"{name}_{metric}": float(values[metric]) for name, values in found.items() for metric in TOLD}
