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
from jaxtyping import Int
from torch import Tensor

from vlpnb.data.region_store import RegionStore
from vlpnb.downstream.pictured import rows_of
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
        return self.store.by_name

    def rows(self, image_ids: Sequence[str], where: str) -> Int[np.ndarray, " N"]:
        """The rows of some pictures. UserError, beginning with `where`, when the store lacks some."""
        return rows_of(self.store, image_ids, where)

    def batch(self, rows: Int[np.ndarray, " B"]) -> dict[str, Tensor]:
        """`features` [B R F], `geometry` [B R 6+C] and, unless all pictures have R, `visual_mask` [B R], float32."""
        if self.blind:
            return no_pictures(len(rows), self.feature_width, self.classes)
        found = self.store.batch(rows, probabilities=True)
        boxes, sizes = found.boxes, torch.ones(len(rows), 2)
        if self.estimated_sizes:
            height, width = torch.from_numpy(self.store.sizes(rows).astype(np.float32)).T
            boxes, sizes = boxes * torch.stack([width, height] * 2, 1)[:, None], None
        chances = found.probabilities if self.tells_all else found.best_class_alone(self.classes)
        geometry = region_geometry(boxes, found.object_conf, chances, sizes)
        mask = {} if found.mask is None else {"visual_mask": found.mask}
        return {"features": found.features, "geometry": geometry, **mask}


def regions_of(config: Any) -> Request:
    """The regions of a stage that has fields `regions` and perhaps `captions`, other than the run's."""
    captions = getattr(config, "captions", None)
    return Request("regions", {**config.regions, **({"captions": captions} if captions else {})})


def no_pictures(count: int, feature_width: int, classes: int) -> dict[str, Tensor]:
    """The inputs of `count` texts without a picture: no region."""
    return {"features": torch.zeros(count, 0, feature_width), "geometry": torch.zeros(count, 0, 6 + classes)}
