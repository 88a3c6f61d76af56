"""The lines of raw text that a corpus keeps.

Differs from the reference: the filter is chosen by name, not by a substring of the path.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, get_args

from vlpnb.data.forms import open_text, refuse_markup
from vlpnb.data.text_files import require
from vlpnb.errors import UserError

TEXT = "raw text, one paragraph a line"
Rules = Literal["wiki103", "wiki", "none"]


def keeps(line: str, rules: Rules) -> bool:
    """Whether a line of raw text is kept.

    none: blank lines go. wiki: also lines of fewer than five whitespace fields.
    wiki103: also headings (" = Title = ").
    """
    if rules == "none":
        return bool(line.strip())
    return len(line.split(None, 4)) == 5 and not (rules == "wiki103" and line.startswith(" = "))


def read_lines(path: Path, rules: Rules = "wiki103") -> Iterator[str]:
    """Yield the kept lines of a raw text file without their line ends, reading as it goes.

    UserError names file and line.
    """
    for line, _ in lines_from(Path(path), rules, 0):
        yield line


def lines_from(path: Path, rules: Rules, offset: int, stop: int | None = None) -> Iterator[tuple[str, int]]:
    """Kept lines from a byte offset on, each with the offset after it; `stop`: only lines that start before it."""
    if rules not in get_args(Rules):
        raise UserError(f"corpus rules '{rules}' are unknown; expected one of {', '.join(get_args(Rules))}.")
    require(path, TEXT)
    if not offset:
        refuse_markup(path, TEXT)
    with open_text(path, TEXT, compressed=False) as file:
        offset = file.seek(offset) if offset else file.tell()  # a mark at the beginning is no text
        while stop is None or offset < stop:
            raw = file.readline()
            if not raw:
                return
            offset += len(raw)
            try:
                line = raw.decode("utf-8").rstrip("\r\n")
            except UnicodeDecodeError as error:
                raise UserError(
                    f"{path}: not UTF-8 in line {_line_at(path, offset):,}, which ends at byte {offset:,} "
                    f"({error.reason}); convert the file, e.g. with iconv."
                ) from error
            if keeps(line, rules):
                yield line, offset


def line_start(path: Path, offset: int) -> int:
    """Where the first line starts that does so at a byte offset or after it."""
    if offset == 0:
        return 0
    with path.open("rb") as file:
        file.seek(offset - 1)
        file.readline()
        return file.tell()


def _line_at(path: Path, end: int) -> int:
    """The number of the line that ends at a byte offset."""
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            end -= len(raw)
            if end <= 0:
                return number
    return 0
