"""Matching losses against loops and small cases by hand; chunked cross-entropy against the plain one."""

import math

import pytest
import torch
from torch.nn import functional as F

from vlpnb.errors import UserError
from vlpnb.nn.losses import (
    Smoothing,
    all_pairs_hinge,
    info_nce,
    keep_best,
    linear_cross_entropy,
    paired_hinge,
    smoothed_loss,
)

F_GOLDEN = torch.tensor([[[1.0, 0], [0, 1]], [[0.6, 0.8], [1, 0]]])
G_GOLDEN = torch.eye(2)
M_GOLDEN = torch.tensor([[1, 1], [1, 0]])


def matching_batch(batch: int = 4, length: int = 5, width: int = 6):
    """Random normalised token and image vectors, and a ragged mask."""
    f = F.normalize(torch.randn(batch, length, width), dim=-1)
    g = F.normalize(torch.randn(batch, width), dim=-1)
    lengths = torch.randint(1, length + 1, (batch, 1))
    return f, g, (torch.arange(length) < lengths).long()


def test_paired_hinge_golden_vector():
    assert paired_hinge(F_GOLDEN, G_GOLDEN, M_GOLDEN).item() == pytest.approx(0.6)
    assert paired_hinge(F_GOLDEN, G_GOLDEN, M_GOLDEN, reduction="sum").item() == pytest.approx(1.8)


def test_paired_hinge_equals_a_loop():
    f, g, mask = matching_batch()
    total = 0.0
    for b in range(4):
        partner = b + 2 if b < 2 else b - 2
        for t in range(5):
            total += mask[b, t].item() * max(0.0, 0.3 - (f[b, t] @ g[b] - f[b, t] @ g[partner]).item())
    assert paired_hinge(f, g, mask, 0.3).item() == pytest.approx(total / mask.sum().item(), rel=1e-5)


def test_paired_hinge_wants_an_even_batch():
    f, g, mask = matching_batch(3)
    with pytest.raises(UserError, match="even batch, found 3"):
        paired_hinge(f, g, mask)


def test_all_pairs_hinge_equals_a_loop():
    f, g, mask = matching_batch(3)
    s = torch.einsum("itd,jd->ijt", f, g)
    language, vision = [], []
    for i in range(3):
        for j in range(3):
            for t in range(5):
                if i != j and mask[i, t]:
                    language.append(max(0.0, 0.5 - (s[i, i, t] - s[i, j, t]).item()))
                    if mask[j, t]:
                        vision.append(max(0.0, 0.5 - (s[j, j, t] - s[i, j, t]).item()))
    expected = sum(language) / len(language) + sum(vision) / len(vision)
    assert all_pairs_hinge(f, g, mask).item() == pytest.approx(expected, rel=1e-5)


def test_info_nce_equals_a_loop():
    f, g, mask = matching_batch(3)
    s = torch.einsum("itd,jd->itj", f, g) / 0.1
    tokens = [(i, t) for i in range(3) for t in range(5) if mask[i, t]]
    to_image = [F.cross_entropy(s[i, t], torch.tensor(i)).item() for i, t in tokens]
    to_token = []
    for i, t in tokens:
        others = [s[k, u, i].item() for k, u in tokens if k != i]
        own = s[i, t, i].item()
        to_token.append(math.log(math.exp(own) + sum(map(math.exp, others))) - own)
    forward, backward = sum(to_image) / len(tokens), sum(to_token) / len(tokens)
    assert info_nce(f, g, mask, 0.1).item() == pytest.approx(forward, rel=1e-4)
    assert info_nce(f, g, mask, 0.1, symmetric=True).item() == pytest.approx(
        (forward + backward) / 2, rel=1e-4
    )
    assert info_nce(f, g, mask, torch.tensor(0.1), reduction="sum").item() == pytest.approx(
        sum(to_image), rel=1e-4
    )


