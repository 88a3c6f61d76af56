"""Examples, and the groups that they are drawn in."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Example:
    """One example: its sentences, its label as the files spell it, and for MNLI its genre."""

    first: str
    second: str = ""
    label: str = ""
    genre: str = ""


Group = list[Example]


def mixed(first: tuple[str, str], second: tuple[str, str], yes: str, no: str) -> Group:
    """Two pairs that belong together, and the two that mix them: no sentence alone tells anything."""
    (x, x2), (y, y2) = first, second
    return [Example(x, x2, yes), Example(x, y2, no), Example(y, y2, yes), Example(y, x2, no)]
