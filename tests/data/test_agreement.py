"""Ours against a recorded value: what holds, and what is said of what does not."""

import math

import numpy as np
import pytest
import torch

from vlpnb.data.agreement import EXACT, Case, Tolerance, compare
from vlpnb.errors import UserError


def agree(ours, recorded, tolerance=EXACT):
    return compare(Case("file", "x", ours, recorded, tolerance))


@pytest.mark.parametrize(
    ("ours", "recorded", "tolerance"),
    [
        (torch.tensor([1, 2]), np.array([1, 2], np.uint8), EXACT),
        (torch.tensor([1.0, 2.0]).half(), [1, 2], EXACT),
        (torch.tensor(True), 1, EXACT),
        ([math.nan, math.inf, -math.inf], torch.tensor([math.nan, math.inf, -math.inf]), EXACT),
        (1.00001, 1.0, Tolerance(2e-5)),
        (torch.tensor([100.01, 0.0]), [100.0, 0.0], Tolerance(relative=2e-4)),
        (torch.tensor([100.0, 0.01]), [100.0, 0.0], Tolerance(relative=2e-4, of_largest=True)),
        ({"a": [1.0, "b", None], "c": [[1], [2, 3]]}, {"c": [[1], [2, 3]], "a": [1.0, "b", None]}, EXACT),
        ([], torch.empty(0), EXACT),
    ],
)
def test_what_holds(ours, recorded, tolerance):
    found = agree(ours, recorded, tolerance)
    assert (found.beyond, found.first) == (0, "")


@pytest.mark.parametrize(
    ("ours", "recorded", "tolerance", "said"),
    [
        (
            torch.tensor([[1.0, 2.0], [3.5, 4.5]]),
            [[1, 2], [3, 4]],
            EXACT,
            "x[1, 0]: ours 3.5, recorded 3, 0.5 apart",
        ),
        (2**60 + 1, 2**60, EXACT, "x: ours 1152921504606846977, recorded 1152921504606846976, 1 apart"),
        (torch.zeros(2, 1), torch.zeros(2), EXACT, "x: ours has the shape [2, 1], recorded [2]"),
        (math.nan, 1.0, Tolerance(1e9), "x: ours nan, recorded 1, inf apart"),
        (1.0, math.inf, Tolerance(1, 1), "x: ours 1, recorded inf, inf apart"),
        (
            torch.tensor([100.0, 0.25]),
            [100.0, 0.0],
            Tolerance(relative=1.0),
            "x[1]: ours 0.25, recorded 0, 0.25 apart",
        ),
        ({"a": ["b"]}, {"a": ["c"]}, EXACT, "x.a[0]: ours 'b', recorded 'c'"),
        ({"a": 1}, {"a": 1, "b": 2}, EXACT, "x.b: ours nothing, recorded 2"),
        ({"a": 1, "b": 2}, {"a": 1}, EXACT, "x.b: ours 2, recorded nothing"),
        (["a"], ["a", "b"], EXACT, "x[1]: ours nothing, recorded 'b'"),
        ([[1], [2, 3]], [[1], [2, 4]], EXACT, "x[1][1]: ours 3, recorded 4, 1 apart"),
        (None, 0.0, EXACT, "x: ours None, recorded 0.0"),
    ],
)
def test_the_first_place_that_does_not_hold_is_told_with_both_values(ours, recorded, tolerance, said):
    assert agree(ours, recorded, tolerance).first == said


def test_the_number_nearest_to_its_tolerance_is_reported():
    found = agree([100.5, 1.4], [100.0, 1.0], Tolerance(relative=0.5))
    assert (found.difference, found.allowed) == (pytest.approx(0.4), 0.5)
    assert (found.values, found.beyond) == (2, 0)


def test_an_exact_difference_is_not_forgotten_for_an_equal_number_after_it():
    found = agree([[1, "a"], [2, "b"]], [[3, "a"], [2, "b"]])
    assert (found.beyond, found.difference, found.share) == (1, 2.0, math.inf)


def test_tolerances_are_read_from_json():
    assert Tolerance.of(1e-5) == Tolerance(1e-5)
    assert Tolerance.of({"relative": 0.1, "of_largest": True}) == Tolerance(0.0, 0.1, True)
    for wrong in ("small", {"abs": 1}, None):
        with pytest.raises(UserError, match=r"config\.json: states: .* is no tolerance"):
            Tolerance.of(wrong, "config.json: states")
