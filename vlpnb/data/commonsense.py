"""Lists of what everybody knows of things: their colour, shape, material and order of size.

| list | file | read by |
|---|---|---|
| MemoryColor (Norlund et al. 2021) | `Index,Descriptor,Item,Color` (and `Plural`) | `read_colours` |
| ColorTerms (Bruni et al. 2012) | `object,color` | `read_colours` |
| RelativeSize (Bagherinezhad et al. 2016) | two nouns a line, the bigger first | `read_sizes` |
| ViComTe (Zhang et al. 2022) | JSON lines {sub, obj, alt}: a thing, its attribute, an unlikely one | `read_vicomte` |

ViComTe's lists of sizes have the same fields: `sub` is larger (or smaller) than `obj` and not than `alt`.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vlpnb.data.fields import text_field
from vlpnb.data.text_files import lines_of, read_json_lines
from vlpnb.errors import UserError

HEADINGS = {"descriptor": "descriptor", "item": "thing", "object": "thing", "color": "answer"}


@dataclass(frozen=True)
class KnownThing:
    """A thing and what is asked of it. `descriptor`: its article or what tells it from others; may be empty."""

    thing: str
    answer: str
    descriptor: str = ""
    unlikely: str = ""  # ViComTe's `alt`


@dataclass(frozen=True)
class SizePair:
    """Two things whose order of size nobody doubts."""

    bigger: str
    smaller: str


def read_colours(path: Path) -> list[KnownThing]:
    """MemoryColor or ColorTerms, in the order of the file; columns are found by their heading.

    Raises:
        UserError: a heading without the columns, a line with another number of columns, an empty thing or colour.
    """
    holds = "colours of things: Index,Descriptor,Item,Color or object,color"
    rows = _rows(path, holds)
    _, names = next(rows, (0, []))
    columns = {HEADINGS[n.lower()]: i for i, n in enumerate(names) if n.lower() in HEADINGS}
    if not {"thing", "answer"} <= columns.keys():
        raise UserError(f"{path}:1: found the columns {', '.join(names) or 'none'}; expected {holds}.")
    found = []
    for number, row in rows:
        if len(row) != len(names):
            raise UserError(
                f"{path}:{number}: {len(row)} columns, expected {len(names)} ({', '.join(names)})."
            )
        values = {name: row[i].lower() if name == "answer" else row[i] for name, i in columns.items()}
        if not values["thing"] or not values["answer"]:
            raise UserError(f"{path}:{number}: the thing or its colour is empty; expected both.")
        found.append(KnownThing(**values))
    return _some(found, path, holds)


def read_sizes(path: Path) -> list[SizePair]:
    """RelativeSize: `bigger smaller` a line, in the order of the file.

    Raises:
        UserError: a line without two words, a thing compared with itself, a pair in both orders.
    """
    found: dict[tuple[str, str], int] = {}
    for number, text in lines_of(path, "two nouns a line, the bigger first"):
        if not text.strip():
            continue
        words = text.split()
        if len(words) != 2 or words[0] == words[1]:
            raise UserError(f"{path}:{number}: found {text[:60]!r}; expected two nouns, the bigger first.")
        bigger, smaller = words
        if (smaller, bigger) in found:
            raise UserError(
                f"{path}:{number}: {bigger} is bigger than {smaller} here, and smaller in line "
                f"{found[smaller, bigger]}; remove one of the lines."
            )
        found[bigger, smaller] = number
    return _some([SizePair(*pair) for pair in found], path, "two nouns a line, the bigger first")


def read_vicomte(path: Path) -> list[KnownThing]:
    """One list of ViComTe, in the order of the file. UserError names line and field."""
    holds = "ViComTe's items {sub, obj, alt}"
    found = []
    for number, item in read_json_lines(path, holds):
        where = f"{path}:{number}"
        thing, answer, unlikely = (text_field(item, name, where) for name in ("sub", "obj", "alt"))
        if not thing.strip() or not answer.strip():
            raise UserError(f"{where}: sub or obj is empty; expected a thing and its attribute.")
        found.append(KnownThing(thing.strip(), answer.strip(), unlikely=unlikely.strip()))
    return _some(found, path, holds)


def _rows(path: Path, holds: str) -> Iterator[tuple[int, list[str]]]:
    for number, text in lines_of(path, holds):
        if text.strip():
            yield number, [value.strip() for value in next(csv.reader([text]))]


def _some(found: list, path: Path, holds: str) -> list:
    if not found:
        raise UserError(f"{path}: nothing in the file; expected {holds}.")
    return found
