"""Two pictures beside a sentence: pairs of fusion layers with tied keys, and the draw of text assignment."""

import pytest
import torch

from tests.cclm.small_tasks import backbone, pictures, scatter, texts
from vlpnb.cclm.pairs import FIRST, NEITHER, SECOND, PairModel, draw_assignment, partner_weights
from vlpnb.errors import UserError

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


def unit(count, seed=3):
    vectors = torch.randn(count, 8, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(vectors, dim=-1)


def test_a_partner_is_never_the_picture_itself_and_alike_ones_are_likelier():
    vectors = unit(6)
    vectors[1] = torch.nn.functional.normalize(vectors[0] + 0.05 * vectors[1], dim=-1)
    weights = partner_weights(vectors)
    assert not weights.diagonal().any()
    assert weights[0].argmax() == 1
    ratio = weights[0, 2] / weights[0, 3]
    cosines = vectors[0] @ vectors.T
    assert ratio.item() == pytest.approx(((cosines[2] - cosines[3]) / 0.07).exp().item(), rel=1e-4)


def test_two_thirds_stand_beside_their_own_picture_in_either_order():
    vectors, labels = unit(8), []
    generator = torch.Generator().manual_seed(0)
    for _ in range(400):
        left, right, label = draw_assignment(vectors, generator)
        own = torch.arange(8)
        assert (left != right).all()
        assert torch.equal(left == own, label == FIRST)
        assert torch.equal(right == own, label == SECOND)
        labels.append(label)
    shares = torch.cat(labels).bincount(minlength=3) / 3200
    assert shares[[FIRST, SECOND, NEITHER]].tolist() == pytest.approx([1 / 3] * 3, abs=0.03)


def test_too_few_pictures_for_two_others_are_told():
    with pytest.raises(UserError, match="at least 3 captioned pictures in a batch, found 2"):
        draw_assignment(unit(2))
