"""The contrastive loss by hand, its gradient with several processes, and what may become a hard negative."""

import math

import pytest
import torch
from torch.nn import functional as F

from vlpnb.errors import UserError
from vlpnb.nn.contrastive import contrastive, draw_negatives, negative_weights, targets
from vlpnb.train.distributed import spawn

ROWS, WIDTH, TAU = 6, 5, 0.2
IDENTITY = torch.tensor([3, 1, 3, 0, 1, 3])
CASES = [(identity, original) for identity in (None, IDENTITY) for original in (False, True)]


def views(rows: int = ROWS) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return tuple(F.normalize(torch.randn(rows, WIDTH).double(), dim=1) for _ in range(2))


def by_hand(f, g, tau, identity):
    """The formula, pair by pair."""
    scores = (f @ g.T / tau).tolist()
    rows, total = len(scores), 0.0
    for table in (scores, [list(column) for column in zip(*scores, strict=True)]):
        for i, row in enumerate(table):
            same = [j for j in range(rows) if identity[j] == identity[i]]
            norm = math.log(sum(math.exp(s) for s in row))
            total -= sum(row[j] - norm for j in same) / len(same)
    return total / 2


@pytest.mark.parametrize("identity", [None, IDENTITY])
def test_the_loss_is_its_formula(identity):
    f, g = views()
    ids = list(range(ROWS)) if identity is None else identity.tolist()
    assert contrastive(f, g, TAU, identity).item() == pytest.approx(by_hand(f, g, TAU, ids), abs=1e-9)


def test_distinct_identities_are_the_diagonal():
    f, g = views()
    plain = contrastive(f, g, TAU)
    torch.testing.assert_close(contrastive(f, g, TAU, torch.tensor([9, 2, 7, 4, 0, 5])), plain)
    own = torch.arange(ROWS)
    both = F.cross_entropy(f @ g.T / TAU, own) + F.cross_entropy(g @ f.T / TAU, own)
    torch.testing.assert_close(plain / ROWS, both / 2)


def test_two_of_the_same_thing_share_the_target_in_halves():
    f, _ = views()
    found = targets(torch.tensor([0, 1, 0, 2, 3, 4]), f)
    assert found[0].tolist() == found[2].tolist() == [0.5, 0, 0.5, 0, 0, 0]
    assert found[1].tolist() == [0, 1, 0, 0, 0, 0]


def test_the_loss_is_computed_in_float32_under_autocast():
    f, g = (x.float() for x in views())
    with torch.autocast("cpu", torch.bfloat16):
        found = contrastive(f, g, TAU)
    torch.testing.assert_close(found, contrastive(f, g, TAU))


def weights_and_inputs():
    torch.manual_seed(1)
    layers = [torch.randn(WIDTH, n).double().requires_grad_() for n in (3, 4)]
    return layers, [torch.randn(ROWS, n).double() for n in (3, 4)]


def gradients(rows: slice, identity, encoders: float):
    """Of the loss of some rows, divided by all rows: of both layers and the temperature."""
    layers, inputs = weights_and_inputs()
    tau = torch.tensor(TAU).double().requires_grad_()
    f, g = (F.normalize(x[rows] @ w.T, dim=1) for x, w in zip(inputs, layers, strict=True))
    own = None if identity is None else identity[rows]
    loss = contrastive(f, g, tau, own, encoders=encoders) / ROWS
    return loss, torch.autograd.grad(loss, [*layers, tau])


def one_process(rank, world, cuts, folder):
    for i, (identity, encoders) in enumerate(CASES):
        loss, found = gradients(slice(*cuts[rank : rank + 2]), identity, 1 / world if encoders else 1.0)
        torch.save({"loss": loss.detach(), "gradients": found}, f"{folder}/{i}.{rank}.pt")


@pytest.mark.slow
@pytest.mark.parametrize(
    "cuts", [(0, 3, 6), (0, 1, 3, 4, 6)]
)  # rows of two and four processes, the latter uneven
def test_several_processes_have_the_gradient_of_one_or_the_originals_share_of_it(cuts, tmp_path):
    world = len(cuts) - 1
    spawn(one_process, world, str(tmp_path / "store"), cuts, str(tmp_path))
    for i, (identity, original) in enumerate(CASES):
        found = [torch.load(tmp_path / f"{i}.{rank}.pt") for rank in range(world)]
        loss, expected = gradients(slice(None), identity, 1.0)
        torch.testing.assert_close(sum(one["loss"] for one in found), loss.detach())
        for place, exact in enumerate(expected):
            together = sum(one["gradients"][place] for one in found)
            share = 1 / world if original and place < 2 else 1.0  # τ has all of its gradient
            torch.testing.assert_close(together, exact * share)


def test_negatives_are_likely_where_similar_and_never_the_same_thing():
    f, g = views()
    found = negative_weights(f, g, TAU, IDENTITY)
    expected = (f @ g.T / TAU).softmax(1) + 1e-5
    same = IDENTITY[:, None] == IDENTITY
    assert found[same].eq(0).all()
    torch.testing.assert_close(found[~same], expected[~same])
    plain = negative_weights(f, g, TAU)
    assert plain.diagonal().eq(0).all()
    assert (plain == 0).sum() == ROWS
    generator = torch.Generator().manual_seed(0)
    drawn = torch.stack([draw_negatives(found, generator) for _ in range(300)])
    assert not (IDENTITY[drawn] == IDENTITY).any()
    share = torch.stack([(drawn == j).double().mean(0) for j in range(ROWS)], dim=1)  # row i draws j
    torch.testing.assert_close(share, found / found.sum(1, keepdim=True), atol=0.09, rtol=0)


def test_a_row_without_a_negative_is_named():
    f, g = views(3)
    with pytest.raises(UserError, match=r"3 of the 3 rows of a batch have no negative \(rows 0, 1, 2\)"):
        draw_negatives(negative_weights(f, g, TAU, torch.zeros(3, dtype=torch.long)))
    with pytest.raises(UserError, match="1 of the 1 rows"):
        draw_negatives(negative_weights(f[:1], g[:1], TAU))


def test_vectors_that_are_no_numbers_are_told():
    f, g = views(3)
    f[1, 0] = math.nan
    with pytest.raises(UserError, match="training diverged"):
        draw_negatives(negative_weights(f, g, TAU))
