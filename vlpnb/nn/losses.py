"""Losses shared by the systems: matching of tokens and images, and cross-entropy over large vocabularies.

Matching losses (Vokenization, section 3.2). Token t of sentence b and image j have the score
s[b, t, j] = f[b, t] · g[j], a cosine when both are normalised. `mask` says which tokens count; each loss is a
mean over what counts, or a sum (`reduction="sum"`) that the caller divides by a global count, so that neither
padding nor the number of processes nor accumulation changes a gradient.

Differs from the original vokenization code: its all-pairs hinge broadcast wrongly and was unused (quirk
VOK-02), it is derived afresh here; InfoNCE is an addition.

`linear_cross_entropy` is a linear layer and its cross-entropy in one function that never holds the (N, V)
scores: it visits a chunk of rows at a time and computes their gradient on the spot (the idea is known from
"cut cross-entropy", Wijmans et al. 2024, and from fused kernels; this one is plain PyTorch and exact).

`answer_loss` is that of a head with one score for every answer (LXMERT, VLP); `smoothed_loss` and `keep_best` are
options of VLP.
"""

import math
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from vlpnb.errors import UserError
from vlpnb.nn.labelled import assumed_of, full_precision, has_data, places_of

IGNORE = -100  # the label that PyTorch's cross-entropy leaves out
Reduction = Literal["mean", "sum"]
AnswerObjective = Literal["soft", "best"]
TokenMask = Bool[Tensor, "B T"] | Int[Tensor, "B T"] | Float[Tensor, "B T"]


def _reduce(terms: Float[Tensor, "..."], mask: Tensor, reduction: Reduction) -> Float[Tensor, ""]:
    """Sum or mean of the terms where the mask, which broadcasts to them, is not zero; 0 if nowhere."""
    mask = mask.to(terms.dtype).expand_as(terms)
    total = (terms * mask).sum()
    if reduction == "sum":
        return total
    return total / mask.sum().clamp(min=1)


