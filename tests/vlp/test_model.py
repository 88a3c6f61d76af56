"""The model against what it must be: its size, its masks, what it may not depend on, and its shortcuts."""

import dataclasses

import pytest
import torch
from torch.nn import functional as F

from tests.vlp.small import CONFIG, LENGTHS, REGIONS, R, T, inputs
from vlpnb.errors import UserError
from vlpnb.vlp.heads import VlpForAnswers, VlpForGeneration
from vlpnb.vlp.masks import segment_ids, sequence_mask
from vlpnb.vlp.model import SIZES, Vlp, VlpConfig, parameter_count


@pytest.fixture
def backbone():
    torch.manual_seed(0)
    return Vlp(CONFIG).eval().double()


def close(one, other, atol=1e-10):
    torch.testing.assert_close(one.double(), other.double(), rtol=0, atol=atol)


def numbers(*modules):
    return sum(p.numel() for module in modules for p in module.parameters())


def test_the_papers_model_has_121929853_parameters():
    with torch.device("meta"):
        model, answering = VlpForGeneration(VlpConfig()), VlpForAnswers(VlpConfig(), 3129)
    backbone = model.backbone
    assert numbers(backbone.embeddings, backbone.blocks, backbone.pooler) == 108_313_344
    assert numbers(backbone.features) == 5_769_984
    assert numbers(backbone.geometry) == 1_234_944
    assert numbers(answering.answers) == 5_990_457
    assert numbers(model) == 115_939_396
    assert sum(parameter_count(VlpConfig()).values()) == numbers(model, answering.answers) == 121_929_853


def test_the_formula_counts_every_size_part_by_part():
    for size in SIZES.values():
        config = dataclasses.replace(CONFIG, slots=4, **size)
        with torch.device("meta"):
            model, answering = VlpForGeneration(config), VlpForAnswers(config, config.answers)
        backbone = model.backbone
        parts = (
            backbone.embeddings, backbone.blocks, backbone.pooler, backbone.features, backbone.geometry,
            model.words, answering.answers,
        )  # fmt: skip
        assert [numbers(part) for part in parts] == list(parameter_count(config).values())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("layers", 0),
        ("regions", -1),
        ("heads", 5),
        ("slots", 2),
        ("segments", 4),
        ("mask_id", 60),
        ("max_positions", 18),
    ],
)
def test_impossible_configurations_are_refused(field, value):
    with pytest.raises(UserError, match=field):
        dataclasses.replace(CONFIG, **{field: value})


def test_a_sequence_that_does_not_fit_is_refused(backbone):
    given = inputs(visual=False)
    wide = {name: given[name].repeat(1, 2, 1) for name in ("features", "geometry")}
    with pytest.raises(UserError, match="12 regions; this model takes at most 7"):
        backbone(**given | wide)
    with pytest.raises(UserError, match="32 tokens of text"):
        backbone(**given | {"ids": F.pad(given["ids"], (0, 24))})


@pytest.mark.parametrize("n", [1, 3, 20])
def test_row_sums_and_segments_are_the_originals(n):
    """A prefix of 102 and 21 columns of text: each row's number of keys, and the segments of six types and of two."""
    lengths = torch.tensor([n, n])
    modes = torch.tensor([True, False])
    mask = sequence_mask(lengths, modes, 102, 21)[:, 0]
    writes, reads = mask.sum(dim=2).tolist()
    assert writes == [102] * 102 + [103 + i for i in range(n + 1)] + [102] * (20 - n)
    assert reads == [103 + n] * 123
    six, two = (segment_ids(lengths, modes, 102, 21, types).tolist() for types in (6, 2))
    padding = [0] * (20 - n)
    assert six == [[4] * 102 + [5] * (n + 1) + padding, [0] * 102 + [1] * (n + 1) + padding]
    assert two == [six[1]] * 2


def test_a_written_word_does_not_know_the_words_after_it(backbone):
    given = inputs(visual=False) | {"s2s": torch.tensor([True, True, True])}
    changed = given | {"ids": given["ids"].clone()}
    changed["ids"][0, 3] = 59 if given["ids"][0, 3] != 59 else 58
    one, other = backbone(**given).last, backbone(**changed).last
    assert torch.equal(one[0, : R + 2 + 3], other[0, : R + 2 + 3])
    assert not torch.equal(one[0, R + 2 + 3 :], other[0, R + 2 + 3 :])
    reads = {"s2s": torch.tensor([False] * 3)}
    one, other = backbone(**given | reads).last, backbone(**changed | reads).last
    assert (one[0, : R + 2] != other[0, : R + 2]).any(dim=-1).all()


def test_a_region_is_embedded_from_its_own_feature_and_geometry(backbone):
    given = inputs(visual=False)
    one = backbone.prefix(given["features"], given["geometry"], 4)
    for name in ("features", "geometry"):
        changed = given | {name: given[name].clone()}
        changed[name][:, 2] += 1
        other = backbone.prefix(changed["features"], changed["geometry"], 4)
        assert (one != other).any(dim=-1).tolist() == [[False] * 3 + [True] + [False] * 4] * 3


