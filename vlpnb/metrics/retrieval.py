"""Retrieval and diversity metrics of a matcher, as the original program of Vokenization counts them; those of CCLM.

Ranks start at 1. The original program counted rank ≤ k + 1 as a hit (quirk VOK-06); here a hit is
rank ≤ k, and `legacy=True` gives the old count for comparison with old logs.

`retrieval_scores` is for galleries in which a picture has several captions. Ties go to the lower column, where CCLM's
program leaves them to an unstable sort (quirk CCL-34).
"""

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vlpnb.errors import UserError

RECALL_AT = (1, 5, 10)


def ranks(scores: Float[Tensor, "M V"], own: Int[Tensor, " M"]) -> Int[Tensor, " M"]:
    """Rank of column `own[m]` in row m, best = 1; among equal scores the lower column ranks first."""
    columns = torch.arange(scores.shape[1], device=scores.device)
    own_scores = scores.gather(1, own[:, None])
    ahead = (scores > own_scores) | ((scores == own_scores) & (columns < own[:, None]))
    return ahead.sum(1) + 1


def recall(
    ranks: Int[Tensor, " M"], ks: Sequence[int] = RECALL_AT, prefix: str = "r", legacy: bool = False
) -> dict[str, float]:
    """Share of ranks ≤ k, as `{f"{prefix}{k}": share}`; nan when there is nothing to rank."""
    slack = 1 if legacy else 0
    empty = ranks.numel() == 0
    return {
        f"{prefix}{k}": float("nan") if empty else (ranks <= k + slack).double().mean().item() for k in ks
    }


def first_own_ranks(scores: Float[Tensor, "I C"], owner: Int[Tensor, " C"]) -> Int[Tensor, " I"]:
    """Of every row, the rank of the best column that it owns (`owner[c]` is its row), best = 1.

    Among equal scores the lower column ranks first. UserError for a row that owns nothing, or an owner that is no row.
    """
    rows = torch.arange(len(scores), device=scores.device)
    own = owner[None] == rows[:, None]  # (I, C)
    if owner.numel() and not 0 <= int(owner.min()) <= int(owner.max()) < len(rows):
        raise UserError(
            f"captions belong to pictures {int(owner.min())} to {int(owner.max())}; there are {len(rows)} pictures, "
            "numbered from 0"
        )
    if not bool(own.any(1).all()):
        lonely = int((~own.any(1)).nonzero()[0, 0])
        raise UserError(f"picture {lonely} has no caption among the {len(owner)}; expected one at least")
    # argmax of a masked row gives the first of equal columns only by luck: the lowest is asked for
    best = scores.masked_fill(~own, float("-inf")).amax(1, keepdim=True)  # (I, 1)
    columns = torch.arange(scores.shape[1], device=scores.device)
    first = columns.expand_as(own).masked_fill(~own | (scores != best), scores.shape[1]).amin(1)
    return ranks(scores, first)


def retrieval_scores(
    to_captions: Float[Tensor, "I C"],
    to_pictures: Float[Tensor, "C I"],
    owner: Int[Tensor, " C"],
    ks: Sequence[int] = RECALL_AT,
) -> dict[str, float]:
    """Recall in both directions of a gallery, and their means (CCLM, section 4).

    Every picture can be found; those with a caption are asked for theirs.

    Args:
        to_captions: the score of every picture with every caption, by which captions are found.
        to_pictures: the score by which pictures are found; another one where the nearest were ranked again.
        owner: the picture of each caption; a picture may have several, or none.
        ks: at which ranks.

    Returns:
        `txt_r<k>` from pictures to captions, a hit where any of the picture's own captions is among the first k;
        `img_r<k>` from captions to pictures; `txt_mean`, `img_mean`, and `r_mean`, the mean of the two.
    """
    asked, place = owner.unique(return_inverse=True)
    text = recall(first_own_ranks(to_captions[asked], place), ks, "txt_r")
    image = recall(ranks(to_pictures, owner), ks, "img_r")
    means = {f"{name}_mean": sum(r.values()) / len(r) for name, r in (("txt", text), ("img", image))}
    return {**text, **image, **means, "r_mean": (means["txt_mean"] + means["img_mean"]) / 2}


def token_batch_ranks(
    text: Float[Tensor, "B T d"], image: Float[Tensor, "B d"], mask: Bool[Tensor, "B T"]
) -> Int[Tensor, " M"]:
    """For every token under the mask, the rank of its own picture among the B of the batch."""
    own = torch.arange(len(image), device=image.device)[:, None].expand(mask.shape)[mask]  # (M,)
    return ranks(text[mask] @ image.T, own)


def mean_token_scores(
    text: Float[Tensor, "B T d"], mask: Bool[Tensor, "B T"], images: Float[Tensor, "V d"]
) -> Float[Tensor, "B V"]:
    """Score of a sentence with each picture: the mean of its masked tokens' scores; 0 where it has none."""
    weights = mask.to(text.dtype)
    pooled = (text * weights[..., None]).sum(1) / weights.sum(1, keepdim=True).clamp(min=1)  # (B, d)
    return pooled @ images.T  # the mean of dot products is the dot product with the mean


def diversity(pairs: Iterable[tuple[Hashable, Hashable]]) -> dict[str, float]:
    """How many pictures a token type is given (the benchmark's "diversity").

    Args:
        pairs: one (token type, picture) per token of a corpus.

    Returns:
        `images`, `max_count`, `mean_count`, `std_count`: per type the number of different pictures, and the
        greatest, mean and population standard deviation of their counts, each averaged over types; `cover`:
        different pictures over all types; `types`: number of types. Means over no types are nan.
    """
    counts: dict[Hashable, Counter] = defaultdict(Counter)
    for token, picture in pairs:
        counts[token][picture] += 1
    rows = [np.array(list(c.values()), dtype=float) for c in counts.values()]
    names = {"images": len, "max_count": np.max, "mean_count": np.mean, "std_count": np.std}
    report = {
        name: float(np.mean([function(row) for row in rows])) if rows else float("nan")
        for name, function in names.items()
    }
    report["cover"] = float(len({picture for c in counts.values() for picture in c}))
    report["types"] = float(len(rows))
    return report
