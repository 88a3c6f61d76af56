"""The one way notebooks are executed: papermill, with what it does not check checked.

Papermill only warns about unknown parameters, passes `1e-4` on as text, and leaves a notebook whose kernel
was killed looking complete. So parameters and settings are validated before the first notebook starts, and
each notebook is judged by what it left behind (`execute.py`). Running again is resuming: finished stages are
reused, killed ones continue.
"""

import contextlib
import json
import logging
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import nbformat

from vlpnb.course.display import Display, PlainLog, Progress
from vlpnb.course.execute import END, Outcome, execute
from vlpnb.course.outline import prerequisites, stated
from vlpnb.course.watch import Watch
from vlpnb.errors import UserError, did_you_mean
from vlpnb.files import lock, make_writable, read_back, write_json
from vlpnb.machine import cores, duration
from vlpnb.stage import Run

__all__ = [
    "END",
    "Outcome",
    "check_parameters",
    "find_notebooks",
    "parse_duration",
    "read_status",
    "run_notebooks",
]

STATUS = "status.json"
LOOK_SECONDS = 0.25
STOP_SECONDS = 10.0  # that an interrupted notebook has to end by itself
GRACE = (0.05, 1.0, 60.0)  # share of a budget, and bounds in seconds, kept back for stopping cleanly


def find_notebooks(folder: Path, wanted: Sequence[str]) -> list[Path]:
    """The notebooks named by number (`10`), by part (`1`), by beginning (`10_match`) or by path, in the order given.

    Nothing named: all of them.

    Raises:
        UserError: for a name that matches nothing.
    """
    present = sorted(folder.glob("[0-9]*.ipynb"))
    found: list[Path] = [] if wanted else present
    for name in wanted:
        if name.endswith(".ipynb") and Path(name).is_file():
            matches = [Path(name).absolute()]
        else:
            matches = [path for path in present if path.stem.startswith(Path(name).stem)]
        if not matches:
            hint = did_you_mean(name, [path.stem for path in present])
            raise UserError(f"notebook {name!r} not found in {folder}{hint}")
        found += [path for path in matches if path not in found]
    return found


def starting_from(paths: Sequence[Path], first: str) -> list[Path]:
    """The notebooks from the first whose name begins so, to the end.

    Raises:
        UserError: none does.
    """
    for i, path in enumerate(paths):
        if path.stem.startswith(Path(first).stem):
            return list(paths[i:])
    raise UserError(
        f"--from {first}: not among the notebooks to run{did_you_mean(first, [path.stem for path in paths])}"
    )


def parse_duration(text: str) -> float:
    """Seconds of `2h`, `90m`, `1h30m`, `45s` or `2.5h`.

    Raises:
        UserError: it is none of these, or no time at all.
    """
    match = re.fullmatch(r"(?:([\d.]+)h)?(?:([\d.]+)m(?:in)?)?(?:([\d.]+)s)?", text.strip().lower())
    try:
        hours, minutes, seconds = (float(part or 0) for part in match.groups()) if match else (0, 0, 0)
    except ValueError:
        hours = minutes = seconds = 0
    if not (total := hours * 3600 + minutes * 60 + seconds):
        raise UserError(f"--budget {text!r}: expected a time such as 2h, 90m or 1h30m")
    return total


def check_parameters(path: Path, parameters: dict[str, Any]) -> nbformat.NotebookNode:
    """Read a notebook and see that its `parameters` cell declares every parameter it will be given.

    Raises:
        UserError: the file is no notebook, has no such cell, or does not declare a parameter.
    """
    try:
        notebook = nbformat.read(path, as_version=4)
    except (OSError, ValueError, nbformat.ValidationError) as error:
        raise UserError(f"{path}: not a readable notebook ({error})") from None
    cells = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    if len(cells) != 1:
        raise UserError(f"{path}: expected one cell tagged `parameters`, found {len(cells)}")
    declared = re.findall(r"^(\w+)\s*(?::[^=\n]+)?=", cells[0].source, flags=re.M)
    for name in parameters:
        if name not in declared:
            raise UserError(
                f"{path}: its parameters cell does not declare {name!r}{did_you_mean(name, declared)}"
            )
    return notebook


