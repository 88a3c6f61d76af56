"""SQuAD's metrics on cases worked out by hand."""

import math

import pytest

from vlpnb.metrics.squad import (
    best_threshold,
    exact_match,
    f1,
    normalise,
    predictions,
    question_scores,
    squad_scores,
)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("The  Big, red Car!", "big red car"),
        ("an apple a day", "apple day"),
        ("theatre another", "theatre another"),  # an article inside a word stays
        ("U.S.A.", "usa"),
        ("well-known", "wellknown"),
        ("The", ""),
        ("Zürich – “old town”", "zürich – “old town”"),  # only ASCII punctuation goes, as officially
    ],
)
def test_normalisation(text, kept):
    assert normalise(text) == kept


def test_f1_by_hand():
    assert f1("a small red car", "the red car") == pytest.approx(2 * 2 / (3 + 2))
    assert f1("red red car", "red car car") == pytest.approx(2 * 2 / 6)  # bags, not sets
    assert f1("tent", "car") == 0
    assert f1("", "") == f1("the", "") == 1
    assert f1("car", "") == f1("", "car") == 0
    assert exact_match("The car.", "car") == 1
    assert exact_match("red car", "car") == 0


def test_the_best_reference_counts():
    assert question_scores("red car", ["the car", "a red car", "car"]) == (1, 1)
    assert question_scores("red car", ["car", "blue car"]) == (0, pytest.approx(2 / 3))
    assert question_scores("", []) == (1, 1)
    assert question_scores("car", []) == (0, 0)
    assert question_scores("", ["the", "car"]) == (0, 0)  # a reference of nothing but articles is none


def test_best_threshold_by_hand():
    # sorted by odds: right answer, no answer, right answer, no answer
    gains, has, odds = [1.0, 0.0, 1.0, 0.0], [True, False, True, False], [-3.0, 1.0, 2.0, 4.0]
    # all unanswered 2/4; ≤ −3: 3/4; ≤ 1: 2/4; ≤ 2: 3/4; ≤ 4: 2/4: the first of the best
    assert best_threshold(gains, has, odds) == (0.75, -3.0)
    assert best_threshold([0.0, 0.0], [True, False], [1.0, 2.0]) == (0.5, 0.0)  # answering never helps
    assert best_threshold([1.0, 0.0], [True, False], [1.0, 1.0]) == (0.5, 0.0)  # ties are answered together
    assert best_threshold([0.5, 1.0], [True, True], [5.0, 7.0]) == (0.75, 7.0)


def test_v1_is_a_plain_mean():
    found = squad_scores(["a car", "red tent"], [["the car"], ["tent", "a blue tent"]])
    assert found == {"em": 0.5, "f1": pytest.approx((1 + 2 / 3) / 2)}


def test_v2_reports_the_best_and_the_zero_threshold():
    spans, references, odds = (
        ["car", "tent", "kite", "ball"],
        [["car"], [], ["kite"], []],
        [1.0, 2.0, -1.0, 3.0],
    )
    found = squad_scores(spans, references, odds)
    assert (found["em"], found["em_threshold"]) == (1.0, 1.0)
    assert found["em_zero"] == found["f1_zero"] == 0.75  # the first is left unanswered at 0
    assert (found["f1_answerable"], found["f1_unanswerable"]) == (1.0, 1.0)
    nothing = squad_scores(["car"], [[]], [-1.0])
    assert nothing["em"] == 1
    assert nothing["em_zero"] == 0
    assert math.isnan(nothing["f1_answerable"])


def test_prediction_file():
    assert predictions({"a": "car", "b": "tent"}, {"a": 0.5, "b": 0.6}, 0.5) == {"a": "car", "b": ""}
