"""Two pictures beside a sentence: pairs of fusion layers with tied keys."""

import pytest
import torch

from tests.cclm.small_tasks import backbone, pictures, scatter, texts
from vlpnb.cclm.pairs import PairModel

LEFT, RIGHT = torch.tensor([0, 1, 2, 3]), torch.tensor([1, 1, 3, 0])


def plainly(model, ids, mask, left, right):
    """Layer by layer, each picture of each row by itself, all positions of all layers."""
    own = model.backbone
    x, seen = own.text(ids, mask), mask[:, None, None]
    for first, second in zip(own.fusion_layers, model.seconds, strict=True):
        for layer, view in ((first, left), (second, right)):
            x, _ = layer.look(x, seen)
            keys = first.meet.attention.memory_keys(view)  # of both layers
            x, _ = layer.meet(x, None, cached=keys)
            x = layer.think(x)
    return model.head(x)


def judged(model, ids, mask, left=LEFT, right=RIGHT):
    keys = model.backbone.memory_keys(model.backbone.pictures(pictures()))
    return model.scores(ids, mask, keys, left, right)


@pytest.mark.parametrize("outputs", [2, 3])
def test_pictures_that_are_seen_once_give_the_scores_of_each_row_by_itself(outputs):
    model = PairModel(backbone(), outputs).double().eval()
    scatter(model)
    ids, mask = texts()
    views = model.backbone.pictures(pictures())
    expected = plainly(model, ids, mask, views[LEFT], views[RIGHT])
    found = judged(model, ids, mask)
    assert found.shape == (4, outputs)
    assert torch.allclose(found, expected, atol=1e-12)


def test_layers_alternate_between_left_and_right_and_the_order_of_pictures_matters():
    model = PairModel(backbone()).double().eval()
    ids, mask = texts()
    right_way, other_way = judged(model, ids, mask), judged(model, ids, mask, RIGHT, LEFT)
    same = LEFT == RIGHT
    assert torch.allclose(right_way[same], other_way[same])
    assert ((right_way - other_way)[~same].abs().amax(1) > 1e-4).all()


def test_both_layers_of_a_pair_begin_alike_and_learn_apart_but_for_the_shared_keys():
    model = PairModel(backbone()).double()
    for first, second in zip(model.backbone.fusion_layers, model.seconds, strict=True):
        own = first.state_dict()
        assert all(torch.equal(own[name], value) for name, value in second.state_dict().items())
        tied = {n for n in own if n not in second.state_dict()}
        assert tied == {f"meet.attention.{m}.{p}" for m in ("key", "value") for p in ("weight", "bias")}
    ids, mask = texts()
    loss = model(ids, mask, pictures(), LEFT, RIGHT, torch.tensor([1, 0, 1, 1]))["pairs"]
    loss.backward()
    first, second = model.backbone.fusion_layers[0], model.seconds[0]
    assert not torch.allclose(first.look.attention.query.weight.grad, second.look.attention.query.weight.grad)
    assert first.meet.attention.key.weight.grad.abs().sum() > 0
    unread = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert unread == []


def test_heads_of_pre_training_are_frozen_and_everything_else_learns():
    model = PairModel(backbone())
    frozen = {name.split(".")[1] for name, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {
        "image_projection",
        "text_projection",
        "temperature",
        "match_head",
        "box_head",
        "word_head",
    }


def test_padding_changes_no_score():
    model = PairModel(backbone()).double().eval()
    ids, mask = texts()
    alone = torch.cat(
        [
            judged(
                model,
                ids[[row], : mask[row].sum()],
                mask[[row], : mask[row].sum()],
                LEFT[[row]],
                RIGHT[[row]],
            )
            for row in range(len(ids))
        ]
    )
    assert torch.allclose(judged(model, ids, mask), alone, atol=1e-12)
