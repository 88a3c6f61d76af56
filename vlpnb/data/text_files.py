"""Reading annotation files: every failure names the file, what was found and what was expected.

The public datasets arrive as JSON, JSON lines (sometimes gzipped) and plain text. These helpers are the only
place that opens them, so that a truncated download or a wrong path reads the same everywhere.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from vlpnb.data.forms import READING, open_text, unreadable
from vlpnb.errors import UserError, writing

HASHED_WHOLE = 64 * 2**20  # files up to this size are fingerprinted by content, larger ones by size and time


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


def content_hash(path: Path) -> str:
    """Hex sha256 of a file's bytes, read in pieces."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint_files(paths: Iterable[Path]) -> str:
    """One hash for a set of files, absent ones too: content up to 64 MiB each, beyond it size and time."""
    digest = hashlib.sha256()
    for path in sorted({Path(p) for p in paths}):
        if not path.is_file():
            state = "absent"
        elif path.stat().st_size <= HASHED_WHOLE:
            state = content_hash(path)
        else:
            state = f"{path.stat().st_size}:{path.stat().st_mtime_ns}"
        digest.update(f"{path.name}\0{state}\n".encode())
    return digest.hexdigest()


def write_text_atomic(path: Path, text: str) -> None:
    """Write a text file under a temporary name, flush it to disk, and rename it into place.

    UserError when the disk is full or the folder not writable; nothing is left then.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with writing(path):
        try:
            with temporary.open("w", encoding="utf-8", newline="\n") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


class PatientFile:
    """A binary file that keeps its first failure for `check` and takes all further writes for done.

    For libraries that cannot bear a full disk: HDF5 crashes the process when it closes a file that it could not
    write, and torch hides the reason.
    """

    def __init__(self, path: Path):
        self.path = path
        self.raw = path.open("w+b", buffering=0)
        self.failure: OSError | None = None

    def write(self, data) -> int:
        view = memoryview(data).cast("B")
        done = 0
        while done < len(view) and self.failure is None:
            try:
                done += self.raw.write(view[done:])
            except OSError as error:
                self.failure = error
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        try:
            return self.raw.truncate(size)
        except OSError as error:
            self.failure = self.failure or error
            return size or 0

    def read(self, size: int = -1) -> bytes:
        return self.raw.read(size)

    def readinto(self, buffer) -> int:
        return self.raw.readinto(buffer)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self.raw.seek(offset, whence)

    def tell(self) -> int:
        return self.raw.tell()

    def flush(self) -> None:
        """Nothing is buffered."""

    def check(self) -> None:
        """Raise the first failure, if there was one; then flush to the disk itself."""
        if self.failure is not None:
            raise self.failure
        os.fsync(self.raw.fileno())

    def close(self) -> None:
        self.raw.close()
