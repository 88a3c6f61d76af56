"""Self-critical learning: what is counted, rewards, and probabilities in one pass."""

import pytest
import torch

from tests.vlp.small import CONFIG, LENGTHS, inputs, texts
from vlpnb.errors import UserError
from vlpnb.metrics.cider import Frequencies
from vlpnb.nn.decoding import greedy
from vlpnb.vlp.generating import VlpDecoder, log_probs_of
from vlpnb.vlp.heads import VlpForGeneration
from vlpnb.vlp.self_critical import (
    CiderRewards,
    against_others,
    batch_rewards,
    counted,
    cut,
    policy_loss,
    view_of_reference,
)

SEP, PAD = CONFIG.sep_id, CONFIG.pad_id


@pytest.fixture
def model():
    torch.manual_seed(1)
    return VlpForGeneration(CONFIG).double().eval()


@pytest.fixture
def seen(model):
    given = inputs()
    return VlpDecoder(model).see(given["features"], given["geometry"], given["visual_mask"])


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


def test_the_originals_reward_is_zero_for_the_same_caption_and_compares_ids():
    references = torch.tensor([[5, 6, SEP, PAD], [7, 8, 9, SEP], [9, 5, SEP, PAD]])
    other = torch.tensor([[5, 7, SEP, PAD], [7, 8, SEP, PAD], [9, 9, 9, 9]])
    assert batch_rewards(other, other, references, PAD).tolist() == [0, 0, 0]
    assert (batch_rewards(references, other, references, PAD) > 0).all()


def test_a_reference_hides_what_stands_behind_its_end(model, seen):
    """VLP-01: words behind it change nothing, and what is asked there is asked of the picture alone."""
    ids = texts(LENGTHS)
    mask, segments = view_of_reference(torch.tensor([2, 2, 2]), ids.shape[1])
    assert segments.tolist() == [[5, 5, 5, 0, 0, 0, 0, 0]] * 3
    other = ids.clone()
    other[:, 3] = 9
    one, two = (log_probs_of(model, seen, given, mask=mask, segments=segments) for given in (ids, other))
    torch.testing.assert_close(one[:, 4:], two[:, 4:])
    visible = log_probs_of(model, seen, other) - log_probs_of(model, seen, ids)
    assert (visible[:, 4:].abs() > 1e-4).any()


def test_the_originals_roll_outs_follow_the_reference(model, seen):
    """As long as the reference they are decoding's; behind it they repeat what the picture alone suggests."""
    decoder = VlpDecoder(model, steps=8)
    mask, segments = view_of_reference(torch.tensor([2, 3, 8]), 8)
    plain = greedy(decoder.step(seen), 8, SEP, stop=False).ids
    short = greedy(decoder.step(seen, mask=mask, segments=segments), 8, SEP, stop=False).ids
    assert (plain[0, :3] == short[0, :3]).all()
    assert (plain[1, :4] == short[1, :4]).all()
    assert (plain[2] == short[2]).all()
    assert (plain != short).any()