@pytest.mark.parametrize(
    "loss", [paired_hinge, all_pairs_hinge, info_nce, lambda *x: info_nce(*x, symmetric=True)]
)
def test_hidden_tokens_do_not_matter(loss):
    f, g, mask = matching_batch()
    changed = torch.where(mask[..., None].bool(), f, torch.randn_like(f)).requires_grad_()
    value = loss(changed, g, mask)
    torch.testing.assert_close(value, loss(f, g, mask))
    torch.testing.assert_close(value, loss(changed, g, mask.bool()))
    value.backward()
    assert (changed.grad * (1 - mask)[..., None] == 0).all()
    empty = loss(f.requires_grad_(), g, torch.zeros_like(mask))
    empty.backward()
    assert empty.item() == 0
    assert f.grad.isfinite().all()


def linear_inputs(rows: int, width: int, classes: int, bias: bool, dtype: torch.dtype):
    hidden = torch.randn(rows, width, dtype=dtype, requires_grad=True)
    weight = torch.randn(classes, width, dtype=dtype, requires_grad=True)
    offset = torch.randn(classes, dtype=dtype, requires_grad=True) if bias else None
    target = torch.randint(classes, (rows,))
    target[torch.rand(rows) < 0.3] = -100
    return hidden, weight, offset, target


def gradients(loss, *leaves):
    return torch.autograd.grad(3 * loss, [leaf for leaf in leaves if leaf is not None])


@pytest.mark.parametrize("rows", [0, 1, 5, 12])
@pytest.mark.parametrize("classes", [1, 2, 9])
@pytest.mark.parametrize("chunk", [1, 3, 50, None])
def test_linear_cross_entropy_equals_plain(rows: int, classes: int, chunk: int | None):
    for bias in (True, False):
        for reduction in ("mean", "sum"):
            check_against_plain(rows, classes, chunk, bias, reduction)


def check_against_plain(rows: int, classes: int, chunk: int | None, bias: bool, reduction: str):
    hidden, weight, offset, target = linear_inputs(rows, 5, classes, bias, torch.float64)
    loss = linear_cross_entropy(hidden, weight, offset, target, chunk=chunk, reduction=reduction)
    plain = F.cross_entropy(F.linear(hidden, weight, offset), target, reduction="sum")
    if reduction == "mean":
        plain = plain / max(1, (target != -100).sum().item())
    torch.testing.assert_close(loss, plain)
    ours, expected = gradients(loss, hidden, weight, offset), gradients(plain, hidden, weight, offset)
    for a, b in zip(ours, expected, strict=True):
        torch.testing.assert_close(a, b)


