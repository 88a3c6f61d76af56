"""Dense layers by oneDNN: equal to rounding, and only where no gradient is wanted."""

import pytest
import torch
from torch import nn

from vlpnb.nn import onednn
from vlpnb.nn.onednn import OneDnnLinear

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


def test_gradients_other_types_and_nothing_at_all_are_left_to_pytorch(taken):
    layer = nn.Linear(4, 3)
    with OneDnnLinear():
        layer(torch.randn(2, 4)).sum().backward()
        with torch.no_grad():
            assert layer.double()(torch.randn(2, 4).double()).dtype == torch.float64
            assert layer.float()(torch.zeros(0, 4)).shape == (0, 3)
    assert layer.weight.grad is not None
    assert not any(taken)
