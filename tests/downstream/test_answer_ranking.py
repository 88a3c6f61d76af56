"""Ranking answers: the shared prefix and keys give what the plain pass gives; what counts, and what comes first."""

import pytest
import torch

from tests.cclm.small_tasks import PIECES, V, answering, answers, log_probs_plainly, states_of
from vlpnb.downstream.answer_ranking import rank
from vlpnb.errors import UserError


@pytest.fixture
def model():
    return answering()


@pytest.mark.parametrize("first_twice", [False, True])
def test_scores_are_those_of_writing_each_answer_alone(model, first_twice):
    states, mask = states_of(model)
    plain = [log_probs_plainly(model, states, mask, pieces) for pieces in PIECES]
    expected = torch.stack([p.sum(1) + first_twice * p[:, 0] for p in plain], dim=1)  # (B, A)
    ranked = rank(model.decoder, states, mask, answers(), k=128, first_twice=first_twice)
    assert ranked.rows.shape == (4, len(PIECES))  # as many as there are
    assert torch.allclose(ranked.scores, expected.gather(1, ranked.rows).to(ranked.scores.dtype), atol=1e-5)
    assert torch.equal(ranked.rows[:, 0], expected.argmax(1))
    assert (ranked.scores.diff(dim=1) <= 0).all()


def test_only_the_candidates_with_the_likeliest_first_pieces_are_scored(model):
    states, mask = states_of(model)
    firsts = torch.stack([log_probs_plainly(model, states, mask, p)[:, 0] for p in PIECES], dim=1)
    ranked = rank(model.decoder, states, mask, answers(), k=3)
    likely = firsts.sort(dim=1, descending=True, stable=True).indices[:, :3]
    assert [set(row) for row in ranked.rows.tolist()] == [set(row) for row in likely.tolist()]
    everything = rank(model.decoder, states, mask, answers(), k=6)
    for row in range(4):
        kept = [r for r in everything.rows[row].tolist() if r in likely[row].tolist()]
        assert ranked.rows[row].tolist() == kept


def test_candidates_of_the_same_pieces_are_one_and_the_first_is_said(model):
    twice = answers(("red", "yes", "Red"), ((0, 7, 2), (0, 12, 2), (0, 7, 2)))
    assert (len(twice), twice.first, twice.row) == (2, (0, 1), (0, 1, 0))
    states, mask = states_of(model)
    ranked = rank(model.decoder, states, mask, twice)
    assert ranked.rows.shape == (4, 2)


def test_of_equal_scores_the_first_in_the_list_comes_first(model):
    with torch.no_grad():  # a head that says the same of all words
        model.decoder.word_head.bias.zero_()
        model.decoder.embeddings.words.weight.copy_(model.decoder.embeddings.words.weight[:1].expand(V, -1))
    states, mask = states_of(model)
    ranked = rank(model.decoder, states, mask, answers(), k=6)
    assert ranked.rows[0].tolist() == sorted(range(6), key=lambda row: (len(PIECES[row]), row))
    assert ranked.scores[0, 0].item() == pytest.approx(2 * torch.tensor(1 / V).log().item())


def test_an_empty_list_and_an_answer_without_a_piece_are_told():
    with pytest.raises(UserError, match="no answer to choose from"):
        answers((), ())
    with pytest.raises(UserError, match=r"answers\[1\]: '\?' has no piece"):
        answers(("red", "?"), ((0, 7, 2), (0, 2)))