def run_notebooks(
    run: Run,
    notebooks: Sequence[Path],
    parameters: dict[str, Any] | None = None,
    say: Callable[[str], None] = print,
    *,
    display: Display | None = None,
    jobs: int = 1,
    budget: float | None = None,
) -> list[Outcome]:
    """Execute notebooks into `notebooks/` of the run's folder; start no more once one has failed.

    While another process executes notebooks of this run, say who and wait.

    Args:
        run: the validated run; its profile, name, settings and devices are what notebooks are given.
        notebooks: paths.
        parameters: more parameters; each notebook must declare them.
        say: receives one status line per notebook and the explanation of a failure (without `display`).
        display: shows the run instead of a plain log.
        jobs: notebooks at a time; one waits for those before it that make what it reads.
        budget: seconds after which the run has ended: the notebooks under way are interrupted a little before.

    Returns:
        How each notebook went that was started, in the order given.

    Raises:
        UserError: before anything starts, when a notebook does not declare a parameter, or does not say what
        it reads and `jobs` would need to know.
    """
    given = {
        "profile": run.profile.source or run.profile.name,
        "run_name": run.name,
        "settings": json.dumps(run.settings) if run.settings else "",
        "devices": run.devices,
        **(parameters or {}),
    }
    opened = [check_parameters(path, given) for path in notebooks]
    if jobs > 1:
        for path, notebook in zip(notebooks, opened, strict=True):
            if not stated(notebook, run.stages).said:
                raise UserError(
                    f"{path}: does not say under 'At a glance' which stages it reads and writes, so nobody knows "
                    "what it may run beside; use --jobs 1"
                )
    target = run.folder / "notebooks"
    make_writable(target)
    before = prerequisites(run, opened) if jobs > 1 else [frozenset(range(i)) for i in range(len(opened))]
    tasks = [
        _Task(path, notebook, Progress(path.stem, len(notebook.cells) + 2), after)  # and two of the runner
        for path, notebook, after in zip(notebooks, opened, before, strict=True)
    ]
    show = display or PlainLog(say)
    supervisor = _Supervisor(run, tasks, given, target, show, jobs, budget)
    with lock(target, run.name, say):  # two runners would take each other's executed copies away
        run.note()
        show.begin([task.progress for task in tasks])
        try:
            with _kernel_environment(run.root.parent, jobs):
                return supervisor.work()
        finally:
            show.end()


def read_status(run_folder: Path) -> list[Outcome]:
    """How each notebook of a run last went, in the notebooks' order."""
    path = run_folder / "notebooks" / STATUS
    if not path.is_file():
        return []
    return [Outcome(**item) for item in sorted(read_back(path), key=lambda item: item["notebook"])]


@dataclass
class _Task:
    path: Path
    notebook: nbformat.NotebookNode
    progress: Progress
    after: frozenset[int]
    outcome: Outcome | None = None


