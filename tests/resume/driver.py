"""Runs stages in forked children and kills them: everything is imported once, an attempt costs milliseconds.

A process of its own (`python driver.py ROOT SETTINGS`), because forking is safe only where nothing was computed.
One JSON request a line on standard input, one answer a line on standard output:

    request   stage, and how the attempt ends: `after` (seconds into the stage's work), `events` ([kind, name] of
              file operations, see `Events`: before the first of them that comes), `limit` (bytes that a file may
              have, as on a disk that is full)
    answer    outcome "finished", "killed" or "failed"; seconds of work; the events (of a kill: the one that it
              came before); lines; the failure's message
"""

import importlib
import json
import os
import select
import signal
import sys
import time
from pathlib import Path

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
QUIET = {"log.txt", ".elapsed", ".lock"}  # what the engine writes at moments of its own


class Events:
    """The operations on files that a kill can separate: opened to write, renamed, removed; by the target's name."""

    def __init__(self, folder: Path, fatal: set[tuple[str, str]], pipe: int):
        self.folder, self.fatal, self.pipe = str(folder), fatal, pipe
        self.seen: list[tuple[str, str]] = []
        self.active = False

    def hook(self, name: str, arguments: tuple) -> None:
        if not self.active:
            return
        if name == "open":
            path, _, flags = arguments
            if not isinstance(path, str) or not path.startswith(self.folder) or not flags & WRITES:
                return
            event = ("open", os.path.basename(path).replace(f".{os.getpid()}.", ".PID."))
        elif name == "os.rename":
            event = ("rename", os.path.basename(os.fsdecode(arguments[1])))
        elif name in ("os.remove", "os.rmdir"):
            event = (
                "remove",
                os.path.basename(os.fsdecode(arguments[0])).replace(f".{os.getpid()}.", ".PID."),
            )
        else:
            return
        if event[1] in QUIET:
            return
        self.seen.append(event)
        if event in self.fatal:
            os.write(self.pipe, (json.dumps({"events": [event]}) + "\n").encode())
            os.kill(os.getpid(), signal.SIGKILL)


def tells(line: str, stage: str, what: str) -> bool:
    """Whether a line is a stage's own, of whatever variant: `[stage.variant] started in …`."""
    head, _, rest = line.partition("] ")
    return f"{head}.".startswith(f"[{stage}.") and rest.startswith(what)


def child(run, request: dict, pipe: int) -> None:
    """One attempt; every line and at last a verdict go through the pipe."""
    name = request["stage"]
    plan = run.plan(name)
    events = Events(plan.folder, set(map(tuple, request.get("events", ()))), pipe)
    sys.addaudithook(events.hook)

    def say(line: str) -> None:
        os.write(pipe, (json.dumps({"line": line}) + "\n").encode())
        if tells(line, name, "started in"):
            events.active = True
            if request.get("limit"):
                import resource

                resource.setrlimit(resource.RLIMIT_FSIZE, (request["limit"], resource.RLIM_INFINITY))

    run.say = say
    verdict = {"outcome": "finished"}
    try:
        run.stage(name)
    except Exception as error:
        verdict = {"outcome": "failed", "kind": type(error).__name__, "message": str(error)}
    events.active = False
    os.write(pipe, (json.dumps({**verdict, "events": events.seen}) + "\n").encode())


def attempt(run, request: dict) -> dict:
    """Fork, run, and kill when told to."""
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        os.close(reading)
        sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115
        try:
            child(run, request, writing)
        finally:
            os._exit(0)
    os.close(writing)
    answer = {"outcome": "killed", "events": [], "lines": []}
    started = ended = None
    text = b""
    while True:
        left = None
        if started is not None and request.get("after") is not None:
            left = max(0.0, started + request["after"] - time.monotonic())
        if not select.select([reading], [], [], left)[0]:
            os.kill(process, signal.SIGKILL)
            request = {**request, "after": None}
            continue
        piece = os.read(reading, 1 << 16)
        if not piece:
            break
        text += piece
        *lines, text = text.split(b"\n")
        for line in map(json.loads, lines):
            if "line" not in line:
                answer |= line
                continue
            answer["lines"].append(line["line"])
            if tells(line["line"], request["stage"], "started in"):
                started = time.monotonic()
            if tells(line["line"], request["stage"], "finished in"):
                ended = time.monotonic()
    os.close(reading)
    os.waitpid(process, 0)
    answer["begun"] = started is not None
    answer["seconds"] = (ended or time.monotonic()) - started if started else 0.0
    return answer


def main() -> None:
    import torch

    torch.set_num_threads(1)
    torch.set_num_interop_threads(1)
    for module in ("faiss", "h5py", "scipy.stats", "sklearn.linear_model", "sklearn.metrics",
                   "sklearn.model_selection", "tokenizers", "torchvision.models", "transformers",
                   "transformers.models.auto.modeling_auto", "torch.distributed"):  # fmt: skip
        importlib.import_module(module)
    from vlpnb.course import open_run
    from vlpnb.machine import environment

    environment()  # asks git, once for all attempts
    run = open_run("smoke", "r", json.loads(sys.argv[2]), root=sys.argv[1], device="cpu")
    print(json.dumps({"stages": {name: str(run.plan(name).folder) for name in run.stages}}), flush=True)
    for line in sys.stdin:
        print(json.dumps(attempt(run, json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
