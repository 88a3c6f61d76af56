"""Stage `squad`: it learns to read, survives a kill, answers nothing where there is nothing."""

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
from vlpnb.metrics.squad import squad_scores
from vlpnb.nn.language_model import language_model_config
from vlpnb.nn.transformer import init_weights
from vlpnb.text.tokenizers import load_tokenizer
from vlpnb.text.windows import QuestionWindows
from vlpnb.vokenization.squad import SQUAD, VokenizationSquadConfig
from vlpnb.vokenization.visual_lm import VisuallySupervisedLM, save_snapshot

NAMES = tiny_lm.FREE


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    root = tmp_path_factory.mktemp("squad")
    made = tiny_lm.make(root, count=40)
    tiny_lm.add_squad(root, made)
    tokenizer = load_tokenizer(made["corpus"] / "tokenizer")
    torch.manual_seed(0)
    model = VisuallySupervisedLM(language_model_config("micro", tokenizer, 0.0))
    init_weights(model, 0.12)  # 1/√hidden: smaller ones take long to look at the question
    save_snapshot(root / "vlm" / "snapshot-0000001", model, tokenizer)
    return {**made, "pretraining": root / "vlm"}


CONFIG = VokenizationSquadConfig(
    seeds=(1,), lr=3e-3, epochs=6, batch=16, max_length=40, stride=8, checkpoint_seconds=0
)


@pytest.fixture(scope="module")
def finished(inputs, tmp_path_factory):
    folder, said = tmp_path_factory.mktemp("stage"), []
    return folder, SQUAD.run(tiny_lm.context(CONFIG, folder, inputs, said)), said


def test_it_learns_to_read(finished):
    _, metrics, _ = finished
    assert metrics["v1_em"] > 0.9  # 0.5 without reading the question
    assert metrics["v2_em"] > 0.9  # and 0.33 by never answering
    assert metrics["v1_em"] <= metrics["v1_f1"]
    assert metrics["v2_em_zero"] <= metrics["v2_em"]
    assert metrics["diverged"] == 0


def test_prediction_files_give_the_metrics(finished, inputs):
    folder, metrics, _ = finished
    questions = read_squad(load_folder(inputs["squad_data"], "squad_data").folder, "2.0", "valid")
    given = json.loads((folder / "seed-1/v2.0/predictions.json").read_text())
    odds = json.loads((folder / "seed-1/v2.0/null_odds.json").read_text())
    assert set(given) == set(odds) == {question.id for question in questions}
    f1 = np.mean([squad.squad_scores([given[q.id]], [[t for t, _ in q.answers]])["f1"] for q in questions])
    assert f1 == pytest.approx(metrics["v2_f1"])
    for question in questions:
        assert given[question.id] in question.context
    assert not list(folder.rglob("work"))


def test_a_killed_training_continues_to_the_same_result(inputs, finished, tmp_path, monkeypatch):
    calls = []
    whole = QuestionWindows.batch

    def dies(self, rows):
        calls.append(1)
        if len(calls) == 20:
            raise KeyboardInterrupt
        return whole(self, rows)

    monkeypatch.setattr(QuestionWindows, "batch", dies)
    with pytest.raises(KeyboardInterrupt):
        SQUAD.run(tiny_lm.context(CONFIG, tmp_path, inputs))
    assert (tmp_path / "seed-1" / "v1.1" / "work" / "checkpoint.pt").is_file()
    monkeypatch.setattr(QuestionWindows, "batch", whole)
    assert SQUAD.run(tiny_lm.context(CONFIG, tmp_path, inputs)) == finished[1]


def test_answers_of_several_windows_are_one(inputs):
    tokenizer = load_tokenizer(inputs["corpus"] / "tokenizer")
    passage = " ".join(f"the {name} is green ." for name in NAMES * 4)
    data = QuestionWindows(["car ?"], [passage], [None], tokenizer, max_length=30, stride=10)
    assert len(data) > 2
    config = CONFIG.model_copy(update={"max_answer": 3, "n_best": 5})
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


def test_a_run_that_becomes_nan_is_a_result_not_a_crash(inputs, tmp_path, monkeypatch):
    monkeypatch.setattr(squad.SpanHead, "loss", lambda self, hidden, *_: (hidden * np.nan).sum())
    said = []
    config = VokenizationSquadConfig(versions=("1.1",), epochs=1, max_length=40, max_train=24)
    assert SQUAD.run(tiny_lm.context(config, tmp_path, inputs, said))["diverged"] == 1
    assert any("DIVERGED" in line for line in said)


def test_what_is_missing_is_said(inputs, tmp_path):
    with pytest.raises(UserError, match=r"snapshot: found 7, expected a number from -1 to 0"):
        SQUAD.run(tiny_lm.context(VokenizationSquadConfig(snapshot=7), tmp_path / "a", inputs))
    with pytest.raises(UserError, match="versions"):
        parse_config(VokenizationSquadConfig, {"versions": "1.1,3"}, "squad")


def test_published_settings_are_the_defaults():
    config = VokenizationSquadConfig()
    assert (config.max_length, config.stride, config.lr, config.epochs) == (384, 128, 5e-5, 3)
    assert config.versions == ("1.1", "2.0")
    assert squad_scores(["a"], [["a"]]) == {"em": 1, "f1": 1}
