"""Self-critical learning as the original has it: its reward, and roll-outs with the view of a reference."""

import pytest
import torch

from tests.vlp.small import CONFIG, LENGTHS, inputs, texts
from vlpnb.nn.decoding import greedy
from vlpnb.vlp.generating import VlpDecoder, log_probs_of
from vlpnb.vlp.heads import VlpForGeneration
from vlpnb.vlp.original.self_critical import batch_rewards, view_of_reference

SEP, PAD = CONFIG.sep_id, CONFIG.pad_id


@pytest.fixture
def model():
    torch.manual_seed(1)
    return VlpForGeneration(CONFIG).double().eval()


@pytest.fixture
def seen(model):
    given = inputs()
    return VlpDecoder(model).see(given["features"], given["geometry"], given["visual_mask"])


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
