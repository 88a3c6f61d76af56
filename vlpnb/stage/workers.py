"""The worker processes of `Run.grid`: their imports stay warm, and they need nothing of their parent.

A worker is a fresh interpreter that talks through one pipe, so it works from a notebook or a script without a
main guard, and it ends when the other end of the pipe does, whatever ended it.
"""

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, Pipe, wait
from typing import Any

from vlpnb.machine import cores, end_first, say_line


class Pool:
    """Worker processes that keep their imports warm between stages, and end with this process."""

    def __init__(self, jobs: int, arguments: tuple, device: str, say: Callable[[str], None] | None):
        self.jobs, self.say = jobs, say
        threads = max(1, cores() // jobs)
        self.workers: dict[Connection, subprocess.Popen] = {}
        for index in range(jobs):
            ours, theirs = Pipe()
            paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
            variables = {
                "OMP_NUM_THREADS": str(threads),
                "MKL_NUM_THREADS": str(threads),
                "PYTHONPATH": paths,
            }
            process = subprocess.Popen(
                [sys.executable, "-m", "vlpnb.stage.worker", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env={**os.environ, **variables},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,  # lines come through the pipe, so that a notebook shows them
                start_new_session=True,  # an interrupt reaches the notebook, which then stops its workers
            )
            end_first(process.pid)
            theirs.close()
            ours.send((arguments, device, index, threads))
            self.workers[ours] = process

    def run(self, order: Sequence[Any]) -> None:
        """Run the plans, each as soon as its inputs are finished. The first failure is raised at the end."""
        waiting = {plan.digest: plan for plan in order}
        busy: dict[Connection, Any] = {}
        failure: BaseException | None = None
        while busy or (waiting and failure is None):
            pending = {plan.digest for plan in [*waiting.values(), *busy.values()]}
            ready = [
                plan
                for plan in waiting.values()
                if not any(item.digest in pending for item in plan.inputs.values())
            ]
            for connection in [item for item in self.workers if item not in busy]:
                if ready and failure is None:
                    plan = ready.pop(0)
                    connection.send((plan.stage.name, plan.config.model_dump(mode="json")))
                    busy[connection] = waiting.pop(plan.digest)
            for connection in wait(list(busy)):
                assert isinstance(connection, Connection)
                failure = self._hear(connection, busy) or failure
        if failure is not None:
            raise failure

    def _hear(self, connection: Connection, busy: dict[Connection, Any]) -> BaseException | None:
        try:
            kind, content = connection.recv()
        except EOFError:
            plan = busy.pop(connection)
            code = self.workers.pop(connection).wait()
            how = f"killed by signal {-code}; out of memory?" if code < 0 else f"exit code {code}"
            return RuntimeError(
                f"the worker process for {plan.folder.name} ended ({how}). "
                "Run again to continue where it was, with fewer jobs if memory is short."
            )
        if kind == "line":
            say_line(self.say, content)
            return None
        busy.pop(connection)
        return content

    def close(self) -> None:
        for connection, process in self.workers.items():
            process.terminate()
            process.wait()
            connection.close()
        self.workers.clear()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self.close()
