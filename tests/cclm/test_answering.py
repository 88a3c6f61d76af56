"""The model that answers: its loss is that of writing each answer, and all that it reads learns."""

import pytest
import torch

from tests.cclm.small_tasks import (
    PICTURE,
    PIECES,
    answering,
    answers,
    backbone,
    log_probs_plainly,
    pictures,
    states_of,
    texts,
)
from vlpnb.cclm.answering import AnsweringModel


@pytest.fixture
def model():
    return answering()


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
