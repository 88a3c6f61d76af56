"""The voken head: losses over labelled positions only, and its initial weights."""

import pytest
import torch
from torch.nn import functional as F

from vlpnb.nn.transformer import TransformerConfig
from vlpnb.vokenization.voken_heads import VokenHead, VokenScorer

CONFIG = TransformerConfig(vocab_size=50, hidden=16, layers=1, heads=2, ffn=32, max_positions=12)


def test_voken_loss_equals_plain():
    scorer = VokenScorer(CONFIG, 9, "cls", None, shared=False)
    hidden, target = torch.randn(21, 16), torch.randint(9, (21,))
    plain = F.cross_entropy(scorer.scores(hidden), target, reduction="sum")
    torch.testing.assert_close(scorer.loss(hidden, target), plain)
    torch.testing.assert_close(scorer.scores(hidden), scorer.head(hidden))


def test_no_label_anywhere_gives_zero_and_gradients():
    scorer = VokenScorer(CONFIG, 9, "cls", None, shared=False)
    loss = scorer.loss(torch.randn(0, 16), torch.zeros(0, dtype=torch.long))
    loss.backward()
    assert loss.item() == 0
    assert all((p.grad == 0).all() for p in scorer.parameters())


def test_voken_head_starts_like_the_rest_of_the_model():
    head = VokenHead(TransformerConfig(hidden=64, heads=2), vokens=200)
    assert head.decoder.weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert (head.decoder.bias == 0).all()
