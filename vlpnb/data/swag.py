"""SWAG in its original CSV: which of four endings continues a sentence (Zellers et al. 2018).

`train.csv` and `val.csv` hold `sent1`, the beginning `sent2` of the second sentence, `ending0` … `ending3` and the
`label` of the right one; `test.csv` has no label. Further columns (sources, ids) are not read.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vlpnb.data.text_files import lines_of, require
from vlpnb.errors import UserError

ENDINGS = tuple(f"ending{i}" for i in range(4))
FILES = {"train": "train.csv", "valid": "val.csv", "dev": "val.csv", "test": "test.csv"}
HOLDS = "SWAG examples (CSV with sent1, sent2, ending0 … ending3, label)"


@dataclass(frozen=True)
class SwagExample:
    """A sentence, the beginning of the next, four ways to end that, and the right one (None in test files)."""

    first: str
    second: str
    endings: tuple[str, str, str, str]
    label: int | None


def swag_file(folder: Path, split: str) -> Path:
    """The file of a split: train, valid (alias dev) or test; UserError for another name."""
    if split not in FILES:
        raise UserError(f"SWAG split '{split}' is unknown; expected train, valid or test.")
    return Path(folder) / FILES[split]


def read_swag(folder: Path, split: str) -> list[SwagExample]:
    """The examples of one split in the order of its file.

    Raises:
        UserError: names the file, and its line for a row of another width, a label that is not 0–3, an empty ending
            or broken quoting.
    """
    path = require(swag_file(folder, split), f"the {split} split of SWAG")
    rows = _rows(path)
    _, header = next(rows, (0, []))
    wanted = ["sent1", "sent2", *ENDINGS, *(["label"] if split != "test" else [])]
    for name in wanted:
        if name not in header:
            raise UserError(
                f"{path}:1: no column '{name}' in the header; found {', '.join(header) or 'an empty file'}. "
                f"Expected {HOLDS}."
            )
    at = [header.index(name) for name in wanted]
    examples = []
    for number, cells in rows:
        if len(cells) != len(header):
            raise UserError(
                f"{path}:{number}: {len(cells)} columns, expected {len(header)} ({', '.join(header)})."
            )
        first, second, *rest = (cells[i].strip() for i in at)
        endings = tuple(rest[:4])
        if "" in endings:
            raise UserError(f"{path}:{number}: {ENDINGS[endings.index('')]} is empty; expected an ending.")
        label = None
        if split != "test":
            if rest[4] not in ("0", "1", "2", "3"):
                raise UserError(f"{path}:{number}: label '{rest[4]}', expected 0, 1, 2 or 3.")
            label = int(rest[4])
        examples.append(SwagExample(first, second, endings, label))
    if not examples:
        raise UserError(f"{path}: no example in the file; expected {HOLDS}.")
    return examples


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """(line at which it ends, cells) of every row that is not blank."""
    reader = csv.reader((f"{text}\n" for _, text in lines_of(path, HOLDS)), strict=True)
    try:
        for cells in reader:
            if cells:
                yield reader.line_num, cells
    except csv.Error as error:
        raise UserError(f"{path}:{reader.line_num}: not valid CSV ({error}). Expected {HOLDS}.") from error