def test_regions_have_no_order(backbone):
    given, order = inputs(visual=False), torch.tensor([3, 0, 5, 1, 4, 2])
    mixed = given | {name: given[name][:, order] for name in ("features", "geometry")}
    one, other = backbone(**given).last, backbone(**mixed).last
    close(one[:, 1 : R + 1][:, order], other[:, 1 : R + 1])
    close(one[:, R + 1 :], other[:, R + 1 :])


def test_regions_that_are_masked_out_change_nothing(backbone):
    """And a batch without their columns gives the same: positions of words do not depend on how many there are."""
    given = inputs()
    one = backbone(**given).last
    for row, regions in enumerate(REGIONS):
        alone = {name: value[row : row + 1] for name, value in given.items() if name != "visual_mask"}
        alone |= {name: alone[name][:, :regions] for name in ("features", "geometry")}
        other, n = backbone(**alone).last[0], LENGTHS[row]
        close(one[row, : regions + 1], other[: regions + 1])
        close(one[row, R + 1 : R + 3 + n], other[regions + 1 : regions + 3 + n])


def test_a_text_without_any_picture_is_read(backbone):
    given = inputs(visual=False)
    none = given | {name: given[name][:, :0] for name in ("features", "geometry")}
    hidden = given | {"visual_mask": torch.zeros(3, R, dtype=torch.bool)}
    one, other = backbone(**none).last, backbone(**hidden).last
    for row, n in enumerate(LENGTHS):
        close(one[row, 1 : 3 + n], other[row, R + 1 : R + 3 + n])


def test_padding_of_the_text_changes_nothing(backbone):
    given = inputs()
    wide = given | {"ids": F.pad(given["ids"], (0, 5))}
    short, long = backbone(**given).last, backbone(**wide).last
    for row, n in enumerate(LENGTHS):
        close(short[row, : R + 3 + n], long[row, : R + 3 + n])


def test_maps_and_states_come_from_the_pass_itself(backbone):
    given = inputs()
    plain, told = backbone(**given), backbone(**given, maps=True, hidden_states=True)
    close(plain.last, told.last)
    assert len(told.hidden_states) == 1 + CONFIG.layers
    assert told.hidden_states[-1] is told.last
    mask = sequence_mask(given["lengths"], given["s2s"], R + 2, T, given["visual_mask"])
    for attention in told.attentions:
        close(attention.sum(dim=-1), torch.ones(attention.shape[:-1]))
        assert (attention.masked_select(~mask) == 0).all()


def test_rows_of_the_last_block_alone_are_the_same_rows(backbone):
    given, rows = inputs(), torch.tensor([[0, 9], [R + 1, 8], [12, 12]])
    seen = backbone.look(given.pop("features"), given.pop("geometry"))
    whole, few = backbone.read(seen, **given).last, backbone.read(seen, **given, rows=rows).last
    close(whole.gather(1, rows[..., None].expand(-1, -1, 32)), few)
    with pytest.raises(ValueError, match="rows"):
        backbone.read(seen, **given, rows=rows, maps=True)


def test_with_two_segments_both_modes_have_the_same(backbone):
    model = Vlp(dataclasses.replace(CONFIG, segments=2)).eval().double()
    state = backbone.state_dict()
    state["embeddings.types.weight"] = state["embeddings.types.weight"][:2]
    model.load_state_dict(state)
    given = inputs() | {"s2s": torch.tensor([False] * 3)}
    close(model(**given).last, backbone(**given).last)
    close(
        model.prefix(given["features"], given["geometry"], 4),
        model.prefix(given["features"], given["geometry"], 0),
    )


def test_new_weights_are_berts_and_those_of_regions_pytorchs():
    torch.manual_seed(0)
    model = Vlp(VlpConfig(hidden=64, layers=2, heads=4, ffn=128, vocab_size=2000))
    assert model.word_weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert model.blocks[0].think.inner.weight.std().item() == pytest.approx(0.02, rel=0.05)
    for layer in (model.features[0], model.features[2], model.geometry[0]):
        bound = layer.in_features**-0.5
        assert layer.weight.abs().max() <= bound
        assert layer.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.02)
        assert layer.bias.abs().max() > 0
    assert not any(p.requires_grad for p in model.pooler.parameters())


def test_a_calm_model_begins_by_seeing_everything_alike():
    torch.manual_seed(0)
    plain = Vlp(CONFIG)
    torch.manual_seed(0)
    calm = Vlp(dataclasses.replace(CONFIG, calm=0.01))
    for name, weight in calm.named_parameters():
        drawn = dict(plain.named_parameters())[name]
        smaller = name.startswith("blocks.") and name.endswith(("query.weight", "key.weight", "outer.weight"))
        close(weight, drawn * 0.01 if smaller else drawn, atol=1e-7)
    states = calm.double().eval()(**inputs(), maps=True)
    for attention in states.attentions:
        seen = attention > 0
        close(attention, seen / seen.sum(-1, keepdim=True), atol=0.01)
