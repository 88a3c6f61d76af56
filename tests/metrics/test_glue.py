"""GLUE's metrics on cases small enough for a pencil."""

import math

import pytest

from vlpnb.metrics.glue import classification, regression


def test_classification_by_hand():
    found = classification([1, 1, 0, 0, 1], [1, 0, 0, 1, 1])
    assert found["accuracy"] == pytest.approx(3 / 5)
    assert found["f1"] == pytest.approx(2 / 3)  # 2 hits, 1 false alarm, 1 miss
    assert found["acc_and_f1"] == pytest.approx((3 / 5 + 2 / 3) / 2)
    assert found["matthews"] == pytest.approx((2 * 1 - 1 * 1) / math.sqrt(3 * 3 * 2 * 2))


def test_constant_predictions_have_no_correlation():
    assert classification([1, 1, 1], [1, 0, 1])["matthews"] == 0
    assert classification([0, 0, 0], [1, 0, 1])["f1"] == 0
    assert regression([2.0, 2.0], [1.0, 3.0]) == {"pearson": 0.0, "spearman": 0.0, "corr": 0.0}


def test_three_classes_have_no_f1():
    found = classification([0, 1, 2], [0, 2, 2])
    assert found["accuracy"] == pytest.approx(2 / 3)
    assert math.isnan(found["f1"])


def test_regression_sees_order_and_line():
    found = regression([1.0, 2.0, 4.0], [1.0, 2.0, 3.0])
    assert found["spearman"] == pytest.approx(1)
    assert found["pearson"] == pytest.approx(3 / math.sqrt(2 * 14 / 3))
    assert found["corr"] == pytest.approx((found["spearman"] + found["pearson"]) / 2)
