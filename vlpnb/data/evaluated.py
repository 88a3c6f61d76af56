"""Which photographs are evaluated on, under one name for all sets, so that none of them is trained on.

The sets share photographs and call them differently: Flickr8k `1007129816_e794419615.jpg`, Flickr30k (and so Multi30k,
xFlickr&CO and e-SNLI-VE) `1007129816.jpg`, XVNLI `1007129816`; COCO `COCO_val2014_000000391895.jpg` or
`000000391895.jpg`. And their splits differ: a training photograph of one is a test photograph of another.
"""

import csv
import json
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path, PurePath

from vlpnb.data.fields import as_object, id_field
from vlpnb.data.text_files import lines_of
from vlpnb.errors import UserError

FLICKR8K = re.compile(r"(\d+)_[0-9a-f]{8,10}")
COCO = re.compile(r"(?:COCO_[a-z]+\d{4}_)?(\d{12})")
FIELDS = (
    "img_path",
    "Flikr30kID",
    "Flickr30kID",
    "image",
    "file",
)  # that name a photograph, in the sets' files
HOLDS = "photographs, one a line, or rows with one of the fields " + ", ".join(FIELDS)


@lru_cache(maxsize=1 << 17)
def photo_key(name: str) -> str:
    """What is the same for a photograph under all its names; for other pictures the name without folder and suffix."""
    stem = PurePath(name).stem
    if found := FLICKR8K.fullmatch(stem):
        return found[1]
    found = COCO.fullmatch(stem)
    return f"coco {int(found[1])}" if found else stem


def read_evaluated(path: Path) -> frozenset[str]:
    """The `photo_key` of every photograph that a file names.

    It holds JSON lines or a table (.csv, .tsv) with one of `FIELDS`, or names, one a line.

    Raises:
        UserError: naming the file and line or field; it names none.
    """
    path = Path(path)
    readers = {".jsonl": _json_lines, ".json": _json_lines, ".csv": _table, ".tsv": _table}
    found = frozenset(photo_key(name) for name in readers.get(path.suffix, _names)(path) if name)
    if not found:
        raise UserError(f"{path}: names no photograph; expected {HOLDS}.")
    return found


def _names(path: Path) -> Iterator[str]:
    return (text.strip() for _, text in lines_of(path, HOLDS))


def _json_lines(path: Path) -> Iterator[str]:
    for number, text in lines_of(path, HOLDS):
        if not text.strip():
            continue
        where = f"{path}:{number}"
        try:
            row = as_object(json.loads(text), where)
        except ValueError as error:
            raise UserError(f"{where}: not valid JSON ({error}). Expected {HOLDS}.") from error
        yield str(id_field(row, next((name for name in FIELDS if name in row), FIELDS[0]), where))


def _table(path: Path) -> Iterator[str]:
    texts = (text for _, text in lines_of(path, HOLDS))
    rows = csv.DictReader(texts, delimiter="\t" if path.suffix == ".tsv" else ",")
    column = next((name for name in FIELDS if name in (rows.fieldnames or ())), None)
    if column is None:
        raise UserError(f"{path}:1: found the columns {', '.join(rows.fieldnames or ())}; expected {HOLDS}.")
    return (row[column] or "" for row in rows)
