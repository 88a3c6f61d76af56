"""WIT as IGLUE has it: captions of Wikipedia's pictures, which are known by their addresses alone.

The pixels lie in other files, those of Kaggle's "Wikipedia - Image/Caption Matching": lines of an address, the picture
in base64, and the address of its page, separated by tabs. The two are joined by the exact address. Rows that find no
picture are told, where the original drops them in silence (CCL-33); rows with an empty caption are left out. Captions
that share an address are one picture's.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from vlpnb.data.fields import text_field
from vlpnb.data.forms import open_text
from vlpnb.data.iglue import CaptionRow
from vlpnb.data.text_files import read_json_lines, require
from vlpnb.errors import UserError

PIXELS = "lines of an address, a picture in base64 and the address of its page, separated by tabs"


@dataclass(frozen=True)
class WitRow:
    """A caption and the address of its picture."""

    url: str
    caption: str
    language: str

    @property
    def image_id(self) -> str:
        """The id of the picture."""
        return wit_id(self.url)


def wit_id(url: str) -> str:
    """The id of a picture of this address: `wit_` and 16 hexadecimal digits."""
    return f"wit_{blake2b(url.encode(), digest_size=8).hexdigest()}"


def read_wit(path: Path, left_out: list[str] | None = None) -> list[WitRow]:
    """The rows of a file in its order, those with an empty caption told to `left_out`.

    A row needs `image_url` and `caption_reference_description`; `language` may be missing.

    Raises:
        UserError: with file, line and field.
    """
    rows = []
    for where, item in _items(path):
        caption = text_field(item, "caption_reference_description", where, "")
        row = WitRow(text_field(item, "image_url", where), caption, text_field(item, "language", where, ""))
        if not row.url.strip():
            raise UserError(f"{where}.image_url: is empty, expected the address of a picture.")
        if row.caption.strip():
            rows.append(row)
        elif left_out is not None:
            left_out.append(f"{where} {row.url}: an empty caption")
    return rows


def _items(path: Path) -> Iterator[tuple[str, Any]]:
    for number, item in read_json_lines(path, "captions of WIT {image_url, caption_reference_description}"):
        yield f"{path}:{number}", item


def by_picture(rows: Iterable[WitRow]) -> list[CaptionRow]:
    """Captions that share an address as one picture's, in the order of their first."""
    captions: dict[str, list[str]] = {}
    for row in rows:
        captions.setdefault(row.image_id, []).append(row.caption)
    return [CaptionRow(name, tuple(texts)) for name, texts in captions.items()]


def pixels_of(files: Iterable[Path], wanted: Collection[str]) -> Iterator[tuple[str, bytes]]:
    """(address, bytes of the picture) of every wanted address that the pixel files hold, each once.

    Files may be gzipped. A line whose picture is not base64 counts as absent.

    Raises:
        UserError: a file that is absent, or a line of other than three columns.
    """
    wanted, found = frozenset(wanted), set()
    for path in files:
        require(path, PIXELS)
        with open_text(path, PIXELS) as file:
            lines = (raw.decode("utf-8", errors="replace").rstrip("\r\n") for raw in file)
            for number, line in enumerate(lines, start=1):
                columns = line.split("\t")
                if len(columns) != 3:
                    raise UserError(f"{path}:{number}: {len(columns)} columns, expected {PIXELS}.")
                url = columns[0]
                if url in wanted and url not in found and (data := _decoded(columns[1])):
                    found.add(url)
                    yield url, data


def pixels_in_rows(files: Iterable[Path], wanted: Collection[str]) -> Iterator[tuple[str, bytes]]:
    """(address, bytes of the picture) of every wanted address whose row holds its picture, each once.

    The original's preparation joins the pixels as `image_content`. Rows are read one by one: their pictures together
    may be larger than the memory.
    """
    wanted, found = frozenset(wanted), set()
    for path in files:
        for where, item in _items(path):
            url, text = text_field(item, "image_url", where), text_field(item, "image_content", where, "")
            if url in wanted and url not in found and (data := _decoded(text)):
                found.add(url)
                yield url, data


def _decoded(text: str) -> bytes | None:
    """The bytes that base64 spells; None where it spells none."""
    try:
        return base64.b64decode(text, validate=True) or None
    except (binascii.Error, ValueError):
        return None
