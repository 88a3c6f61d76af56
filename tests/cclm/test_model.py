"""The model against what it must be: its size, positions, who sees whom, and that what is saved changes no number."""

import pytest
import torch

from tests.cclm.small import B, D, F, P, T, V, close, config, model, patches, texts
from vlpnb.cclm.config import SIZES, CclmConfig, parameter_count, size_config
from vlpnb.cclm.model import Cclm, FusionLayer
from vlpnb.errors import UserError
from vlpnb.nn.masks import padding_mask
from vlpnb.vision.swin import SwinConfig


def numbers(module):
    return sum(p.numel() for p in module.parameters())


def test_the_papers_text_side_has_the_published_parameters():
    with torch.device("meta"):
        cclm = Cclm(CclmConfig())
    count = parameter_count(CclmConfig())
    assert count["embeddings"] == numbers(cclm.embeddings) == 256_531_456
    assert count["text layers"] == numbers(cclm.text_layers) == 75_577_344
    assert count["fusion layers"] == numbers(cclm.fusion_layers) == 100_780_032
    assert count["projections"] == 524_801
    assert count["matching head"] == numbers(cclm.match_head) == 2_107_394
    assert count["box head"] == numbers(cclm.box_head) == 2_111_492
    assert count["word head"] == numbers(cclm.word_head) == 1_301_650


def test_the_papers_model_has_525677393_parameters_with_its_swin():
    shape = CclmConfig(vision="swin", swin=SwinConfig())
    with torch.device("meta"):
        assert numbers(Cclm(shape)) == 525_677_393
    count = parameter_count(shape)
    assert count["vision"] == 86_743_224
    assert sum(count.values()) == 525_677_393
    assert sum(count.values()) - count["word head"] == 524_375_743


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("changes", [{}, {"boxes": False, "image_patches": 9}])
def test_named_sizes_have_the_parameters_of_the_formula(size, changes):
    shape = size_config(size, **changes)
    with torch.device("meta"):
        assert numbers(Cclm(shape)) == sum(parameter_count(shape).values())


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"heads": 5}, "heads = 5"),
        ({"vocab_size": 1}, "pad_id = 1; expected below vocab_size = 1"),
        ({"fusion_layers": 0}, "fusion_layers = 0; expected at least 1"),
        ({"dropout": 1.0}, "dropout = 1.0"),
        ({"patch_dropout": -0.1}, "patch_dropout = -0.1"),
        ({"temperature": 0.0}, "temperature = 0.0; expected above 0"),
        ({"position_start": 20}, "max_positions = 20; expected above position_start = 20"),
        ({"vision": "vit"}, "vision = 'vit'; expected one of patches, swin"),
        ({"vision": "swin"}, 'expected a shape with "swin"'),
    ],
)
def test_shapes_that_cannot_be_are_refused(changes, told):
    with pytest.raises(UserError) as error:
        config(**changes)
    assert told in str(error.value)


def test_a_size_that_does_not_exist_is_refused_with_the_nearest():
    with pytest.raises(UserError, match="did you mean 'mini'"):
        size_config("minni")


def test_the_mask_is_the_last_word_piece_unless_given():
    assert config().mask_id == V - 1
    assert config(mask_id=5).mask_id == 5


@pytest.mark.parametrize("start", [0, 2])
def test_positions_begin_where_they_should_and_no_id_moves_them(start):
    cclm = model(position_start=start)
    ids, _ = texts()
    table = cclm.embeddings
    expected = table.words(ids) + table.positions.weight[start : start + T] + table.types.weight[0]
    close(cclm.embed(ids), table.norm(expected))
    changed = ids.clone()
    changed[:, 2] = 1  # masking may put any id anywhere, that of padding too
    close(cclm.embed(changed)[:, 3:], cclm.embed(ids)[:, 3:])


def test_a_text_that_is_too_long_is_refused():
    cclm = model(max_positions=8)
    with pytest.raises(UserError, match="7 word pieces do not fit into the 6"):
        cclm.text(torch.zeros(1, 7, dtype=torch.long))


def test_padding_changes_no_real_word_piece():
    cclm = model()
    ids, mask = texts()
    long, short = cclm.text(ids, mask), cclm.text(ids[1:2, : mask[1].sum()])
    close(long[1:2, : mask[1].sum()], short)
    view = cclm.pictures(patches())
    fused = cclm.fuse(long, mask, view)
    close(fused[1:2, : mask[1].sum()], cclm.fuse(short, None, view[1:2]))


