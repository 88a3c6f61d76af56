"""One notebook through papermill, and a verdict that does not trust papermill's own.

Papermill leaves a notebook whose kernel was killed looking complete. So a notebook counts as done only when a
last cell, added here and removed again, has been heard from, no cell holds an error, and every stage that was
worked on meanwhile has its manifest.
"""

import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import nbformat

from vlpnb.course.display import Display, Lines, Progress
from vlpnb.course.watch import Watch
from vlpnb.errors import UserError, cannot_write, is_full_disk
from vlpnb.files import write_text
from vlpnb.stage import Run
from vlpnb.stage.folder import MANIFEST

END = "vlpnb: end of the notebook"
ANSI = re.compile(r"\x1b\[[0-9;]*m")
ASSERT = re.compile(r"^-+> *\d+ +(assert .*)$", re.M)  # where a traceback of IPython points
NO_MEMORY = re.compile(r"out of memory|(?:can't|cannot|unable to) allocate|not enough memory", re.I)
MEMORY_ADVICE = (
    "Close other programs, take a smaller profile, or make batches smaller "
    "(such as --set vokenization.pretraining.micro_batch=8); then run again."
)

Kind = Literal["", "failed", "memory", "killed", "budget", "interrupted"]


@dataclass(frozen=True)
class Outcome:
    """How one notebook went.

    `problem` and `kind` are "" when it went well; `peak_rss_bytes` is the most memory that its kernel and the
    processes it started were seen to hold together, 0 where the system does not say.
    """

    notebook: str
    seconds: float
    problem: str = ""
    kind: Kind = ""
    peak_rss_bytes: int = 0


def execute(
    run: Run,
    notebook: nbformat.NotebookNode,
    source: Path,
    target: Path,
    parameters: dict[str, Any],
    progress: Progress,
    display: Display,
    watch: Watch,
) -> Outcome:
    """Execute a notebook into `target` and judge it.

    Args:
        run: whose stages the notebook makes.
        notebook: as read from `source`, parameters checked.
        parameters: for its parameters cell.
        progress: is kept up to date.
        display: receives what the notebook prints.
        watch: knows the kernel; its `stop` says that the runner itself ended it.
    """
    began, start = time.time(), time.monotonic()
    try:
        problem, kind = _run(notebook, source, target, parameters, progress, display, watch)
        problem, kind = _verdict(target, source, problem, kind, watch)
    except (OSError, UserError) as error:  # it is this process that writes the executed copy
        if not is_full_disk(error):
            raise
        full = error if isinstance(error, UserError) else cannot_write(target, error)
        problem, kind = f"{source.name}: {full}", "failed"
    left = unfinished(run, began)
    if left and not problem:
        problem, kind = f"{source.name}: it ended, but not all stages that it began did", "failed"
    if left:
        problem += f"\nUnfinished, and continued by the next attempt: {', '.join(left)}"
    if watch.stop and problem:
        kind = "budget" if watch.stop == "budget" else "interrupted"
        unended = f" Unfinished, and continued by the next attempt: {', '.join(left)}" if left else ""
        problem = f"{source.name}: stopped ({watch.stop}).{unended}"
    return Outcome(source.name, time.monotonic() - start, problem, kind, watch.peak)


def unfinished(run: Run, since: float) -> list[str]:
    """Folders of stages written to since then (seconds of the epoch) that nobody works in and that have no
    manifest."""
    found = []
    for folder in sorted(run.folder.glob("*-*")):
        log = folder / "log.txt"
        if folder.name.rpartition("-")[0] not in run.stages or (folder / MANIFEST).is_file():
            continue
        if log.is_file() and log.stat().st_mtime >= since - 1 and not _held(folder / ".lock"):
            found.append(folder.name)
    return found


def _held(path: Path) -> bool:
    """Whether another process holds the lock of a stage's folder."""
    try:
        import fcntl

        with open(path, "a+", encoding="utf-8") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except (ImportError, OSError):
        return False
    return False


