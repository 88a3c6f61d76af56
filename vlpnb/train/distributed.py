"""Processes: PyTorch's own DDP, and the few helpers that a stage needs on top.

The stage engine starts the processes (`torchrun`) and joins their group. One process is the normal case and
costs nothing: every helper is the identity then.
"""

from collections.abc import Callable, Mapping

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel


def replicate(model: nn.Module, world_size: int) -> nn.Module:
    """The model to call in training: itself, or a DDP wrapper that averages the gradients over processes."""
    return DistributedDataParallel(model, broadcast_buffers=False) if world_size > 1 else model


def sum_over_processes(values: torch.Tensor, world_size: int) -> torch.Tensor:
    """The element-wise sum over all processes (in place)."""
    if world_size > 1:
        dist.all_reduce(values)
    return values


def sum_of_dicts(
    values: Mapping[str, float], world_size: int, device: str | torch.device
) -> dict[str, float]:
    """Sums a dictionary with the same keys on every process; float64, so that counts stay exact."""
    kind = torch.float32 if torch.device(device).type == "mps" else torch.float64
    total = torch.tensor(list(values.values()), dtype=kind, device=device)
    return dict(zip(values, sum_over_processes(total, world_size).tolist(), strict=True))


def barrier(world_size: int) -> None:
    """Waits for all processes."""
    if world_size > 1:
        dist.barrier()


def _child(rank: int, world_size: int, store: str, function: Callable, arguments: tuple) -> None:
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world_size)
    try:
        function(rank, world_size, *arguments)
        dist.barrier()  # no process leaves while another still talks to it
    finally:
        dist.destroy_process_group()


def spawn(function: Callable, world_size: int, store: str, *arguments) -> None:
    """Runs `function(rank, world_size, *arguments)` in new CPU processes (gloo); for tests and lessons.

    `store`: path of a file that does not exist yet, by which the processes find each other.
    """
    torch.multiprocessing.spawn(
        _child, (world_size, store, function, arguments), nprocs=world_size, join=True
    )
