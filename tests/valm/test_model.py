"""The decoder against what it must be: its size, its positions, who sees whom, what it refuses."""

import dataclasses
import math

import pytest
import torch

from tests.valm.small import B, D, T, V, close, config, images, model, some_hidden, use, words
from vlpnb.errors import UserError
from vlpnb.valm.config import PROJECTIONS, SIZES, ValmConfig, parameter_count, size_config, text_only
from vlpnb.valm.fusion import pictures_of
from vlpnb.valm.model import sinusoids
from vlpnb.valm.objectives import ValmLM


def numbers(module):
    return sum(p.numel() for p in module.parameters())


def test_the_papers_model_has_123004416_parameters_and_3072_for_pictures():
    with torch.device("meta"):
        seeing, blind = ValmLM(ValmConfig()), ValmLM(text_only(ValmConfig()))
    assert numbers(blind) == 123_004_416
    assert numbers(seeing) - numbers(blind) == 3_072


@pytest.mark.parametrize("size", SIZES)
def test_named_sizes_have_the_parameters_of_the_formula(size):
    shape = size_config(size)
    with torch.device("meta"):
        assert numbers(ValmLM(shape)) == sum(parameter_count(shape).values())


@pytest.mark.parametrize("projection", PROJECTIONS)
@pytest.mark.parametrize(
    "other", [{}, {"image_width": 20, "image_mode": "null"}, {"stack": 2, "mlm_head": True}]
)
def test_every_variant_has_the_parameters_of_the_formula(projection, other):
    shape = config(projection=projection, fusion=(0, -1), **other)
    assert numbers(ValmLM(shape)) == sum(parameter_count(shape).values())


def test_new_weights_are_of_the_originals_kind():
    torch.manual_seed(0)
    lm = ValmLM(config(hidden=64, heads=4, vocab_size=400, projection="separate", image_width=64))
    table = lm.model.word_weight.detach()
    assert table.std() == pytest.approx(64**-0.5, rel=0.05)
    assert table[1].eq(0).all()
    attention = lm.model.blocks[1].look.attention
    for layer, gain in ((attention.query, 2**-0.5), (attention.image_key, 2**-0.5), (attention.out, 1.0)):
        assert layer.weight.detach().abs().max() == pytest.approx(
            gain * math.sqrt(6 / 128), rel=0.02
        )  # Xavier-uniform
    assert attention.out.bias.eq(0).all()


def test_positions_count_words_from_2_on_and_padding_has_none():
    embeddings = model().model.embeddings
    ids = torch.tensor([[5, 6, 7], [1, 5, 6], [5, 1, 6]])
    found, table = embeddings.positions_of(ids), sinusoids(10, D)
    close(found[0], table[2:5])
    close(found[1, 1:], table[2:4])
    close(found[2, [0, 2]], table[2:4])
    assert found[1, 0].eq(0).all()
    assert found[2, 1].eq(0).all()


def test_sinusoids_are_sines_then_cosines():
    table = sinusoids(4, 8)
    assert table[3].tolist() == pytest.approx(
        [f(3 * 10000 ** (-i / 3)) for f in (math.sin, math.cos) for i in range(4)], abs=1e-5
    )


def test_learned_positions_count_columns_where_there_is_no_padding_id():
    embeddings = model(positions="learned", pad_id=-1).model.embeddings
    ids = words()
    close(embeddings.positions_of(ids), embeddings.positions.weight[:T].expand(B, T, D))


@pytest.mark.parametrize(
    "changes", [{}, {"projection": "gated"}, {"stack": 1, "scope": "past"}, {"fusion": (0, 1, 2)}]
)
@pytest.mark.parametrize("place", [0, 4, T - 1])
def test_no_score_depends_on_a_later_word_or_picture(changes, place):
    lm, other = model(**changes), words()
    other[:, place] = 4 + (other[:, place] + 3) % (V - 4)
    pictures = images()
    pictures[:, place] *= torch.linspace(-1, 1, D)
    one, two = lm.logits(words(), images()), lm.logits(other, pictures)
    close(two[:, :place], one[:, :place])
    assert (two[:, place:] - one[:, place:]).abs().amax(-1).gt(1e-6).any(0)[0]