def test_a_view_is_the_mean_of_its_patches_before_them():
    cclm = model()
    seen = patches()
    view = cclm.pictures(seen)
    assert view.shape == (B, 1 + P, D)
    close(view[:, 0], view[:, 1:].mean(1))
    seen[:, 0] += 5  # the frozen network's own mean is not read
    close(cclm.pictures(seen), view)


def test_dropped_numbers_of_patches_are_dropped_in_training_alone():
    made, plain, seen = model(patch_dropout=0.5), model(), patches()
    close(made.eval().pictures(seen), plain.eval().pictures(seen))
    made.train()
    torch.manual_seed(0)
    found = made.pictures(seen)
    torch.manual_seed(0)
    cut = torch.nn.functional.dropout(seen[:, 1:], 0.5)
    close(found, plain.pictures(torch.cat([seen[:, :1], cut], dim=1)))


def test_patches_of_another_network_are_refused():
    cclm = model()
    with pytest.raises(UserError, match=f"6 patches of 13 numbers; this model reads 6 patches of {F}"):
        cclm.pictures(torch.zeros(1, 1 + P, F + 1).double())
    with pytest.raises(UserError, match="a picture of 4 patches"):
        cclm.pictures(torch.zeros(1, 5, F).double())
    assert model(image_patches=0).pictures(torch.zeros(1, 5, F).double()).shape == (1, 5, D)


def test_the_layers_are_those_of_the_house_by_hand():
    cclm = model()
    ids, mask = texts()
    x, seen = cclm.embed(ids), padding_mask(mask)
    for block in cclm.text_layers:
        x, _ = block(x, seen)
    close(cclm.text(ids, mask), x)
    view = cclm.pictures(patches())
    patch_mask = torch.rand(B, 1 + P, generator=torch.Generator().manual_seed(0)) > 0.5
    patch_mask[:, 0] = True
    fused = x
    for layer in cclm.fusion_layers:
        fused, _ = layer.look(fused, seen)
        fused, _ = layer.meet(fused, padding_mask(patch_mask), view)
        fused = layer.think(fused)
    close(cclm.fuse(x, mask, view, patch_mask), fused)


def test_hidden_memory_changes_nothing_and_seen_memory_does():
    cclm = model()
    states = cclm.text(*texts())
    view = cclm.pictures(patches())
    seen = torch.ones(B, 1 + P, dtype=torch.bool)
    seen[:, 3] = False
    other = view.clone()
    other[:, 3] += 1
    close(cclm.fuse(states, None, view, seen), cclm.fuse(states, None, other, seen))
    assert (cclm.fuse(states, None, view) - cclm.fuse(states, None, other)).abs().amax() > 1e-3


def test_a_sentence_is_memory_as_a_picture_is():
    cclm = model()
    (ids, mask), (other, seen) = texts(), texts(9)
    fused = cclm.fuse(cclm.text(ids, mask), mask, cclm.text(other, seen), seen)
    row = cclm.fuse(cclm.text(ids, mask)[1:2], mask[1:2], cclm.text(other[1:2, : seen[1].sum()]))
    close(fused[1:2], row)


def test_without_a_memory_that_attention_is_skipped():
    cclm = model()
    states, (_, mask) = cclm.text(*texts()), texts()
    x = states
    for layer in cclm.fusion_layers:
        x = layer.think(layer.look(x, padding_mask(mask))[0])
    close(cclm.fuse(states, mask), x)


@pytest.mark.parametrize("hidden", [False, True])
def test_keys_that_were_made_before_give_the_same_states(hidden):
    cclm = model()
    states, (_, mask) = cclm.text(*texts()), texts()
    view = cclm.pictures(patches(rows=2))
    seen = None
    if hidden:
        seen = torch.rand(2, 1 + P, generator=torch.Generator().manual_seed(1)) > 0.3
    rows = torch.tensor([1, 0, 0, 1])
    keys = cclm.memory_keys(view)
    plain = cclm.fuse(states, mask, view[rows], None if seen is None else seen[rows])
    close(
        cclm.fuse(states, mask, cached=keys.rows(rows), memory_mask=None if seen is None else seen[rows]),
        plain,
    )
    assert len(keys) == 2


