"""Dense layers by oneDNN: equal to rounding, their gradients too."""

import pytest
import torch
from torch import nn

from vlpnb.nn import onednn
from vlpnb.nn.onednn import MANY, WIDE, OneDnnLinear, quick_products

needs_onednn = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="PyTorch without oneDNN")


@pytest.fixture
def taken(monkeypatch):
    """What the dense layers were given that oneDNN may have."""
    found, fits = [], onednn._fits

    def watched(*args):
        found.append(fits(*args))
        return found[-1]

    monkeypatch.setattr(onednn, "_fits", watched)
    return found


@needs_onednn
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(5, 24), (2, 3, 24), (1, 24)])
def test_dense_layers_are_equal_to_rounding(bias, shape, taken):
    layer, x = nn.Linear(24, 7, bias=bias), torch.randn(shape)
    with torch.no_grad():
        plain = layer(x)
        with OneDnnLinear():
            torch.testing.assert_close(layer(x), plain, rtol=1e-5, atol=1e-6)
            across = torch.randn(24, 6).T  # not laid out row by row
            torch.testing.assert_close(layer(across), nn.functional.linear(across, layer.weight, layer.bias))
    assert all(taken)


@needs_onednn
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(5, 24), (2, 3, 24), (1, 24)])
def test_gradients_are_equal_to_rounding(bias, shape, taken):
    layer, x = nn.Linear(24, 7, bias=bias), torch.randn(shape)
    leaves = [x.requires_grad_(), *layer.parameters()]
    weights = torch.randn(*shape[:-1], 7)  # of the outputs, so that no two gradients are alike
    plain = torch.autograd.grad((layer(x) * weights).sum(), leaves)
    with OneDnnLinear():
        quick = torch.autograd.grad((layer(x) * weights).sum(), leaves)
    torch.testing.assert_close(quick, plain, rtol=1e-5, atol=1e-5)
    assert all(taken)


@needs_onednn
def test_what_is_frozen_gets_no_gradient():
    layer, x = nn.Linear(24, 7), torch.randn(3, 24)
    layer.weight.requires_grad_(False)
    with OneDnnLinear():
        layer(x).sum().backward()
        assert not layer.requires_grad_(False)(x).requires_grad
    assert layer.weight.grad is None
    torch.testing.assert_close(layer.bias.grad, torch.full((7,), 3.0))


def test_other_types_vectors_and_nothing_at_all_are_left_to_pytorch(taken):
    layer = nn.Linear(4, 3)
    with OneDnnLinear():
        assert layer(torch.zeros(0, 4)).shape == (0, 3)
        assert layer(torch.zeros(4)).shape == (3,)
        assert layer.double()(torch.randn(2, 4).double()).dtype == torch.float64
    assert not any(taken)


@pytest.mark.parametrize(
    ("shape", "pays"),
    [((2, WIDE), True), ((2, WIDE - 1), False), ((MANY // 8, 8), True), ((MANY // 8 - 1, 8), False)],
)
def test_wide_inputs_and_large_ones_pay(shape, pays):
    assert isinstance(quick_products(torch.zeros(shape)), OneDnnLinear) is pays
    assert not isinstance(quick_products(torch.zeros(shape, device="meta")), OneDnnLinear)
