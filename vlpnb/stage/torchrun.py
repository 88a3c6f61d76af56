"""Stages on several processes: starting them under `torchrun`, and agreeing inside."""

import atexit
import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING

from vlpnb.errors import UserError
from vlpnb.files import plain
from vlpnb.machine import cores, end_first, say_line
from vlpnb.stage.plan import Plan

if TYPE_CHECKING:
    from torch.distributed import Store

    from vlpnb.stage.run import Run

# PyTorch's own ten minutes end a run whose processes reach the end of a day of vokenising half an hour apart. One that
# died needs no timeout: torchrun notices and ends or restarts the others.
PATIENCE = timedelta(days=7)
MEETING = timedelta(
    minutes=2
)  # torchrun starts all processes at once: those that do not meet by then never will
LOOPBACK = "127.0.0.1"


def process_rank() -> int:
    """The number of this process among those of `torchrun`; 0 without it."""
    return int(os.environ.get("RANK", "0"))


def process_count() -> int:
    """How many processes `torchrun` started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def torchrun(processes: int) -> list[str]:
    """The command that starts a program so many times on this machine, under whatever name it goes."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--local-addr={LOOPBACK}"]
    return [*command, f"--nproc-per-node={processes}"]


def launch(run: "Run", plan: Plan) -> None:
    """Run one stage under `torchrun` on this machine, streaming its lines."""
    overrides = json.dumps(plan.config.model_dump(mode="json"))
    command = [*torchrun(run.devices), "-m", "vlpnb", "stage", plan.stage.name]
    command += ["--run-name", run.name, "--profile", run.profile.source or run.profile.name]
    command += ["--overrides", overrides]
    if run.settings:
        command += ["--set", json.dumps(plain(run.settings))]
    threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, cores() // run.devices))
    variables = {"VLPNB_DATA": str(run.root.parent), "OMP_NUM_THREADS": threads, "VLPNB_HEADLESS": "1"}
    with subprocess.Popen(
        command,
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        end_first(process.pid)
        assert process.stdout is not None
        tail: list[str] = []
        for line in process.stdout:
            tail = [*tail[-30:], line]
            say_line(run.say, line.rstrip("\n"))
    if process.returncode:
        ended = f"stage {plan.stage.name!r} ended with code {process.returncode} under torchrun"
        raise RuntimeError(f"{ended}:\n{''.join(tail)}")


def agree(answer: bool, device: str) -> bool:
    """Process 0's answer, on all processes.

    Raises:
        UserError: the processes could not reach each other.
    """
    import torch
    import torch.distributed as dist

    on_gpu = device.startswith("cuda")
    if on_gpu:
        torch.cuda.set_device(device)
    first = not dist.is_initialized()
    if first:
        _join(on_gpu)
    answers = [answer]
    with _meeting():
        dist.broadcast_object_list(answers, src=0, device=torch.device(device) if on_gpu else None)
    if first:
        _be_patient()
    return answers[0]


def _join(on_gpu: bool) -> None:
    """Make the group of all processes.

    Those of one machine meet on its loopback: the machine's own name, which torchrun hands out, need not be known to
    any resolver. Connecting is bounded by `MEETING`; waiting for a process that is busy, by `PATIENCE`.
    """
    import torch.distributed as dist
    from torch.distributed.rendezvous import rendezvous

    if os.environ.get("LOCAL_WORLD_SIZE") == os.environ["WORLD_SIZE"]:
        os.environ["MASTER_ADDR"] = LOOPBACK
        names = {name for _, name in socket.if_nameindex()} if hasattr(socket, "if_nameindex") else set()
        if loopback := sorted(names & {"lo", "lo0"}):  # Linux and macOS
            for library in ("GLOO", "NCCL"):
                os.environ.setdefault(f"{library}_SOCKET_IFNAME", loopback[0])
    with _meeting():
        store, rank, count = next(rendezvous("env://", timeout=MEETING))
    store.set_timeout(PATIENCE)
    store = dist.PrefixStore(_meet(store, rank, count), store)
    with _meeting():
        backend = "cpu:gloo,cuda:nccl" if on_gpu else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=count, timeout=MEETING)
    atexit.register(_leave)  # a process that ends with its group's threads running is aborted now and then


@contextlib.contextmanager
def _meeting() -> Iterator[None]:
    """Turn what the libraries raise when processes do not meet into words."""
    import torch.distributed as dist

    try:
        yield
    except (RuntimeError, OSError) as error:  # torch's DistError is a RuntimeError
        if not isinstance(error, dist.DistError | OSError) and "timed out" not in str(error).lower():
            raise
        address = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        raise UserError(
            f"process {process_rank()} of {process_count()} did not meet the others at {address} within "
            f"{MEETING.total_seconds():g} s ({str(error).splitlines()[0]}). Every machine must reach this address: "
            "give torchrun one that they do with --rdzv-endpoint (or --local-addr), and name the network "
            "interface in GLOO_SOCKET_IFNAME and NCCL_SOCKET_IFNAME"
        ) from error


def _be_patient() -> None:
    """From the first meeting on, a process may be busy for days."""
    from torch.distributed import distributed_c10d

    # torch 2.14 gave it this name; before, it had only one that begins with an underscore
    change = getattr(distributed_c10d, "set_timeout", None) or distributed_c10d._set_pg_timeout
    change(PATIENCE)


def _meet(store: "Store", rank: int, count: int) -> str:
    """A word that the processes of this attempt have in common, and none with those of an earlier attempt.

    torchrun keeps its store when it restarts the processes, and with it the addresses of the dead, which the living
    would try to reach. (Its own count of restarts is no such word: on a node where nobody died it does not change.)
    """
    mine = uuid.uuid4().hex
    if rank != 0:
        store.set(f"here/{rank}", mine)
        word = store.get(f"word/{mine}").decode()
        store.set(f"seen/{mine}/{word}", "")
        return word
    missing = set(range(1, count))
    while missing:
        for other in sorted(missing):
            if not store.check([f"here/{other}"]):
                continue
            name = store.get(f"here/{other}").decode()  # maybe still that of an earlier attempt: ask again
            store.set(f"word/{name}", mine)
            if store.check([f"seen/{name}/{mine}"]):
                missing.remove(other)
        time.sleep(0.02)
    return mine


def _leave() -> None:
    """Leave the process group at exit."""
    import torch.distributed as dist

    if dist.is_initialized():
        dist.destroy_process_group()
