"""The cached features of one split, as the stage `features` writes them and the matcher's training reads them."""

from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vlpnb.data.store import attributes, check_finite, mapped, open_checked

PRODUCER = "features"


class FeatureStore:
    """The cached features of one split; opened lazily, memory-mapped, so memory does not grow with the cache.

    `views` [N, K, D] (see `views_of`), `states` [tokens, F], `tokens` [tokens], `offsets` [S + 1] of
    the captions, `owner` [S]: the picture of each caption. Of spliced captions each span counts as a caption.
    """

    def __init__(self, folder: Path, split: str):
        self.path = Path(folder) / f"{split}.hdf5"
        with open_checked(self.path, ("views", "states", "tokens", "offsets", "owner"), PRODUCER) as file:
            self.offsets, self.owner = file["offsets"][()], file["owner"][()]
        self.attributes = attributes(self.path)
        self.image_ids = self.path.with_suffix(".ids").read_text(encoding="utf-8").split("\n")[:-1]

    def __len__(self) -> int:
        """Number of captions."""
        return len(self.owner)

    @cached_property
    def views(self) -> np.ndarray:
        return mapped(self.path, "views")

    @cached_property
    def states(self) -> np.ndarray:
        return mapped(self.path, "states")

    @cached_property
    def tokens(self) -> np.ndarray:
        return mapped(self.path, "tokens")

    def captions(
        self, rows: Int[np.ndarray, " B"]
    ) -> tuple[Float[Tensor, "B T F"], Bool[Tensor, "B T"], Bool[Tensor, "B T"]]:
        """Hidden states of some captions, the mask of their tokens, and the same without special tokens."""
        at, mask, content = self._places(rows)
        states = torch.from_numpy(check_finite(self.states[at.ravel()], f"{self.path}, states read")).float()
        return states.reshape(*mask.shape, -1), mask, content

    def ids(
        self, rows: Int[np.ndarray, " B"], pad: int
    ) -> tuple[Int[Tensor, "B T"], Bool[Tensor, "B T"], Bool[Tensor, "B T"]]:
        """Wrapped ids of some captions, padded, with the masks of `captions`: for a backbone that trains."""
        at, mask, content = self._places(rows)
        ids = torch.from_numpy(np.asarray(self.tokens[at.ravel()])).long().reshape(mask.shape)
        return ids.masked_fill(~mask, pad), mask, content

    def _places(
        self, rows: Int[np.ndarray, " B"]
    ) -> tuple[Int[np.ndarray, "B T"], Bool[Tensor, "B T"], Bool[Tensor, "B T"]]:
        """Where the tokens of some captions lie in the store (padding: at the first one), and both masks."""
        starts, lengths = self.offsets[rows], self.offsets[rows + 1] - self.offsets[rows]
        at = np.arange(lengths.max())
        mask = at < lengths[:, None]
        content = (at >= self.attributes["prefix"]) & (at < lengths[:, None] - self.attributes["suffix"])
        places = np.where(mask, starts[:, None] + at, starts[:, None])
        return places, torch.from_numpy(mask), torch.from_numpy(content)

    def pictures(
        self, images: Int[np.ndarray, " B"], view: Int[np.ndarray, " B"] | None = None
    ) -> Float[Tensor, "B E D"]:
        """Features of some pictures: one chosen view each (E = 1), or all views."""
        if view is None:
            return torch.from_numpy(check_finite(self.views[images], f"{self.path}, views read")).float()
        return torch.from_numpy(check_finite(self.views[images, view], f"{self.path}, views read")).float()[
            :, None
        ]
