"""Heads: small modules that turn hidden states into predictions.

| head | where | source |
|---|---|---|
| `MLMHead` | masked language modelling, decoder tied to the word embeddings | BERT, section 3.1 |
| `Pooler`, `ClassificationHead` | GLUE; multiple choice (one label) | BERT, sections 4.1, 4.4; RoBERTa, section 5.1 |
| `SpanHead` | start and end of an answer in a passage | BERT, section 4.2 |

Token heads share their trunk (dense, activation, layer norm) and compute their loss with
`linear_cross_entropy`, so the scores over 30,522 words never exist for all positions at
once; only the positions that carry a label pass through the trunk.
"""

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from vlpnb.nn.labelled import places_of
from vlpnb.nn.losses import IGNORE, linear_cross_entropy
from vlpnb.nn.transformer import ACTIVATIONS, TransformerConfig, init_weights


class Transform(nn.Module):
    """Trunk of the token heads: dense, activation, layer norm."""

    def __init__(self, config: TransformerConfig, activation: str = "gelu"):
        super().__init__()
        self.dense = nn.Linear(config.hidden, config.hidden)
        self.activation: Callable[[Tensor], Tensor] = ACTIVATIONS[activation]
        self.norm = nn.LayerNorm(config.hidden, config.norm_eps)

    def forward(self, hidden: Float[Tensor, "*N D"]) -> Float[Tensor, "*N D"]:
        """The same shape, ready for a decoder."""
        return self.norm(self.activation(self.dense(hidden)))


class MLMHead(nn.Module):
    """Scores over the vocabulary; the decoder is the word table, given at each call (`encoder.word_weight`).

    Args:
        config: the encoder's.
        activation: of the trunk; None takes the encoder's, as BERT does. RoBERTa's is always "gelu".
    """

    def __init__(self, config: TransformerConfig, activation: str | None = None):
        super().__init__()
        self.transform = Transform(config, activation or config.activation)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))
        init_weights(self)

    def forward(self, hidden: Float[Tensor, "*N D"]) -> Float[Tensor, "*N D"]:
        """The transformed hidden states, before the decoder."""
        return self.transform(hidden)

    def logits(self, hidden: Float[Tensor, "*N D"], weight: Float[Tensor, "V D"]) -> Float[Tensor, "*N V"]:
        """Scores of all words. For a loss over many positions use `loss` instead."""
        return F.linear(self.transform(hidden), weight, self.bias)

    def loss(
        self,
        hidden: Float[Tensor, "*N D"],
        weight: Float[Tensor, "V D"],
        target: Int[Tensor, "*N"],
        reduction: Literal["mean", "sum"] = "mean",
        factors: Float[Tensor, "*N"] | None = None,
    ) -> Float[Tensor, ""]:
        """Cross-entropy over the positions whose target is not -100, each times its factor; only they pass through the
        head.
        """
        at = places_of(target != IGNORE)
        x = self.transform(hidden.flatten(0, -2).index_select(0, at))
        return linear_cross_entropy(
            x, weight, self.bias, target.flatten().index_select(0, at), reduction=reduction, ignore_index=None,
            factors=None if factors is None else factors.flatten().index_select(0, at),
        )  # fmt: skip


class Pooler(nn.Module):
    """A vector for the sentence: dense and tanh on the first token ([CLS] or <s>)."""

    def __init__(self, hidden: int):
        super().__init__()
        self.dense = nn.Linear(hidden, hidden)
        init_weights(self)

    def forward(self, hidden: Float[Tensor, "B T D"]) -> Float[Tensor, "B D"]:
        """The pooled first token."""
        return self.dense(hidden[:, 0]).tanh()


class ClassificationHead(nn.Module):
    """Sentence classification (or regression with one label): pooler, dropout, linear.

    Args:
        hidden: D.
        labels: number of outputs C.
        dropout: before the output layer, in training mode only.
        style: "bert", or "roberta", which drops out the pooler's input too.
    """

    def __init__(
        self, hidden: int, labels: int, dropout: float = 0.1, style: Literal["bert", "roberta"] = "bert"
    ):
        super().__init__()
        self.style = style
        self.pooler = Pooler(hidden)
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(hidden, labels)
        init_weights(self)

    def forward(self, hidden: Float[Tensor, "B T D"]) -> Float[Tensor, "B C"]:
        """Scores of the labels from the encoder's last hidden states."""
        first = hidden[:, :1]  # (B, 1, D)
        if self.style == "roberta":
            first = self.dropout(first)
        return self.out(self.dropout(self.pooler(first)))


class SpanHead(nn.Module):
    """Scores of every position as the start and as the end of an answer: one linear map to two numbers."""

    def __init__(self, hidden: int):
        super().__init__()
        self.out = nn.Linear(hidden, 2)
        init_weights(self)

    def forward(
        self, hidden: Float[Tensor, "B T D"], mask: Bool[Tensor, "B T"] | None = None
    ) -> tuple[Float[Tensor, "B T"], Float[Tensor, "B T"]]:
        """Start and end scores; −∞ (the type's smallest number) at padding, where `mask` is False."""
        scores = self.out(hidden)  # (B, T, 2)
        if mask is not None:
            scores = scores.masked_fill(~mask[..., None], torch.finfo(scores.dtype).min)
        return scores[..., 0], scores[..., 1]

    def loss(
        self,
        hidden: Float[Tensor, "B T D"],
        mask: Bool[Tensor, "B T"],
        starts: Int[Tensor, " B"],
        ends: Int[Tensor, " B"],
    ) -> Float[Tensor, ""]:
        """Mean of the two cross-entropies over the positions, summed over the batch."""
        start, end = (scores.float() for scores in self(hidden, mask))
        both = F.cross_entropy(start, starts, reduction="sum") + F.cross_entropy(end, ends, reduction="sum")
        return both / 2
