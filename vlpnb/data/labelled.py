"""AG News and DBPedia as published by Zhang et al. (2015): CSV without a heading, "class","title","text".

Classes are numbered from 1, in the order of the `classes.txt` beside the files.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from vlpnb.data.text_files import lines_of
from vlpnb.errors import UserError


@dataclass(frozen=True)
class LabelledText:
    """A text and the number of its class, from 0."""

    text: str
    label: int


def read_labelled(path: Path, classes: int) -> list[LabelledText]:
    """Title and text of each row, joined. UserError names the line: another number of columns, no such class."""
    holds = f'rows "class","title","text" with classes 1 to {classes}'
    found = []
    for number, line in lines_of(path, holds):
        if not line.strip():
            continue
        row = next(csv.reader([line]))
        if len(row) < 2:
            raise UserError(f"{path}:{number}: {len(row)} columns; expected {holds}.")
        name = row[0].strip()
        if not name.isdecimal() or not 1 <= int(name) <= classes:
            raise UserError(f"{path}:{number}: the class is {name[:40]!r}; expected {holds}.")
        text = " . ".join(part.replace("\\n", " ").strip() for part in row[1:] if part.strip())
        found.append(LabelledText(" ".join(text.split()), int(name) - 1))
    if not found:
        raise UserError(f"{path}: nothing in the file; expected {holds}.")
    return found
