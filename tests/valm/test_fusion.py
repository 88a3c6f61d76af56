"""The joint attention: its ways agree, only its own word sees a picture, and hidden ones are not there."""

import pytest
import torch
from torch.nn import functional as F

from tests.valm.small import B, D, K, T, V, close, images, model, some_hidden, use, words
from vlpnb.errors import UserError
from vlpnb.valm.config import PROJECTIONS
from vlpnb.valm.fusion import JOINT, JointAttention, Reading, merge, pictures_of

WAYS = ("reference", "absorbed", "merged")


def outputs_and_gradients(lm, way, mask, causal=True, **given):
    use(lm, way).zero_grad()
    out = lm.model(words(), images(width=lm.config.image_width), mask, causal=causal, **given)
    weights = torch.randn(out.last.shape, generator=torch.Generator().manual_seed(9)).double()
    (out.last * weights).sum().backward()
    return out, {name: p.grad for name, p in lm.named_parameters()}


@pytest.mark.parametrize("masked", ["seen", "some", "all"])
@pytest.mark.parametrize("projection", JOINT)
@pytest.mark.parametrize("width", [D, 20])
def test_the_three_ways_give_the_same_numbers_and_gradients(projection, width, masked):
    mask = {"seen": None, "some": some_hidden(), "all": torch.zeros(B, T, K, dtype=torch.bool)}[masked]
    lm = model(projection=projection, image_width=width)
    first, gradients = outputs_and_gradients(lm, "reference", mask)
    for way in WAYS[1:]:
        out, found = outputs_and_gradients(lm, way, mask)
        close(out.last, first.last, 1e-9)
        close(out.image_mass, first.image_mass)
        for name, gradient in gradients.items():
            if gradient is None:
                assert found[name] is None, name
            else:
                close(found[name], gradient, 1e-8 * (1 + float(gradient.abs().max())))


def test_they_agree_in_float32_and_under_a_full_mask_with_padding():
    lm = model()
    ids = words()
    ids[1, 6:] = lm.config.pad_id
    for causal in (True, False):
        double = use(lm.double(), "reference").model(ids, images(), some_hidden(), causal=causal).last
        single = [
            use(lm.float(), way).model(ids, images().float(), some_hidden(), causal=causal).last
            for way in WAYS
        ]
        for out in single:
            close(out, double, 2e-5)


def test_words_and_pictures_share_one_softmax():
    lm = use(model(), "absorbed")
    out = lm.model(words(), images(), maps=True)
    attention = out.maps[1]
    assert attention.shape == (B, 4, T, T + K)
    close(attention.sum(-1), torch.ones(B, 4, T))
    close(attention[..., T:].sum(-1).mean(1), out.image_mass)
    assert attention[..., :T].triu(1).eq(0).all()
    assert 0.05 < out.image_mass.mean() < 0.95


@pytest.mark.parametrize("way", WAYS)
def test_pictures_in_another_order_change_nothing(way):
    lm = use(model(), way)
    order = torch.tensor([2, 0, 1])
    one = lm.model(words(), images(), some_hidden()).last
    close(lm.model(words(), images()[:, :, order], some_hidden()[:, :, order]).last, one)


@pytest.mark.parametrize("way", WAYS)
def test_a_picture_is_seen_by_its_own_word_and_through_it_by_later_ones_alone(way):
    lm, other = use(model(fusion=(-1,)), way), images()
    other[:, 4] *= torch.linspace(0, 1, D)
    changed = (lm.model(words(), other).last - lm.model(words(), images()).last).abs().amax((0, 2)) > 1e-6
    assert changed.tolist() == [place == 4 for place in range(T)]  # of the last block nobody reads more


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("scale", ["head", "model"])
def test_no_pictures_and_hidden_pictures_are_the_text_only_layer_of_the_same_scale(way, scale):
    lm = use(model(scale=scale), way)
    none = lm.model(words()).last
    close(lm.model(words(), images()[:, :, :0]).last, none)
    close(lm.model(words(), images(), torch.zeros(B, T, K, dtype=torch.bool)).last, none)
    plain = model(fusion=())
    state = lm.state_dict()
    plain.load_state_dict({name: state[name] for name in plain.state_dict()})
    same = (plain.model(words()).last - none).abs().max() < 1e-10
    assert bool(same) == (scale == "head")  # by √D the softmax is another, with pictures or without


def test_a_layer_is_the_formula():
    torch.manual_seed(0)
    layer = JointAttention(D, 4, D).double()
    x, z = torch.randn(1, T, D).double(), images(rows=1)
    q, k, v = (F.linear(x, p.weight, p.bias).view(T, 4, 8) for p in (layer.query, layer.key, layer.value))
    g = F.layer_norm(z[0], (D,), layer.reading.norm.weight, layer.reading.norm.bias)
    image_k = F.linear(g, layer.key.weight, layer.image_key_bias).view(T, K, 4, 8)
    image_v = F.linear(g, layer.value.weight, layer.image_value_bias).view(T, K, 4, 8)
    out = torch.zeros(T, D).double()
    for t in range(T):
        for h in range(4):
            keys = torch.cat([k[: t + 1, h], image_k[t, :, h]])
            values = torch.cat([v[: t + 1, h], image_v[t, :, h]])
            out[t, 8 * h : 8 * h + 8] = (keys @ q[t, h] / 8**0.5).softmax(0) @ values
    close(layer(x, pictures_of(z), causal=True)[0][0], layer.out(out))


