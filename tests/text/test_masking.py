"""BERT masking: rates, specials, repeatability."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vlpnb.text.masking import mask_spans, mask_tokens, selected_count


def batch(n=400, t=128):
    ids = torch.randint(5, 1000, (n, t))
    special = torch.zeros_like(ids, dtype=torch.bool)
    special[:, [0, -1]] = True
    return ids, special


def test_rates_and_labels():
    ids, special = batch()
    inputs, labels = mask_tokens(ids, special, 4, 30_000, torch.Generator().manual_seed(1))
    chosen = labels != -100
    assert not chosen[special].any()
    assert torch.equal(labels[chosen], ids[chosen])
    assert torch.equal(inputs[~chosen], ids[~chosen])
    share = chosen[~special].float().mean().item()
    assert abs(share - 0.15) < 0.005
    masked = (inputs == 4)[chosen].float().mean().item()
    kept = (inputs == ids)[chosen].float().mean().item()
    assert abs(masked - 0.8) < 0.015
    assert abs(kept - 0.1) < 0.012
    assert inputs[chosen & (inputs != 4) & (inputs != ids)].max() > 20_000  # the whole vocabulary


def test_random_words_come_from_the_whole_vocabulary():
    """Wherever [MASK] is in it: BERT's is among the first ids, RoBERTa's is the last."""
    for mask_id in (4, 19):
        ids, special = torch.full((3000, 20), 7), torch.zeros(3000, 20, dtype=torch.bool)
        inputs, labels = mask_tokens(ids, special, mask_id, 20, torch.Generator().manual_seed(1))
        found = torch.bincount(inputs[labels != -100], minlength=20).float() / (labels != -100).sum()
        expected = torch.full((20,), 0.1 / 20)
        expected[mask_id] += 0.8
        expected[7] += 0.1
        torch.testing.assert_close(found, expected, atol=0.012, rtol=0.0)
        assert found.min() > 0.002


def test_generator_repeats_and_continues():
    ids, special = batch(4, 16)
    g = torch.Generator().manual_seed(3)
    first, second = mask_tokens(ids, special, 4, 99, g), mask_tokens(ids, special, 4, 99, g)
    again = mask_tokens(ids, special, 4, 99, torch.Generator().manual_seed(3))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[1], second[1])


def test_rate_limits_and_narrow_integers():
    ids, special = batch(3, 10)
    inputs, labels = mask_tokens(ids.to(torch.int32), special, 4, 99, rate=0.0)
    assert torch.equal(inputs, ids)
    assert (labels == -100).all()
    _, labels = mask_tokens(ids, special, 4, 99, rate=1.0)
    assert ((labels == ids) == ~special).all()


@given(
    seed=st.integers(0, 2**62),
    rows=st.integers(1, 60),
    length=st.integers(1, 130),
    rate=st.floats(0.02, 0.9),
    specials=st.floats(0, 0.6),
)
@settings(max_examples=60, deadline=None)
def test_statistics_at_any_shape_and_rate(seed, rows, length, rate, specials):
    """Counts are binomial: within six standard deviations (and two) of 15 %, and of 80, 10 and 10 % of those."""
    random = torch.Generator().manual_seed(seed)
    mask_id, vocabulary = 4, 30_000  # a random id is [MASK], or the same again, once in ten thousand times
    ids = torch.randint(5, vocabulary, (rows, length), generator=random)
    special = torch.rand(ids.shape, generator=random) < specials
    inputs, labels = mask_tokens(ids, special, mask_id, vocabulary, random, rate)
    chosen = labels != -100
    assert not (chosen & special).any()
    assert torch.equal(labels[chosen], ids[chosen])
    assert torch.equal(inputs[~chosen], ids[~chosen])
    assert int(inputs.min()) >= 0
    assert int(inputs.max()) < vocabulary

    def binomial(count, n, p):
        assert abs(int(count) - n * p) <= 6 * (n * p * (1 - p)) ** 0.5 + 2

    ordinary, selected = int((~special).sum()), int(chosen.sum())
    binomial(selected, ordinary, rate)
    masked, kept = (inputs == mask_id) & chosen, (inputs == ids) & chosen
    binomial(masked.sum(), selected, 0.8)
    binomial(kept.sum(), selected, 0.1)
    binomial((chosen & ~masked & ~kept).sum(), selected, 0.1)


def test_positions_are_selected_alike_and_alone():
    """No position is favoured, and neighbours do not know of each other."""
    ids, special = batch(4000, 24)
    chosen = mask_tokens(ids, special, 4, 30_000, torch.Generator().manual_seed(8))[1][:, 1:-1] != -100
    share = chosen.float().mean(0)
    assert (share - 0.15).abs().max() < 6 * (0.15 * 0.85 / 4000) ** 0.5
    both = (chosen[:, 1:] & chosen[:, :-1]).float().mean().item()
    assert both == pytest.approx(0.15**2, abs=6 * (0.0225 / chosen[:, 1:].numel()) ** 0.5)


def spans(rows, longest, seed=0, **settings):
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(2, longest + 1, (rows,), generator=generator)
    ids = torch.randint(4, 300, (rows, longest), generator=generator)
    ids[torch.arange(longest) >= lengths[:, None]] = 1
    return ids, lengths, *mask_spans(ids, lengths, 306, 307, generator, **settings)


def test_spans_select_a_fixed_number_and_never_the_first_token_or_padding():
    ids, lengths, hidden, places, labels = spans(3000, 17)
    real = labels != -100
    assert (real.sum(1) == selected_count(lengths)).all()
    assert (real.sum(1) == (0.4 * lengths.double()).round().clamp(1, 12)).all()
    assert (places[real] > 0).all()
    assert (places < lengths[:, None]).all()
    assert ((places[:, 1:] > places[:, :-1]) | ~real[:, 1:]).all(), "in ascending order"
    assert (places[~real] == 0).all()
    assert (labels[real] == ids.gather(1, places)[real]).all()
    kept = torch.ones_like(ids, dtype=torch.bool)
    kept[torch.arange(len(ids))[:, None].expand_as(places)[real], places[real]] = False
    assert torch.equal(hidden[kept], ids[kept])
    assert (places.max(1).values == lengths - 1).any(), "the last token may be selected"


def test_of_a_hundred_thousand_selected_tokens_80_percent_are_masked_and_10_are_random():
    ids = torch.full((10_000, 26), 400)  # no random id
    lengths = torch.full((10_000,), 26)
    hidden, places, labels = mask_spans(ids, lengths, 306, 307, torch.Generator().manual_seed(1))
    assert labels.shape == (10_000, 10)
    shown = hidden.gather(1, places)
    assert abs((shown == 306).double().mean() - (0.8 + 0.1 / 307)) < 0.005
    assert abs((shown == 400).double().mean() - 0.1) < 0.004
    assert {0, 1, 2, 3} <= set(shown.flatten().tolist()), "special ids are among the random ones"
    neighbours = ((places[:, 1:] == places[:, :-1] + 1).sum() / places.numel()).item()
    alone = mask_spans(ids, lengths, 306, 307, torch.Generator().manual_seed(1), most=1)[1]
    assert neighbours > 9 / 25 + 0.05, "spans put selected tokens side by side"
    assert abs((alone == 1).double().mean() - 1 / 25) < 0.02


def test_spans_have_the_first_position_less_often():
    """They grow to the right, so that nothing reaches it but its own turn."""
    ids, lengths = torch.full((20_000, 12), 9), torch.full((20_000,), 12)
    places = mask_spans(ids, lengths, 306, 307, torch.Generator().manual_seed(0))[1]
    rates = torch.bincount(places.flatten(), minlength=12) / len(ids)
    assert rates[0] == 0
    assert 0.10 < 1 - rates[1] / rates[3:].mean() < 0.22


def test_spans_repeat_with_their_generator_and_no_more_than_most_are_selected():
    one, other = spans(40, 64, most=5), spans(40, 64, most=5)
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert not torch.equal(one[2], spans(40, 64, seed=1, most=5)[2])
    assert one[3].shape[1] == 5
    ids = torch.tensor([[0, 2]])
    assert mask_spans(ids, torch.tensor([2]), 306, 307, rate=0.9)[1].tolist() == [[1]]


def test_whole_words_are_selected_with_all_of_their_pieces():
    random = torch.Generator().manual_seed(1)
    ids = torch.randint(5, 99, (300, 20), generator=random)
    special = torch.zeros(ids.shape, dtype=torch.bool)
    starts = torch.rand(ids.shape, generator=random) < 0.6
    starts[:, 0] = True
    masked, labels = mask_tokens(ids, special, 4, 99, random, 0.3, starts)
    chosen = labels != -100
    # a further piece is as the one before
    assert torch.equal(chosen[:, 1:] | starts[:, 1:], chosen[:, :-1] | starts[:, 1:])
    assert chosen.float().mean() == pytest.approx(0.3, abs=0.02)
    assert torch.equal(masked[~chosen], ids[~chosen])
