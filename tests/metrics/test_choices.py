"""Choices among a few answers: calibration finds what a habit hides; in the macro mean rare labels weigh as much."""

import numpy as np
import pytest

from vlpnb.errors import UserError
from vlpnb.metrics.choices import accuracy, always, calibrated, chosen, macro_accuracy, majority


def test_calibration_takes_off_what_is_said_anyway():
    scores = np.array([[-1.0, -5.0], [-1.5, -4.0]])  # always the first, but less so in the second row
    assert chosen(scores).tolist() == [0, 0]
    assert chosen(calibrated(scores)).tolist() == [0, 1]
    assert np.allclose(calibrated(scores).mean(0), 0)


def test_calibration_by_prompts_that_say_nothing():
    assert calibrated(np.array([[-1.0, -2.0]]), np.array([[-0.5, -2.5]])).tolist() == [[-0.5, 0.5]]


def test_missing_answers_are_not_chosen():
    assert chosen(np.array([[np.nan, -3.0]])).tolist() == [1]
    with pytest.raises(UserError, match="has no answer with a score"):
        chosen(np.array([[np.nan, np.nan]]))


def test_macro_is_over_labels():
    labels = ["round"] * 3 + ["square"]
    right = [True, True, True, False]
    assert (accuracy(right), macro_accuracy(right, labels)) == (0.75, 0.5)
    assert np.isnan(accuracy([]))


def test_predictors_that_look_at_nothing():
    labels = ["b", "a", "a", "b", "c"]
    assert majority(labels) == ("a", 0.4)
    assert always(labels) == {"a": 0.4, "b": 0.4, "c": 0.2}
    with pytest.raises(UserError, match="no label"):
        majority([])