def test_without_causality_every_word_sees_every_other_but_padding():
    lm, ids = model(), words()
    ids[1, 6:] = 1
    last = lm.model(ids, images(), causal=False).last
    other = ids.clone()
    other[:, 5] = 4 + (other[:, 5] + 3) % (V - 4)
    changed = (lm.model(other, images(), causal=False).last - last).abs().amax(-1) > 1e-6
    assert changed[:, :6].all()
    longer = torch.cat([ids, torch.ones(B, 3, dtype=torch.long)], dim=1)
    more = torch.cat([images(), images(length=3)], dim=1)
    close(lm.model(longer, more, causal=False).last[:, :T], last)


def test_padding_behind_a_text_changes_no_word():
    lm = model()
    longer = torch.cat([words(), torch.ones(B, 4, dtype=torch.long)], dim=1)
    more = torch.cat([images(), images(length=4)], dim=1)
    close(lm.logits(longer, more)[:, :T], lm.logits(words(), images()))


def test_the_share_that_pictures_get_is_the_mean_over_fusion_layers():
    lm = use(model(fusion=(0, 2)), "absorbed")
    out = lm.model(words(), images(), some_hidden(), maps=True, hidden_states=True)
    both = torch.stack([out.maps[i][..., T:].sum(-1).mean(1) for i in (0, 2)])
    close(out.image_mass, both.mean(0))
    assert out.image_mass[0, 2] == 0  # all hidden
    assert out.maps[1].shape == (B, 4, T, T)
    assert len(out.hidden_states) == 4
    assert lm.model(words()).image_mass is None


def test_a_kept_prefix_and_one_word_at_a_time_are_the_whole_text():
    lm = model()
    whole = lm.logits(words(), images(), some_hidden())
    cache = lm.model.new_cache()
    for place in range(T):
        here = slice(place, place + 1)
        out = lm.model(words()[:, here], images()[:, here], some_hidden()[:, here], cache=cache)
        close(lm.scores(out.last), whole[:, here])


def test_dropout_acts_in_training_alone():
    lm = model(dropout=0.3)
    close(lm.model(words(), images()).last, lm.model(words(), images()).last)
    lm.train()
    assert (lm.model(words(), images()).last - lm.model(words(), images()).last).abs().max() > 0.01


@torch.no_grad()
def test_with_dropped_weights_the_ways_agree_in_the_mean():
    attention = model(dropout=0.2).model.blocks[1].look.attention.train()
    x, z = torch.randn(1, T, D, generator=torch.Generator().manual_seed(7)).double(), images(rows=1)
    plain = attention.eval()(x, pictures_of(z), causal=True)[0]
    attention.train()
    for way in ("absorbed", "merged"):
        torch.manual_seed(0)
        many = attention(
            x.expand(3000, -1, -1), pictures_of(z.expand(3000, -1, -1, -1)), causal=True, way=way
        )[0]
        assert many.std(0).max() > 0.1
        close(many.mean(0), plain[0], 0.1 * float(plain.abs().max()))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden": 30}, "cannot be split into heads"),
        ({"hidden": 33, "heads": 3}, "expect an even width"),
        ({"positions": "rotary"}, "expected one of sinusoidal, learned"),
        ({"projection": "own"}, "expected one of shared_bias"),
        ({"scale": "none"}, "expected one of head, model"),
        ({"fusion": (3,)}, "names block 3; this model has 3"),
        ({"fusion": (-4,)}, "names block -4"),
        ({"layers": 0}, "layers = 0; expected at least 1"),
        ({"pad_id": V}, "pad_id = 40; expected below vocab_size"),
        ({"dropout": 1.0}, "expected at least 0 and below 1"),
        ({"activation": "tanh"}, "activation = 'tanh'"),
    ],
)
def test_shapes_without_a_meaning_are_refused(changes, message):
    with pytest.raises(UserError, match=message.replace("(", "\\(")):
        config(**changes)


def test_texts_longer_than_the_model_and_unknown_sizes_are_refused():
    lm = ValmLM(config(max_positions=8))
    with pytest.raises(UserError, match="9 tokens do not fit into the 8 of this model"):
        lm.logits(words())
    cache = lm.model.new_cache()
    lm.model(words()[:, :7], cache=cache)
    with pytest.raises(UserError, match="9 tokens do not fit"):
        lm.model(words()[:, 7:], cache=cache)
    with pytest.raises(UserError, match="is no size of VaLM"):
        size_config("nanno")


def test_a_configuration_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        config().hidden = 3