def test_linear_cross_entropy_passes_gradcheck():
    hidden, weight, offset, target = linear_inputs(6, 3, 4, True, torch.float64)
    assert torch.autograd.gradcheck(
        lambda h, w, b: linear_cross_entropy(h, w, b, target, chunk=2), (hidden, weight, offset)
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_linear_cross_entropy_under_autocast(dtype: torch.dtype):
    hidden, weight, offset, target = linear_inputs(40, 16, 30, True, torch.float32)
    with torch.autocast("cpu", dtype=dtype):
        loss = linear_cross_entropy(hidden, weight, offset, target, chunk=7)
        plain = F.cross_entropy(F.linear(hidden, weight, offset).float(), target)
    assert loss.dtype == torch.float32
    tolerance = {"atol": 2e-2, "rtol": 2e-2}
    torch.testing.assert_close(loss, plain, **tolerance)
    ours, expected = gradients(loss, hidden, weight, offset), gradients(plain, hidden, weight, offset)
    exact = gradients(F.cross_entropy(F.linear(hidden, weight, offset), target), hidden, weight, offset)
    for a, b, c in zip(ours, expected, exact, strict=True):
        assert a.dtype == torch.float32
        torch.testing.assert_close(a, b, **tolerance)
        torch.testing.assert_close(a, c, **tolerance)


def test_linear_cross_entropy_shapes_and_partial_gradients():
    hidden, weight, offset, target = linear_inputs(12, 5, 7, True, torch.float32)
    flat = linear_cross_entropy(hidden, weight, offset, target)
    shaped = linear_cross_entropy(hidden.view(3, 4, 5), weight, offset, target.view(3, 4))
    torch.testing.assert_close(flat, shaped)
    frozen = linear_cross_entropy(hidden, weight.detach(), offset.detach(), target)
    (grad,) = torch.autograd.grad(frozen, [hidden])
    torch.testing.assert_close(grad, torch.autograd.grad(flat, [hidden])[0])
    with torch.no_grad():
        assert linear_cross_entropy(hidden, weight, offset, target).item() == pytest.approx(flat.item())


def test_linear_cross_entropy_never_holds_all_scores():
    rows, classes = 64, 1000
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            nonlocal largest
            out = function(*args, **(kwargs or {}))
            for tensor in out if isinstance(out, tuple | list) else (out,):
                if isinstance(tensor, torch.Tensor) and tensor.shape[-1:] == (classes,):
                    largest = max(largest, tensor.numel() // classes)
            return out

    hidden, weight, offset, target = linear_inputs(rows, 4, classes, True, torch.float32)
    with Watch():
        linear_cross_entropy(hidden, weight, offset, target, chunk=8).backward()
    assert largest == 8


def test_huge_scores_stay_finite():
    hidden, weight, _, target = linear_inputs(8, 4, 6, False, torch.float32)
    loss = linear_cross_entropy(hidden * 1e4, weight, None, target)
    loss.backward()
    assert loss.isfinite()
    assert weight.grad.isfinite().all()


def test_smoothed_targets_are_a_divergence():
    torch.manual_seed(0)
    scores, targets = torch.randn(4, 9).double(), torch.tensor([3, 8, 1, 5])
    wanted = torch.full((4, 9), 0.2 / 7).double()
    wanted[torch.arange(4), targets] = 0.8
    wanted[:, 2] = 0
    divergence = F.kl_div(scores.log_softmax(1), wanted, reduction="none").sum(1)
    found = smoothed_loss(scores, targets, Smoothing(0.2, never=2)).double()
    torch.testing.assert_close(found, divergence, rtol=0, atol=1e-6)


@pytest.mark.parametrize("chunk", [1, 3, None])
@pytest.mark.parametrize("bias", [True, False])
def test_linear_cross_entropy_of_smoothed_targets_equals_plain(chunk: int | None, bias: bool):
    hidden, weight, offset, target = linear_inputs(8, 5, 9, bias, torch.float64)
    target = target.where(target != 2, 3)
    smoothing, factors = Smoothing(0.3, never=2), torch.rand(8).double()
    loss = linear_cross_entropy(
        hidden, weight, offset, target, chunk=chunk, reduction="sum", factors=factors, smoothing=smoothing
    )
    counted = target != -100
    scores = F.linear(hidden, weight, offset)[counted]
    wanted = torch.full_like(scores, 0.3 / 7)
    wanted[torch.arange(len(wanted)), target[counted]] = 0.7
    wanted[:, 2] = 0
    each = F.kl_div(scores.log_softmax(1), wanted, reduction="none").sum(1)
    plain = (each * factors[counted]).sum()
    torch.testing.assert_close(loss, plain)
    for ours, expected in zip(
        gradients(loss, hidden, weight, offset), gradients(plain, hidden, weight, offset), strict=True
    ):
        torch.testing.assert_close(ours, expected)


def test_the_worst_examples_are_dropped_and_never_all():
    losses = torch.tensor([[1.0, 2.0], [5.0, 0.0], [0.5, 0.25], [9.0, 9.0]])
    counted = torch.tensor([[True, True], [True, False], [True, True], [True, True]])
    assert keep_best(losses, counted, 0.25) == pytest.approx(8.75 * 7 / 5)
    assert keep_best(losses, counted, 0.5) == pytest.approx(3.75 * 7 / 4)
    assert keep_best(losses, counted, torch.tensor(0.0)) == losses.sum()
    assert keep_best(losses, counted, 0.99) == pytest.approx(0.75 * 7 / 2)
