"""How a run shows itself: one live line a notebook in a terminal, a plain log everywhere else."""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, TextIO

from vlpnb.machine import duration

try:
    import termios
except ImportError:  # Windows echoes what is typed into the table
    termios = None

QUIET_SECONDS = 30.0  # a plain log says that a silent notebook still runs


@dataclass
class Progress:
    """Where one notebook is. Written by the thread that executes it, read by the display."""

    name: str
    cells: int = 0
    cell: int = 0
    state: str = "waiting"
    started: float = 0.0
    seconds: float = 0.0
    memory: int = 0
    last: str = ""
    heard: float = field(default=0.0, repr=False)

    def elapsed(self) -> float:
        """Seconds since it started, or that it took."""
        return time.monotonic() - self.started if self.state == "running" else self.seconds


class Display(Protocol):
    """What the runner tells while notebooks run."""

    def begin(self, notebooks: list[Progress]) -> None: ...

    def started(self, notebook: Progress) -> None: ...

    def line(self, notebook: Progress, text: str) -> None: ...

    def tick(self) -> None: ...

    def finished(self, notebook: Progress) -> None: ...

    def say(self, text: str) -> None: ...

    def end(self) -> None: ...


def is_live(stream: TextIO) -> bool:
    """Whether a stream is a terminal in which lines can be drawn again."""
    return stream.isatty() and os.environ.get("TERM", "") not in ("dumb", "unknown")


class PlainLog:
    """Lines as they come: for files, schedulers and continuous integration.

    Args:
        say: receives the status lines; what notebooks print goes to standard output, set in below them.
        quiet: seconds of silence after which a notebook is said to run still.
    """

    def __init__(self, say: Callable[[str], None] = print, quiet: float = QUIET_SECONDS):
        self.say, self.quiet = say, quiet
        self.notebooks: list[Progress] = []
        self._lock = threading.Lock()

    def begin(self, notebooks: list[Progress]) -> None:
        self.notebooks = notebooks

    def started(self, notebook: Progress) -> None:
        place = next(i for i, item in enumerate(self.notebooks, 1) if item is notebook)
        self._status(notebook, f"running ({place} of {len(self.notebooks)})")

    def line(self, notebook: Progress, text: str) -> None:
        several = sum(item.state == "running" for item in self.notebooks) > 1
        with self._lock:
            sys.stdout.write(f"    {notebook.name[:2] + ' | ' if several else ''}{text}\n")
            sys.stdout.flush()

    def tick(self) -> None:
        now = time.monotonic()
        for item in self.notebooks:
            if item.state == "running" and now - item.heard > self.quiet:
                item.heard = now
                memory = f", {item.memory / 1e9:.1f} GB" if item.memory else ""
                where = f"cell {item.cell} of {item.cells}"
                self._status(item, f"still running, {duration(item.elapsed())}, {where}{memory}")

    def finished(self, notebook: Progress) -> None:
        word = {"done": "done", "stopped": "stopped"}.get(notebook.state, "FAILED")
        self._status(notebook, f"{word} in {duration(notebook.seconds)}")

    def end(self) -> None:
        """Nothing to put away."""

    def _status(self, notebook: Progress, text: str) -> None:
        width = max((len(item.name) for item in self.notebooks), default=0)
        self.say(f"{notebook.name:<{width}}  {text}")


class LiveStatus:
    """A table in the terminal, one line a notebook, redrawn while it runs.

    Where the terminal has fewer lines than there are notebooks, those around the one that runs are shown, and all
    of them at the end.
    """

    MARKS = {  # noqa: RUF012 - never changed
        "waiting": ("·", "dim"),
        "running": ("▶", "cyan"),
        "done": ("✓", "green"),
        "failed": ("✗", "red"),
        "stopped": ("■", "yellow"),
    }

    def __init__(self, console=None):
        from rich.console import Console
        from rich.live import Live

        self.console = console or Console()
        self.notebooks: list[Progress] = []
        self._ended = False
        self._typing: list | None = None  # the terminal's settings before
        self._live = Live(console=self.console, refresh_per_second=4, get_renderable=self.table)

    def table(self):
        """The table as it stands."""
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, show_header=False, expand=True)
        table.add_column(width=1)
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True, justify="right")
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True, ratio=1, overflow="ellipsis")
        for item in self._visible():
            mark, style = self.MARKS[item.state]
            running = item.state == "running"
            full = round(12 * item.cell / item.cells) if item.cells else 0
            bar = f"{'█' * full}{'░' * (12 - full)} {item.cell}/{item.cells}" if running else ""
            time_ = duration(item.elapsed()) if item.state != "waiting" else ""
            last = item.last if running else ("" if item.state in ("done", "waiting") else item.state)
            texts = (mark, item.name, time_, bar, last)
            table.add_row(*(Text(text, style=style if i < 2 else "") for i, text in enumerate(texts)))
        return table

    def _visible(self) -> list[Progress]:
        room = max(1, self.console.height - 1)
        if self._ended or len(self.notebooks) <= room:
            return self.notebooks
        past = (i for i, item in enumerate(self.notebooks) if item.state in ("running", "waiting"))
        first = max(0, next(past, len(self.notebooks)) - room // 2)
        return self.notebooks[min(first, len(self.notebooks) - room) :][:room]

    def begin(self, notebooks: list[Progress]) -> None:
        self.notebooks = notebooks
        self._silence()
        self._live.start()

    def started(self, notebook: Progress) -> None:
        self.tick()

    def line(self, notebook: Progress, text: str) -> None:
        """Shown in the notebook's line (`Progress.last`); the whole of it is in the executed copy."""

    def tick(self) -> None:
        self._live.refresh()

    def finished(self, notebook: Progress) -> None:
        self.tick()

    def say(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def end(self) -> None:
        self._ended = True
        try:
            self._live.stop()
        finally:
            self._restore()

    def _silence(self) -> None:
        """Keep the terminal from showing what is typed: `^C` or an empty line would shift the table by a line."""
        with contextlib.suppress(OSError, ValueError, AttributeError):
            if termios is None or os.tcgetpgrp(sys.stdin.fileno()) != os.getpgrp():
                return  # to change the terminal from the background would stop this process
            self._typing = termios.tcgetattr(sys.stdin)
            silent = [*self._typing[:3], self._typing[3] & ~termios.ECHO, *self._typing[4:]]
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, silent)

    def _restore(self) -> None:
        if self._typing is not None:
            with contextlib.suppress(OSError, termios.error):
                termios.tcsetattr(sys.stdin, termios.TCSADRAIN, self._typing)


class Lines:
    """The stream that papermill writes a notebook's output to: whole lines go to the display.

    A carriage return starts a line again, as progress bars do; what it overwrites is not shown.
    """

    def __init__(self, notebook: Progress, display: Display, without: str):
        self.notebook, self.display, self.without = notebook, display, without
        self._rest = ""

    def write(self, text: str) -> None:
        *whole, self._rest = (self._rest + text).split("\n")
        for line in whole:
            shown = line.rstrip("\r").rpartition("\r")[2]
            self.notebook.heard = time.monotonic()
            if self.without not in shown:
                self.notebook.last = shown.strip() or self.notebook.last
                self.display.line(self.notebook, shown)

    def flush(self) -> None:
        """Lines are shown when they are whole; papermill flushes in the middle of them."""

    def close(self) -> None:
        """Show what came without an end of line."""
        if self._rest:
            self.write("\n")
