"""What VaLM learns from: the next word, masked words, or both; and what of text and pictures is hidden meanwhile.

Paper: VaLM (Wang et al. 2023) learns the next word alone. Masked words, the sum of both, words hidden from the input
and pictures hidden at random are additions of this course. On its small world hiding 15 % of the words of the *input*
is what makes pictures worth looking at.

| loss | who sees whom | targets |
|---|---|---|
| "next" | earlier words | every next word, also where input words were hidden |
| "masked" | all words | the words that were masked |

Both together are two passes with shared weights, since a pass that sees all words knows the next one.

**A picture must not tell the word that is asked for.** A search for a masked text may ask with what is left of it only:
`query_ids` leaves masked words out, or puts a neutral word, before anything asks.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from vlpnb.errors import UserError
from vlpnb.nn.decoding import precise
from vlpnb.nn.heads import MLMHead
from vlpnb.nn.losses import IGNORE, linear_cross_entropy
from vlpnb.valm.config import ValmConfig
from vlpnb.valm.model import Valm

QueryMask = Literal["delete", "word"]


class ValmLM(nn.Module):
    """A VaLM with its losses, as `train.loop.fit` takes it."""

    def __init__(self, config: ValmConfig):
        super().__init__()
        self.config = config
        self.model = Valm(config)
        self.masked_words = MLMHead(config.transformer) if config.mlm_head else None

    def forward(
        self,
        ids: Int[Tensor, "B T"] | None = None,
        targets: Int[Tensor, "B T"] | None = None,
        images: Float[Tensor, "B T K E"] | Float[Tensor, "U E"] | None = None,
        image_mask: Bool[Tensor, "B T K"] | None = None,
        rows: Int[Tensor, "B T K"] | None = None,
        masked_ids: Int[Tensor, "B T"] | None = None,
        labels: Int[Tensor, "B T"] | None = None,
        masked_images: Float[Tensor, "B T K E"] | None = None,
        masked_image_mask: Bool[Tensor, "B T K"] | None = None,
        masked_rows: Int[Tensor, "B T K"] | None = None,
    ) -> dict[str, Float[Tensor, ""]]:
        """The sum of the loss over the targets: "next" where there are `targets`, "masked" where there are `labels`.

        Args:
            ids: words, each before its target.
            targets: the next words; padding and −100 do not count.
            images, image_mask, rows: as in `Valm.forward`; found by the words up to each.
            masked_ids: words of which some are masked.
            labels: the words there, −100 elsewhere.
            masked_images, masked_image_mask, masked_rows: found by the masked text; `masked_rows` are rows of the
                distinct `images`.

        Raises:
            UserError: as `Valm.forward`, or nothing to learn from is given, or the model has no head for masked words.
        """
        losses = {}
        if targets is not None:
            hidden = self.model(ids, images, image_mask, rows=rows).last
            losses["next"] = linear_cross_entropy(
                hidden, self.model.word_weight, None, self.counted(targets), reduction="sum", name="next"
            )
        if labels is not None:
            if self.masked_words is None:
                raise UserError(
                    "this model has no head for masked words; expected ValmConfig.mlm_head = True"
                )
            if masked_rows is not None:
                masked_images = images
            hidden = self.model(
                masked_ids, masked_images, masked_image_mask, rows=masked_rows, causal=False
            ).last
            losses["masked"] = self.masked_words.loss(hidden, self.model.word_weight, labels, "sum")
        if not losses:
            raise UserError("nothing to learn from; expected targets, or labels, or both")
        return losses

    def counted(self, targets: Int[Tensor, "B T"]) -> Int[Tensor, "B T"]:
        """Targets, −100 where they are padding."""
        return (
            targets if self.config.pad_id < 0 else targets.masked_fill(targets == self.config.pad_id, IGNORE)
        )

    def scores(self, hidden: Float[Tensor, "*N D"]) -> Float[Tensor, "*N V"]:
        """A score for every word, from states."""
        return F.linear(hidden, self.model.word_weight)

    def logits(
        self,
        ids: Int[Tensor, "B T"],
        images: Float[Tensor, "B T K E"] | Float[Tensor, "U E"] | None = None,
        image_mask: Bool[Tensor, "B T K"] | None = None,
        *,
        rows: Int[Tensor, "B T K"] | None = None,
    ) -> Float[Tensor, "B T V"]:
        """A score for every next word at every place; arguments as in `Valm.forward`."""
        return self.scores(self.model(ids, images, image_mask, rows=rows).last)

    def log_probs(
        self,
        ids: Int[Tensor, "B T"],
        targets: Int[Tensor, "B T"],
        images: Float[Tensor, "B T K E"] | Float[Tensor, "U E"] | None = None,
        image_mask: Bool[Tensor, "B T K"] | None = None,
        *,
        rows: Int[Tensor, "B T K"] | None = None,
    ) -> Float[Tensor, "B T"]:
        """Log-probability of each target in nats, 0 where there is none; some scores at a time."""
        hidden, targets = self.model(ids, images, image_mask, rows=rows).last, self.counted(targets)

        def some(x: Tensor, y: Tensor) -> Tensor:
            scores = precise(self.scores(x))  # log_softmax adds up many words less precisely
            return scores.gather(1, y[:, None])[:, 0] - scores.logsumexp(-1)

        chosen = targets != IGNORE
        most = max(1, (2**22 if hidden.device.type == "cpu" else 2**27) // self.config.vocab_size)
        parts = zip(hidden[chosen].split(most), targets[chosen].split(most), strict=True)
        found = [checkpoint(some, x, y, use_reentrant=False) for x, y in parts]
        empty = torch.zeros(
            targets.shape, dtype=found[0].dtype if found else torch.float32, device=hidden.device
        )
        return empty.masked_scatter(chosen, torch.cat(found)) if found else empty


def hide_images(
    shape: Sequence[int],
    image_p: float = 0.0,
    all_p: float = 0.0,
    generator: torch.Generator | None = None,
    *,
    spared: Bool[Tensor, "B T"] | None = None,
    device: torch.device | str | None = None,
) -> Bool[Tensor, "B T K"]:
    """Which pictures are seen: each is hidden with probability `image_p`, all of a place with `all_p`.

    A model that has learned with `all_p` above 0 can be asked without pictures, and guided by the difference.

    Args:
        shape: (B, T, K).
        spared: places where the pictures are not all hidden together, such as those of masked words.
    """
    rows, places, count = shape
    seen = torch.rand(rows, places, count, generator=generator, device=device) >= image_p
    lost = torch.rand(rows, places, generator=generator, device=device) < all_p
    if spared is not None:
        lost &= ~spared
        bare = spared & ~seen.any(-1)
        first = torch.arange(count, device=seen.device) == 0
        seen |= bare[..., None] & first
    return seen & ~lost[..., None]


def query_ids(
    ids: Int[Tensor, "B T"], mask_id: int, how: QueryMask = "delete", word_id: int | None = None
) -> tuple[list[Int[Tensor, " _"]], Int[Tensor, "B T"]]:
    """What may ask for pictures of masked texts, and which of it each place asks with.

    Args:
        ids: words, some of which are `mask_id`.
        how: "delete" leaves masked words out; "word" puts `word_id` in their places.
    Returns:
        the ids of each text; and for every place which of these asks for it: a place that was left out takes that of
        the last one before it, −1 (the start of a text) where there is none.
    """
    if how == "word":
        if word_id is None:
            raise UserError('query_ids(how="word") expects the id of a neutral word, `word_id`')
        return list(torch.where(ids == mask_id, word_id, ids)), torch.arange(ids.shape[1]).expand_as(ids)
    kept = ids != mask_id
    return [row[keep] for row, keep in zip(ids, kept, strict=True)], kept.long().cumsum(1) - 1
