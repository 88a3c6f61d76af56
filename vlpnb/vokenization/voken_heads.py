"""The heads that predict a token's voken, one per objective.

| objective | head | loss |
|---|---|---|
| cls (published) | `VokenScorer` | cross-entropy over the V images, each with a row of weights |
| ctr | `VokenScorer` | cross-entropy over the V images, each with its image feature |
| reg | `VokenRegression` | smooth L1 to the image's feature |

A model may have several of them (`"cls+reg"`): their losses add up. Only the first two can share the trunk of
the word head, and then alone.
"""

from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from vlpnb.errors import UserError
from vlpnb.nn.heads import Transform
from vlpnb.nn.labelled import places_of
from vlpnb.nn.losses import IGNORE, linear_cross_entropy
from vlpnb.nn.transformer import TransformerConfig, init_weights

Objective = Literal["cls", "ctr", "reg"]
OBJECTIVES: tuple[Objective, ...] = get_args(
    Objective
)  # an evaluation's guesses come from the first one there is
CONTRAST_WIDTH = 512  # of the space in which hidden states meet image features ("ctr")


def objectives_of(text: str, shared: bool = False) -> tuple[Objective, ...]:
    """`"cls+reg"` → `("cls", "reg")`, in the order of `OBJECTIVES` whatever the text's.

    Raises:
        UserError: a name is unknown or there twice, or `shared` goes with anything but one of cls and ctr.
    """
    names = [name.strip() for name in text.split("+")]
    if not set(names) <= set(OBJECTIVES) or len(set(names)) < len(names):
        raise UserError(
            f"voken objective {text!r}: expected one or several of {', '.join(OBJECTIVES)}, each once and with "
            "'+' between them, such as cls+reg"
        )
    if shared and names not in (["cls"], ["ctr"]):
        raise UserError(
            f"voken objective {text!r} cannot use the shared head, which goes with cls alone or with ctr alone; "
            "set shared_head to false"
        )
    return tuple(name for name in OBJECTIVES if name in names)


def loss_names(objectives: tuple[Objective, ...]) -> dict[Objective, str]:
    """What each objective's loss is called: "voken" when there is one, else "voken_cls", "voken_reg" …"""
    return {name: "voken" if len(objectives) == 1 else f"voken_{name}" for name in objectives}


class VokenRegression(nn.Module):
    """Predicts the feature of a token's image: Linear, GELU, LayerNorm, Linear(D → F); SmoothL1, summed over F."""

    def __init__(self, config: TransformerConfig, features: Float[Tensor, "V F"]):
        super().__init__()
        self.objective: Objective = "reg"
        self.transform = Transform(config, "gelu")
        self.out = nn.Linear(config.hidden, features.shape[1])
        self.register_buffer("features", features)
        init_weights(self)

    def loss(self, hidden: Float[Tensor, "N D"], target: Int[Tensor, " N"]) -> Float[Tensor, ""]:
        """The sum over the N positions."""
        return F.smooth_l1_loss(self.out(self.transform(hidden)), self.features[target], reduction="sum")

    def scores(self, hidden: Float[Tensor, "*N D"]) -> Float[Tensor, "*N V"]:
        """Minus the squared distance to each image: the nearest image has the highest score."""
        return -torch.cdist(self.out(self.transform(hidden)), self.features).square()


class VokenHead(nn.Module):
    """Scores over the voken vocabulary: Linear(D→D), GELU, LayerNorm, Linear(D→vokens).

    It starts from N(0, 0.02) like the rest of the model; the original kept PyTorch's default (VOK-15).
    """

    def __init__(self, config: TransformerConfig, vokens: int):
        super().__init__()
        self.transform = Transform(config, "gelu")
        self.decoder = nn.Linear(config.hidden, vokens)
        init_weights(self)

    def forward(self, hidden: Float[Tensor, "*N D"]) -> Float[Tensor, "*N V"]:
        """Scores of all vokens. For a loss over many positions use `loss` instead."""
        return self.decoder(self.transform(hidden))

    def loss(
        self,
        hidden: Float[Tensor, "*N D"],
        target: Int[Tensor, "*N"],
        reduction: Literal["mean", "sum"] = "mean",
    ) -> Float[Tensor, ""]:
        """Cross-entropy over the positions whose voken is not -100; only they pass through the head."""
        at = places_of(target != IGNORE, "vokens")
        x = self.transform(hidden.flatten(0, -2).index_select(0, at))
        return linear_cross_entropy(
            x,
            self.decoder.weight,
            self.decoder.bias,
            target.flatten().index_select(0, at),
            reduction=reduction,
            ignore_index=None,
        )


class VokenScorer(nn.Module):
    """Voken classification in one shape for all its variants: scores = trunk(h) · tableᵀ + bias.

    | variant | trunk | table |
    |---|---|---|
    | cls (published) | its own: Linear, GELU, LayerNorm | a weight [V D] and a bias |
    | ctr | its own, 512 wide | LayerNorm(Linear(features)) / √512 |
    | shared cls | the MLM head's | a weight [V D] and a bias |
    | shared ctr | the MLM head's | Linear(features) |
    """

    def __init__(
        self,
        config: TransformerConfig,
        vokens: int,
        objective: Objective,
        features: Float[Tensor, "V F"] | None,
        shared: bool,
    ):
        super().__init__()
        self.objective, self.shared = objective, shared
        if objective == "cls":
            if self.shared:
                self.decoder = nn.Linear(config.hidden, vokens)
            else:
                self.head = VokenHead(config, vokens)
        else:
            self.register_buffer("features", features)
            width = config.hidden if self.shared else CONTRAST_WIDTH
            self.embed = nn.Linear(features.shape[1], width, bias=self.shared)
            if not self.shared:
                self.embed_norm = nn.LayerNorm(width, config.norm_eps)
                norm = nn.LayerNorm(width, config.norm_eps)
                self.query = nn.Sequential(nn.Linear(config.hidden, width), nn.GELU(), norm)
        init_weights(self)

    def trunk(self, hidden: Float[Tensor, "*N D"]) -> Float[Tensor, "*N E"]:
        """Hidden states in the space of the table; with a shared head the caller has been through its trunk."""
        if self.shared:
            return hidden
        return self.head.transform(hidden) if self.objective == "cls" else self.query(hidden)

    def table(self) -> tuple[Float[Tensor, "V E"], Float[Tensor, " V"] | None]:
        """One row per voken, and the bias."""
        if self.objective == "cls":
            decoder = self.decoder if self.shared else self.head.decoder
            return decoder.weight, decoder.bias
        rows = self.embed(self.features)
        return (rows, None) if self.shared else (self.embed_norm(rows) / CONTRAST_WIDTH**0.5, None)

    def loss(self, hidden: Float[Tensor, "N D"], target: Int[Tensor, " N"]) -> Float[Tensor, ""]:
        """Cross-entropy over all vokens, summed over the N positions; never holds all scores."""
        weight, bias = self.table()
        return linear_cross_entropy(
            self.trunk(hidden), weight, bias, target, reduction="sum", ignore_index=None
        )

    def scores(self, hidden: Float[Tensor, "*N D"]) -> Float[Tensor, "*N V"]:
        """All scores, for evaluation."""
        return F.linear(self.trunk(hidden), *self.table())