def test_something_else_enters_the_fused_kernel_as_one_key():
    torch.manual_seed(0)
    q, k, v = torch.randn(3, B, 4, T, 8).double()
    other = torch.randn(B, 4, T).double() * 5
    scores = (q @ k.mT).masked_fill(torch.ones(T, T).triu(1).bool(), -torch.inf)
    attention = torch.cat([scores, other[..., None]], dim=-1).softmax(-1)
    for mask, causal in ((None, True), (torch.ones(T, T).tril().bool()[None, None], False)):
        mixed, share = merge(q, k, v, other, mask, causal=causal)
        close(mixed, attention[..., :T] @ v)
        close(share, attention[..., T])


@pytest.mark.parametrize("projection", PROJECTIONS)
@pytest.mark.parametrize("mode", ["drop", "zero", "null"])
@pytest.mark.parametrize("count", [7, 50])  # fewer than words, and more
def test_distinct_vectors_and_rows_are_the_vectors_at_their_places(count, projection, mode):
    lm = model(projection=projection, image_mode=mode, image_width=20, stack=1, scope="past")
    vectors = images(rows=1, length=1, count=count, width=20)[0, 0]
    rows = torch.randint(0, count, (B, T, K), generator=torch.Generator().manual_seed(4))
    one = lm.model(words(), vectors[rows], some_hidden()).last
    close(lm.model(words(), vectors, some_hidden(), rows=rows).last, one)
    absent = rows.masked_fill(~some_hidden(), -1)
    close(lm.model(words(), vectors, rows=absent).last, one)


@pytest.mark.parametrize("mode", ["drop", "zero", "null"])
def test_what_is_hidden_has_no_influence(mode):
    lm, other = model(image_mode=mode, stack=1), images()
    other[~some_hidden()] += 100.0
    close(lm.model(words(), other, some_hidden()).last, lm.model(words(), images(), some_hidden()).last)


def test_hidden_pictures_are_nothing_or_zeros_or_a_learned_vector():
    seen = some_hidden()
    zeros = images() * seen[..., None]
    zero = model(image_mode="zero")
    close(zero.model(words(), images(), seen).last, zero.model(words(), zeros).last)
    null = model(image_mode="null")
    learned = null.model.blocks[1].look.attention.reading.null
    filled = torch.where(seen[..., None], images(), learned)
    close(null.model(words(), images(), seen).last, null.model(words(), filled).last)
    null.model(words(), images(), seen).last.sum().backward()
    assert learned.grad.abs().sum() > 0


def test_a_closed_gate_leaves_a_trained_model_as_it_was():
    lm, plain = model(projection="gated"), model(fusion=())
    gate = lm.model.blocks[1].see.gate
    state = lm.state_dict()
    plain.load_state_dict({name: state[name] for name in plain.state_dict()})
    gate.data.zero_()
    close(lm.model(words(), images()).last, plain.model(words()).last)
    gate.data.fill_(0.5)
    assert (lm.model(words(), images()).last - plain.model(words()).last).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("scope", "causal", "sees"),
    [
        ("own", True, [4]),
        ("past", True, list(range(4, T))),
        ("past", False, list(range(4, T))),
        ("all", False, list(range(T))),
    ],
)
def test_stacked_layers_see_the_pictures_of_their_scope(scope, causal, sees):
    lm, other = model(fusion=(), stack=1, scope=scope), images()
    other[:, 4] += torch.randn(D, generator=torch.Generator().manual_seed(5)).double()
    difference = (
        lm.model(words(), other, causal=causal).last - lm.model(words(), images(), causal=causal).last
    )
    assert (difference.abs().amax((0, 2)) > 1e-9).nonzero()[:, 0].tolist() == sees
    hidden = torch.zeros(B, T, K, dtype=torch.bool)
    close(lm.model(words(), images(), hidden, causal=causal).last, lm.model(words(), causal=causal).last)


def test_pictures_that_the_model_cannot_read_are_refused():
    lm = model()
    with pytest.raises(UserError, match="image vectors have 20 numbers; this model expects 32"):
        lm.model(words(), images(width=20))
    with pytest.raises(UserError, match="or \\(U, E\\) together with `rows`"):
        lm.model(words(), images()[0, 0])
    with pytest.raises(UserError, match="no fusion layer"):
        model(fusion=()).model(words(), images())
    with pytest.raises(UserError, match="pictures of later ones"):
        model(stack=1, scope="all").model(words(), images())
    with pytest.raises(UserError, match="cannot be split"):
        JointAttention(30, 4, 30)


def test_images_in_half_precision_are_read_as_they_are():
    lm = model()
    half = images().half()
    close(lm.model(words(), half).last, lm.model(words(), half.double()).last)


def test_gradients_reach_all_that_is_live_and_no_image():
    lm, z = model(), images().requires_grad_()
    lm(words(), words(5), z)["next"].backward()
    assert {name for name, p in lm.named_parameters() if p.grad is None or not p.grad.any()} == set()
    assert isinstance(lm.model.blocks[1].look.attention.reading, Reading)
    assert len(lm.model.word_weight) == V


def test_pictures_are_read_in_inference_mode_too():
    torch.manual_seed(0)
    layer = JointAttention(24, 3, 24).eval()
    x, z = torch.randn(2, 5, 24), torch.randn(2, 5, 3, 24)
    with torch.no_grad():
        expected = layer(x, pictures_of(z), causal=True)[0]
    with torch.inference_mode():
        found = layer(x, pictures_of(z), causal=True)[0]
    assert torch.allclose(found, expected, atol=1e-6)
