"""Ours against a recorded value: tensors, numbers, texts, and lists and objects of them, within a tolerance.

Numbers are compared whatever their types; shapes, texts and the lengths and names of lists and objects must be equal.
NaN equals NaN, an infinity equals itself.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import numpy as np
from torch import Tensor

from vlpnb.errors import UserError

SHOWN = 60  # characters of a value in a message


@dataclass(frozen=True)
class Tolerance:
    """|ours − recorded| ≤ absolute + relative · |recorded|.

    With `of_largest` the relative part is that of the tensor's greatest number, for all of its numbers.
    """

    absolute: float = 0.0
    relative: float = 0.0
    of_largest: bool = False

    @classmethod
    def of(cls, entry: Any, where: str = "tolerance") -> "Tolerance":
        """From JSON: a number is absolute, an object has the fields of this class. UserError for anything else."""
        try:
            return cls(**entry) if isinstance(entry, Mapping) else cls(float(entry))
        except (TypeError, ValueError) as error:
            raise UserError(
                f"{where}: {entry!r} is no tolerance; expected a number, or an object with some of absolute, "
                "relative and of_largest"
            ) from error

    def allowed(self, recorded: np.ndarray) -> np.ndarray:
        """The greatest difference that holds, for each recorded number."""
        sizes = np.abs(np.where(np.isfinite(recorded), recorded, 0.0))
        if self.of_largest:
            sizes = np.full_like(sizes, sizes.max(initial=0.0))
        return np.asarray(self.absolute + self.relative * sizes)


EXACT = Tolerance()


@dataclass(frozen=True)
class Case:
    """One recorded value, where it is, and ours."""

    file: str
    name: str
    ours: Any
    recorded: Any
    tolerance: Tolerance = EXACT


@dataclass
class Agreement:
    """What a comparison found. `difference` and `allowed` are those of the number that uses most of its tolerance."""

    case: Case
    values: int = 0
    beyond: int = 0
    """Values that do not hold; a wrong shape counts as one."""
    first: str = ""
    """The first of them in reading order, with both values."""
    difference: float = 0.0
    allowed: float | None = None
    """None where there were no numbers."""
    share: float = 0.0
    """`difference` as a share of `allowed`."""

    def refuse(self, place: str, why: str, times: int = 1) -> None:
        self.beyond += times
        self.first = self.first or f"{self.case.name}{place}: {why}"


def compare(case: Case) -> Agreement:
    """Hold ours against what is recorded, place by place."""
    found = Agreement(case)
    for place, ours, recorded in _places(case.ours, case.recorded):
        one, other = _numbers(ours), _numbers(recorded)
        if one is None or other is None:
            found.values += 1
            if ours != recorded:
                found.refuse(place, f"ours {_short(ours)}, recorded {_short(recorded)}")
        elif one.shape != other.shape:
            found.values += 1
            found.refuse(place, f"ours has the shape {list(one.shape)}, recorded {list(other.shape)}")
        elif other.size:
            _compare_numbers(found, place, one, other)
    return found


def _compare_numbers(found: Agreement, place: str, ours: np.ndarray, recorded: np.ndarray) -> None:
    with np.errstate(invalid="ignore"):
        difference = np.abs(ours - recorded).astype(np.float64)
    same = (ours == recorded) | (np.isnan(ours) & np.isnan(recorded))
    difference = np.where(same, 0.0, np.where(np.isnan(difference), np.inf, difference))
    allowed = found.case.tolerance.allowed(recorded)
    found.values += recorded.size
    beyond = difference > allowed
    if beyond.any():
        at = tuple(int(i) for i in np.argwhere(beyond)[0])
        index = f"[{', '.join(map(str, at))}]" if at else ""
        found.refuse(
            f"{place}{index}",
            f"ours {_written(ours[at])}, recorded {_written(recorded[at])}, {difference[at]:.2g} apart",
            int(beyond.sum()),
        )
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = np.where(difference == 0, 0.0, difference / allowed)
    worst = np.unravel_index(shares.argmax(), shares.shape)
    if shares[worst] > found.share or found.allowed is None:
        found.share, found.difference = float(shares[worst]), float(difference[worst])
        found.allowed = float(allowed[worst])


def _places(ours: Any, recorded: Any, place: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Pairs of values without an inside, and where they are; what one side lacks is `ABSENT`."""
    both = ours, recorded
    if all(isinstance(value, Mapping) for value in both):
        for name in dict.fromkeys([*recorded, *ours]):
            yield from _places(ours.get(name, ABSENT), recorded.get(name, ABSENT), f"{place}.{name}")
    elif all(isinstance(value, list | tuple) for value in both) and any(_numbers(v) is None for v in both):
        for i, (one, other) in enumerate(zip_longest(*both, fillvalue=ABSENT)):
            yield from _places(one, other, f"{place}[{i}]")
    else:
        yield place, ours, recorded


class _Absent:
    def __repr__(self) -> str:
        return "nothing"


ABSENT = _Absent()


def _numbers(value: Any) -> np.ndarray | None:
    """As an array of float64 or int64; None where it is anything but numbers in a regular shape."""
    if isinstance(value, Tensor):
        value = value.detach().cpu()
        return (value.double() if value.is_floating_point() else value.long()).numpy()
    try:
        array = np.asarray(value)
    except ValueError:  # rows of several lengths
        return None
    if array.dtype.kind == "f":
        return array.astype(np.float64)
    return array.astype(np.int64) if array.dtype.kind in "biu" else None


def _written(number: np.number) -> str:
    return f"{number:.9g}" if number.dtype.kind == "f" else str(number)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