class _Supervisor:
    """Starts notebooks when their turn has come, looks at them while they run, and stops them in time."""

    def __init__(
        self,
        run: Run,
        tasks: list[_Task],
        given: dict[str, Any],
        target: Path,
        display: Display,
        jobs: int,
        budget: float | None,
    ):
        self.run, self.tasks, self.given, self.target = run, tasks, given, target
        self.display, self.jobs, self.budget = display, jobs, budget
        self.began = time.monotonic()
        self.running: dict[Future[Outcome], tuple[_Task, Watch]] = {}

    def work(self) -> list[Outcome]:
        """Run all tasks, or as many as go well and fit."""
        with ThreadPoolExecutor(self.jobs) as pool:
            try:
                while self._start(pool) or self.running:
                    done, _ = wait(self.running, timeout=LOOK_SECONDS, return_when=FIRST_COMPLETED)
                    for future in done:
                        self._finish(future)
                    self._look()
            except BaseException:  # Ctrl-C, or the scheduler's SIGTERM
                self._stop_all()
                raise
        if self._late() and any(task.outcome is None for task in self.tasks):
            left = [task.progress.name for task in self.tasks if task.outcome is None]
            self.display.say(f"Not started within the budget: {', '.join(left)}")
        return [task.outcome for task in self.tasks if task.outcome is not None]

    def _start(self, pool: ThreadPoolExecutor) -> bool:
        """Start what may start; whether anything still waits for its turn."""
        if self._late() or any(task.outcome and task.outcome.problem for task in self.tasks):
            return False
        waiting = [task for task in self.tasks if task.progress.state == "waiting"]
        for task in waiting:
            if len(self.running) >= self.jobs:
                break
            if all(self.tasks[i].outcome is not None for i in task.after):
                watch, progress = Watch(), task.progress
                progress.state, progress.started = "running", time.monotonic()
                progress.heard = progress.started
                self.display.started(progress)
                target = self.target / task.path.name
                arguments = (task.notebook, task.path, target, self.given, progress, self.display, watch)
                self.running[pool.submit(execute, self.run, *arguments)] = task, watch
        return bool(waiting)

    def _look(self) -> None:
        grace = self._grace()
        for task, watch in self.running.values():
            task.progress.memory = watch.look()
            if self._late():
                watch.interrupt("budget")
            if self.budget is not None and time.monotonic() > self.began + self.budget - grace / 4:
                watch.kill("budget")
        self.display.tick()

    def _grace(self) -> float:
        share, least, most = GRACE
        return min(max(share * (self.budget or 0), least), most)

    def _late(self) -> bool:
        return self.budget is not None and time.monotonic() > self.began + self.budget - self._grace()

    def _stop_all(self) -> None:
        until = time.monotonic() + STOP_SECONDS
        with contextlib.suppress(KeyboardInterrupt, SystemExit):  # a second Ctrl-C ends the patience
            while time.monotonic() < until and any(not future.done() for future in self.running):
                for _, watch in self.running.values():
                    watch.interrupt("interrupted")  # again, for a kernel that was only being started
                wait(self.running, timeout=LOOK_SECONDS)
                self.display.tick()
        for _, watch in self.running.values():
            watch.kill("interrupted")
        done, _ = wait(self.running, timeout=STOP_SECONDS)
        for future in done:
            with contextlib.suppress(Exception):
                self._finish(future)

    def _finish(self, future: Future[Outcome]) -> None:
        task, watch = self.running.pop(future)
        watch.close()
        task.outcome = outcome = future.result()
        progress = task.progress
        progress.seconds = outcome.seconds
        others = [item for item in read_status(self.run.folder) if item.notebook != outcome.notebook]
        try:
            write_json(self.target / STATUS, [asdict(item) for item in [*others, outcome]])
        except UserError as error:  # a full disk: what is not noted down does not count as done
            task.outcome = outcome = replace(outcome, problem=outcome.problem or str(error), kind="failed")
        stopped = outcome.kind in ("budget", "interrupted")
        progress.state = "stopped" if stopped else "failed" if outcome.problem else "done"
        self.display.finished(progress)
        if outcome.problem:
            self.display.say(outcome.problem)
            self.display.say(f"The notebook as far as it went: {self.target / task.path.name}")
            self.display.say(
                "Run the same command again to continue: finished stages are reused, killed ones resume."
            )
        elif self.budget is not None:
            left = max(0.0, self.began + self.budget - time.monotonic())
            self.display.say(f"{duration(left)} of the budget left")


@contextlib.contextmanager
def _kernel_environment(data: Path, jobs: int) -> Iterator[None]:
    """What kernels inherit: the data folder of this run, their share of the cores, and that nobody watches."""
    logging.getLogger("papermill").setLevel(logging.CRITICAL)  # what it warns of is checked and said here
    changed = {"VLPNB_DATA": str(data), "VLPNB_HEADLESS": "1", "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
    if jobs > 1:
        changed["OMP_NUM_THREADS"] = str(max(1, cores() // jobs))
    before = {name: os.environ.get(name) for name in changed}
    os.environ.update(changed)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
