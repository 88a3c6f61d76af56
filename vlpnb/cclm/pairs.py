"""A sentence and two pictures: the fusion layers in pairs.

Paper: CCLM (Zeng et al., ACL 2023), section 4.1 (MaRVL); NLVR2 is its English training set. Each fusion layer becomes a
pair, the first of which meets the first picture and the second the second one, so that the order is 0, 1, 0, 1, …
Both begin with the pre-trained weights. The keys and values that a picture gives stay one matrix for the pair;
everything else learns apart. A head reads position 0.

Text assignment (`nn.text_assignment`), which can be learnt before, has the same layers and a linear head of three.

Differs from the original: keys and values of both pictures come from one product, so that the pair's second layer holds
none, and a file none twice (CCL-55); each picture of a batch is seen once, however many sentences speak of it.
"""

import copy

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from vlpnb.cclm.model import Cclm, MemoryKeys, ScoreHead
from vlpnb.nn.masks import padding_mask
from vlpnb.nn.onednn import quick_products

NEW = tuple(f"head.{name}" for name, _ in ScoreHead(1, 2).named_parameters())  # what no pre-training knows


class LinearHead(nn.Linear):
    """Scores of the first position by one linear map: the head of text assignment."""

    def forward(self, states: Float[Tensor, "B T D"]) -> Float[Tensor, "B C"]:
        """Scores from states."""
        return super().forward(states[:, 0])


class PairModel(nn.Module):
    """The backbone, a second layer to each of its fusion layers, and a head.

    Args:
        backbone: a pre-trained model; its fusion layers are the first of each pair, and are copied for the second.
        outputs: of the head: 2 for false and true; 3 gives the linear head of text assignment.
    """

    def __init__(self, backbone: Cclm, outputs: int = 2):
        super().__init__()
        self.config, self.backbone = backbone.config, backbone
        self.seconds = nn.ModuleList(copy.deepcopy(layer) for layer in backbone.fusion_layers)
        for layer in self.seconds:
            layer.meet.attention.key = layer.meet.attention.value = None
        width = backbone.config.hidden
        self.head = ScoreHead(width, 2) if outputs == 2 else LinearHead(width, outputs)
        freeze_unread(backbone)

    def scores(
        self,
        ids: Int[Tensor, "B T"],
        mask: Bool[Tensor, "B T"],
        keys: MemoryKeys,
        left: Int[Tensor, " B"],
        right: Int[Tensor, " B"],
    ) -> Float[Tensor, "B C"]:
        """Scores of false and true of sentences beside two pictures each, rows of `keys` (`backbone.memory_keys`)."""
        x, seen = self.backbone.text(ids, mask), padding_mask(mask)
        start = ids.new_zeros(len(ids), 1)  # of the last layer position 0 alone is read
        with quick_products(x):
            layers = zip(
                self.backbone.fusion_layers, self.seconds, keys.rows(left), keys.rows(right), strict=True
            )
            for first, second, one, other in layers:
                x, _ = first(x, seen, cached=one)
                places = start if second is self.seconds[-1] else None
                x, _ = second(x, seen, cached=other, places=places)
        return self.head(x)

    def forward(
        self,
        ids: Int[Tensor, "B T"],
        mask: Bool[Tensor, "B T"],
        patches: Float[Tensor, "N ..."],
        left: Int[Tensor, " B"],
        right: Int[Tensor, " B"],
        label: Int[Tensor, " B"],
    ) -> dict[str, Float[Tensor, ""]]:
        """The loss "pairs", summed over the sentences; `left` and `right` are rows of `patches`."""
        keys = self.backbone.memory_keys(self.backbone.pictures(patches))
        scores = self.scores(ids, mask, keys, left, right)
        return {"pairs": F.cross_entropy(scores.float(), label, reduction="sum")}


def freeze_unread(backbone: Cclm) -> None:
    """Freeze what no fine-tuned task reads: the contrastive projections, the matching, box and word heads."""
    heads = (
        backbone.image_projection, backbone.text_projection, backbone.match_head, backbone.box_head, backbone.word_head,
        backbone.temperature,
    )  # fmt: skip
    for part in heads:
        if part is not None:
            part.requires_grad_(False)
