"""Files that appear whole or not at all, hashes of their content, and locks on folders.

Everything that this package writes goes through `atomic` (or `data.store.write_store`, which does): a kill, a full
disk or an error at any moment leaves the old file or none, never a part.
"""

import contextlib
import hashlib
import json
import math
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pydantic

from vlpnb.errors import UserError, writing
from vlpnb.machine import say_line

try:
    import fcntl
except ImportError:  # Windows has no advisory locks; two processes at once are then the user's care
    fcntl = None


@contextlib.contextmanager
def atomic(path: Path, flush: bool = True) -> Iterator[Path]:
    """A temporary path beside `path`: the file or folder that the body makes there takes its place when the body ends.

    Args:
        path: a file, or a folder, which replaces one that is there.
        flush: ask the disk itself to have it before it is renamed; False for many small files that are cheap to make.
    Raises:
        UserError: it cannot be written, which names `path`. Nothing is left beside it then.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with writing(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            if flush:
                _flush(temporary)
            _put(temporary, path)
        finally:
            _remove(temporary)


def _flush(path: Path) -> None:
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            with file.open("rb") as stream:
                os.fsync(stream.fileno())


def _put(temporary: Path, path: Path) -> None:
    if not (temporary.is_dir() and path.is_dir()):
        os.replace(temporary, path)
        return
    old = path.with_name(f".{path.name}.{os.getpid()}.old.tmp")  # a folder cannot be replaced in one step
    os.replace(path, old)
    os.replace(temporary, path)
    _remove(old)


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file (UTF-8, LF) atomically. UserError when it cannot be written."""
    with atomic(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        file.write(text)


def write_json(path: Path, content: Any) -> None:
    """Write JSON atomically; `plain` says what becomes of values that JSON does not have."""
    write_text(path, json.dumps(plain(content), indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_back(path: Path) -> Any:
    """Read JSON that `write_json` wrote.

    Raises:
        UserError: names the file when it is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid JSON ({error}); remove the file and run again") from None


def plain(value: Any) -> Any:
    """Plain JSON values: paths as text, numpy and torch scalars as numbers, nan and infinities as null."""
    if isinstance(value, pydantic.BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in (sorted(value) if isinstance(value, set | frozenset) else value)]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "item"):
        return plain(value.item())
    raise TypeError(f"{value!r} ({type(value).__name__}) has no plain JSON form")


def content_hash(path: Path) -> str:
    """Hex sha256 of a file's bytes, read in pieces."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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


def make_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{folder}: cannot be made ({error.strerror}); choose another place with VLPNB_DATA"
        ) from None
    if not may_write(folder):
        raise UserError(f"{folder}: not writable; choose another place with VLPNB_DATA")


def may_write(folder: Path) -> bool:
    """Whether files may be made in a folder."""
    return os.access(folder, os.W_OK | os.X_OK)


@contextlib.contextmanager
def lock(folder: Path, name: str, say: Callable[[str], None] | None) -> Iterator[None]:
    """Hold the folder's lock; while another process has it, say who and wait."""
    if fcntl is None:
        yield
        return
    path = folder / ".lock"
    with open(path, "a+", encoding="utf-8") as stream:
        told = 0.0
        while True:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() - told > 60 or not told:
                    told = time.monotonic()
                    holder = path.read_text(encoding="utf-8").strip() or "another process"
                    say_line(say, f"[{name}] waiting: {folder.name} is held by {holder}")
                time.sleep(0.1)
            except OSError as error:
                say_line(
                    say,
                    f"[{name}] no lock on this file system ({error}): run one process at a time",
                )
                break
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        with contextlib.suppress(OSError):  # on a full disk the lock holds, it only cannot say for whom
            stream.truncate(0)
            os.write(
                stream.fileno(), f"process {os.getpid()} on {socket.gethostname()} since {since}".encode()
            )
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                stream.truncate(0)
