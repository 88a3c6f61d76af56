"""VQA accuracy and LXMERT's local scores."""

import json
from pathlib import Path

import pytest

from vlpnb.data.asked import AskedQuestion
from vlpnb.data.lxmert import read_lxmert
from vlpnb.data.vqa_answers import normalise, without_marks
from vlpnb.data.vqa_labels import imdb_spelling, imdb_targets, soft_targets, with_unknown
from vlpnb.errors import UserError
from vlpnb.metrics.vqa import label_score, source_scores, spelt, vqa_accuracy, vqa_scores

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


VLP = json.loads((Path(__file__).parents[1] / "golden/vlp/vqa_accuracy.json").read_text())


@pytest.mark.parametrize("spelling", ["official", "pythia"])
def test_both_programs_spell_and_count_as_recorded(spelling):
    rows = VLP["questions"]
    questions = [
        AskedQuestion(i, "x", "?", {}, tuple(r["answers"]), r["answer_type"]) for i, r in enumerate(rows)
    ]
    for row in rows:
        answer, said = spelt(row["prediction"], row["answers"], spelling)
        assert said == row[spelling]["answers_normalised"]
        if spelling == "pythia":
            assert answer == row["prediction_normalised"]
        assert (
            round(100 * vqa_accuracy(row["prediction"], row["answers"], spelling), 2)
            == row[spelling]["accuracy"]
        )
    found = vqa_scores({i: row["prediction"] for i, row in enumerate(rows)}, questions, spelling)
    totals = {name: round(100 * value, 2) for name, value in found.items()}
    assert totals.pop("accuracy") == VLP["totals"][spelling]["overall"]
    assert totals == {name: value for name, value in VLP["totals"][spelling].items() if name != "overall"}


def test_the_two_programs_differ_on_the_recorded_answers():
    differ = [r for r in VLP["questions"] if r["official"]["accuracy"] != r["pythia"]["accuracy"]]
    assert differ
    with pytest.raises(UserError, match="'pythai' is unknown; expected official or pythia"):
        spelt("yes", ["yes"], "pythai")


def test_every_word_and_every_mark_is_spelt_as_recorded():
    assert [normalise(word) for word, _ in VLP["words"]] == [spelt for _, spelt in VLP["words"]]
    assert [without_marks(text) for text, _ in VLP["punctuation"]] == [
        spelt for _, spelt in VLP["punctuation"]
    ]


def test_training_targets_of_vlp_are_the_recorded_ones():
    recorded = VLP["training_targets"]
    for row in recorded["examples"]:
        assert [imdb_spelling(text) for text in row["answers"]] == row["cleaned"]
        assert imdb_targets(row["answers"], recorded["answer_list"]) == row["scores"]


def test_missing_answers_count_as_unknown_and_unknown_never_scores():
    assert imdb_targets(["yes"] * 2 + ["<unk>"] * 3, ["<unk>", "yes"]) == {"yes": 0.6}
    assert with_unknown(["yes"]) == ["<unk>", "yes"] == with_unknown(["<unk>", "yes"])
