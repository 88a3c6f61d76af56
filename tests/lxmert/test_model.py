"""The model against what it must be: its size, what it may not depend on, and shortcuts equal to the long way."""

import dataclasses

import pytest
import torch
from torch.nn import functional as F

from tests.lxmert.small import CONFIG, R, T, inputs, labels, mask_of
from vlpnb.errors import UserError
from vlpnb.lxmert.heads import (
    LOSSES,
    AnsweringModel,
    LxmertForPretraining,
    PairModel,
    trim,
)
from vlpnb.lxmert.model import SIZES, Lxmert, LxmertConfig, look_across, parameter_count
from vlpnb.nn import onednn
from vlpnb.nn.losses import answer_loss
from vlpnb.nn.masks import padding_mask


@pytest.fixture
def backbone():
    torch.manual_seed(0)
    return Lxmert(CONFIG).eval().double()


@pytest.fixture
def model():
    torch.manual_seed(0)
    return LxmertForPretraining(CONFIG).eval().double()


def close(one, other, atol=1e-10):
    torch.testing.assert_close(one.double(), other.double(), rtol=0, atol=atol)


def test_the_papers_model_has_228051752_parameters():
    counts = parameter_count(LxmertConfig())
    assert counts["cross-modality layers"] == 5 * 16_539_648
    assert sum(counts.values()) == 228_051_752
    with torch.device("meta"):
        model = LxmertForPretraining(LxmertConfig(**SIZES["lxr955"]))
    assert sum(p.numel() for p in model.parameters()) == 228_051_752
    assert sum(p.numel() for p in model.backbone.parameters()) == 207_936_768


def test_the_formula_counts_every_size_part_by_part():
    for size in SIZES.values():
        config = dataclasses.replace(CONFIG, **size)
        with torch.device("meta"):
            model = LxmertForPretraining(config)
        backbone = model.backbone
        parts = (
            [backbone.embeddings], [backbone.visual_embedding], [backbone.text_blocks], [backbone.visual_blocks],
            [backbone.cross_layers], [backbone.pooler], [model.words, model.match], [model.regions], [model.answers],
        )  # fmt: skip
        counted = [sum(p.numel() for part in group for p in part.parameters()) for group in parts]
        assert counted == list(parameter_count(config).values())


@pytest.mark.parametrize(
    ("field", "value"), [("cross_layers", 0), ("text_layers", -1), ("answers", 0), ("heads", 5)]
)
def test_impossible_configurations_are_refused(field, value):
    with pytest.raises(UserError, match=field):
        dataclasses.replace(CONFIG, **{field: value})


def test_padding_of_the_text_changes_nothing(backbone):
    given = inputs()
    wide = dict(given, ids=F.pad(given["ids"], (0, 5)), mask=F.pad(given["mask"], (0, 5)))
    short, long = backbone(**given), backbone(**wide)
    close(short.pooled, long.pooled)
    close(short.visual, long.visual)
    close(short.text * given["mask"][..., None], long.text[:, :T] * given["mask"][..., None])


def test_regions_have_no_order(backbone):
    given, order = inputs(), torch.tensor([3, 0, 5, 1, 4, 2])
    mixed = dict(given, **{name: given[name][:, order] for name in ("features", "boxes", "visual_mask")})
    one, other = backbone(**given), backbone(**mixed)
    close(one.pooled, other.pooled)
    close(one.text, other.text)
    close(one.visual[:, order], other.visual)


def test_regions_that_are_masked_out_change_nothing(backbone):
    given = inputs()
    more = dict(
        given,
        features=torch.cat([given["features"], torch.rand(3, 2, 12).double()], 1),
        boxes=torch.cat([given["boxes"], torch.rand(3, 2, 4).double()], 1),
        visual_mask=F.pad(given["visual_mask"], (0, 2)),
    )
    one, other = backbone(**given), backbone(**more)
    close(one.pooled, other.pooled)
    close(one.text, other.text)
    close(one.visual, other.visual[:, :R])


