"""The caption files of Flickr8k and Flickr30k in the three forms in which people find them today.

| form | file | looks like |
|---|---|---|
| the authors' | `Flickr8k.token.txt`, `results_20130124.token` | `image.jpg#0<TAB>sentence` |
| comma | `captions.txt` | header `image,caption`; sentences with a comma or a quotation mark are quoted |
| bar | `results.csv` | header `image_name| comment_number| comment`; nothing is quoted |

The form is told by the header. One line of the bar form as it is passed around (2199200615.jpg, comment 4) lacks its
second bar; it is read as what it means.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path

from vlpnb.data.text_files import Line, lines_of
from vlpnb.errors import UserError

IMAGE, CAPTION = ("image", "image_name", "filename", "file_name"), ("caption", "comment", "sentence", "raw")
HOLDS = "captions of pictures, a line each"


def read_flickr_lines(path: Path) -> Iterator[tuple[int, str, str]]:
    """(line, file name, sentence) of each caption. UserError names file and line."""
    lines = (line for line in lines_of(path, HOLDS) if line.text.strip())
    first = next(lines, None)
    if first is None:
        return
    for mark, read in (("|", _bars), (",", _commas)):
        header = [cell.strip().strip('"').lower() for cell in first.text.split(mark)]
        if {*header} & {*IMAGE} and len(header) > 1:
            image, caption = (_column(path, header, names) for names in (IMAGE, CAPTION))
            yield from read(path, lines, header, image, caption)
            return
    yield _token(path, first)
    for line in lines:
        yield _token(path, line)


def _token(path: Path, line: Line) -> tuple[int, str, str]:
    key, tab, sentence = line.text.partition("\t")
    name, hash_, _ = key.partition("#")
    if not tab or not hash_:
        raise UserError(
            f"{path}:{line.number}: expected 'image.jpg#0<TAB>sentence' (or a first line 'image,caption' or "
            f"'image_name| comment_number| comment'), found {line.text[:60]!r}."
        )
    return line.number, name, sentence


def _column(path: Path, header: list[str], names: tuple[str, ...]) -> int:
    found = [header.index(name) for name in names if name in header]
    if not found:
        raise UserError(f"{path}:1: no column {' or '.join(names)} in the header; found {', '.join(header)}.")
    return found[0]


def _bars(
    path: Path, lines: Iterator[Line], header: list[str], image: int, caption: int
) -> Iterator[tuple[int, str, str]]:
    last = len(header) - 1
    for number, text in lines:
        cells = [cell.strip() for cell in text.split("|", last)]
        if len(cells) == last and (short := re.match(r"(\d+)\s+(.*)", cells[-1])):
            cells[-1:] = short.groups()
        yield number, *_two(path, number, cells, header, image, caption)


def _commas(
    path: Path, lines: Iterator[Line], header: list[str], image: int, caption: int
) -> Iterator[tuple[int, str, str]]:
    number = 1

    def texts() -> Iterator[str]:
        nonlocal number
        for line in lines:
            number = line.number
            yield f"{line.text}\n"

    try:
        for cells in csv.reader(texts()):
            if any("\n" in cell for cell in cells):
                raise UserError(
                    f"{path}: a quotation mark is not closed in the lines up to {number}; close it."
                )
            if len(cells) > len(header) and caption == len(header) - 1:  # a comma that nobody quoted
                cells[caption:] = [",".join(cells[caption:])]
            yield number, *_two(path, number, cells, header, image, caption)
    except csv.Error as error:
        raise UserError(f"{path}:{number}: not valid CSV ({error}). Expected {', '.join(header)}.") from error


def _two(
    path: Path, number: int, cells: list[str], header: list[str], image: int, caption: int
) -> tuple[str, str]:
    if len(cells) != len(header) or not cells[image].strip():
        raise UserError(
            f"{path}:{number}: {len(cells)} columns, expected {len(header)} ({', '.join(header)}); found "
            f"{'|'.join(cells)[:60]!r}."
        )
    return cells[image].strip().partition("#")[0], cells[caption]
