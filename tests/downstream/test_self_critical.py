"""Self-critical learning: what is counted, the baseline, the reward."""

import pytest
import torch

from vlpnb.downstream.self_critical import CiderRewards, against_others, counted, cut, policy_loss
from vlpnb.errors import UserError
from vlpnb.metrics.cider import Frequencies

SEP, PAD = 102, 0


def test_captions_are_cut_behind_their_first_end():
    ids = torch.tensor([[5, SEP, 7, SEP], [5, 6, 7, 8], [SEP, 5, 5, 5], [5, PAD, 6, SEP]])
    expected = [[5, SEP, PAD, PAD], [5, 6, 7, 8], [SEP, PAD, PAD, PAD], [5, PAD, PAD, PAD]]
    assert cut(ids, SEP, PAD).tolist() == expected
    assert cut(ids[None], SEP, PAD).tolist() == [expected]


def test_the_loss_ends_with_the_end_and_in_the_original_one_word_later():
    ids = torch.tensor([[5, SEP, PAD, PAD], [5, 6, 7, 8]])
    assert counted(ids, PAD).tolist() == [[True, True, False, False], [True] * 4]
    assert counted(ids, PAD, past_end=True).tolist() == [[True, True, True, False], [True] * 4]


def test_the_loss_of_equal_rewards_is_zero_and_better_captions_become_likelier():
    log_probs = torch.randn(2, 3, 4, requires_grad=True)
    words = torch.ones(2, 3, 4, dtype=torch.bool)
    assert policy_loss(log_probs, against_others(torch.ones(2, 3)), words) == 0
    policy_loss(log_probs, against_others(torch.tensor([[1.0, 0, 0], [0, 0, 1]])), words).backward()
    assert (log_probs.grad[0, 0] < 0).all()
    assert (log_probs.grad[0, 1] > 0).all()


def test_the_baseline_is_the_mean_of_the_others():
    rewards = torch.tensor([[1.0, 2.0, 6.0]])
    assert against_others(rewards)[0].tolist() == pytest.approx([1 - 4, 2 - 3.5, 6 - 1.5])
    with pytest.raises(UserError, match="two or more"):
        against_others(torch.ones(3, 1))


def test_an_end_is_a_word_of_the_reward():
    rewards = CiderRewards([["a red boat on the lake"], ["two dogs run in the grass"]])
    assert rewards(0, "A red boat on the lake .") == pytest.approx(10)
    assert rewards(0, "a red boat on the lake", ended=False) < 9.5
    assert rewards(1, "a red boat on the lake") < 1
    stored = Frequencies.of([[["a", "[SEP]"]], [["b", "[SEP]"]], [["c", "[SEP]"]]])
    assert CiderRewards([["a"]], stored)(0, "a") > 0
