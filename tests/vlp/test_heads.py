"""Heads and losses against the long way: sums written out, slots one by one, nothing where nothing counts."""

import dataclasses

import pytest
import torch
from torch.nn import functional as F

from tests.vlp.small import CONFIG, R, T, guesses, inputs, labels, mask_of, texts
from vlpnb.errors import UserError
from vlpnb.nn.decoding import greedy
from vlpnb.nn.losses import IGNORE, Smoothing, answer_loss, smoothed_loss
from vlpnb.vlp.generating import VlpDecoder
from vlpnb.vlp.heads import VlpForAnswers, VlpForGeneration, best_answers, slots_of
from vlpnb.vlp.objectives import Guessing
from vlpnb.vlp.original.unpublished import RelaxedWordHead, region_loss


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Guessing(VlpForGeneration(CONFIG)).eval().double()


def close(one, other, atol=1e-9):
    torch.testing.assert_close(one.double(), other.double(), rtol=0, atol=atol)


def test_a_batch_without_a_target_has_the_loss_zero(model):
    loss = model(**guesses(inputs(), torch.full((3, T), IGNORE)))["words"]
    assert loss == 0
    assert loss.requires_grad


def test_a_model_smooths_and_drops_as_it_is_told(model):
    given, wanted = inputs(), labels()
    model.model.label_smoothing = 0.1
    targets = wanted[wanted != IGNORE]
    states = model.model.backbone(**given).last[:, R + 2 :][wanted != IGNORE]
    losses = smoothed_loss(model.model.word_scores(states), targets, Smoothing(0.1, CONFIG.pad_id))
    given = guesses(given, wanted)
    close(model(**given)["words"], losses.sum())
    rows = torch.stack([losses[:2].sum(), losses[2], losses[3]])
    best = rows.argsort()[:2]
    targets = torch.tensor([2.0, 1.0, 1.0])
    expected = rows[best].sum() / targets[best].sum()
    close(model(**given, drop=torch.tensor(0.3))["words"] / 4, expected)
    with pytest.raises(UserError, match="label_smoothing"):
        VlpForGeneration(CONFIG, label_smoothing=1.0)


