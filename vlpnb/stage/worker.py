"""The program of a worker process (`workers.py` starts it): it runs the stages that come through its pipe."""

import functools
import os
import pickle
import select
import sys
import threading
import traceback
from multiprocessing.connection import Connection
from typing import Any

from vlpnb.errors import UserError
from vlpnb.stage.execution import execute
from vlpnb.stage.run import Run


def work(descriptor: int) -> None:
    """A worker process: rebuild the run from its arguments, then run the stages that are asked for."""
    connection = Connection(descriptor)
    arguments, device, index, threads = connection.recv()
    threading.Thread(target=_exit_with_parent, args=(descriptor,), daemon=True).start()
    import torch

    torch.set_num_threads(threads)
    if device in ("auto", "cuda") and torch.cuda.is_available():
        device = f"cuda:{index % torch.cuda.device_count()}"
    sending = threading.Lock()

    def send(*message: Any) -> None:
        with sending:
            connection.send(message)

    run = Run(*arguments, device=device, say=functools.partial(send, "line"))
    while True:
        name, config = connection.recv()
        try:
            execute(run, run.plan(name, **config))
            send("done", None)
        except Exception as error:
            send("done", _sendable(error))
        if device.startswith("cuda"):
            torch.cuda.empty_cache()


def _exit_with_parent(descriptor: int) -> None:
    poll = select.poll()
    poll.register(descriptor, 0)  # hang-up is always reported
    poll.poll()
    os._exit(1)


def _sendable(error: Exception) -> Exception:
    """The exception itself, with its traceback as a note, or a plain one that says the same."""
    error.add_note(
        "".join(traceback.format_exception(error)).rstrip() if not isinstance(error, UserError) else ""
    )
    error.__cause__ = error.__context__ = None
    try:
        pickle.loads(pickle.dumps(error))
        return error
    except Exception:
        return RuntimeError("\n".join([repr(error), *getattr(error, "__notes__", [])]))


if __name__ == "__main__":
    work(int(sys.argv[1]))
