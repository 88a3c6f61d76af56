"""The voken head: losses over labelled positions only, and its initial weights."""

import pytest
import torch
from torch.nn import functional as F

from vlpnb.nn.transformer import TransformerConfig
from vlpnb.vokenization.voken_heads import VokenHead

CONFIG = TransformerConfig(vocab_size=50, hidden=16, layers=1, heads=2, ffn=32, max_positions=12)


def labels(classes: int) -> torch.Tensor:
    target = torch.randint(classes, (3, 7))
    target[torch.rand(3, 7) < 0.5] = -100
    target[0, 0] = 3
    return target


def test_voken_loss_equals_plain():
    head = VokenHead(CONFIG, vokens=9)
    hidden, target = torch.randn(3, 7, 16), labels(9)
    plain = F.cross_entropy(head(hidden).flatten(0, 1), target.flatten(), reduction="sum")
    torch.testing.assert_close(head.loss(hidden, target, "sum"), plain)
    torch.testing.assert_close(head.loss(hidden, target), plain / (target != -100).sum())


def test_no_label_anywhere_gives_zero_and_gradients():
    head = VokenHead(CONFIG, vokens=9)
    loss = head.loss(torch.randn(2, 7, 16), torch.full((2, 7), -100))
    loss.backward()
    assert loss.item() == 0
    assert all((p.grad == 0).all() for p in head.parameters())


def test_voken_head_starts_like_the_rest_of_the_model():
    head = VokenHead(TransformerConfig(hidden=64, heads=2), vokens=200)
    assert head.decoder.weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert (head.decoder.bias == 0).all()
