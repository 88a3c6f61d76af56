"""The one error that is meant for the person at the keyboard.

Everything that a user can get wrong (a field, a path, a line of a file) raises `UserError`; the command line
prints its message without a traceback and exits with code 2. Every other exception is a defect or a broken
machine and keeps its traceback.
"""

import difflib
import errno
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path


class UserError(Exception):
    """For the user: names the file, line or field, what was found, what was expected, what to do."""


def did_you_mean(name: str, valid: Iterable[str]) -> str:
    """`"; did you mean 'epochs'? (valid: …)"`: the end of a message about an unknown name."""
    names = sorted(str(item) for item in valid)
    folded = {item.lower().rpartition(".")[2]: item for item in names} | {
        item.lower(): item for item in names
    }
    near = difflib.get_close_matches(str(name).lower(), folded, n=1, cutoff=0.5)
    hint = f"; did you mean {folded[near[0]]!r}?" if near else ""
    return f"{hint} (valid: {', '.join(names) or 'none'})"


def cannot_write(path: Path, error: BaseException) -> UserError:
    """The error for the user when `path` cannot be written: a full disk, a quota, a folder that is not writable."""
    return UserError(
        f"{path}: cannot be written ({error}). Expected a writable folder with free space: make room, or choose "
        "another place with VLPNB_DATA, and run the same command again; finished work is kept."
    )


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns every OSError while `path` is written into a UserError that names it."""
    try:
        yield
    except OSError as error:
        raise cannot_write(path, error) from error


def is_refused(error: BaseException) -> bool:
    """Whether the system refuses a place: no permission, may only be read, a file where a folder should be."""
    refusals = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST)
    return isinstance(error, OSError) and error.errno in refusals and error.filename is not None


def is_full_disk(error: BaseException) -> bool:
    """Whether any library says, in its way, that the disk is full (or a quota or file size limit is reached)."""
    said = r"No space left on device|File too large|Disk quota exceeded|os error (27|28|122)\b"
    return bool(re.search(said, str(error)))
