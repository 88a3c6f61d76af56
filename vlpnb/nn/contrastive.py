"""Two views of the same thing find each other in a batch: a symmetric contrastive loss, and hard negatives from it.

The views are unit vectors f, g of sample i (a picture and its caption, or a sentence and its translation), and
S[i, j] = f[i] · g[j] / τ. Several samples may be the same thing; their identities say so:

    Y[i, j] = 1 where id[i] = id[j], over the number of such j
    L = ½ (mean_i −Σ_j Y[i, j] log softmax_j S[i, j]  +  the same of Sᵀ)

Without identities Y is the diagonal. With several processes the columns are everybody's, the rows one's own: the sum of
the loss over the own rows is returned, which the caller divides by the number of rows of all (`train/loop.py`). The
gather's backward adds up what all processes ask of a vector, so that any number of processes has the gradient of one.

CCLM (Zeng et al. 2023, section 3.2), after ALBEF (Li et al. 2021). Differs from the original: its gather returns the
local part of the gradient only, which makes it 1/W of what it should be, but for τ (CCL-01, `encoders`); a draw takes
one call for a batch, and a sample without a negative is named (CCL-02).
"""

import torch
import torch.distributed as dist
from jaxtyping import Float, Int
from torch import Tensor

from vlpnb.errors import UserError
from vlpnb.nn.decoding import precise
from vlpnb.nn.labelled import full_precision, has_data

SMALLEST = 1e-5  # added to each weight of a negative
SHOWN = 8  # rows that a message names
FAR = 2**32  # more than a batch has rows


def processes() -> int:
    """W, the processes that train together; 1 where there is no group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


class _Gather(torch.autograd.Function):
    """Rows of all processes, in the order of their ranks; backward adds up the gradients of all. Rows may differ."""

    @staticmethod
    def forward(ctx, rows: Tensor) -> Tensor:
        sizes = [torch.zeros(1, dtype=torch.long, device=rows.device) for _ in range(dist.get_world_size())]
        dist.all_gather(sizes, torch.tensor([len(rows)], device=rows.device))
        counts = [int(size) for size in sizes]
        padded = rows.new_zeros(max(counts), *rows.shape[1:])
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(parts, padded)
        ctx.start, ctx.rows = sum(counts[: dist.get_rank()]), len(rows)
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        gradient = gradient.contiguous().clone()
        dist.all_reduce(gradient)
        return gradient[ctx.start : ctx.start + ctx.rows]


def gather(rows: Tensor) -> Tensor:
    """The rows of all processes, (N, …) from (B, …); the same where there is one process."""
    return _Gather.apply(rows) if processes() > 1 else rows


class _Scaled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient * ctx.factor, None


def contrastive(
    f: Float[Tensor, "B E"],
    g: Float[Tensor, "B E"],
    temperature: float | Float[Tensor, ""],
    identity: Int[Tensor, " B"] | None = None,
    *,
    encoders: float = 1.0,
) -> Float[Tensor, ""]:
    """The loss above, summed over this process's rows; computed in float32.

    Args:
        f, g: unit vectors of both views.
        temperature: τ.
        identity: which thing each sample is, the same numbers on all processes; None: all differ.
        encoders: factor of the gradients of `f` and `g`, not of τ; 1/W is the original's with W processes (CCL-01).
    """
    with full_precision(f.device):
        f, g = precise(f), precise(g)
        if encoders != 1.0:
            f, g = _Scaled.apply(f, encoders), _Scaled.apply(g, encoders)
        target = targets(identity, f)
        rows = f @ gather(g).T / temperature, g @ gather(f).T / temperature  # (B, N) each
        return -sum((target * scores.log_softmax(dim=1)).sum() for scores in rows) / 2


def targets(identity: Int[Tensor, " B"] | None, like: Float[Tensor, "B E"]) -> Float[Tensor, "B N"]:
    """Y of the own rows: equal shares of the samples with the same identity, in the type of `like`."""
    if identity is None:
        # A number that no other sample of any process has: its rank, and its place there.
        rank = dist.get_rank() if processes() > 1 else 0
        identity = rank * FAR + torch.arange(len(like), device=like.device)
    same = identity[:, None] == gather(identity)
    return same.to(like.dtype) / same.sum(dim=1, keepdim=True)


@torch.no_grad()
def negative_weights(
    queries: Float[Tensor, "B E"],
    keys: Float[Tensor, "B E"],
    temperature: float | Float[Tensor, ""],
    identity: Int[Tensor, " B"] | None = None,
) -> Float[Tensor, "B B"]:
    """How likely each key becomes the negative of a query: softmax of their similarity / τ, + 1e-5, and 0 for its own.

    Rows need not add up to one. `identity`: samples that are the same thing are no negatives of each other; None: a
    sample is its own alone.
    """
    queries, keys = precise(queries), precise(keys)
    with full_precision(queries.device):
        weights = (queries @ keys.T / temperature).softmax(dim=1) + SMALLEST
    if identity is None:
        identity = torch.arange(len(queries), device=queries.device)
    return weights.masked_fill(identity[:, None] == identity, 0.0)


@torch.no_grad()
def draw_negatives(
    weights: Float[Tensor, "B B"], generator: torch.Generator | None = None
) -> Int[Tensor, " B"]:
    """One negative for each row, drawn by its weights.

    Raises:
        UserError: a row has no negative, since all of the batch is the same thing; or weights are no longer numbers.
    """
    sums = weights.sum(dim=1)
    if has_data(sums) and not ((sums > 0) & sums.isfinite()).all():  # on a GPU the one look at its numbers
        _refuse(sums)
    # Of waiting times at the rates of a row's weights one ends first: a draw that asks nothing of the device.
    # `torch.multinomial`, which looks at the weights first, draws the same.
    waits = torch.empty_like(weights).exponential_(1, generator=generator)
    return (weights / waits).argmax(dim=1)


def _refuse(sums: Float[Tensor, " B"]) -> None:
    """UserError for the sums of weights of which nothing can be drawn."""
    if not sums.isfinite().all():
        raise UserError(
            "similarities of a batch are no longer numbers: training diverged. Try a lower learning rate, a longer "
            "warm-up or a smaller gradient clip"
        )
    bare = (sums == 0).nonzero()[:, 0].tolist()
    told = ", ".join(map(str, bare[:SHOWN])) + " …" * (len(bare) > SHOWN)
    raise UserError(
        f"{len(bare)} of the {len(sums)} rows of a batch have no negative (rows {told}): everything beside them has "
        "the same identity. Batches of at least two different pictures (or sentences) are expected on every process"
    )