def test_masked_regions_are_told_apart_as_written_out():
    torch.manual_seed(0)
    phi, psi, pooled = torch.randn(3, 5, 4), torch.randn(3, 5, 4), torch.randn(3, 4)
    masked = torch.tensor([[1, 0, 1, 1, 0], [0, 0, 0, 0, 1], [0, 0, 0, 0, 0]]).bool()
    total = 0.0
    for b in range(3):
        chosen = masked[b].nonzero()[:, 0]
        if len(chosen):
            scores = (psi[b, chosen] + pooled[b]) @ phi[b, chosen].T
            total += F.cross_entropy(scores, torch.arange(len(chosen))).item()
    assert region_loss((phi, psi), pooled, masked).item() == pytest.approx(total, rel=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        assert region_loss((phi, psi), pooled, masked).item() == pytest.approx(total, rel=1e-5)


def masked_regions():
    return torch.tensor([[0, 1, 0, 0, 1, 0], [1, 0, 0, 0, 0, 0], [0, 0, 1, 1, 0, 0]]).bool()


def test_a_hidden_region_is_seen_by_nobody_unless_as_in_the_original(model):
    """VLP-07: there its segment stays in sight, so that the others' words depend on how many are masked."""
    given = guesses(inputs(), labels())
    words = {}
    for mode in ("hidden", "visible"):
        model.model.regions = mode
        words[mode] = model(**given, hidden_regions=masked_regions())["words"]
    without = given | {"visual_mask": given["visual_mask"] & ~masked_regions()}
    close(words["hidden"], model(**without)["words"])
    assert (words["visible"] - words["hidden"]).abs() > 1e-3


def test_the_pretext_trains_the_pooler_and_nothing_else_does():
    for mode, trained in (("off", False), ("hidden", True)):
        model = Guessing(VlpForGeneration(CONFIG, regions=mode)).double()
        assert all(p.requires_grad is trained for p in model.model.backbone.pooler.parameters())
        masked = masked_regions() if trained else None
        losses = model(**guesses(inputs(), labels()), hidden_regions=masked)
        assert set(losses) == ({"words", "regions"} if trained else {"words"})
        sum(losses.values()).backward()
        assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


def test_slots_have_norms_of_their_own_or_one_together():
    """VLP-08: joint is how the original trains, each how it decodes."""
    torch.manual_seed(0)
    heads = [
        RelaxedWordHead(dataclasses.replace(CONFIG, slots=4, joint_norm=joint)).double()
        for joint in (True, False)
    ]
    for head in heads:
        for parameter in head.parameters():
            torch.nn.init.normal_(parameter)
    heads[1].load_state_dict(heads[0].state_dict())
    joint, alone = heads
    hidden = torch.randn(5, 32).double()
    x = F.gelu(joint.dense(hidden))
    weight, bias = joint.norm.weight, joint.norm.bias
    for slot in range(4):
        part = slice(32 * slot, 32 * slot + 32)
        close(joint(hidden, slot), F.layer_norm(x, (128,), weight, bias, 1e-5)[:, part])
        close(alone(hidden, slot), F.layer_norm(x[:, part], (32,), weight[part], bias[part], 1e-5))
    mixed = torch.tensor([3, 0, 3, 1, 0])
    for head in heads:
        close(head(hidden, mixed), torch.stack([head(hidden, int(slot))[i] for i, slot in enumerate(mixed)]))


def test_each_mode_has_its_slot():
    assert slots_of(torch.tensor([True, False])).tolist() == [3, 0]


def test_answers_come_from_the_product_of_two_states():
    torch.manual_seed(0)
    model = VlpForAnswers(CONFIG, 11).eval().double()
    given = inputs()
    reads = {"s2s": torch.zeros(3, dtype=torch.bool)}
    last = model.backbone(**given | reads).last
    del given["s2s"]
    scores = model.scores(**given)
    close(scores, model.answers(last[:, 0] * last[:, R + 1]))
    targets = torch.rand(3, 11).double()
    loss = model(**given, targets=targets)["answers"]
    close(loss / 3, F.binary_cross_entropy_with_logits(scores, targets) * 11, 1e-6)
    close(loss, answer_loss(scores, targets), 1e-12)
    loss.backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


def test_no_answer_is_never_predicted():
    scores = torch.tensor([[9.0, 1.0, 2.0], [9.0, 3.0, 3.0]])
    assert best_answers(scores).tolist() == [2, 1]


@pytest.mark.slow
def test_small_batches_are_learned_by_heart():
    """Eight captions of eight pictures come back word by word from greedy choice after some steps."""
    torch.manual_seed(0)
    model = VlpForGeneration(dataclasses.replace(CONFIG, dropout=0.0, init_std=0.05))
    seen = {"features": torch.rand(8, R, 12), "geometry": torch.randn(8, R, 11)}
    ids, lengths = texts([3, 4, 5, 6, 3, 4, 5, 6], seed=3), torch.tensor([3, 4, 5, 6, 3, 4, 5, 6])
    real = mask_of((lengths + 1).tolist(), T)
    asked = torch.cat([ids, torch.full_like(ids, CONFIG.mask_id)], dim=1)
    given = {
        **seen,
        "ids": asked,
        "place": torch.arange(T).repeat(2).expand(8, -1),
        "owner": torch.where(real, 0, -1).repeat(1, 2),
        "query": (torch.arange(2 * T) >= T).expand(8, -1),
        "labels": torch.cat([torch.full_like(ids, IGNORE), ids.where(real, IGNORE)], dim=1),
        "s2s": torch.ones(8, dtype=torch.bool),
    }
    optimiser, learner = torch.optim.Adam(model.parameters(), 3e-3), Guessing(model)
    for _ in range(150):
        optimiser.zero_grad()
        (learner(**given)["words"] / 44).backward()
        optimiser.step()
    decoder = VlpDecoder(model.eval(), steps=T)
    with torch.no_grad():
        written = greedy(decoder.step(decoder.see(**seen)), T, CONFIG.sep_id).ids
    assert torch.equal(written, ids * real)
