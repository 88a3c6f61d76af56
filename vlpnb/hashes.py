"""What files hold: the SHA-256 of whole files, each read once.

A file is known again by its path, size, times and inode, so that a folder of a hundred thousand pictures costs about a
second when nothing changed. What is known of a folder's files lies beside the folder in `.vlpnb`; where nothing may
be written there, below the folder that `kept_in` names, else in this process alone.
"""

import contextlib
import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from pathlib import Path

from vlpnb.files import content_hash, lock, may_write, write_text
from vlpnb.machine import cores, say_line

CACHE = ".vlpnb"
SETTLED = (
    50_000_000  # ns; a file that changed later than so long ago may change again within one tick of its clock
)
WORTH_A_LINE = 1 << 30  # bytes

Say = Callable[[str], None] | None
State = list[int]  # size, time of the content, time of the entry, inode
Known = dict[str, tuple[State, str]]

_where: ContextVar[tuple[Path | None, Say]] = ContextVar("where", default=(None, None))
_memory: dict[Path, Known] = {}
_guard = threading.RLock()


@contextlib.contextmanager
def kept_in(folder: Path, say: Say = None) -> Iterator[None]:
    """Where hashes are kept of files beside which nothing may be written, and who hears that much is being read."""
    token = _where.set((folder, say))
    try:
        yield
    finally:
        _where.reset(token)


def hash_files(folder: Path, names: Iterable[str], fresh: bool = False) -> dict[str, str]:
    """The SHA-256 of files by their names below `folder`; those that are not there are left out.

    `fresh`: read them, whatever is known.
    """
    folder = Path(folder).absolute()
    states = {name: state for name in names if (state := _state(folder / name)) is not None}
    with _guard:
        known = {} if fresh else _known(folder)
        found = {
            name: known[name][1] for name, state in states.items() if known.get(name, [None])[0] == state
        }
        unknown = {name: state for name, state in states.items() if name not in found}
        return found | _learn(folder, unknown, fresh) if unknown else found


def files_below(folder: Path) -> list[str]:
    """The names of the files below a folder, sorted; links are followed, what is hidden is passed over."""
    return sorted(_walk(Path(folder), "", frozenset()))


def describe(path: Path) -> str:
    """What a file or folder holds in one line: one hash, and of a folder how many files it has."""
    path = Path(path)
    if not path.is_dir():
        return hash_files(path.parent, [path.name]).get(path.name, "absent")
    found = hash_files(path, files_below(path))
    return f"{hash_of(found)} ({len(found):,} file{'' if len(found) == 1 else 's'})"


def differences(before: Mapping[str, str], now: Mapping[str, str], shown: int = 3) -> str:
    """Which of some named files are new, changed or gone, in words: a few names of each kind."""
    kinds = {
        "new": sorted(now.keys() - before.keys()),
        "changed": sorted(name for name in now.keys() & before.keys() if now[name] != before[name]),
        "gone": sorted(before.keys() - now.keys()),
    }
    return ", ".join(
        f"{len(names):,} {kind} ({', '.join(names[:shown])}{' …' if len(names) > shown else ''})"
        for kind, names in kinds.items()
        if names
    )


def hash_of(content: Mapping) -> str:
    """The SHA-256 of plain JSON values, whatever the order of their keys."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _walk(folder: Path, inside: str, above: frozenset[tuple[int, int]]) -> Iterator[str]:
    status = folder.stat()
    here = (status.st_dev, status.st_ino)
    if here in above:  # a link back to a folder around it
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                yield from _walk(folder / entry.name, f"{inside}{entry.name}/", above | {here})
            elif entry.is_file():
                yield f"{inside}{entry.name}"


def _state(path: Path) -> State | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def _places(folder: Path) -> list[Path]:
    """The files that may say what a folder's files hold, the best one first."""
    kept, _ = _where.get()
    name = f"{folder.name}-{hashlib.sha256(str(folder).encode()).hexdigest()[:8]}.json"
    return [folder.parent / CACHE / f"{folder.name}.json", *([kept / name] if kept else [])]


def _known(folder: Path) -> Known:
    if folder not in _memory:
        _memory[folder] = {}
        for place in reversed(_places(folder)):
            with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):
                content = json.loads(place.read_text(encoding="utf-8"))
                _memory[folder] |= {name: (state, digest) for name, (state, digest) in content.items()}
    return _memory[folder]


def _learn(folder: Path, states: dict[str, State], fresh: bool) -> dict[str, str]:
    """Read files and remember what they hold. Another process that wants the same waits, and then need not read."""
    _, say = _where.get()
    place = next((place for place in _places(folder) if _made(place.parent)), None)
    with lock(place.parent, "hashes", say) if place else contextlib.nullcontext():
        if place:
            _memory.pop(folder, None)
        known = _known(folder)
        found = {}
        if not fresh:
            found = {n: known[n][1] for n, state in states.items() if known.get(n, [None])[0] == state}
        wanted = {name: state for name, state in states.items() if name not in found}
        size = sum(state[0] for state in wanted.values())
        if size > WORTH_A_LINE:
            say_line(
                say,
                f"reading {len(wanted):,} files ({size / 1e9:.1f} GB) of {folder} once, to know them again",
            )
        now = time.time_ns()
        with ThreadPoolExecutor(cores()) as pool:
            digests = list(pool.map(_read, [folder / name for name in wanted]))
        for (name, state), digest in zip(wanted.items(), digests, strict=True):
            if digest is not None:
                found[name] = digest
                if max(state[1:3]) < now - SETTLED and _state(folder / name) == state:
                    known[name] = (state, digest)
        if place and wanted:
            with contextlib.suppress(
                Exception
            ):  # on a full disk: the files are read again next time, no more
                write_text(place, json.dumps(known, ensure_ascii=False, separators=(",", ":")))
    return found


def _read(path: Path) -> str | None:
    try:
        return content_hash(path)
    except FileNotFoundError:
        return None


def _made(folder: Path) -> bool:
    """Whether something can be written into a folder, which is made."""
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        return may_write(folder)
    return False
