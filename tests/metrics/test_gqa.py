"""GQA's metrics, on counts that can be done by hand."""

import pytest

from vlpnb.data.asked import AskedQuestion
from vlpnb.data.asked_data import load_questions
from vlpnb.data.gqa import GqaChoices, read_gqa_choices
from vlpnb.errors import UserError
from vlpnb.metrics.gqa import distribution, gqa_scores


def asked(name, answer, structural="query", semantic="attr", **more):
    return AskedQuestion(name, "p", "What?", {answer: 1.0}, structural=structural, semantic=semantic, **more)


QUESTIONS = [
    asked("a", "red", group="colour", entailed=("a", "b", "c")),
    asked("b", "yes", "verify", entailed=("a",)),
    asked("c", "no", "verify", "rel", entailed=("b",)),
    asked("d", "blue", group="colour"),
    asked("e", "blue", group="colour", balanced=False, entailed=("a",)),
]
ANSWERS = {"a": "red", "b": "yes", "c": "yes", "d": "red", "e": "red"}


def test_accuracies_count_balanced_questions():
    scores = gqa_scores(ANSWERS, QUESTIONS)
    assert scores["accuracy"] == 2 / 4
    assert (scores["binary"], scores["open"]) == (1 / 2, 1 / 2)
    assert (scores["structural.verify"], scores["structural.query"]) == (1 / 2, 1 / 2)
    assert (scores["semantic.attr"], scores["semantic.rel"]) == (2 / 3, 0)
    assert "validity" not in scores


def test_consistency_averages_over_right_questions_that_entail_others():
    # a is right, of b and c one is; b is right, a is; c and d are wrong, e is not balanced
    assert gqa_scores(ANSWERS, QUESTIONS)["consistency"] == pytest.approx((1 / 2 + 1) / 2)
    assert "consistency" not in gqa_scores(ANSWERS | {"a": "x", "b": "x"}, QUESTIONS)
    alone = [QUESTIONS[0]]  # what it entails is not there
    assert "consistency" not in gqa_scores(ANSWERS, alone)


def test_the_distribution_is_a_chi_square_by_group():
    # colour: right red 1, blue 1; given red 2: (2 - 1)² / 1 + (0 - 1)² / 1 = 2
    assert gqa_scores(ANSWERS, QUESTIONS)["distribution"] == pytest.approx(2 / 100)
    pairs = [("g", "a", "a"), ("g", "a", "b"), ("g", "b", "a"), ("h", "x", "other")]
    # g: a 2 of 2, b 1 of 1: 0; h: (0 - 1)² / 1 = 1; weighted by 3 and 1
    assert distribution(pairs) == pytest.approx((3 * 0 + 1 * 1) / 4 / 100)


def test_validity_and_plausibility_with_the_file_of_choices(tmp_path):
    (tmp_path / "choices.json").write_text(
        '{"a": {"valid": ["red", "blue"], "plausible": ["red"]}, "b": {"valid": [], "plausible": []}}'
    )
    choices = read_gqa_choices(tmp_path / "choices.json")
    assert choices["a"] == GqaChoices(frozenset({"red", "blue"}), frozenset({"red"}))
    common = asked("b", "color", "compare", detailed="twoCommon")
    scores = gqa_scores({"a": "blue", "b": "shape"}, [asked("a", "red"), common], choices)
    assert (scores["validity"], scores["plausibility"]) == (1, 1 / 2)
    with pytest.raises(UserError, match="question c has no valid and plausible answers"):
        gqa_scores({"c": "x"}, [asked("c", "x")], choices)
    (tmp_path / "choices.json").write_text('{"a": {"valid": ["red"]}}')
    with pytest.raises(UserError, match=r"choices\.json: a: field 'plausible' is missing"):
        read_gqa_choices(tmp_path / "choices.json")


def test_missing_predictions_and_answers_are_refused():
    with pytest.raises(UserError, match=r"1 of 5 questions have no prediction \(e"):
        gqa_scores({k: v for k, v in ANSWERS.items() if k != "e"}, QUESTIONS)
    with pytest.raises(UserError, match="question f has no answer"):
        gqa_scores({"f": "x"}, [AskedQuestion("f", "p", "?", {})])


def test_right_answers_to_the_worlds_questions_score_everything(small_world):
    questions = load_questions(small_world.questions).read("gqa", "train")
    scores = gqa_scores({q.question_id: next(iter(q.targets)) for q in questions}, questions)
    assert scores.pop("distribution") == 0
    assert {"accuracy", "binary", "open", "structural.verify"} <= scores.keys()
    assert set(scores.values()) == {1.0}
