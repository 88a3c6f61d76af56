"""Attention maps of one sequence, checked: what the attention explorer and the region explorer show."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from vlpnb.errors import UserError
from vlpnb.widgets.base import host


def stacked_maps(maps: Sequence[Any], queries: int, keys: int, what: str = "attentions") -> np.ndarray:
    """L maps of one sequence as one float32 array (L, H, queries, keys).

    Args:
        maps: L maps, (H, queries, keys) or (1, H, queries, keys) each.
        what: their name in messages.

    Raises:
        UserError: there is none, a shape is another, a batch holds more than one sequence, or the rows are no
            attention (they must sum to one, or to zero where nothing may be seen).
    """
    found = [host(one) for one in maps]
    for i, one in enumerate(found):
        if one.ndim == 4 and one.shape[0] == 1:
            found[i] = one = one[0]
        if one.ndim != 3 or one.shape != (found[0].shape[0], queries, keys):
            raise UserError(
                f"{what}[{i}] has shape {one.shape}; expected (H, T, S) = (H, {queries}, {keys}) "
                "of one sequence, the same H in every layer"
            )
    if not found:
        raise UserError(f"{what} is empty; ask the model's forward pass for its maps")
    stacked = np.stack(found).astype("<f4")
    sums = stacked.sum(-1)
    if (stacked < 0).any() or not (np.isclose(sums, 1, atol=1e-2) | (sums == 0)).all():
        raise UserError(f"{what} are no probabilities: every row must sum to 1 (or 0 where all is masked)")
    return stacked