def _run(
    notebook: nbformat.NotebookNode,
    source: Path,
    target: Path,
    parameters: dict[str, Any],
    progress: Progress,
    display: Display,
    watch: Watch,
) -> tuple[str, Kind]:
    """Execute into `target`; what went wrong, in words and in kind, as far as papermill knows."""
    import papermill
    from jupyter_core.utils import ensure_event_loop
    from nbclient.exceptions import DeadKernelError

    target.unlink(missing_ok=True)  # an old copy must not stand for this attempt
    notebook = nbformat.from_dict(notebook)
    end = nbformat.v4.new_code_cell(f"print({END!r})", metadata={"tags": ["vlpnb-end"]})
    if not any("id" in cell for cell in notebook.cells):
        end.pop("id")
    notebook.cells.append(end)
    progress.cells = len(notebook.cells) + 1  # and the one that papermill puts the parameters into

    def at_cell(cell: nbformat.NotebookNode, cell_index: int) -> None:
        progress.cell = cell_index + 1

    output = Lines(progress, display, END)
    loop = ensure_event_loop()  # the one of this thread, which nbclient uses and nobody else closes
    try:
        papermill.execute_notebook(
            notebook,
            str(target),
            parameters=parameters,
            kernel_name="python3",
            language="python",
            kernel_manager_class=watch.manager(),
            cwd=str(source.parent),
            progress_bar=False,
            stdout_file=output,
            stderr_file=output,
            on_cell_start=at_cell,
            request_save_on_cell_execute=True,
            autosave_cell_every=0,
        )
    except papermill.PapermillExecutionError as error:
        return _failure(source, error)
    except DeadKernelError:
        return "dead", "killed"
    except RuntimeError as error:  # the kernel went away while it was being started or asked
        if watch.process is not None and watch.process.poll() is None:
            raise
        return (
            (f"{source.name}: no kernel: {error}", "failed") if watch.process is None else ("dead", "killed")
        )
    finally:
        output.close()
        loop.close()
    return "", ""


def _failure(source: Path, error: Any) -> tuple[str, Kind]:
    """An exception of a cell in words: users' errors without their traceback, others with its end."""
    said = error.evalue
    if error.ename == "AssertionError" and not said and (found := ASSERT.search(_plain(error))):
        said = f"this check of the notebook fails: {found[1]}"
    lines = [f"{source.name}, cell {error.exec_count or '?'}: {error.ename}: {said}"]
    if error.ename != "UserError":
        trace = _plain(error).splitlines()[-12:]
        lines += [f"  | {line}" for line in trace]
    if error.ename.endswith(("MemoryError", "OutOfMemoryError")) or NO_MEMORY.search(error.evalue):
        return "\n".join([*lines, f"Memory ran out. {MEMORY_ADVICE}"]), "memory"
    return "\n".join(lines), "failed"


def _plain(error: Any) -> str:
    return ANSI.sub("", "\n".join(error.traceback))


def _verdict(target: Path, source: Path, problem: str, kind: Kind, watch: Watch) -> tuple[str, Kind]:
    """Judge the executed copy by its outputs, and take the end cell and saved widget states out of it."""
    if not target.is_file():
        return problem or f"{source.name}: no executed copy was written", kind or "failed"
    executed = nbformat.read(target, as_version=4)
    code = [cell for cell in executed.cells if cell.cell_type == "code"]
    heard = any(END in output.get("text", "") for cell in code[-1:] for output in cell.outputs)
    errors = [
        output
        for cell in code
        if "raises-exception" not in cell.metadata.get("tags", [])
        for output in cell.outputs
        if output.output_type == "error"
    ]
    if heard and not errors:
        # papermill also reports errors of cells that may fail, such as the checks of a student's unsolved exercises
        problem, kind = "", ""
        executed.cells = [
            c for c in executed.cells if "papermill-error-cell-tag" not in c.metadata.get("tags", [])
        ]
    if (not problem or problem == "dead") and not heard:
        waiting = [
            cell
            for cell in code[:-1]
            if "shell.execute_reply" not in cell.metadata.get("execution", {})
            and cell.source.strip()
            and "skip-execution" not in cell.metadata.get("tags", [])
        ]
        last = f" in the cell that begins\n{_excerpt(waiting[0].source)}" if waiting else " at the end"
        words = "".join(f"\n  | {line}" for line in watch.last_words())
        problem, kind = f"{source.name}: {watch.death()}{last}{words}\n{MEMORY_ADVICE}", "killed"
    if not problem and errors:
        problem, kind = f"{source.name}: {errors[0].ename}: {errors[0].evalue}", "failed"
    executed.cells = [cell for cell in executed.cells if "vlpnb-end" not in cell.metadata.get("tags", [])]
    # saved widget states are large, and useless without a kernel; the fallbacks are in the outputs
    executed.metadata.pop("widgets", None)
    if "papermill" in executed.metadata:
        # papermill writes the whole source and paths of this machine here
        executed.metadata.papermill.update(input_path=source.name, output_path=target.name)
    write_text(target, nbformat.writes(executed) + "\n")
    return problem, kind


def _excerpt(source: str) -> str:
    return "\n".join(f"  | {line}" for line in source.splitlines()[:6])
