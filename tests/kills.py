"""Kills a piece of work before every operation on files: forked attempts, and the files that they leave."""

import json
import os
import resource
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.resume.driver import Events


@dataclass(frozen=True)
class Attempt:
    """How an attempt ended: "finished", "killed", or the text of its error; and its operations on files."""

    end: str
    events: list[tuple[str, str]]


class Countdown(Events):
    """Ends the process by SIGKILL before an operation, counted from 0."""

    def __init__(self, folder: Path, fatal: int | None):
        super().__init__(folder, set(), -1)
        self.fatal_number = fatal

    def hook(self, name: str, arguments: tuple) -> None:
        before = len(self.seen)
        super().hook(name, arguments)
        if before == self.fatal_number and len(self.seen) > before:
            os.kill(os.getpid(), signal.SIGKILL)


def attempt(
    work: Callable[[Path], object], folder: Path, fatal: int | None = None, limit: int = 0
) -> Attempt:
    """Do `work(folder)` in a forked process.

    Args:
        fatal: the process dies before this operation on files under the folder.
        limit: bytes that a file may have, as on a disk that is full; 0 for any.
    """
    folder.mkdir(parents=True, exist_ok=True)
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of other threads: none that the work needs
        process = os.fork()
    if process == 0:
        try:
            os.close(reading)
            sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115
            os.write(writing, json.dumps(_child(work, folder, fatal, limit)).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        text = pipe.read()
    os.waitpid(process, 0)
    end, events = json.loads(text) if text else ("killed", [])
    return Attempt(end, [(kind, name) for kind, name in events])


def _child(work: Callable[[Path], object], folder: Path, fatal: int | None, limit: int) -> tuple[str, list]:
    events = Countdown(folder, fatal)
    sys.addaudithook(events.hook)
    os.fsync = lambda descriptor: None  # a kill is no power cut
    if limit:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    events.active, end = True, "finished"
    try:
        work(folder)
    except Exception as error:
        end = f"{type(error).__name__}: {error}"
    events.active = False
    return end, events.seen


def killed_everywhere(
    work: Callable[[Path], object], root: Path, since: int = 0
) -> Iterator[tuple[str, Path]]:
    """Folders in which an attempt at the work was killed, one for each operation on files from number `since`
    on (negative: from the end); `root/whole` has all of it.

    Every second one was killed half-way before, so that the last attempt met what a first one left.
    """
    whole = attempt(work, root / "whole")
    assert whole.end == "finished", whole
    assert len(whole.events) > 5, whole
    for number in range(len(whole.events))[since:]:
        kind, name = whole.events[number]
        folder = root / str(number)
        ends = [
            attempt(work, folder, fatal).end for fatal in ([number // 2, number] if number % 2 else [number])
        ]
        assert ends[0] == "killed", ends
        assert set(ends) <= {"killed", "finished"}, ends
        yield f"{number}: {kind} {name}", folder


def files(folder: Path) -> dict[str, bytes]:
    """Every file under a folder with its bytes, hidden ones too, except logs."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith("log.")
    }
