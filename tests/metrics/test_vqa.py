"""VQA accuracy and LXMERT's local scores."""

import json
from pathlib import Path

import pytest

from vlpnb.data.asked import AskedQuestion
from vlpnb.data.lxmert import read_lxmert
from vlpnb.data.vqa_labels import soft_targets
from vlpnb.errors import UserError
from vlpnb.metrics.vqa import label_score, source_scores, vqa_accuracy, vqa_scores

RECORDED = json.loads((Path(__file__).parents[1] / "golden/lxmert/metrics.json").read_text())


def asked(name, people, kind="other"):
    return AskedQuestion(name, "picture", "What?", soft_targets(people), tuple(people), kind)


def test_accuracy_leaves_each_person_out_once():
    people = ["red"] * 2 + ["dark red"] * 8
    # two who said it see one other, eight see two
    assert vqa_accuracy("red", people) == pytest.approx((2 * 1 / 3 + 8 * 2 / 3) / 10)
    assert vqa_accuracy("dark red", people) == 1
    assert vqa_accuracy("blue", people) == 0


def test_answers_are_spelt_officially_only_where_people_differ():
    assert vqa_accuracy("t-shirt", ["t-shirt"] * 10) == 1
    assert vqa_accuracy("t shirt", ["t-shirt"] * 10) == 0
    assert vqa_accuracy("t shirt", ["t-shirt"] * 9 + ["shirt"]) == 1
    assert vqa_accuracy("The  two.\n", ["2"] * 5 + ["two"] * 5) == 1


def test_scores_by_type_of_answer():
    questions = [
        asked(1, ["yes"] * 10, "yes/no"),
        asked(2, ["2"] * 10, "number"),
        asked(3, ["a cat"] * 9 + ["x"]),
    ]
    scores = vqa_scores({1: "yes", 2: "3", 3: "cat", 4: "left over"}, questions)
    assert scores == pytest.approx({"accuracy": 2 / 3, "yes/no": 1, "number": 0, "other": 1})
    with pytest.raises(UserError, match=r"1 of 3 questions have no prediction \(3"):
        vqa_scores({1: "yes", 2: "3"}, questions)
    with pytest.raises(UserError, match="at least one question"):
        vqa_scores({}, [])


@pytest.mark.parametrize("task", ["vqa", "gqa"])
def test_local_scores_are_the_recorded_ones(task):
    questions = [
        AskedQuestion(row["question_id"], row["img_id"], row["sent"], row["label"])
        for row in RECORDED[task]["data"]
    ]
    for run in RECORDED[task]["predictions"]:
        assert label_score(dict(run["answers"]), questions) == pytest.approx(run["score"], abs=1e-12)
    with pytest.raises(UserError, match="predictions for 1 questions that are unknown: 77"):
        label_score({77: "x"}, questions)


def test_the_accuracy_of_pre_trainings_answers_is_the_recorded_one(tmp_path):
    recorded = RECORDED["pretraining_qa_accuracy"]
    (tmp_path / "l.json").write_text(json.dumps(recorded["data"]))
    predictions = {}
    for name, answer in recorded["predictions"]:
        image, source, place = name.rsplit("_", 2)
        predictions[image, source, int(place)] = answer
    scores = source_scores(predictions, read_lxmert(tmp_path / "l.json"))
    assert scores == pytest.approx({"overall": recorded["overall"], **recorded["per_source"]})