def paired_hinge(
    f: Float[Tensor, "B T d"],
    g: Float[Tensor, "B d"],
    mask: TokenMask,
    margin: float = 0.5,
    reduction: Reduction = "mean",
) -> Float[Tensor, ""]:
    """Hinge loss with one negative image per sentence, the image of its partner in the batch (Vokenization 3.2).

    Sentence b of the first half is the partner of sentence b + B/2 and the reverse:
    `max(0, margin - f[b,t]·g[b] + f[b,t]·g[partner(b)])`, averaged over the tokens that count.

    Raises:
        UserError: when B is odd.
    """
    if len(f) % 2:
        raise UserError(f"the paired hinge loss needs an even batch, found {len(f)} sentences")
    own = torch.einsum("btd,bd->bt", f, g)
    other = torch.einsum("btd,bd->bt", f, g.roll(len(g) // 2, dims=0))
    return _reduce((margin - own + other).relu(), mask, reduction)


def all_pairs_hinge(
    f: Float[Tensor, "B T d"], g: Float[Tensor, "B d"], mask: TokenMask, margin: float = 0.5
) -> Float[Tensor, ""]:
    """Hinge loss against every wrong image and every wrong sentence of the batch (VOK-02: derived afresh).

    With s[i, j, t] = f[i, t]·g[j], for all j ≠ i: a *language* term `max(0, margin - s[i,i,t] + s[i,j,t])`
    (the token's own image beats the others) over tokens t of sentence i, and a *vision* term `max(0, margin -
    s[j,j,t] + s[i,j,t])` (the image's own sentence beats the others, position by position) where both
    sentences have a token t. The result is the sum of both means. Needs B² T numbers.
    """
    scores = torch.einsum("itd,jd->ijt", f, g)  # (B, B, T)
    own = scores.diagonal().T  # (B, T): own[i, t] = s[i, i, t]
    wrong = ~torch.eye(len(f), dtype=torch.bool, device=f.device)[:, :, None]
    real = mask.bool()
    language = (margin - own[:, None] + scores).relu()
    vision = (margin - own[None] + scores).relu()
    return _reduce(language, wrong & real[:, None], "mean") + _reduce(
        vision, wrong & real[:, None] & real[None], "mean"
    )


def info_nce(
    f: Float[Tensor, "B T d"],
    g: Float[Tensor, "B d"],
    mask: TokenMask,
    temperature: float | Float[Tensor, ""] = 0.05,
    symmetric: bool = False,
    reduction: Reduction = "mean",
) -> Float[Tensor, ""]:
    """InfoNCE (van den Oord et al. 2018) over token–image scores: each token picks its image in the batch.

    Token → image: cross-entropy of s[i, t, ·] / temperature against image i, over the tokens that count.
    With `symmetric` the mean with image → token: each token of sentence j against all tokens of the *other*
    sentences, as seen from image j: `-log e^{s[j,t,j]} / (e^{s[j,t,j]} + Σ_{i≠j, u} e^{s[i,u,j]})`; tokens of
    one sentence never compete. For a sentence-level loss pass one vector per sentence (T = 1).
    """
    scores = torch.einsum("itd,jd->itj", f, g) / temperature  # (B, T, B)
    own = scores.diagonal(dim1=0, dim2=2).T  # (B, T)
    loss = _reduce(scores.logsumexp(dim=2) - own, mask, reduction)
    if not symmetric:
        return loss
    same = torch.eye(len(f), dtype=torch.bool, device=f.device)[:, None]
    hidden = same | ~mask.bool()[:, :, None]  # (B, T, B): tokens that are no negatives of image j
    lowest = torch.finfo(scores.dtype).min
    negatives = scores.masked_fill(hidden, lowest).flatten(0, 1).logsumexp(dim=0)  # (B,)
    return (loss + _reduce(F.softplus(negatives[:, None] - own), mask, reduction)) / 2


class Smoothing(NamedTuple):
    """A target with 1 − `amount` at the right class, 0 at the class `never`, the rest spread over all others."""

    amount: float
    never: int

    def shares(self, classes: int) -> tuple[float, float, float]:
        """What the right class has, what each other has, and Σ t · log t of all."""
        own, each = 1 - self.amount, self.amount / (classes - 2)
        return own, each, own * math.log(own) + (self.amount * math.log(each) if each else 0.0)


def linear_cross_entropy(
    hidden: Float[Tensor, "*N D"],
    weight: Float[Tensor, "V D"],
    bias: Float[Tensor, " V"] | None,
    target: Int[Tensor, "*N"],
    *,
    chunk: int | None = None,
    reduction: Reduction = "mean",
    ignore_index: int | None = -100,
    factors: Float[Tensor, "*N"] | None = None,
    smoothing: Smoothing | None = None,
    name: str = "words",
) -> Float[Tensor, ""]:
    """`F.cross_entropy(F.linear(hidden, weight, bias), target)`, value and gradients, without (N, V) scores.

    Args:
        hidden: inputs of the linear layer.
        weight: its weight; may be tied to an embedding table.
        bias: its bias or None.
        target: class of each row in [0, V), or `ignore_index`.
        chunk: rows at a time; by default as many as give 2²² scores on a CPU, 2²⁷ on a GPU.
        reduction: "mean" over the rows that have a target (0 when none has), or "sum".
        ignore_index: rows with this target are left out before anything is computed; None promises that there
            are none and saves the check.
        factors: of each row's cross-entropy; None: 1.
        smoothing: each row's loss is `smoothed_loss`, of V ≥ 3 classes.
        name: of the rows that have a target, for those who assume how many there are (`labelled.assumed`).

    Under autocast the matrix products run in the autocast type and the softmax in float32, as in the plain
    version. Gradients are computed in the forward pass (one product fewer than recomputing); there is no
    second derivative.
    """
    hidden, target = hidden.flatten(0, -2), target.flatten()
    if ignore_index is not None:
        at = places_of(target != ignore_index, name)
        hidden, target = hidden.index_select(0, at), target.index_select(0, at)
        factors = None if factors is None else factors.flatten().index_select(0, at)
    if chunk is None:
        chunk = max(1, (2**22 if hidden.device.type == "cpu" else 2**27) // len(weight))
    factors = None if factors is None else factors.flatten()
    total = _LinearCrossEntropy.apply(
        hidden, weight, bias, target, factors, smoothing, chunk, torch.is_grad_enabled()
    )
    return total if reduction == "sum" else total / max(1, len(target))


class _LinearCrossEntropy(torch.autograd.Function):
    """Sum of the cross-entropies of all rows, each times its factor; d loss / d scores = softmax - one-hot, chunked."""

    @staticmethod
    def forward(ctx, hidden, weight, bias, target, factors, smoothing, chunk, training):
        device, dtype = hidden.device.type, hidden.dtype
        if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
            dtype = torch.get_autocast_dtype(device)
        rows, table = hidden.to(dtype), weight.to(dtype)
        to_hidden, to_weight, to_bias = (training and needed for needed in ctx.needs_input_grad[:3])
        # Sums over many rows are kept in float32 whatever the products' type.
        exact = torch.promote_types(dtype, torch.float32)
        grad_hidden = torch.empty_like(hidden) if to_hidden else None
        grad_weight = torch.empty_like(weight, dtype=exact) if to_weight else None
        grad_bias = torch.zeros_like(bias, dtype=exact) if to_bias else None
        total = torch.zeros((), dtype=exact, device=hidden.device)
        own, each, entropy = (1.0, 0.0, 0.0) if smoothing is None else smoothing.shares(len(table))
        # One piece of memory for the scores of all chunks: fresh memory has to be cleared by the system each time.
        memory = rows.new_empty(min(chunk, len(rows)) * len(table))
        if to_weight and not len(rows):
            grad_weight.zero_()

        with full_precision(hidden.device):
            for start in range(0, len(rows), chunk):
                part = slice(start, start + chunk)
                x, y = rows[part], target[part, None]
                out = memory[: len(x) * len(table)].view(len(x), len(table))
                scores = torch.mm(x, table.T, out=out).to(exact)  # (C, V)
                if bias is not None:
                    scores += bias
                norm = scores.logsumexp(dim=1, keepdim=True)
                right = scores.gather(1, y)
                losses = norm - right
                if each:
                    others = scores.sum(dim=1, keepdim=True) - right - scores[:, smoothing.never, None]
                    losses = entropy + norm - own * right - each * others
                factor = None if factors is None else factors[part, None]
                total += (losses if factor is None else losses * factor).sum()
                if not (to_hidden or to_weight or to_bias):
                    continue
                delta = scores.sub_(norm).exp_()  # softmax, in the memory of the scores
                delta.scatter_add_(1, y, torch.full_like(y, each - own, dtype=exact))
                if each:
                    delta -= each
                    delta[:, smoothing.never] += each
                if factor is not None:
                    delta *= factor
                if to_bias:
                    grad_bias += delta.sum(dim=0)
                delta = delta.to(dtype)
                if to_hidden:
                    grad_hidden[part] = delta @ table
                if to_weight and dtype == exact:  # no second (V, D); beta 0: the first chunk overwrites
                    grad_weight.addmm_(delta.T, x, beta=float(start > 0))
                elif to_weight and start:
                    grad_weight += delta.T @ x
                elif to_weight:
                    grad_weight.copy_(delta.T @ x)
        ctx.save_for_backward(grad_hidden, grad_weight, grad_bias)
        ctx.dtypes = (weight.dtype, None if bias is None else bias.dtype)
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, scale):
        grad_hidden, grad_weight, grad_bias = ctx.saved_tensors
        weight_type, bias_type = ctx.dtypes
        return (
            None if grad_hidden is None else grad_hidden * scale.to(grad_hidden.dtype),
            None if grad_weight is None else (grad_weight * scale).to(weight_type),
            None if grad_bias is None else (grad_bias * scale).to(bias_type),
            None,
            None,
            None,
            None,
            None,
        )


def answer_loss(
    scores: Float[Tensor, "B Q"],
    targets: Float[Tensor, "B Q"],
    objective: AnswerObjective = "soft",
    empty_is_first: bool = False,
) -> Float[Tensor, ""]:
    """The loss of answers, summed over the questions.

    "soft" is binary cross-entropy summed over the answers (the original's mean × Q). "best" is the cross-entropy of
    the best answer × Q, the original's `mceLoss`; a question without any target is left out, unless
    `empty_is_first`, as in the original, takes it for one whose answer is row 0 (LXM-15).
    """
    if objective == "soft":
        return F.binary_cross_entropy_with_logits(scores.float(), targets, reduction="sum")
    best = targets.argmax(dim=1)
    if not empty_is_first:
        best = best.where(targets.amax(dim=1) > 0, IGNORE)
    return F.cross_entropy(scores.float(), best, ignore_index=IGNORE, reduction="sum") * scores.shape[1]


def smoothed_loss(
    scores: Float[Tensor, "N V"], targets: Int[Tensor, " N"], smoothing: Smoothing
) -> Float[Tensor, " N"]:
    """Divergence of the classes' chances from the smoothed target, in float32 or better."""
    chances = scores.to(torch.promote_types(scores.dtype, torch.float32)).log_softmax(dim=-1)
    own, each, entropy = smoothing.shares(scores.shape[1])
    gold = chances.gather(1, targets[:, None])[:, 0]
    others = chances.sum(dim=1) - gold - chances[:, smoothing.never]
    return entropy - own * gold - each * others


def keep_best(
    losses: Float[Tensor, "B K"], counted: Bool[Tensor, "B K"], ratio: float | Float[Tensor, ""]
) -> Float[Tensor, ""]:
    """The sum over all but the worst examples, scaled as if all had been kept.

    ⌊B (1 − ratio)⌋ examples with the smallest summed loss count, at least one. Scaled by (targets of all) / (targets of
    those kept), so that the loop, which divides by all, gets the mean over the kept.
    """
    rows = losses.sum(dim=1)
    kept = len(rows) * (1 - ratio)
    kept = kept if isinstance(kept, Tensor) else torch.full((), kept, device=rows.device)
    good = rows.detach().argsort().argsort() < kept.floor().clamp(min=1)  # (B,)
    targets = counted.sum(dim=1)
    return (rows * good).sum() * targets.sum() / (targets * good).sum().clamp(min=1)


def labelled(labels: Int[Tensor, "B T"]) -> tuple[Int[Tensor, "B K"], Int[Tensor, "B K"]]:
    """Columns of each row's labels and the labels, K the most of any row; fewer are filled up with IGNORE."""
    found = labels != IGNORE
    most = int(found.sum(dim=1).max()) if has_data(found) else assumed_of(found.shape[1], "words")
    columns = found.int().argsort(dim=1, descending=True, stable=True)[:, : max(1, most)]
    return columns, labels.gather(1, columns)
