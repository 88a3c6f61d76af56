"""Checks of the exercises, one module per notebook, and the comparison they share.

A check runs the reader's answer on small inputs. When the answer is wrong it says what was found, what was
expected, and, when the wrong value is one that a typical slip gives, which slip. Checks raise `Wrong`; a notebook
run as it ships (with the solution cells) passes them all.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch


class Wrong(AssertionError):
    """The answer to an exercise is not right yet; the message says how."""

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows (IPython asks): the message alone, for the lines of a check give other answers away."""
        return [f"Not yet: {self}"]


def _array(value: Any) -> np.ndarray:
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    return np.asarray(value)


def compare(what: str, got: Any, expected: Any, slips: Mapping[str, Any] | None = None, tol: float = 1e-4):
    """Check an answer against the expected value, naming the slip that a wrong value comes from.

    Args:
        what: what was computed, for the message ("the loss", "the queries").
        got: the reader's value: a number, list, array or tensor.
        expected: the right value.
        slips: explanation of a typical mistake → the value which that mistake gives.
        tol: absolute and relative tolerance.

    Raises:
        Wrong: the value is missing, misshapen or not close to the expected one.
    """
    if got is None or got is NotImplemented or got is ...:
        raise Wrong(f"{what}: nothing came back yet. Replace the stub, and return the value.")
    try:
        value, target = _array(got), _array(expected)
        numeric = value.dtype.kind in "biufc" and target.dtype.kind in "biufc"
    except (TypeError, ValueError) as error:
        raise Wrong(
            f"{what}: expected {type(expected).__name__}, found {type(got).__name__} ({error})"
        ) from None
    if value.shape != target.shape:
        one_thing = value.dtype == object and not value.shape  # a dict, a set: it has no shape
        found = type(got).__name__ if one_thing else value.shape
        raise Wrong(f"{what}: expected shape {target.shape}, found {found}.")

    def equal(other: np.ndarray) -> bool:
        if value.shape != other.shape:
            return False
        return (
            bool(np.allclose(value, other, atol=tol, rtol=tol)) if numeric else bool((value == other).all())
        )

    if equal(target):
        return
    for explanation, slip in (slips or {}).items():
        if equal(_array(slip)):
            raise Wrong(f"{what}: {explanation}")
    raise Wrong(f"{what}: expected {_short(target)}, found {_short(value)}.")


def passed(message: str) -> None:
    """Say that a check passed, in words worth reading."""
    print(f"Correct: {message}")


def _short(value: np.ndarray) -> str:
    text = np.array2string(value, precision=4, threshold=8, separator=", ")
    return text if len(text) < 160 else text[:157] + "..."
