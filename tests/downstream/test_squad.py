"""Stage `squad`: it learns to read, and answers nothing where there is nothing."""

import json

import numpy as np
import pytest
import torch

from tests import tiny_lm
from vlpnb.config import parse_config
from vlpnb.data.description import load_folder
from vlpnb.data.squad import read_squad
from vlpnb.downstream import squad
from vlpnb.downstream.squad import Answer, decode
from vlpnb.errors import UserError
from vlpnb.text.tokenizers import load_tokenizer
from vlpnb.text.windows import QuestionWindows
from vlpnb.vokenization.squad import VokenizationSquadConfig

NAMES = tiny_lm.FREE


@pytest.mark.slow
def test_it_learns_to_read(finished):
    metrics = finished("squad").metrics
    assert metrics["v1_em"] > 0.9  # 0.5 without reading the question
    assert metrics["v2_em"] > 0.9  # and 0.33 by never answering
    assert metrics["v1_em"] <= metrics["v1_f1"]
    assert metrics["v2_em_zero"] <= metrics["v2_em"]
    assert metrics["diverged"] == 0


def test_prediction_files_give_the_metrics(finished, inputs):
    done = finished("squad")
    folder, metrics = done.folder, done.metrics
    questions = read_squad(load_folder(inputs["squad_data"], "squad_data").folder, "2.0", "valid")
    given = json.loads((folder / "seed-1/v2.0/predictions.json").read_text())
    odds = json.loads((folder / "seed-1/v2.0/null_odds.json").read_text())
    assert set(given) == set(odds) == {question.id for question in questions}
    f1 = np.mean([squad.squad_scores([given[q.id]], [[t for t, _ in q.answers]])["f1"] for q in questions])
    assert f1 == pytest.approx(metrics["v2_f1"])
    for question in questions:
        assert given[question.id] in question.context


def test_answers_of_several_windows_are_one(inputs):
    tokenizer = load_tokenizer(inputs["corpus"] / "tokenizer")
    passage = " ".join(f"the {name} is green ." for name in NAMES * 4)
    data = QuestionWindows(["car ?"], [passage], [None], tokenizer, max_length=30, stride=10)
    assert len(data) > 2
    config = squad.SquadConfig(max_answer=3, n_best=5)
    starts, ends = ([np.zeros(length) for length in data.lengths] for _ in range(2))
    offset = data.passage_start(0)
    # the second window is surest of its thirteenth token; the null score is lowest in the first window
    starts[1][offset + 12], ends[1][offset + 13] = 5.0, 4.0
    starts[0][0] = -1.0
    found = decode(data, 0, starts, ends, config)
    first = int(data.rows[1, 1])
    assert found.spans[0] == (9.0, data.text(0, first + 12, first + 13))
    assert found.null == -1.0
    assert found.null_odds == -10.0
    assert len({text for _, text in found.spans}) == len(found.spans) <= 5
    assert Answer((), 2.0).text == ""


def test_padding_does_not_change_scores(inputs):
    tokenizer = load_tokenizer(inputs["corpus"] / "tokenizer")
    data = QuestionWindows(
        ["car ?", "kite ?"], ["the car is red .", "the kite is green . " * 4], [None] * 2, tokenizer
    )
    encoder = squad.load_encoder(inputs["pretraining"] / "snapshot-0000001")
    model = squad.QuestionAnswerer(encoder, squad.SpanHead(64)).eval()
    alone, both = data.batch([0]), data.batch([0, 1])
    short = model.head(model.hidden(alone["ids"], alone["mask"], alone["types"]))[0]
    padded = model.head(model.hidden(both["ids"], both["mask"], both["types"]), both["mask"])[0]
    torch.testing.assert_close(padded[:1, : data.lengths[0]], short, atol=1e-5, rtol=1e-4)
    assert (padded[0, data.lengths[0] :] < -1e30).all()


def test_unknown_versions_are_refused():
    with pytest.raises(UserError, match="versions"):
        parse_config(VokenizationSquadConfig, {"versions": "1.1,3"}, "squad")
