"""Toy stages for the tests of the engine and the command line, in a module so that workers can import them."""

import os
import time

from pydantic import Field

from vlpnb.config import Config
from vlpnb.files import write_text
from vlpnb.stage import Request, Stage, StageContext


class SourceConfig(Config):
    count: int = 3
    seed: int = 0
    workers: int = Field(0, json_schema_extra={"hash": False})


class CountConfig(Config):
    steps: int = 4
    rate: float = 0.5
    seed: int = 0
    way: str = "plain"
    pause: float = Field(0.0, json_schema_extra={"hash": False})
    source_count: int = 3


def source(context: StageContext) -> dict[str, float]:
    (context.folder / "numbers.txt").write_text("\n".join(map(str, range(context.config.count))))
    return {"count": context.config.count}


def count(context: StageContext) -> dict[str, float]:
    """Counts slowly, keeps a checkpoint, and can be told to fail."""
    if context.config.way == "fail":
        raise ValueError("told to fail")
    if context.config.way == "die":
        os.kill(os.getpid(), 9)
    file = context.folder / "checkpoint.txt"
    start = int(file.read_text()) if file.is_file() else 0
    for step in range(start, context.config.steps):
        time.sleep(context.config.pause)
        write_text(file, str(step + 1))  # whole, whenever the kill comes
        context.progress(step + 1, context.config.steps, loss=1.0 / (step + 1))
    given = (context.inputs["source"] / "numbers.txt").read_text().split()
    return {"total": context.config.rate * len(given), "resumed_at": start, "unknown": float("nan")}


def together(context: StageContext) -> dict[str, float]:
    """Adds the ranks of all processes."""
    import torch
    import torch.distributed as dist

    total = torch.tensor(float(context.rank + 1))
    if context.world_size > 1:
        dist.all_reduce(total)
    return {"total": total.item(), "processes": context.world_size}


SOURCE = Stage("source", SourceConfig, source)
COUNT = Stage(
    "count",
    CountConfig,
    count,
    inputs=lambda config: {"source": Request("source", {"count": config.source_count})},
    variant=("way", "seed"),
)
TOGETHER = Stage("together", SourceConfig, together, distributed=True)
STAGES = (SOURCE, COUNT, TOGETHER)
