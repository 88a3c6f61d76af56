"""The draw of text assignment: a partner that looks alike, in either order, and enough pictures."""

import pytest
import torch

from vlpnb.errors import UserError
from vlpnb.nn.text_assignment import FIRST, NEITHER, SECOND, draw_assignment, partner_weights


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
