"""What VLP learns from an update of `examples.py`: words, hidden one by one or asked for by queries.

Paper: VLP (Zhou et al. 2020). The loss is the cross-entropy of the words to guess, seq2seq and
bidirectional rows side by side. One mask serves them all: a text position sees the positions before it in its own
caption, and itself, but no query other than itself; in a bidirectional row all see all.

Differs from the original: `examples.py` says what (VLP-05, VLP-06); the sums are divided by the number of targets of
the whole update, over all processes, and the 1e-5 that is added to it there is left out.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from vlpnb.vlp.heads import VlpForGeneration, labelled, region_loss, slots_of
from vlpnb.vlp.masks import EDGES, caption_mask


class Guessing(nn.Module):
    """A model with the loss of its words, as `train.loop.fit` takes it; `examples.tensors` makes the arguments."""

    def __init__(self, model: VlpForGeneration):
        super().__init__()
        self.model = model

    def forward(
        self,
        features: Float[Tensor, "B R F"],
        geometry: Float[Tensor, "B R G"],
        ids: Int[Tensor, "B T"],
        place: Int[Tensor, "B T"],
        owner: Int[Tensor, "B T"],
        labels: Int[Tensor, "B T"],
        s2s: Bool[Tensor, " B"],
        query: Bool[Tensor, "B T"] | None = None,
        visual_mask: Bool[Tensor, "B R"] | None = None,
        hidden_regions: Bool[Tensor, "B R"] | None = None,
        drop: Float[Tensor, ""] | None = None,
    ) -> dict[str, Float[Tensor, ""]]:
        """The sums of the losses "words" and, where regions are hidden, "regions".

        Args:
            features, geometry, visual_mask: as in `Vlp.forward`.
            ids, place, owner, labels, s2s, query: as in `examples.Layout`.
            hidden_regions: of the pretext; the features are the true ones.
            drop: share of the rows with the greatest loss that is left out.
        """
        hidden, seen, pooled, targets = self.states(
            features, geometry, ids, place, owner, labels, s2s, query, visual_mask, hidden_regions
        )
        losses = {"words": self.model.word_loss(hidden, targets, slots_of(s2s), drop)}
        if hidden_regions is not None:
            losses["regions"] = region_loss(seen, pooled, hidden_regions)
        return losses

    def states(
        self,
        features: Float[Tensor, "B R F"],
        geometry: Float[Tensor, "B R G"],
        ids: Int[Tensor, "B T"],
        place: Int[Tensor, "B T"],
        owner: Int[Tensor, "B T"],
        labels: Int[Tensor, "B T"],
        s2s: Bool[Tensor, " B"],
        query: Bool[Tensor, "B T"] | None = None,
        visual_mask: Bool[Tensor, "B R"] | None = None,
        hidden_regions: Bool[Tensor, "B R"] | None = None,
    ) -> tuple[
        Float[Tensor, "B K D"], tuple[Tensor, Tensor], Float[Tensor, "B D"] | None, Int[Tensor, "B K"]
    ]:
        """States at the positions that have a label, what was seen, the pooled [CLS] where regions are hidden, and the
        labels; K is the most of any row, and those with fewer are filled up with −100.
        """
        backbone, prefix = self.model.backbone, features.shape[1] + EDGES
        if place.device.type == "cpu":  # on a GPU the table of positions refuses
            backbone.refuse_too_long(features.shape[1], 1 + int(place.max()))
        seen, first = backbone.look(features, geometry), 4 * s2s.long()
        words = backbone.words(ids, first + 1, backbone.config.prefix + place)
        x = torch.cat([backbone.assemble(seen, first, hidden_regions), words], dim=1)
        if hidden_regions is not None and self.model.regions == "hidden":
            visual_mask = ~hidden_regions if visual_mask is None else visual_mask & ~hidden_regions
        mask = caption_mask(owner, place, s2s, prefix, query, visual_mask)
        columns, targets = labelled(labels)
        rows = columns + prefix
        if hidden_regions is None:
            return backbone.encode(x, mask, rows).last, seen, None, targets
        last = backbone.encode(x, mask, F.pad(rows, (1, 0))).last  # [CLS] first, for the pooler
        return last[:, 1:], seen, backbone.pooler(last), targets
