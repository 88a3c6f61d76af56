"""NLVR2's accuracy and consistency."""

import json
from pathlib import Path

import pytest

from vlpnb.data.asked_data import Pair
from vlpnb.data.nlvr2 import read_nlvr2
from vlpnb.errors import UserError
from vlpnb.metrics.nlvr2 import nlvr2_scores, read_nlvr2_predictions, statement_of

RECORDED = json.loads((Path(__file__).parents[1] / "golden/lxmert/metrics.json").read_text())["nlvr2"]


def pairs_of(rows):
    return [Pair(r["identifier"], r["sent"], r["img0"], r["img1"], bool(r["label"])) for r in rows]


def test_scores_equal_the_official_scripts(tmp_path):
    pairs = pairs_of(RECORDED["lxmert_form"])
    for run in RECORDED["runs"]:
        predictions = {p.identifier: bool(v) for p, v in zip(pairs, run["predictions"], strict=True)}
        scores = nlvr2_scores(predictions, pairs)
        assert scores == run["official"]
        assert scores["accuracy"] == run["accuracy_original_code"]
        (tmp_path / "p.csv").write_text(run["csv"])
        assert nlvr2_scores(read_nlvr2_predictions(tmp_path / "p.csv"), pairs) == scores


def test_case_and_further_predictions_do_no_harm_and_missing_ones_are_refused():
    pairs = [Pair("dev-1-0-0", "s", "l", "r", True), Pair("dev-1-1-0", "s", "l", "r", False)]
    assert nlvr2_scores({"dev-1-0-0": "TRUE", "dev-1-1-0": "false", "x": "?"}, pairs)["accuracy"] == 1
    with pytest.raises(UserError, match=r"1 of 2 statements have no prediction \(dev-1-1-0"):
        nlvr2_scores({"dev-1-0-0": True, "x": True}, pairs)
    with pytest.raises(UserError, match="dev-1-0-0 has no label"):
        nlvr2_scores({"dev-1-0-0": True}, [Pair("dev-1-0-0", "s", "l", "r", None)])
    with pytest.raises(UserError, match="expected the form split-set-pair-sentence"):
        statement_of("a-b")


def test_a_damaged_file_of_predictions_is_named(tmp_path):
    (tmp_path / "p.csv").write_text("dev-1-0-0,True\n\ndev-1-1-0;True\n")
    with pytest.raises(UserError, match=r"p\.csv:3: found 'dev-1-1-0;True', expected identifier,True"):
        read_nlvr2_predictions(tmp_path / "p.csv")


def test_the_published_dev_set(shared_data):
    examples = read_nlvr2(shared_data / "nlvr2/dev.json")
    pairs = [Pair(e.identifier, e.sentence, e.left, e.right, e.label) for e in examples]
    assert len({statement_of(pair.identifier) for pair in pairs}) == 2018
    scores = nlvr2_scores(dict.fromkeys((p.identifier for p in pairs), True), pairs)
    assert scores["accuracy"] == pytest.approx(0.5086, abs=1e-4)
