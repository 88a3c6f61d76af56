"""Stages on several processes: starting them under `torchrun`, and agreeing inside."""

import atexit
import json
import os
import subprocess
import sys
from datetime import timedelta
from typing import TYPE_CHECKING

from vlpnb.folders import cores, plain, say_line
from vlpnb.stage.plan import Plan

if TYPE_CHECKING:
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

    on_gpu = device.startswith("cuda")
    if on_gpu:
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        dist.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo", timeout=PATIENCE)
        # a process that ends with its group's threads running is aborted now and then
        atexit.register(_leave)
    answers = [answer]
    dist.broadcast_object_list(answers, src=0, device=torch.device(device) if on_gpu else None)
    return answers[0]


def _leave() -> None:
    """Leave the process group at exit."""
    import torch.distributed as dist

    if dist.is_initialized():
        dist.destroy_process_group()
