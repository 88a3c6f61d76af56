"""Greedy and drawn texts over a step function: which words, their log-probabilities, where writing stops."""

import pytest
import torch

from tests.nn.toy_writer import ToyWriter
from vlpnb.errors import UserError
from vlpnb.nn.decoding import greedy, guide, keep_likeliest, mixed, sample

END = 0


def test_greedy_takes_the_likeliest_word_each_time():
    model = ToyWriter(4, 9, ending=0.5)
    drawn = greedy(model.step(), 8, END, pad_id=7)
    for picture, ids in enumerate(drawn.ids.tolist()):
        text = ()
        for place, word in enumerate(ids):
            if END in text:
                assert (word, drawn.log_probs[picture, place], drawn.scores[picture, place]) == (7, 0, 0)
                continue
            scores = model.scores(picture, text)
            assert word == scores.argmax()
            assert drawn.scores[picture, place] == scores.max()
            assert drawn.log_probs[picture, place].item() == pytest.approx(scores.log_softmax(0).max().item())
            text += (word,)


def test_writing_stops_when_every_text_has_ended_or_never():
    model = ToyWriter(3, 9, ending=30.0)
    assert greedy(model.step(), 8, END).ids.tolist() == [[END] + [0] * 7] * 3
    assert model.calls == 1
    raw = greedy(model.step(), 8, END, stop=False)
    assert model.calls == 9
    assert raw.ids.tolist() == [[END] * 8] * 3
    assert (raw.log_probs < 0).all()


def test_words_are_drawn_as_often_as_their_probability_says():
    model = ToyWriter(2, 5)
    random = torch.Generator().manual_seed(0)
    drawn = sample(model.step(), 1, END, samples=4000, temperature=0.5, generator=random)
    for picture in range(2):
        share = drawn.ids[picture * 4000 : (picture + 1) * 4000, 0].bincount(minlength=5) / 4000
        expected = (model.scores(picture, ()) / 0.5).softmax(0)
        assert (share - expected).abs().max() < 0.03
        own = drawn.log_probs[picture * 4000 : (picture + 1) * 4000, 0]
        torch.testing.assert_close(own, expected.log()[drawn.ids[picture * 4000 : (picture + 1) * 4000, 0]])


def test_samples_of_a_picture_lie_side_by_side_and_go_on_from_their_own_words():
    model = ToyWriter(3, 9, ending=1.0)
    drawn = sample(model.step(), 6, END, samples=5, generator=torch.Generator().manual_seed(1))
    assert drawn.ids.shape == (15, 6)
    for row, ids in enumerate(drawn.ids.tolist()):
        text = tuple(ids[: ids.index(END) + 1] if END in ids else ids)
        expected = [
            model.scores(row // 5, text[:i]).log_softmax(0)[word].item() for i, word in enumerate(text)
        ]
        assert drawn.log_probs[row, : len(text)].tolist() == pytest.approx(expected)
    assert len({tuple(ids) for ids in drawn.ids.tolist()}) > 10


def test_the_same_generator_draws_the_same_texts():
    model = ToyWriter(3, 9)
    one, again, other = (
        sample(model.step(), 6, END, generator=torch.Generator().manual_seed(seed)).ids for seed in (1, 1, 2)
    )
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_only_likely_words_are_drawn():
    scores = torch.tensor([[0.4, 0.1, 0.3, 0.2], [0.97, 0.01, 0.01, 0.01]]).log()
    assert (keep_likeliest(scores, top_k=2) > -torch.inf).tolist() == [[True, False, True, False], [True] * 4]
    kept = keep_likeliest(scores, top_p=0.65)
    assert (kept > -torch.inf).tolist() == [[True, False, True, False], [True, False, False, False]]
    assert torch.equal(
        keep_likeliest(scores, top_p=0.75) > -torch.inf, scores > torch.tensor([[0.15], [0.5]]).log()
    )
    assert torch.equal(keep_likeliest(scores, top_k=9), scores)
    model = ToyWriter(1, 9)
    drawn = sample(model.step(), 1, END, samples=300, top_k=3, generator=torch.Generator().manual_seed(0))
    assert set(drawn.ids.flatten().tolist()) == set(model.scores(0, ()).topk(3)[1].tolist())
    assert drawn.log_probs.unique().exp().sum() == pytest.approx(1.0)


def test_log_probabilities_of_drawn_words_have_a_gradient():
    weight = torch.zeros(2, 4, requires_grad=True)
    drawn = sample(lambda words, rows: weight, 3, 99, generator=torch.Generator().manual_seed(0))
    drawn.log_probs.sum().backward()
    expected = torch.nn.functional.one_hot(drawn.ids, 4).sum(1) - 3 * 0.25  # of a log-softmax at equal scores
    torch.testing.assert_close(weight.grad, expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.0}, "temperature = 0.0; expected > 0"),
        ({"top_k": -1}, "top_k = -1"),
        ({"top_p": 0.0}, "top_p = 0.0; expected more than 0"),
        ({"samples": 0}, "samples = 0"),
        ({"steps": 0}, "steps = 0"),
    ],
)
def test_numbers_without_meaning_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        sample(ToyWriter(1, 9).step(), **{"steps": 3, "end_id": END} | options)


def test_guidance_and_mixtures_are_what_they_say():
    one, other = torch.randn(2, 3, 11, dtype=torch.float64)
    cases = (
        (guide(one, other, 0.0), one.log_softmax(-1)),
        (guide(one, other, 1.0), 2 * one.log_softmax(-1) - other.log_softmax(-1)),
        (mixed(one, other, 0.3).exp(), 0.3 * one.softmax(-1) + 0.7 * other.softmax(-1)),
        (mixed(one, other, 1.0), one.log_softmax(-1)),
    )
    for found, expected in cases:
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-7)
