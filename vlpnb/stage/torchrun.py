"""Stages on several processes: starting them under `torchrun`, and agreeing inside."""

import atexit
import json
import os
import subprocess
import sys
import time
import uuid
from datetime import timedelta
from typing import TYPE_CHECKING

from vlpnb.files import plain
from vlpnb.machine import cores, say_line
from vlpnb.stage.plan import Plan

if TYPE_CHECKING:
    from torch.distributed import Store

    from vlpnb.stage.run import Run

# PyTorch's own ten minutes end a run whose processes reach the end of a day of vokenising half an hour apart. One that
# died needs no timeout: torchrun notices and ends or restarts the others.
PATIENCE = timedelta(days=7)


def process_rank() -> int:
    """The number of this process among those of `torchrun`; 0 without it."""
    return int(os.environ.get("RANK", "0"))


def process_count() -> int:
    """How many processes `torchrun` started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def launch(run: "Run", plan: Plan) -> None:
    """Run one stage under `torchrun` on this machine, streaming its lines."""
    overrides = json.dumps(plan.config.model_dump(mode="json"))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc-per-node={run.devices}", "-m", "vlpnb", "stage", plan.stage.name]
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
        assert process.stdout is not None
        tail: list[str] = []
        for line in process.stdout:
            tail = [*tail[-30:], line]
            say_line(run.say, line.rstrip("\n"))
    if process.returncode:
        ended = f"stage {plan.stage.name!r} ended with code {process.returncode} under torchrun"
        raise RuntimeError(f"{ended}:\n{''.join(tail)}")


def agree(answer: bool, device: str) -> bool:
    """Process 0's answer, on all processes."""
    import torch
    import torch.distributed as dist
    from torch.distributed.rendezvous import rendezvous

    on_gpu = device.startswith("cuda")
    if on_gpu:
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        store, rank, count = next(rendezvous("env://", timeout=PATIENCE))
        store = dist.PrefixStore(_meet(store, rank, count), store)
        backend = "cpu:gloo,cuda:nccl" if on_gpu else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=count, timeout=PATIENCE)
        # a process that ends with its group's threads running is aborted now and then
        atexit.register(_leave)
    answers = [answer]
    dist.broadcast_object_list(answers, src=0, device=torch.device(device) if on_gpu else None)
    return answers[0]


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
