"""What a text file turns out to be: its mark, its encoding, its compression, and forms that only look like text.

Everything that reads text opens it here. The text of the course is UTF-8 with lines that end in LF or CRLF; a mark at
its beginning is dropped, gzip, bzip2 and xz are recognised by their first bytes whatever the name says, and what is
something else (UTF-16, an archive, an HTML page that a server sent in place of a file) is refused by its name.
"""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import re
import zlib
from pathlib import Path
from typing import BinaryIO

from vlpnb.errors import UserError

HEAD = 1 << 16  # bytes of a file that are looked at
MARK = b"\xef\xbb\xbf"  # UTF-8's
READING = (EOFError, OSError, lzma.LZMAError, zlib.error)  # what may happen while a file is read

_COMPRESSED = (
    ("gzip", re.compile(rb"\x1f\x8b"), gzip.open),
    ("bzip2", re.compile(rb"BZh[1-9](1AY&SY|\x17rE8P\x90)"), bz2.open),
    ("xz", re.compile(rb"\xfd7zXZ\0"), lzma.open),
)
_UTF = {
    b"\xff\xfe\0\0": "UTF-32LE",
    b"\0\0\xfe\xff": "UTF-32BE",
    b"\xff\xfe": "UTF-16LE",
    b"\xfe\xff": "UTF-16BE",
}
_BINARY = {
    b"PK\x03\x04": "a zip archive (or an office document)",
    b"\x89HDF\r\n\x1a\n": "an HDF5 file",
    b"PAR1": "a Parquet table",
    b"ARROW1": "an Arrow table",
    b"SQLite format 3": "a database",
    b"%PDF": "a PDF document",
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture",
    b"\x93NUMPY": "a numpy array",
    b"\x80\x04": "a pickle",
    b"\x28\xb5\x2f\xfd": "compressed by zstd",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"Rar!": "a rar archive",
}
_PAGE = re.compile(rb"\s*(<!doctype\s+html|<html)", re.IGNORECASE)


def open_text(path: Path, holds: str, compressed: bool = True) -> BinaryIO:
    """Open a text file for reading bytes of UTF-8 after its mark, unpacking what is compressed.

    Raises:
        UserError: it is a folder, something else than text, in another encoding, or compressed where that is not
            possible (`compressed` False: for readers that jump to a byte).
    """
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path} is a folder; expected a file with {holds}.")
    try:
        file = path.open("rb")
    except OSError as error:
        raise unreadable(path, error) from error
    try:
        for name, start, unpacking in _COMPRESSED:
            if start.match(file.peek(16)):
                if not compressed:
                    raise UserError(f"{path} is compressed ({name}); expected {holds}: unpack it first.")
                file.close()
                file = unpacking(path, "rb")
                break
        head = file.peek(HEAD)[:HEAD] if hasattr(file, "peek") else b""
        _refuse(head, path, holds)
        if head.startswith(MARK):
            file.read(len(MARK))
    except READING as error:
        file.close()
        raise unreadable(path, error) from error
    except BaseException:
        file.close()
        raise
    return file


def unreadable(path: Path, error: BaseException, where: str = "") -> UserError:
    """Damage of a compressed file, or what the system says of a file that it cannot read."""
    if isinstance(error, OSError) and error.errno is not None:
        return UserError(f"{path}: cannot be read{where} ({error.strerror}).")
    return UserError(f"{path}: the compressed file is damaged{where} ({error}). Fetch it again.")


def _refuse(head: bytes, path: Path, holds: str) -> None:
    for start, name in _UTF.items():
        if head.startswith(start):
            _refuse_encoding(path, name, holds)
    zeros = [head[:512][at::2].count(0) for at in (0, 1)]
    if len(head) >= 32 and max(zeros) >= 0.4 * min(len(head), 512) and min(zeros) < 4:
        _refuse_encoding(path, "UTF-16LE" if zeros[1] > zeros[0] else "UTF-16BE", holds)
    for start, name in _BINARY.items():
        if head.startswith(start):
            raise UserError(f"{path} is {name}; expected {holds}, as text.")
    if _PAGE.match(head):
        raise UserError(
            f"{path} is an HTML page, perhaps a server's answer; expected {holds}. Fetch it again."
        )
    if head.count(b"\r") > 1 and b"\n" not in head:
        raise UserError(
            f"{path}: its lines end with CR alone, as on old Macintosh computers; expected {holds}, a line each with "
            f"LF. Convert it: tr '\\r' '\\n' < '{path.name}' > new"
        )


def _refuse_encoding(path: Path, name: str, holds: str) -> None:
    raise UserError(
        f"{path} is text in {name}; expected {holds} in UTF-8. Convert it: "
        f"iconv -f {name.removesuffix('LE').removesuffix('BE')} -t UTF-8 '{path.name}' > new"
    )


def refuse_markup(path: Path, holds: str, compressed: bool = False) -> None:
    """UserError when a file of running text is the output of a tool that wants one more step, or is compressed where
    that is not possible.

    JSON lines, a dump of MediaWiki, WikiExtractor's pages, token ids: all would go through as text without a word.
    """
    with open_text(path, holds, compressed) as file:
        head = file.read(HEAD).decode("utf-8", errors="replace")
    lines = [line.strip() for line in head.splitlines() if line.strip()]
    if not lines:
        return
    found = ""
    if lines[0].startswith("<mediawiki") or (lines[0].startswith("<?xml") and "<mediawiki" in head):
        found = "a dump of MediaWiki in XML; extract its text with WikiExtractor, then `vlpnb data wikipedia` reads it"
    elif re.match(r"<doc id=", lines[0]) or any(line == "</doc>" for line in lines):
        found = "the output of WikiExtractor; `vlpnb data wikipedia TEXT FOLDER` makes plain text of it"
    elif (names := _json_names(lines[0])) is not None:
        found = f"JSON lines with {', '.join(names) or 'no fields'}; write the text alone into a file"
        if {"text", "title"} <= set(names):
            found += " (`vlpnb data wikipedia TEXT FOLDER` reads WikiExtractor's)"
    elif len(" ".join(lines).split()) > 50 and all(re.fullmatch(r"\d+( \d+)*", line) for line in lines):
        found = "numbers only; a corpus of ids belongs to `corpus.original.train` and `.valid`"
    if found:
        raise UserError(f"{path}: expected {holds}, found {found}.")


def _json_names(line: str) -> list[str] | None:
    """The field names of a line that is a JSON object, or the beginning of one; else None."""
    if not line.startswith("{"):
        return None
    try:
        item = json.loads(line)
        return sorted(item) if isinstance(item, dict) else None
    except (ValueError, RecursionError):
        return sorted(set(re.findall(r'"(\w+)":', line))) if re.match(r'\{\s*"\w+"\s*:', line) else None