@pytest.mark.parametrize("hidden", ["", "by view", "by sentence"])
def test_sentences_side_by_side_share_one_view_without_copies(hidden):
    cclm = model()
    states, (_, mask) = cclm.text(*texts()), texts()
    view = cclm.pictures(patches(rows=2))
    seen = torch.rand(2, 1 + P, generator=torch.Generator().manual_seed(1)) > 0.3
    rows = torch.tensor([0, 0, 1, 1])
    memory_mask = {"": None, "by view": seen, "by sentence": seen[rows]}[hidden]
    plain_maps, maps = [], []
    plain = cclm.fuse(states, mask, view[rows], seen[rows] if hidden else None, maps=plain_maps)
    shared = cclm.fuse(states, mask, cached=cclm.memory_keys(view), memory_mask=memory_mask)
    close(shared, plain)
    again = cclm.fuse(states, mask, cached=cclm.memory_keys(view), memory_mask=memory_mask, maps=maps)
    close(again, plain)
    for one, other in zip(maps, plain_maps, strict=True):
        close(one, other)
    with pytest.raises(UserError, match="3 rows do not share 2 memories evenly"):
        cclm.fuse(states[:3], mask[:3], cached=cclm.memory_keys(view))


def test_places_are_the_rows_of_the_whole():
    cclm = model()
    states, (_, mask) = cclm.text(*texts()), texts()
    view = cclm.pictures(patches())
    places = torch.tensor([[0, 2], [1, 0], [2, 2], [0, 1]])
    whole = cclm.fuse(states, mask, view)
    close(cclm.fuse(states, mask, view, places=places), whole[torch.arange(B)[:, None], places])


def test_maps_are_those_of_the_same_pass_and_rows_sum_to_one():
    cclm = model()
    states, (_, mask) = cclm.text(*texts()), texts()
    view, maps = cclm.pictures(patches()), []
    fused = cclm.fuse(states, mask, view, maps=maps)
    close(fused, cclm.fuse(states, mask, view))
    assert [tuple(one.shape) for one in maps] == [(B, 4, T, 1 + P)] * 2
    close(maps[0].sum(-1), torch.ones(B, 4, T).double())


def test_pixels_go_through_a_swin_of_the_models_own():
    swin = SwinConfig(image_size=64, window=8, embed=16, depths=(1, 1), heads=(2, 2))
    cclm = model(vision="swin", swin=swin, image_width=D, image_patches=0)
    view = cclm.pictures(torch.randn(2, 3, 64, 64).double())
    assert view.shape == (2, 65, D)
    close(view[:, 0], view[:, 1:].mean(1))
    with pytest.raises(UserError, match="a Swin of width 32; expected all equal"):
        config(vision="swin", swin=swin, hidden=64, image_width=64)


def test_a_causal_fusion_layer_writes_without_looking_ahead():
    layer = FusionLayer(config().transformer).eval().double()
    x, memory = torch.randn(2, 5, D).double(), torch.randn(2, 3, D).double()
    out, _ = layer(x, None, memory, causal=True)
    changed = x.clone()
    changed[:, 3:] += 1
    close(layer(changed, None, memory, causal=True)[0][:, :3], out[:, :3])


def test_vectors_are_unit_and_of_the_first_position():
    cclm = model()
    view, states = cclm.pictures(patches()), cclm.text(*texts())
    for vector in (cclm.image_vector(view), cclm.text_vector(states)):
        close(vector.norm(dim=1), torch.ones(B).double())
    view[:, 1:] = 0
    states[:, 1:] = 0
    assert cclm.match(states).shape == (B, 2)
    boxes = cclm.boxes(states)
    assert (boxes > 0).all()
    assert (boxes < 1).all()


def test_without_a_box_head_boxes_are_refused():
    with pytest.raises(UserError, match=r"CclmConfig.boxes = True"):
        model(boxes=False).boxes(torch.zeros(1, 1, D).double())


def test_the_temperature_is_kept_within_its_bounds():
    cclm = model()
    for given, kept in ((2.0, 0.5), (1e-9, 0.001), (0.2, 0.2)):
        cclm.temperature.data.fill_(given)
        cclm.clamp_temperature()
        assert cclm.temperature.item() == pytest.approx(kept)
