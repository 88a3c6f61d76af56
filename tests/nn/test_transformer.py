"""Attention, masks and the encoder: maps from the same pass, padding, causality, dropout, initialisation."""

from dataclasses import dataclass

import pytest
import torch
from torch import nn

from vlpnb.errors import UserError
from vlpnb.nn.attention import Attention
from vlpnb.nn.masks import causal_mask, padding_mask, prefix_mask
from vlpnb.nn.transformer import AttentionLayer, Encoder, TransformerConfig, check_numbers

SMALL = {"vocab_size": 50, "hidden": 16, "layers": 2, "heads": 4, "ffn": 32, "max_positions": 24}


def ragged(batch: int = 4, length: int = 9) -> tuple[torch.Tensor, torch.Tensor]:
    """Random ids with rows of different lengths, 0 at padding, and their mask."""
    lengths = torch.randint(1, length + 1, (batch,))
    lengths[0] = length
    mask = (torch.arange(length) < lengths[:, None]).long()
    return torch.randint(5, 50, (batch, length)) * mask, mask


@pytest.mark.parametrize("norm", ["post", "pre"])
@pytest.mark.parametrize("causal", [False, True])
def test_asking_for_maps_changes_nothing(norm: str, causal: bool):
    encoder = Encoder(TransformerConfig(**SMALL, norm=norm, causal=causal)).eval()
    ids, mask = ragged()
    plain = encoder(ids, mask)
    full = encoder(ids, mask, hidden_states=True, attentions=True)
    torch.testing.assert_close(full.last, plain.last, atol=1e-5, rtol=0)
    assert plain.hidden_states is None
    assert plain.attentions is None
    assert len(full.hidden_states) == 3
    assert full.hidden_states[-1] is full.last
    for attention in full.attentions:
        torch.testing.assert_close(attention.sum(-1), torch.ones(4, 4, 9))
        assert (attention * (1 - mask)[:, None, None]).sum() == 0  # nobody looks at padding
        assert not causal or attention.triu(1).sum() == 0


def test_the_map_explains_the_output():
    layer = Attention(16, 4).eval()
    x, memory = torch.randn(2, 3, 16), torch.randn(2, 5, 16)
    out, attention = layer(x, memory=memory, weights=True)
    value = layer.value(memory).view(2, 5, 4, 4).transpose(1, 2)  # (B, H, S, d)
    torch.testing.assert_close(layer.out((attention @ value).transpose(1, 2).flatten(2)), out)


def test_cross_attention_takes_another_length_and_width():
    config = TransformerConfig(**SMALL)
    layer = AttentionLayer(config, memory=10).eval()
    x, memory = torch.randn(2, 3, 16), torch.randn(2, 5, 10)
    seen = torch.tensor([[1, 1, 0, 0, 0], [1, 1, 1, 1, 1]])
    out, attention = layer(x, padding_mask(seen), memory, weights=True)
    assert out.shape == (2, 3, 16)
    assert attention.shape == (2, 4, 3, 5)
    changed = memory.clone()
    changed[0, 2:] += 7  # hidden memory
    torch.testing.assert_close(layer(x, padding_mask(seen), changed)[0], out, atol=1e-5, rtol=0)


