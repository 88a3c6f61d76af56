"""The exercises' right answers and typical slips, one module per notebook; `test_slips.py` runs them all.

A module holds answers as a reader would write them and, in `EXERCISES`, what the check of each says of wrong ones.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

Answer = Callable[..., Any]


@dataclass(frozen=True)
class Exercise:
    """What is known of one exercise. Messages are patterns that are found in what the check says."""

    check: Callable[[Answer], None]
    right: Answer
    slips: Mapping[str, str] = field(default_factory=dict)  # `right(…, slip=name)` → message
    wrong: tuple[tuple[Answer, str], ...] = ()  # other wrong answers → message
    also_right: tuple[Answer, ...] = ()
    said: str = "Correct: "  # of the right answer

    @property
    def mistakes(self) -> list[tuple[Answer, str]]:
        """Every wrong answer with its message."""
        return [*((partial(self.right, slip=name), text) for name, text in self.slips.items()), *self.wrong]
