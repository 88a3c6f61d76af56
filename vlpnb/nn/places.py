"""Each word's own few rows of a table: products with them and sums of them, without holding them for every word.

A picture is found by many words. Looked up for each, its keys and values would be (B, T, K, D) numbers, read and
written several times in a pass; in a small model that costs more than the rest of a layer. Three products are needed,
and each is a call of PyTorch's `embedding_bag`, which reads a table where it lies:

| | formula | kernel |
|---|---|---|
| sums | o[m] = Σ_k w[m, k] table[rows[m, k]] | forward |
| products | s[m, k] = q[m] · table[rows[m, k]] | the derivative of a sum by its weights |
| gradient of the table | Σ over the (m, k) that look up a row, w[m, k] g[m] | forward, words sorted by their rows |

No part of VaLM's original code.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Places:
    """Which rows of a table each word looks up, for all heads."""

    rows: Int[Tensor, "N K"]
    heads: int
    size: int
    """U, rows of the table; of each head, if they have their own."""
    shared: bool = False
    """All heads look into one table (U, e), else into one (H U, e)."""

    @cached_property
    def index(self) -> Int[Tensor, "M K"]:
        """Rows of the table, for M = H N queries, head by head."""
        first = self._head * (0 if self.shared else self.size)
        return (first[:, None, None] + self.rows).flatten(0, 1)

    @cached_property
    def back(self) -> tuple[Int[Tensor, " J"], Int[Tensor, " J"], Int[Tensor, " W"]]:
        """Words by the rows that they look up: which query, which of all weights, and where each row's begin."""
        count, width = self.rows.shape
        found, order = self.rows.flatten().sort(stable=True)  # (N K,)
        starts = torch.searchsorted(found, torch.arange(self.size, device=found.device))
        words, weights = order // width, order
        if self.shared:
            return (
                (words[:, None] + self._head * count).flatten(),
                (weights[:, None] + self._head * count * width).flatten(),
                starts * self.heads,
            )
        return (
            (self._head[:, None] * count + words).flatten(),
            (self._head[:, None] * count * width + weights).flatten(),
            (self._head[:, None] * count * width + starts).flatten(),
        )

    @property
    def _head(self) -> Int[Tensor, " H"]:
        return torch.arange(self.heads, device=self.rows.device)


def _sums(weights: Tensor, table: Tensor, index: Tensor) -> Tensor:
    return F.embedding_bag(index, table, mode="sum", per_sample_weights=weights)


def _products(queries: Tensor, table: Tensor, index: Tensor) -> Tensor:
    if torch.is_inference_mode_enabled():  # where nothing has a derivative
        return torch.einsum("me,mke->mk", queries, table[index])
    with torch.enable_grad():
        weights = queries.new_zeros(index.shape).requires_grad_()
        return torch.autograd.grad(_sums(weights, table.detach(), index), weights, queries)[0]


def _to_table(weights: Tensor, queries: Tensor, places: Places) -> Tensor:
    words, chosen, starts = places.back
    of_each = weights.flatten()[chosen]
    return F.embedding_bag(words, queries, starts, mode="sum", per_sample_weights=of_each)


class _Picked(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, queries: Tensor, table: Tensor, places: Places) -> Tensor:
        ctx.save_for_backward(queries, table)
        ctx.places = places
        return _products(queries, table, places.index)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None, None]:
        (queries, table), gradient = ctx.saved_tensors, gradient.contiguous()
        of_table = _to_table(gradient, queries, ctx.places) if ctx.needs_input_grad[1] else None
        return _sums(gradient, table, ctx.places.index), of_table, None


class _Pooled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weights: Tensor, table: Tensor, places: Places) -> Tensor:
        ctx.save_for_backward(weights, table)
        ctx.places = places
        return _sums(weights, table, places.index)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None, None]:
        (weights, table), gradient = ctx.saved_tensors, gradient.contiguous()
        of_table = _to_table(weights, gradient, ctx.places) if ctx.needs_input_grad[1] else None
        return _products(gradient, table, ctx.places.index), of_table, None


def picked(
    queries: Float[Tensor, "M e"], table: Float[Tensor, "W e"], places: Places
) -> Float[Tensor, "M K"]:
    """Products of each query with its own rows; M = H N, head by head."""
    return _Picked.apply(queries.contiguous(), table.to(queries.dtype).contiguous(), places)


def pooled(
    weights: Float[Tensor, "M K"], table: Float[Tensor, "W e"], places: Places
) -> Float[Tensor, "M e"]:
    """Sums of each query's own rows with its weights."""
    return _Pooled.apply(weights.to(table.dtype).contiguous(), table.contiguous(), places)
