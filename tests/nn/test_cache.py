"""Looking back at what is kept equals computing all anew: step by step, behind shared prefixes, with gradients."""

import pytest
import torch

from vlpnb.errors import UserError
from vlpnb.nn.beam import beam
from vlpnb.nn.cache import Cache
from vlpnb.nn.masks import causal_mask, prefix_mask
from vlpnb.nn.transformer import Encoder, TransformerConfig

CLOSE = {"atol": 1e-5, "rtol": 0}
P, T, D = 5, 7, 16


def encoder(norm: str = "post") -> Encoder:
    config = TransformerConfig(
        vocab_size=50, hidden=D, layers=3, heads=4, ffn=32, norm=norm, attention_dropout=0.0, dropout=0.0
    )
    network = Encoder(config)
    torch.nn.init.normal_(network.word_weight)
    for block in network.blocks:  # larger than at the start, so that attention matters
        torch.nn.init.normal_(block.look.attention.query.weight, std=0.5)
        torch.nn.init.normal_(block.look.attention.key.weight, std=0.5)
    return network


@pytest.mark.parametrize("norm", ["post", "pre"])
@pytest.mark.parametrize("weights", [False, True])
def test_a_causal_model_read_token_by_token_equals_one_pass(norm, weights):
    network, x, cache = encoder(norm), torch.randn(2, T, D), Cache(3)
    full = network.encode(x, causal_mask(T), attentions=True)
    first = network.encode(x[:, :3], causal_mask(3), cache=cache, attentions=weights).last
    rest = [network.encode(x[:, t : t + 1], cache=cache, attentions=weights) for t in range(3, T)]
    torch.testing.assert_close(torch.cat([first, *(out.last for out in rest)], 1), full.last, **CLOSE)
    assert cache.length == T
    if weights:
        for layer in range(3):
            torch.testing.assert_close(
                rest[-1].attentions[layer][:, :, 0], full.attentions[layer][:, :, -1], **CLOSE
            )


def behind_prefixes(network, prefix, seen, text, each):
    """Last states of each text behind a copy of its picture's prefix: the plain way."""
    whole = torch.cat([prefix.repeat_interleave(each, 0), text], dim=1)
    n = torch.full((len(whole),), P)
    mask = prefix_mask(n, n + text.shape[1], whole.shape[1])
    columns = torch.cat(
        [seen.repeat_interleave(each, 0), torch.ones(text.shape[:2], dtype=torch.bool)], dim=1
    )
    out = network.encode(whole, mask & columns[:, None, None], attentions=True)
    return out.last[:, P:], [attention[:, :, P:] for attention in out.attentions]


@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize("norm", ["post", "pre"])
def test_texts_behind_a_shared_prefix_equal_texts_behind_copies_of_it(hidden, norm):
    network, prefix, text = encoder(norm), torch.randn(2, P, D), torch.randn(6, T, D)
    prefix.requires_grad_()
    seen = torch.ones(2, P, dtype=torch.bool)
    seen[1, 3:] = not hidden
    expected, maps = behind_prefixes(network, prefix, seen, text, 3)
    loss = expected.square().sum()
    wanted = torch.autograd.grad(loss, [prefix, network.blocks[0].look.attention.key.weight])

    cache = Cache(3)
    network.encode(prefix, seen[:, None, None], cache=cache)
    cache.share(seen if hidden else None)
    found = network.encode(text, cache.mask(causal_mask(T), 6), attentions=True, cache=cache)
    torch.testing.assert_close(found.last, expected, **CLOSE)
    torch.testing.assert_close(found.attentions, maps, **CLOSE)
    plain = network.encode(text, cache.fork().mask(causal_mask(T), 6), cache=cache.fork())
    assert plain.attentions is None
    torch.testing.assert_close(plain.last, expected, **CLOSE)
    gradients = torch.autograd.grad(
        found.last.square().sum(), [prefix, network.blocks[0].look.attention.key.weight]
    )
    torch.testing.assert_close(gradients, wanted, atol=1e-4, rtol=1e-4)


