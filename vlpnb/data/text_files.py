"""Reading annotation files: every failure names the file, what was found and what was expected.

The public datasets arrive as JSON, JSON lines (sometimes gzipped) and plain text. These helpers are the only
place that opens them, so that a truncated download or a wrong path reads the same everywhere.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from vlpnb.data.forms import READING, open_text, unreadable
from vlpnb.errors import UserError


class Line(NamedTuple):
    """One line of a text file: its 1-based number and its text without the line end."""

    number: int
    text: str


def require(path: Path, holds: str) -> Path:
    """Return `path` if it exists, else raise UserError saying what it should hold and where it ends."""
    path = Path(path)
    if path.exists():
        return path
    nearest = next((p for p in path.parents if p.exists()), Path())
    raise UserError(
        f"{path} does not exist (the nearest existing folder is {nearest}). It should hold {holds}. "
        "Correct the path in the configuration, or put the data there."
    )


def lines_of(path: Path, holds: str) -> Iterator[Line]:
    """Yield the lines of a UTF-8 file, split at LF only; see `open_text` for marks and compression.

    UserError on a bad encoding names the line.
    """
    path = require(path, holds)
    number = 0
    with open_text(path, holds) as file:
        try:
            for number, raw in enumerate(file, start=1):
                yield Line(number, raw.decode("utf-8").rstrip("\r\n"))
        except UnicodeDecodeError as error:
            raise UserError(
                f"{path}:{number}: not UTF-8 ({error.reason} at byte {error.start} of the line). "
                f"Expected {holds} in UTF-8; convert the file, e.g. with iconv."
            ) from error
        except READING as error:
            raise unreadable(path, error, f" after line {number}") from error


def read_json(path: Path, holds: str) -> Any:
    """Parse one JSON file, compressed or not. UserError names the file, line and column where it breaks."""
    path = require(path, holds)
    try:
        with open_text(path, holds) as file:
            text = file.read().decode("utf-8")
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{path}: not valid JSON ({error}). Expected {holds}; the file may be cut short: fetch it again."
        ) from error
    except READING as error:
        raise unreadable(path, error) from error


def read_json_lines(path: Path, holds: str) -> Iterator[tuple[int, Any]]:
    """Yield (line number, value) of a JSON-lines file; blank lines are passed over."""
    for number, text in lines_of(path, holds):
        if not text.strip():
            continue
        try:
            yield number, json.loads(text)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}:{number}: not valid JSON ({error}). Expected {holds}.") from error


def compare_ids(found: Sequence[str], expected: Path, of: str = "the pictures") -> None:
    """UserError naming the first difference between the ids found and a list that they must equal (VOK-08)."""
    wanted = [text for _, text in lines_of(expected, "one picture id a line")]
    for i, (have, want) in enumerate(zip(found, wanted, strict=False), start=1):
        if have != want:
            raise UserError(f"{expected}:{i}: the list says {want!r}, {of} give {have!r}")
    if len(found) != len(wanted):
        raise UserError(f"{expected}: the list has {len(wanted)} ids, {of} give {len(found)}")
