"""Pictures as VLP reads them: the regions' features and their geometry, from a store of any source.

Paper: VLP (Zhou et al. 2020). Of a region the network reads a vector and, beside the box with its score,
what the detector makes of it: the probability of every class. Sources that tell the best class alone (LXMERT's files)
are read too: the class has its own probability, the others share the rest.

Differs from the original: any number of regions, with a mask where pictures differ (VLP-10), and boxes relative to the
picture's true size, which the original estimates from the boxes (VLP-04).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from vlpnb.data.region_store import RegionBatch, RegionStore
from vlpnb.errors import UserError
from vlpnb.stage import Request
from vlpnb.vlp.geometry import region_geometry


class Pictures:
    """The regions of a store as VLP's inputs.

    Args:
        estimated_sizes: take a picture's size from its boxes, as the original does (VLP-04).
        blind: no region at all: what is then said was guessed from the words.
    """

    def __init__(self, store: RegionStore, estimated_sizes: bool = False, blind: bool = False):
        self.store, self.estimated_sizes, self.blind = store, estimated_sizes, blind
        self.feature_width = store.feature_width
        self.tells_all = store.classes > 0
        self.classes = store.classes or 1 + len(store.objects)

    @property
    def said(self) -> str:
        """What the class probabilities are, for the log."""
        if self.tells_all:
            return f"the probabilities of {self.classes:,} classes"
        if self.classes == 1:
            return "no classes: the regions' source tells none"
        return f"the best of {self.classes:,} classes alone, whose others share what is left"

    def by_name(self) -> dict[str, int]:
        """The row of every picture by its ids."""
        return dict(zip(self.store.ids, self.store.rows(self.store.ids).tolist(), strict=True))

    def rows(self, image_ids: Sequence[str], where: str) -> Int[np.ndarray, " N"]:
        """The rows of some pictures. UserError, beginning with `where`, when the store lacks some."""
        try:
            return self.store.rows(image_ids)
        except UserError as error:
            raise UserError(f"{where}: {error}") from error

    def batch(self, rows: Int[np.ndarray, " B"]) -> dict[str, Tensor]:
        """`features` [B R F], `geometry` [B R 6+C] and, unless all pictures have R, `visual_mask` [B R], float32."""
        if self.blind:
            return no_pictures(len(rows), self.feature_width, self.classes)
        found = self.store.batch(rows, probabilities=True)
        boxes, sizes = found.boxes, torch.ones(len(rows), 2)
        if self.estimated_sizes:
            height, width = torch.from_numpy(self.store.sizes(rows).astype(np.float32)).T
            boxes, sizes = boxes * torch.stack([width, height] * 2, 1)[:, None], None
        geometry = region_geometry(boxes, found.object_conf, self._probabilities(found), sizes)
        mask = {} if found.mask is None else {"visual_mask": found.mask}
        return {"features": found.features, "geometry": geometry, **mask}

    def _probabilities(self, found: RegionBatch) -> Float[Tensor, "B R C"]:
        if self.tells_all:
            return found.probabilities
        return one_hot_of_best(found.object_ids, found.object_conf, self.classes)


def regions_of(config: Any) -> Request:
    """The regions of a stage that has fields `regions` and perhaps `captions`, other than the run's."""
    captions = getattr(config, "captions", None)
    return Request("regions", {**config.regions, **({"captions": captions} if captions else {})})


def no_pictures(count: int, feature_width: int, classes: int) -> dict[str, Tensor]:
    """The inputs of `count` texts without a picture: no region."""
    return {"features": torch.zeros(count, 0, feature_width), "geometry": torch.zeros(count, 0, 6 + classes)}


def one_hot_of_best(
    ids: Int[Tensor, "B R"], sure: Float[Tensor, "B R"], classes: int
) -> Float[Tensor, "B R C"]:
    """Probabilities of background and classes where the best class alone is known: the others share the rest.

    Args:
        ids: the best class of each region, from 0, without background; −1 where there is none (all are equal then).
        classes: C, with background.
    """
    known = ids >= 0
    best = torch.where(known, sure, 1 / classes)
    rest = (1 - best) / max(classes - 1, 1)
    return (
        rest[..., None]
        .expand(*ids.shape, classes)
        .scatter(-1, torch.where(known, ids + 1, 0)[..., None], best[..., None])
    )
