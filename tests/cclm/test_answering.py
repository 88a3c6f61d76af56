"""Ranking answers: the shared prefix and keys give what the plain pass gives; what counts, and what comes first."""

import pytest
import torch

from tests.cclm.small_tasks import V, backbone, pictures, scatter, texts
from vlpnb.cclm.answering import AnsweringModel
from vlpnb.downstream.answer_ranking import Answers, rank
from vlpnb.errors import UserError

PIECES = ((0, 7, 2), (0, 9, 8, 2), (0, 7, 8, 11, 2), (0, 12, 2), (0, 9, 2), (0, 30, 31, 32, 33, 2))
TEXTS = ("red", "dark blue", "red car park", "yes", "dark", "a b c d")
PICTURE = torch.tensor([0, 1, 1, 3])


def answers(texts=TEXTS, pieces=PIECES):
    return Answers.of(texts, pieces, 1)


@pytest.fixture
def model():
    made = AnsweringModel(backbone()).double().eval()
    scatter(made)
    return made


def states_of(model):
    ids, mask = texts()
    return model.read(ids, mask, model.backbone.pictures(pictures()), PICTURE), mask


def log_probs_plainly(model, states, mask, pieces):
    """Of each piece after `<s>` of one answer, by a whole pass over a sentence that the question repeats."""
    found = []
    for row in range(len(states)):
        seen = states[row, : mask[row].sum()][None]
        x = model.decoder.embed(torch.tensor([pieces[:-1]]))
        causal = torch.ones(len(pieces) - 1, len(pieces) - 1, dtype=torch.bool).tril()[None, None]
        for layer in model.decoder.layers:
            x, _ = layer.look(x, causal)
            x, _ = layer.meet(x, None, seen)
            x = layer.think(x)
        scores = model.decoder.logits(x[0]).log_softmax(-1)
        found.append(scores[torch.arange(len(pieces) - 1), torch.tensor(pieces[1:])])
    return torch.stack(found)  # (B, L - 1)


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


def test_the_loss_sums_the_pieces_of_each_answer_times_its_weight(model):
    ids, mask = texts()
    of, weights = torch.tensor([0, 0, 2, 3]), torch.tensor([0.5, 0.5, 1.0, 1.0], dtype=torch.float64)
    said = torch.tensor([0, 1, 5, 2])
    table = answers()
    loss = model(ids, mask, pictures(), PICTURE, table.ids[said], table.mask[said], of, weights)["answers"]
    states, _ = states_of(model)
    plain = [log_probs_plainly(model, states, mask, p).sum(1) for p in PIECES]
    expected = -sum(w * plain[a][q] for a, q, w in zip(said.tolist(), of.tolist(), weights, strict=True))
    assert loss.item() == pytest.approx(expected.item(), rel=1e-9)


def test_the_decoder_is_a_copy_that_learns_and_so_does_all_that_it_reads(model):
    source = AnsweringModel(backbone())
    assert torch.equal(source.decoder.word_weight, source.backbone.word_weight)
    assert source.decoder.word_weight is not source.backbone.word_weight
    assert len(AnsweringModel(backbone(), layers=1).decoder.layers) == 1
    ids, mask = texts()
    table = answers()
    args = (PICTURE, table.ids[:4], table.mask[:4], torch.arange(4), torch.ones(4, dtype=torch.float64))
    model(ids, mask, pictures(), *args)["answers"].backward()
    assert [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None] == []


def test_an_empty_list_and_an_answer_without_a_piece_are_told():
    with pytest.raises(UserError, match="no answer to choose from"):
        answers((), ())
    with pytest.raises(UserError, match=r"answers\[1\]: '\?' has no piece"):
        answers(("red", "?"), ((0, 7, 2), (0, 2)))