def test_attention_equals_pytorch_multihead():
    ours, theirs = Attention(16, 4).eval(), nn.MultiheadAttention(16, 4, batch_first=True).eval()
    parts = (ours.query, ours.key, ours.value)
    theirs.in_proj_weight.data = torch.cat([p.weight for p in parts]).detach()
    theirs.in_proj_bias.data = torch.cat([p.bias for p in parts]).detach()
    theirs.out_proj.load_state_dict(ours.out.state_dict())
    x = torch.randn(3, 6, 16)
    _, mask = ragged(3, 6)
    out, attention = ours(x, padding_mask(mask), weights=True)
    expected, expected_map = theirs(x, x, x, key_padding_mask=mask == 0, average_attn_weights=False)
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(attention, expected_map, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("weights", [False, True])
def test_a_row_that_may_look_nowhere_is_finite_with_gradient(weights: bool):
    layer = Attention(16, 4)
    x = torch.randn(2, 3, 16, requires_grad=True)
    mask = padding_mask(torch.tensor([[0, 0, 0], [1, 1, 0]]))
    out, _ = layer(x, mask, weights=weights)
    torch.testing.assert_close(out[0], layer.out.bias.expand(3, 16))
    out.sum().backward()
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("offset", [0, 1])
def test_padding_does_not_change_real_tokens(offset: int):
    encoder = Encoder(TransformerConfig(**SMALL, position_offset=offset)).eval()
    ids, mask = ragged()
    out = encoder(ids, mask).last
    for row, length in enumerate(mask.sum(1).tolist()):
        alone = encoder(ids[row : row + 1, :length]).last[0]
        torch.testing.assert_close(out[row, :length], alone, atol=1e-5, rtol=0)


def test_a_causal_encoder_does_not_see_the_future():
    encoder = Encoder(TransformerConfig(**SMALL, norm="pre", causal=True)).eval()
    ids = torch.randint(5, 50, (2, 9))
    changed = ids.clone()
    changed[:, 6:] = 5
    torch.testing.assert_close(encoder(ids).last[:, :6], encoder(changed).last[:, :6], atol=1e-6, rtol=0)


def test_prefix_mask_by_hand():
    mask = prefix_mask(torch.tensor([2, 1]), torch.tensor([4, 2]), 4)[:, 0].int()
    assert mask[0].tolist() == [[1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]]
    assert mask[1].tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 0, 0]]
    assert torch.equal(prefix_mask(torch.tensor([0]), torch.tensor([5]), 5), causal_mask(5))


def test_encoder_accepts_a_full_mask():
    encoder = Encoder(TransformerConfig(**SMALL)).eval()
    ids = torch.randint(5, 50, (2, 6))
    mask = prefix_mask(torch.tensor([3, 2]), torch.tensor([6, 5]), 6)
    changed = ids.clone()
    changed[:, -1] = 5
    torch.testing.assert_close(encoder(ids, mask).last[:, :3], encoder(changed, mask).last[:, :3])


def test_dropout_only_in_training():
    encoder = Encoder(TransformerConfig(**SMALL, dropout=0.5, attention_dropout=0.5))
    ids = torch.randint(5, 50, (2, 6))
    for weights in (False, True):
        encoder.train()
        assert not torch.equal(encoder(ids, attentions=weights).last, encoder(ids, attentions=weights).last)
        encoder.eval()
        assert torch.equal(encoder(ids, attentions=weights).last, encoder(ids, attentions=weights).last)


def test_attention_dropout_reaches_both_paths():
    layer = Attention(16, 4, dropout=0.9)
    x = torch.randn(2, 6, 16)
    for weights in (False, True):
        assert not torch.equal(layer(x, weights=weights)[0], layer(x, weights=weights)[0])


def test_initialisation():
    config = {**SMALL, "hidden": 64, "ffn": 256}
    encoder = Encoder(TransformerConfig(**config))
    for name, parameter in encoder.named_parameters():
        if "norm" in name:
            assert (parameter == (1 if name.endswith("weight") else 0)).all(), name
        elif name.endswith("bias"):
            assert (parameter == 0).all(), name
        elif parameter.numel() > 1000:
            assert parameter.std().item() == pytest.approx(0.02, rel=0.1), name


def test_roberta_positions_skip_padding():
    config = TransformerConfig(**SMALL, pad_id=1, position_offset=2)
    ids = torch.tensor([[7, 8, 1, 1], [1, 7, 8, 9]])
    positions = Encoder(config).embeddings.position_ids(ids)
    assert positions.tolist() == [[2, 3, 1, 1], [1, 2, 3, 4]]


