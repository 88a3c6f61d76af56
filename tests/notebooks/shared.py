"""The undisturbed run of the notebooks at `smoke`, one for all test processes of a session."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

from vlpnb.course import notebooks_folder, open_run
from vlpnb.course.runner import Outcome, find_notebooks, read_status, run_notebooks
from vlpnb.files import lock


class SmokeRun:
    """A run under `folder`, which processes share: each notebook is executed once, by whoever asks for it first."""

    def __init__(self, folder: Path):
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.run = open_run("smoke", "smoke", root=folder)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """No other process works on the run's notebooks meanwhile."""
        with lock(self.folder, "the smoke run", None):
            yield

    def notebook(self, number: str) -> Outcome:
        """How a notebook went; those that were not executed yet are."""
        [path] = find_notebooks(notebooks_folder(), [number])
        with self.alone():
            done = {item.notebook: item for item in read_status(self.run.folder)}
            if path.name not in done:
                [done[path.name]] = run_notebooks(self.run, [path])
        time.sleep(0.3)  # those who wait for the lock ask for it ten times a second: it is their turn
        return done[path.name]