def test_rows_that_change_places_take_what_they_have_written_with_them():
    network, prefix = encoder(), torch.randn(2, P, D)
    texts = torch.randn(2, 2, D)
    new = torch.randn(6, 2, D)
    parents = torch.tensor([0, 0, 0, 1, 1, 1])
    swap = torch.tensor([2, 0, 0, 4, 3, 5])
    final = torch.cat([texts[parents], new], dim=1)[swap]
    last = torch.randn(6, 1, D)
    expected, _ = behind_prefixes(network, prefix, torch.ones(2, P) > 0, torch.cat([final, last], 1), 3)

    cache = Cache(3)
    network.encode(prefix, cache=cache)
    cache.share()
    network.encode(texts, cache.mask(causal_mask(2), 2), cache=cache)
    cache.reorder(parents)
    network.encode(new, cache.mask(causal_mask(4)[:, :, 2:], 6), cache=cache)
    cache.reorder(swap)
    out = network.encode(last, cache=cache).last
    torch.testing.assert_close(out, expected[:, -1:], **CLOSE)


def test_a_position_that_is_dropped_was_never_there():
    network, x = encoder(), torch.randn(2, 4, D)
    cache, clean = Cache(3), Cache(3)
    network.encode(x[:, :2], causal_mask(2), cache=cache)
    cache.drop(1)
    assert cache.length == 1
    network.encode(x[:, :1], cache=clean)
    torch.testing.assert_close(
        network.encode(x[:, 2:3], cache=cache).last, network.encode(x[:, 2:3], cache=clean).last
    )
    cache.drop(2)
    assert cache.length == 0
    torch.testing.assert_close(network.encode(x, cache=cache).last, network.encode(x).last, **CLOSE)


def test_the_prefix_is_kept_once_and_shared_by_forks():
    network, cache = encoder(), Cache(3)
    network.encode(torch.randn(2, P, D), cache=cache)
    assert (cache.pictures, cache.width, cache.length) == (0, 0, P)
    cache.share()
    assert (cache.pictures, cache.width, cache.length) == (2, P, 0)
    other = cache.fork()
    network.encode(torch.randn(8, 1, D), cache=other)
    other.reorder(torch.arange(8))
    assert (cache.length, other.length) == (0, 1)
    for mine, theirs in zip(cache.layers, other.layers, strict=True):
        assert mine.prefix[0].data_ptr() == theirs.prefix[0].data_ptr()
        assert mine.prefix[0].shape[0] == 2


def test_rows_that_cannot_be_shared_out_are_refused():
    network, cache = encoder(), Cache(3)
    network.encode(torch.randn(2, P, D), cache=cache)
    cache.share()
    with pytest.raises(UserError, match="5 rows do not share 2 prefixes evenly"):
        network.encode(torch.randn(5, 1, D), cache=cache)


def test_attention_is_dropped_out_behind_a_prefix_too():
    network, cache = encoder(), Cache(3)
    for block in network.blocks:
        block.look.attention.dropout = 0.5
    network.eval().encode(torch.randn(2, P, D), cache=cache)
    cache.share()
    text, mask = torch.randn(4, T, D), cache.mask(causal_mask(T), 4)
    calm = network.encode(text, mask, cache=cache.fork()).last
    network.train()
    noisy, other = (network.encode(text, mask, cache=cache.fork()).last for _ in range(2))
    assert not torch.allclose(noisy, calm, atol=1e-3)
    assert not torch.allclose(noisy, other, atol=1e-3)


@torch.no_grad()
def test_a_causal_model_goes_on_from_a_prompt_with_a_beam_as_when_it_reads_all_anew():
    """One token a step, the prompt shared by the beams: what a language model does."""
    network, prompts = encoder("pre").eval(), torch.randint(0, 50, (2, P))
    table = network.embeddings

    def embedded(ids, first):
        return table.words(ids) + table.positions(first + torch.arange(ids.shape[1]))

    cache = Cache(3)
    first = network.encode(embedded(prompts, 0), causal_mask(P), cache=cache).last[:, -1]
    cache.share()

    def cached(words, rows):
        if words is None:
            return first @ table.words.weight.T
        cache.reorder(rows)
        out = network.encode(embedded(words[:, None], P + cache.length), cache=cache)
        return out.last[:, -1] @ table.words.weight.T

    texts = prompts

    def anew(words, rows):
        nonlocal texts
        if words is not None:
            texts = torch.cat([texts[rows], words[:, None]], dim=1)
        out = network.encode(embedded(texts, 0), causal_mask(texts.shape[1]))
        return out.last[:, -1] @ table.words.weight.T

    found, expected = (beam(step, 4, 6, 0, stop_early=False) for step in (cached, anew))
    assert torch.equal(found.words, expected.words)
    torch.testing.assert_close(found.totals, expected.totals, atol=1e-4, rtol=1e-5)