def test_bad_shapes_are_for_the_user():
    with pytest.raises(UserError, match="hidden = 10 cannot be split into heads = 3"):
        TransformerConfig(hidden=10, heads=3)
    with pytest.raises(UserError, match="activation = 'geglu'"):
        TransformerConfig(activation="geglu")
    encoder = Encoder(TransformerConfig(**SMALL, pad_id=1, position_offset=2))
    with pytest.raises(UserError, match="23 tokens do not fit into the 22"):
        encoder(torch.full((1, 23), 5))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_is_finite_and_near(dtype: torch.dtype):
    encoder = Encoder(TransformerConfig(**SMALL)).eval()
    ids, mask = ragged()
    with torch.autocast("cpu", dtype=dtype):
        low, maps = encoder(ids, mask).last, encoder(ids, mask, attentions=True).last
    torch.testing.assert_close(low.float(), encoder(ids, mask).last, atol=0.1, rtol=0)
    torch.testing.assert_close(low.float(), maps.float(), atol=0.1, rtol=0)


@pytest.mark.parametrize("weights", [False, True])
def test_no_query_gives_no_output_whatever_is_looked_at(weights: bool):
    """What comes before a sentence that is written may be no word at all."""
    layer = AttentionLayer(TransformerConfig(**SMALL)).eval()
    x, none = torch.randn(2, 5, 16), torch.randn(2, 0, 16)
    out, seen = layer(none, None, x, weights=weights)
    assert out.shape == (2, 0, 16)
    assert seen is None or seen.shape[2:] == (0, 5)
    assert layer(x[:0], weights=weights)[0].shape == (0, 5, 16)


@pytest.mark.parametrize("weights", [False, True])
def test_keys_of_a_memory_made_once_are_the_memory(weights: bool):
    layer = AttentionLayer(TransformerConfig(**SMALL), memory=10).eval()
    x, memory = torch.randn(6, 3, 16), torch.randn(2, 5, 10)
    keys = layer.attention.memory_keys(memory)
    rows = torch.tensor([0, 0, 0, 1, 1, 1])
    mask = padding_mask(torch.tensor([[1, 1, 0, 0, 0], [1, 1, 1, 1, 0]]))
    plain, plain_map = layer(x, mask[rows], memory[rows], weights=weights)
    copied = layer(x, mask[rows], cached=tuple(part[rows] for part in keys), weights=weights)
    for seen in (
        mask,
        mask[rows],
        mask.expand(2, 1, 3, 5),
    ):  # masks of the memories, of the rows, of the queries
        shared, shared_map = layer(x, seen, cached=keys, weights=weights)
        torch.testing.assert_close(shared, plain)
        if weights:
            torch.testing.assert_close(shared_map, plain_map)
    torch.testing.assert_close(copied[0], plain)


@dataclass(frozen=True)
class Shape:
    hidden: int = 8
    heads: int = 2
    vocab_size: int = 30
    pad_id: int = 0
    boxes: bool = False
    width: int = 4


def test_a_models_configuration_gives_the_layers_what_it_says_by_the_same_names():
    config = TransformerConfig.of(Shape(), layers=3)
    assert (config.hidden, config.heads, config.vocab_size, config.layers) == (8, 2, 30, 3)
    assert config.ffn == TransformerConfig().ffn


def test_numbers_that_are_too_small_and_ids_beyond_the_words_are_named():
    check_numbers(Shape(), ("pad_id",), pad_id=0)
    with pytest.raises(UserError, match=r"Shape\.width = 0; expected at least 1"):
        check_numbers(Shape(width=0), pad_id=0)
    with pytest.raises(UserError, match=r"Shape\.pad_id = 0; expected at least 1"):
        check_numbers(Shape())
    with pytest.raises(UserError, match=r"Shape\.pad_id = 30; expected below vocab_size = 30"):
        check_numbers(Shape(pad_id=30), ("pad_id",))
