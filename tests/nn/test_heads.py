"""Heads: tied decoder, losses over labelled positions only, initialisation and dropout."""

import pytest
import torch
from torch.nn import functional as F

from vlpnb.nn.heads import ClassificationHead, MLMHead, Pooler, SpanHead
from vlpnb.nn.transformer import Encoder, TransformerConfig

CONFIG = TransformerConfig(vocab_size=50, hidden=16, layers=1, heads=2, ffn=32, max_positions=12)


def labels(classes: int) -> torch.Tensor:
    target = torch.randint(classes, (3, 7))
    target[torch.rand(3, 7) < 0.5] = -100
    target[0, 0] = 3
    return target


def test_mlm_loss_equals_plain_and_trains_the_word_table():
    encoder, head = Encoder(CONFIG).eval(), MLMHead(CONFIG)
    hidden, target = torch.randn(3, 7, 16), labels(50)
    loss = head.loss(hidden, encoder.word_weight, target)
    plain = F.cross_entropy(head.logits(hidden, encoder.word_weight).flatten(0, 1), target.flatten())
    torch.testing.assert_close(loss, plain)
    loss.backward()
    assert encoder.word_weight.grad.abs().sum() > 0
    assert "decoder" not in dict(head.named_modules())  # tied: no second table


@pytest.mark.parametrize("style", ["bert", "roberta"])
def test_classifier_reads_the_first_token_and_drops_out_in_training_only(style: str):
    head = ClassificationHead(16, 3, dropout=0.5, style=style)
    hidden = torch.randn(4, 7, 16)
    assert not torch.equal(head(hidden), head(hidden))
    head.eval()
    assert torch.equal(head(hidden), head(hidden[:, :1]))
    torch.testing.assert_close(head(hidden), head.out(head.pooler(hidden)))


def test_roberta_drops_out_the_pooler_input_too():
    drops = {"bert": [], "roberta": []}
    for style, seen in drops.items():
        head = ClassificationHead(16, 3, dropout=0.5, style=style)
        head.pooler.register_forward_pre_hook(lambda _, inputs, seen=seen: seen.append(inputs[0] == 0))
        head(torch.ones(8, 2, 16))
    assert not drops["bert"][0].any()
    assert drops["roberta"][0].any()


def test_pooler():
    pooler = Pooler(16)
    hidden = torch.randn(4, 7, 16)
    torch.testing.assert_close(pooler(hidden), torch.tanh(pooler.dense(hidden[:, 0])))


def test_span_head_ignores_padding_and_averages_both_ends():
    head, hidden = SpanHead(16), torch.randn(2, 7, 16)
    mask = torch.ones(2, 7, dtype=torch.bool)
    mask[1, 4:] = False
    starts, ends = torch.tensor([2, 0]), torch.tensor([5, 3])
    loss = head.loss(hidden, mask, starts, ends)
    by_hand = 0.0
    for i, length in enumerate((7, 4)):
        for scores, target in zip(head(hidden), (starts, ends), strict=True):
            by_hand += (scores[i, :length].logsumexp(0) - scores[i, target[i]]) / 2
    torch.testing.assert_close(loss, by_hand)
    alone = head.loss(hidden[1:, :4], mask[1:, :4], starts[1:], ends[1:])
    torch.testing.assert_close(head.loss(hidden[1:], mask[1:], starts[1:], ends[1:]), alone)
