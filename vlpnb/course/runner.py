"""The one way notebooks are executed: papermill, with what it does not check checked.

Papermill only warns about unknown parameters, passes `1e-4` on as text, and leaves a notebook whose kernel
was killed looking complete. So parameters and settings are validated before the first notebook starts, and
a notebook counts as done only when a last cell, added here and removed again, has been heard from. Running
again is resuming: finished stages are reused.
"""

import contextlib
import json
import logging
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import nbformat

from vlpnb.errors import UserError, did_you_mean
from vlpnb.folders import duration, lock, make_writable, read_json, write_json
from vlpnb.stage import Run

END = "vlpnb: end of the notebook"
STATUS = "status.json"
ANSI = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class Outcome:
    """How one notebook went. `problem` is "" when it went well."""

    notebook: str
    seconds: float
    problem: str = ""


def find_notebooks(folder: Path, wanted: Sequence[str]) -> list[Path]:
    """The notebooks named by number (`10`), by beginning (`10_match`) or by path, in the order given.

    Raises:
        UserError: for a name that matches nothing.
    """
    present = sorted(folder.glob("[0-9]*.ipynb"))
    found: list[Path] = []
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
) -> list[Outcome]:
    """Execute notebooks in order into `notebooks/` of the run's folder; stop at the first that fails. While another
    process executes notebooks of this run, say who and wait.

    Args:
        run: the validated run; its profile, name, settings and devices are what notebooks are given.
        notebooks: paths.
        parameters: more parameters; each notebook must declare them.
        say: receives one status line per notebook and the explanation of a failure.

    Raises:
        UserError: before anything starts, when a notebook does not declare a parameter.
    """
    given = {
        "profile": run.profile.source or run.profile.name,
        "run_name": run.name,
        "settings": json.dumps(run.settings) if run.settings else "",
        "devices": run.devices,
        **(parameters or {}),
    }
    opened = [check_parameters(path, given) for path in notebooks]
    target = run.folder / "notebooks"
    make_writable(target)
    run.note()
    with lock(target, run.name, say):  # two runners would take each other's executed copies away
        return _run_all(run, notebooks, opened, given, target, say)


def _run_all(
    run: Run,
    notebooks: Sequence[Path],
    opened: Sequence[nbformat.NotebookNode],
    given: dict[str, Any],
    target: Path,
    say: Callable[[str], None],
) -> list[Outcome]:
    outcomes: list[Outcome] = []
    width = max((len(path.stem) for path in notebooks), default=0)
    for number, (path, notebook) in enumerate(zip(notebooks, opened, strict=True), 1):
        say(f"{path.stem:<{width}}  running ({number} of {len(notebooks)})")
        start = time.monotonic()
        problem = _execute(notebook, path, target / path.name, given, run.root.parent)
        outcome = Outcome(path.name, time.monotonic() - start, problem)
        outcomes.append(outcome)
        _remember(target, outcome)
        say(f"{path.stem:<{width}}  {'FAILED' if problem else 'done'} in {duration(outcome.seconds)}")
        if problem:
            say(problem)
            say(f"The notebook as far as it went: {target / path.name}")
            say("Run the same command again to continue: finished stages are reused, killed ones resume.")
            break
    return outcomes


def read_status(run_folder: Path) -> list[Outcome]:
    """How each notebook of a run last went, in the notebooks' order."""
    path = run_folder / "notebooks" / STATUS
    if not path.is_file():
        return []
    return [Outcome(**item) for item in sorted(read_json(path), key=lambda item: item["notebook"])]


def _remember(folder: Path, outcome: Outcome) -> None:
    others = [item for item in read_status(folder.parent) if item.notebook != outcome.notebook]
    write_json(folder / STATUS, [asdict(item) for item in [*others, outcome]])


def _execute(
    notebook: nbformat.NotebookNode, source: Path, target: Path, parameters: dict[str, Any], data: Path
) -> str:
    """Execute into `target`; what went wrong, in words, or ""."""
    import papermill
    from nbclient.exceptions import DeadKernelError

    target.unlink(missing_ok=True)  # an old copy must not stand for this attempt
    notebook = nbformat.from_dict(notebook)
    end = nbformat.v4.new_code_cell(f"print({END!r})", metadata={"tags": ["vlpnb-end"]})
    if not any("id" in cell for cell in notebook.cells):
        end.pop("id")
    notebook.cells.append(end)
    problem = ""
    with _kernel_environment(data):
        try:
            papermill.execute_notebook(
                notebook,
                str(target),
                parameters=parameters,
                kernel_name="python3",
                language="python",
                kernel_manager_class="vlpnb.course.kernel.ThisPython",
                cwd=str(source.parent),
                progress_bar=False,
                stdout_file=_Indented(sys.stdout),
                stderr_file=_Indented(sys.stderr),
                request_save_on_cell_execute=True,
                autosave_cell_every=0,
            )
        except papermill.PapermillExecutionError as error:
            where = f"{source.name}, cell {error.exec_count or '?'}"
            trace = (
                []
                if error.ename == "UserError"
                else ANSI.sub("", "\n".join(error.traceback)).splitlines()[-12:]
            )
            problem = "\n".join(
                [f"{where}: {error.ename}: {error.evalue}", *(f"  | {line}" for line in trace)]
            )
        except DeadKernelError:
            problem = "dead"
    return _verdict(target, source, problem)


def _verdict(target: Path, source: Path, problem: str) -> str:
    """Judge the executed copy by its outputs, and take the end cell and saved widget states out of it."""
    if not target.is_file():
        return problem or f"{source.name}: no executed copy was written"
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
    if (not problem or problem == "dead") and not heard:
        waiting = [
            cell
            for cell in code[:-1]
            if "shell.execute_reply" not in cell.metadata.get("execution", {})
            and cell.source.strip()
            and "skip-execution" not in cell.metadata.get("tags", [])
        ]
        last = f" in the cell that begins\n{_excerpt(waiting[0].source)}" if waiting else " at the end"
        problem = (
            f"{source.name}: the kernel was killed{last}\n"
            "Most often the machine ran out of memory: close other programs, or take a smaller profile."
        )
    if not problem and errors:
        problem = f"{source.name}: {errors[0].ename}: {errors[0].evalue}"
    executed.cells = [cell for cell in executed.cells if "vlpnb-end" not in cell.metadata.get("tags", [])]
    # saved widget states are large, and useless without a kernel; the fallbacks are in the outputs
    executed.metadata.pop("widgets", None)
    if "papermill" in executed.metadata:
        # papermill writes the whole source and paths of this machine here
        executed.metadata.papermill.update(input_path=source.name, output_path=target.name)
    nbformat.write(executed, target)
    return problem


def _excerpt(source: str) -> str:
    return "\n".join(f"  | {line}" for line in source.splitlines()[:6])


@contextlib.contextmanager
def _kernel_environment(data: Path) -> Iterator[None]:
    """What kernels inherit: the data folder of this run, and that nobody watches."""
    logging.getLogger("papermill").setLevel(logging.CRITICAL)  # what it warns of is checked and said here
    changed = {"VLPNB_DATA": str(data), "VLPNB_HEADLESS": "1", "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
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


class _Indented:
    """A stream that shows a notebook's lines as they come, set in below its status line."""

    def __init__(self, stream: Any):
        self.stream, self.fresh = stream, True

    def write(self, text: str) -> None:
        for line in text.splitlines(keepends=True):
            if END not in line:
                self.stream.write(("    " if self.fresh else "") + line)
                self.fresh = line.endswith("\n")
        self.stream.flush()

    def flush(self) -> None:
        self.stream.flush()