def test_both_directions_in_one_pass_are_one_attention_used_twice(backbone):
    """And each direction reads the layer's inputs, not what the other made of them."""
    given, layer = inputs(), backbone.cross_layers[0]
    text = backbone.listen(given["ids"], given["mask"])
    seen = backbone.see(given["features"], given["boxes"], given["visual_mask"])
    masks = padding_mask(text.mask), padding_mask(seen.mask)
    across = look_across(text.states, seen.states, text.mask, seen.mask)
    x, v, maps = layer(text.states, seen.states, *masks, across, weights=True)

    text_looks, to_visual = layer.cross(text.states, masks[1], seen.states, weights=True)
    visual_looks, to_text = layer.cross(seen.states, masks[0], text.states, weights=True)
    close(x, layer.text(text_looks, masks[0])[0])
    close(v, layer.visual(visual_looks, masks[1])[0])
    close(maps[0], to_visual)
    close(maps[1], to_text)


def test_maps_and_states_come_from_the_pass_itself(backbone):
    given = inputs()
    plain, told = backbone(**given), backbone(**given, maps=True)
    close(plain.pooled, told.pooled)
    close(plain.text, told.text)
    maps = told.maps
    assert [len(found) for found in vars(maps).values()] == [2, 1, 2, 2, 2, 2]
    assert maps.cross_text[1].shape == (3, 4, T, R)
    assert maps.cross_visual[0].shape == (3, 4, R, T)
    for found in vars(maps).values():
        for attention in found:
            close(attention.sum(-1), torch.ones(attention.shape[:-1]))
    assert (maps.cross_text[0][1, ..., 3:] == 0).all()  # the second picture has three regions
    assert (maps.cross_visual[0][1, ..., 4:] == 0).all()  # the second sentence has four words
    assert len(told.hidden_text) == 1 + 2 + 2
    assert len(told.hidden_visual) == 1 + 1 + 2
    assert told.hidden_text[-1] is told.text
    assert told.hidden_visual[-1] is told.visual
    with pytest.raises(ValueError, match="pooled_only"):
        backbone(**given, maps=True, pooled_only=True)


def test_pooled_only_gives_the_same_vector_and_gradients(backbone):
    given = inputs()
    results = []
    for pooled_only in (False, True):
        backbone.zero_grad(set_to_none=True)
        pooled = backbone(**given, pooled_only=pooled_only).pooled
        (pooled * torch.arange(32)).sum().backward()
        results.append((pooled, {name: p.grad for name, p in backbone.named_parameters()}))
    (plain, full), (short, some) = results
    close(plain, short)
    without = {name for name, gradient in some.items() if gradient is None}
    assert without == {name for name in some if name.startswith("cross_layers.1.visual.")}
    assert len(without) == 16
    for name in some.keys() - without:
        torch.testing.assert_close(full[name], some[name], rtol=0, atol=1e-9)
    assert backbone(**given, pooled_only=True).text is None


def test_a_picture_is_seen_once_for_all_of_its_questions(backbone):
    given = inputs()
    rows = torch.tensor([0, 0, 2, 1, 1, 0])  # of six questions
    ids, mask = given["ids"][[0, 1, 2, 0, 1, 2]], given["mask"][[0, 1, 2, 0, 1, 2]]
    seen = backbone.see(given["features"], given["boxes"], given["visual_mask"])
    cached = backbone.read(ids, mask, seen.rows(rows), pooled_only=True).pooled
    again = {name: given[name][rows] for name in ("features", "boxes", "visual_mask")}
    close(cached, backbone(ids, mask, **again).pooled)


