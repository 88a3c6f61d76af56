"""BERT masking: rates, specials, repeatability."""

import torch

from vlpnb.text.masking import mask_tokens


def batch(n=400, t=128):
    ids = torch.randint(5, 1000, (n, t))
    special = torch.zeros_like(ids, dtype=torch.bool)
    special[:, [0, -1]] = True
    return ids, special


def test_rates_and_labels():
    ids, special = batch()
    inputs, labels = mask_tokens(ids, special, 4, 30_000, torch.Generator().manual_seed(1))
    chosen = labels != -100
    assert not chosen[special].any()
    assert torch.equal(labels[chosen], ids[chosen])
    assert torch.equal(inputs[~chosen], ids[~chosen])
    share = chosen[~special].float().mean().item()
    assert abs(share - 0.15) < 0.005
    masked = (inputs == 4)[chosen].float().mean().item()
    kept = (inputs == ids)[chosen].float().mean().item()
    assert abs(masked - 0.8) < 0.015
    assert abs(kept - 0.1) < 0.012
    assert inputs[chosen & (inputs != 4) & (inputs != ids)].max() > 20_000  # the whole vocabulary


def test_generator_repeats_and_continues():
    ids, special = batch(4, 16)
    g = torch.Generator().manual_seed(3)
    first, second = mask_tokens(ids, special, 4, 99, g), mask_tokens(ids, special, 4, 99, g)
    again = mask_tokens(ids, special, 4, 99, torch.Generator().manual_seed(3))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[1], second[1])


def test_rate_limits_and_narrow_integers():
    ids, special = batch(3, 10)
    inputs, labels = mask_tokens(ids.to(torch.int32), special, 4, 99, rate=0.0)
    assert torch.equal(inputs, ids)
    assert (labels == -100).all()
    _, labels = mask_tokens(ids, special, 4, 99, rate=1.0)
    assert ((labels == ids) == ~special).all()
