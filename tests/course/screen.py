"""A terminal for tests: a program on a pseudo-terminal of its own, and what its lines look like at any moment."""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Mapping, Sequence

# Takes the terminal for its own, so that Ctrl-C reaches it, and becomes the program.
BECOME = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execvp(sys.argv[1], sys.argv[1:])"
CONTROL = re.compile(r"\x1b\[(\??)([\d;]*)([A-Za-z])|\x1b(?!\[)(.)", flags=re.S)


class Screen:
    """The part of a VT100 that progress displays use; anything else is an error.

    `lines` holds every line, from the first that was scrolled out to the last; the window is the last `rows`.
    """

    def __init__(self, rows: int, columns: int):
        self.rows, self.columns = rows, columns
        self.lines, self.row, self.column, self.cursor = [""], 0, 0, True
        self._rest = ""

    def feed(self, text: str) -> None:
        text = self._rest + text
        cut = text.rfind("\x1b")
        whole = cut < 0 or CONTROL.match(text, cut)
        text, self._rest = (text, "") if whole else (text[:cut], text[cut:])
        at = 0
        while at < len(text):
            if found := CONTROL.match(text, at):
                self._control(*found.groups())
                at = found.end()
            else:
                self._put(text[at])
                at += 1

    def _put(self, letter: str) -> None:
        if letter == "\r":
            self.column = 0
        elif letter == "\n":
            self.row += 1
            self.lines += [""] * (self.row + 1 - len(self.lines))
        else:
            assert letter.isprintable(), f"unknown control character {letter!r}"
            if self.column == self.columns:
                self._put("\r")
                self._put("\n")
            line = self.lines[self.row].ljust(self.column)
            self.lines[self.row] = line[: self.column] + letter + line[self.column + 1 :]
            self.column += 1

    def _control(self, private: str | None, values: str | None, what: str | None, other: str | None) -> None:
        if (private, what) == ("?", "l") or (private, what) == ("?", "h"):
            assert values == "25", f"unknown mode ?{values}"
            self.cursor = what == "h"
        elif what == "A":
            top = max(0, len(self.lines) - self.rows)
            self.row = max(top, self.row - int(values or 1))
        elif what == "K":
            assert values == "2", "only whole lines are erased"
            self.lines[self.row] = ""
        else:
            assert what == "m", f"unknown control sequence {values}{what or other}"

    def text(self) -> str:
        """The window."""
        return "\n".join(line.rstrip() for line in self.lines[-self.rows :])


class Terminal:
    """A command in a terminal of so many rows and columns."""

    def __init__(
        self, command: Sequence[str], variables: Mapping[str, str], rows: int = 24, columns: int = 80
    ):
        self.master, self.slave = pty.openpty()
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.before = termios.tcgetattr(self.slave)
        self.screen = Screen(rows, columns)
        self.moments: list[str] = []  # the window whenever the program made a pause
        environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES", "NO_COLOR")}
        self.process = subprocess.Popen(
            [sys.executable, "-c", BECOME, *command], env={**environment, "TERM": "xterm", **variables},
            stdin=self.slave, stdout=self.slave, stderr=self.slave, start_new_session=True,
        )  # fmt: skip
        self._text = b""

    def until(self, seen: Callable[[], bool], seconds: float = 120.0) -> None:
        """Read what comes until `seen()`; an error after so many seconds."""
        end = time.monotonic() + seconds
        while not seen():
            assert time.monotonic() < end, f"not within {seconds} s:\n{self.screen.text()}"
            self._read(0.05)

    def _read(self, seconds: float) -> bool:
        """Read what there is, waiting for its beginning; whether anything came."""
        came = False
        while select.select([self.master], [], [], 0.02 if came else seconds)[0]:
            self._text += os.read(self.master, 1 << 16)
            whole = self._text.decode(errors="ignore")
            self._text = self._text[len(whole.encode()) :]
            self.screen.feed(whole)
            came = True
        if came:
            self.moments.append(self.screen.text())
        return came

    def shows(self, pattern: str) -> Callable[[], bool]:
        """Whether the window holds what the pattern matches."""
        return lambda: re.search(pattern, self.screen.text()) is not None

    def end(self, seconds: float = 120.0) -> int:
        """Read until the program has ended and all it wrote is read; its exit code."""
        self.until(lambda: self.process.poll() is not None, seconds)
        while self._read(0.1):
            pass
        return self.process.returncode

    def press(self, key: bytes) -> None:
        os.write(self.master, key)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.master)
        os.close(self.slave)
