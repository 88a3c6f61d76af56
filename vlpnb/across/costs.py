"""What a model cost: parameters that were trained, minutes of this machine, operations of one reading.

Minutes are those that the manifests of its stage, and of all stages that it stands on, measured: wall time of the run
that made them, on whatever machine that was. Parameters are counted in the weights that each stage wrote.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from torch.utils.flop_counter import FlopCounterMode

from vlpnb.stage.folder import read_manifest

DATA = (
    "world",
    "captions",
    "sentences",
    "questions",
    "pictures",
    "text",
    "knowledge",
    "multilingual",
    "iglue",
    "corpus",
)
SNAPSHOT = "snapshot-"


@dataclass(frozen=True)
class Cost:
    """Of a finished stage and what it stands on."""

    stage: str
    parameters: int
    """Of the weights in its own folder, the last snapshot where there are several."""
    minutes: float
    """Of the stage itself …"""
    others: dict[str, float]
    """… and of the stages that it was made from, those that only read or draw data left out."""
    updates: float
    """NaN where it trained nothing."""

    @property
    def all_minutes(self) -> float:
        """From the pictures and the text to the model."""
        return self.minutes + sum(self.others.values())


def cost_of(folder: Path) -> Cost:
    """Of the finished stage in a folder of a run. UserError where a manifest is absent."""
    folder = Path(folder)
    manifest, others = read_manifest(folder), {}
    waiting = [folder]
    seen = {folder.name}
    while waiting:
        for about in read_manifest(waiting.pop())["inputs"].values():
            place = folder.parent / about["folder"]
            if place.name not in seen:
                seen.add(place.name)
                waiting.append(place)
                other = read_manifest(place)
                if other["stage"] not in DATA:
                    others[other["stage"]] = others.get(other["stage"], 0.0) + other["seconds"] / 60
    updates = manifest["metrics"].get("updates")
    return Cost(
        manifest["stage"], parameters_in(folder), manifest["seconds"] / 60, others,
        math.nan if updates is None else float(updates),
    )  # fmt: skip


def parameters_in(folder: Path) -> int:
    """Numbers in the weights (`*.safetensors`) that a stage wrote; of several snapshots in the last one."""
    files = sorted(Path(folder).rglob("*.safetensors"))
    snapshots = sorted({part for file in files for part in file.parts if part.startswith(SNAPSHOT)})
    kept = [f for f in files if not {*f.parts} & {*snapshots[:-1]}]
    total = 0
    for file in kept:
        with safe_open(file, framework="pt") as weights:
            total += sum(math.prod(weights.get_slice(name).get_shape()) for name in weights.keys())  # noqa: SIM118
    return total


def operations(work: Callable[[], object]) -> int:
    """Additions and multiplications of the matrix products that a call makes, as PyTorch counts them."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())