def test_row_zero_of_positions_and_types_has_no_gradient(model):
    sum(model(**inputs(), **labels()).values()).backward()
    tables = model.backbone.embeddings
    for table in (tables.positions, tables.types):
        assert (table.weight.grad[0] == 0).all()
        assert table.weight[0].abs().sum() > 0  # and it is drawn like the others
    assert (tables.positions.weight.grad[1:T].abs().sum(-1) > 0).all()
    assert (tables.words.weight.grad[0] != 0).any()  # as a row of the decoder it has one


def test_losses_are_those_of_all_scores(model):
    """The heads compute only what carries a loss; here everything is computed, then weighed."""
    given, wanted = inputs(), labels()
    losses = model(**given, **wanted)
    assert tuple(losses) == LOSSES
    out = model.backbone(**given)
    words = model.word_scores(out.text)
    close(
        losses["words"],
        F.cross_entropy(words.flatten(0, 1), wanted["word_labels"].flatten(), reduction="sum"),
        1e-4,
    )
    objects, attributes, features = model.regions(out.visual)
    for name, scores in (("object", objects), ("attribute", attributes)):
        ids, confidence = wanted[f"{name}_ids"], wanted[f"{name}_conf"]
        entropy = F.cross_entropy(scores.flatten(0, 1), ids.flatten(), ignore_index=-1, reduction="none")
        close(losses[f"{name}s"], (entropy * confidence.flatten()).sum(), 1e-4)
    each = F.smooth_l1_loss(features, wanted["targets"], reduction="none").mean(-1)
    close(losses["features"], (each * wanted["object_masked"]).sum(), 1e-4)
    close(
        losses["answers"], F.cross_entropy(model.answers(out.pooled)[[0, 2]], torch.tensor([4, 10])) * 2, 1e-4
    )
    close(losses["match"], F.cross_entropy(model.match(out.pooled), wanted["matched"]) * 3, 1e-4)


