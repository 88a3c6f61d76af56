"""Small cases worked out by hand, one per step of the pipeline, each through the package's own function."""

import numpy as np
import pytest
import torch
from torch import nn

from vlpnb.downstream.glue import result_row
from vlpnb.metrics.retrieval import diversity, ranks, recall
from vlpnb.nn.losses import paired_hinge
from vlpnb.text.alignment import align
from vlpnb.text.corpora import split_long
from vlpnb.text.packing import block_starts
from vlpnb.text.pages import pieces_of
from vlpnb.train.loop import TrainingPlan, fit
from vlpnb.train.sampling import Update
from vlpnb.vokenization.vokeniser import decode_marks, mark_sentence


def test_1_hinge():
    f = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[0.6, 0.8], [1.0, 0.0]]])
    g, m = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[1, 1], [1, 0]])
    assert paired_hinge(f, g, m, 0.5).item() == pytest.approx(0.6)
    terms = []
    for b, t in ((0, 0), (0, 1), (1, 0)):  # the same through masks of one token each
        one = torch.zeros(2, 2, dtype=torch.long)
        one[b, t] = 1
        terms.append(paired_hinge(f, g, one, 0.5).item())
    assert terms == pytest.approx([0.0, 1.5, 0.3])


@pytest.mark.parametrize(
    ("length", "legacy", "balanced"),
    [
        (128, [128], [128]),
        (129, [64, 64, 1], [65, 64]),
        (200, [100, 100], [100, 100]),
        (255, [127, 127, 1], [128, 127]),
        (257, [85, 85, 85, 2], [86, 86, 85]),
        (300, [100, 100, 100], [100, 100, 100]),
        (385, [96, 96, 96, 96, 1], [97, 96, 96, 96]),
        (1000, [125] * 8, [125] * 8),
    ],
)
def test_2_piece_lengths(length, legacy, balanced):
    """VOK-09: `legacy` is the reference; the default leaves no short tail, and is what corpora are cut with."""
    assert split_long(length, 128, legacy=True) == legacy
    assert split_long(length, 128) == balanced
    assert np.diff(pieces_of(np.array([0, length]), 128)).tolist() == balanced


@pytest.mark.parametrize(("n", "legacy", "full"), [(4422, 34, 35), (25_310, 199, 200), (1260, 8, 10)])
def test_3_blocks(n, legacy, full):
    """VOK-14: `legacy` is the reference; the default keeps all full blocks."""
    assert len(block_starts(n, 126, legacy=True)) == legacy
    assert len(block_starts(n, 126)) == full


def test_4_sentence_marks():
    with_specials = [-4, 3, -4, -4]  # CLS, two tokens, SEP
    assert mark_sentence(3, 2) == with_specials[1:-1] == [3, -4]
    assert mark_sentence(0, 2) == [0, -1]
    stored = np.array([3, -4, 0, -1])
    assert decode_marks(stored, "first").tolist() == [3, -100, 0, -100]
    assert decode_marks(stored, "all").tolist() == [3, 3, 0, 0]


def test_5_diversity():
    pairs = [("a", "x")] * 3 + [("a", "y")] + [("b", "x")] * 2
    found = diversity(pairs)
    assert (found["images"], found["max_count"], found["mean_count"]) == (1.5, 2.5, 2.0)
    assert (found["std_count"], found["cover"], found["types"]) == (0.5, 2, 2)


def test_6_alignment():
    forward = np.array([(0, 2), (2, 6), (7, 11)])
    backward = np.array([(0, 5), (5, 6), (6, 10), (10, 11)])
    assert align(forward, backward).tolist() == [1, 1, 2, 2]


def test_7_recall():
    """VOK-06: the reference counts rank ≤ k + 1."""
    second_best = ranks(torch.tensor([[0.2, 0.9, 0.7, 0.1]]), torch.tensor([2]))
    assert recall(second_best)["r1"] == 0
    assert recall(second_best, legacy=True)["r1"] == 1


def test_8_result_row():
    names = ("RTE", "MRPC", "STS-B", "CoLA", "SST-2", "QNLI", "QQP", "MNLI", "MNLI-MM")
    values = (54.51, 84.72, 87.18, 52.32, 90.02, 88.36, 87.16, 81.92, 82.57)
    row = result_row({name: value / 100 for name, value in zip(names, values, strict=True)})
    assert [float(row[i : i + 8]) for i in range(0, len(row), 8)] == [*values, 78.75]


@pytest.mark.parametrize(("accumulation", "per_micro_step"), [(1, 5.0), (2, 2.5)])
def test_9_loss_mixing(tmp_path, accumulation, per_micro_step):
    """mlm_ratio 0.5, voken 4, mlm 2; the loop divides sums by the labels of the whole update."""
    labels, gradients = 6, []

    class Losses(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))
            self.scale.register_hook(lambda gradient: gradients.append(gradient.item()))

        def forward(self, n):
            return {"voken": 4.0 * n * self.scale, "mlm": 2.0 * n * self.scale}

    micro = [{"n": torch.tensor(labels / accumulation)} for _ in range(accumulation)]
    plan = TrainingPlan(updates=1, lr=0.0, weights={"mlm": 0.5})
    update = Update(micro, {"voken": labels, "mlm": labels})
    [record] = fit(Losses(), lambda step: update, plan, tmp_path)
    assert record["loss"] == pytest.approx(5.0)
    # The loss is proportional to `scale`, which is 1: each gradient is the micro-step's share of the loss.
    assert gradients == pytest.approx([per_micro_step] * accumulation)