def test_nothing_labelled_is_a_loss_of_zero(model):
    empty = dict(
        labels(),
        word_labels=torch.full((3, T), -100),
        object_ids=torch.full((3, R), -1),
        attribute_conf=torch.zeros(3, R),
        object_masked=torch.zeros(3, R, dtype=torch.bool),
        answer=torch.full((3,), -100),
    )
    losses = model(**inputs(), **empty)
    assert losses.pop("match") > 0
    assert {loss.item() for loss in losses.values()} == {0.0}
    sum(losses.values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


NEEDED = {
    "words": ("word_labels",),
    "match": ("matched",),
    "objects": ("object_ids", "object_conf"),
    "attributes": ("attribute_ids", "attribute_conf"),
    "features": ("targets", "object_masked"),
    "answers": ("answer",),
}


@pytest.mark.parametrize(
    "chosen", [("words",), ("match", "features"), ("objects", "answers"), ("attributes",), LOSSES]
)
def test_any_choice_of_losses_trains_exactly_what_is_not_frozen(model, chosen):
    wanted = labels()
    model.freeze_what_lacks_a_loss(chosen)
    losses = model(**inputs(), **{name: wanted[name] for loss in chosen for name in NEEDED[loss]})
    assert set(losses) == set(chosen)
    sum(losses.values()).backward()
    trained = {name for name, p in model.named_parameters() if p.grad is not None}
    assert trained == {name for name, p in model.named_parameters() if p.requires_grad}


def test_confidence_is_one_unless_told(model):
    given, wanted = inputs(), labels()
    ids = wanted["object_ids"]
    plain = model(**given, object_ids=ids)["objects"]
    close(plain, model(**given, object_ids=ids, object_conf=torch.ones(3, R))["objects"])


def test_answers_are_scored_from_what_was_seen():
    torch.manual_seed(0)
    model, given = AnsweringModel(CONFIG, 5).eval().double(), inputs()
    seen = model.backbone.see(given["features"], given["boxes"], given["visual_mask"])
    scores = model.scores(given["ids"], given["mask"], seen)
    close(scores, model.answers(model.backbone(**given).pooled))
    targets = torch.tensor([[0, 0.3, 0, 0.9, 0], [0, 0, 0, 0, 0], [1, 0, 0, 0, 0]])
    loss = model(**given, targets=targets)["answers"]
    mean = F.binary_cross_entropy_with_logits(scores, targets)
    close(loss, mean * 5 * 3, 1e-5)  # the original's mean × answers, summed over three questions
    loss.backward()
    trained = {name for name, p in model.named_parameters() if p.grad is not None}
    assert trained == {name for name, p in model.named_parameters() if p.requires_grad}


def test_the_best_answer_alone_leaves_questions_without_answers_out():
    scores = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([[0, 0.3, 0, 0.9, 0], [0, 0, 0, 0, 0], [1, 0, 0, 0, 0]])
    rows = -scores.log_softmax(1)
    close(answer_loss(scores, targets, "best"), 5 * (rows[0, 3] + rows[2, 0]), 1e-5)
    close(
        answer_loss(scores, targets, "best", empty_is_first=True), 5 * (rows[0, 3] + rows[1, 0] + rows[2, 0])
    )


def test_a_pair_is_two_passes_over_one_sentence():
    torch.manual_seed(0)
    model, given, other = PairModel(CONFIG).eval().double(), inputs(), inputs(5)
    pairs = {
        name: torch.stack([given[name], other[name]], 1) for name in ("features", "boxes", "visual_mask")
    }
    left = model.backbone(**given).pooled
    right = model.backbone(**(other | {"ids": given["ids"], "mask": given["mask"]})).pooled
    scores = model.pair(torch.cat([left, right], dim=1))
    label = torch.tensor([1, 0, 0])
    loss = model(given["ids"], given["mask"], **pairs, label=label)["pairs"]
    close(loss, F.cross_entropy(scores, label, reduction="sum"), 1e-5)
    swapped = {name: tensor.flip(1) for name, tensor in pairs.items()}
    assert abs(model(given["ids"], given["mask"], **swapped, label=label)["pairs"] - loss) > 1e-3
    loss.backward()
    trained = {name for name, p in model.named_parameters() if p.grad is not None}
    assert trained == {name for name, p in model.named_parameters() if p.requires_grad}


def test_a_batch_is_cut_to_its_longest_sentence():
    ids, mask = torch.arange(1, 11).view(2, 5), mask_of((3, 2), 5)
    short, kept = trim(ids, mask)
    assert short.tolist() == [[1, 2, 3], [6, 7, 8]]
    assert kept.tolist() == [[True, True, True], [True, True, False]]
    assert trim(ids, mask_of((3, 3), 5))[1] is None
    assert trim(ids, None) == (ids, None)


def test_new_weights_are_drawn_alike_everywhere():
    model = LxmertForPretraining(dataclasses.replace(CONFIG, init_std=0.02, hidden=64))
    for name, parameter in model.named_parameters():
        if "norm" in name and name.endswith("weight"):
            assert (parameter == 1).all(), name
        elif parameter.ndim == 1:
            assert (parameter == 0).all(), name
        else:
            assert 0.015 < parameter.std() < 0.025, name


def test_wide_models_multiply_by_onednn_with_equal_results(monkeypatch):
    torch.manual_seed(0)
    model = Lxmert(dataclasses.replace(CONFIG, hidden=256, init_std=0.05)).eval()
    given = {
        name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in inputs().items()
    }
    entered, enter = [], onednn.OneDnnLinear.__enter__
    monkeypatch.setattr(onednn.OneDnnLinear, "__enter__", lambda mode: entered.append(mode) or enter(mode))
    with monkeypatch.context() as narrow:
        narrow.setattr(onednn, "WIDE", 257)
        plain = model(**given)
    assert not entered
    quick = model(**given)
    assert len(entered) == 3  # see, listen, meet
    for name in ("pooled", "text", "visual"):
        close(getattr(quick, name), getattr(plain, name), 1e-5)
