"""One attempt at a stage: its function is called, and what it made is published."""

import contextlib
import time
import traceback
from collections.abc import Mapping
from typing import Any

from vlpnb.errors import UserError, cannot_write, is_full_disk
from vlpnb.files import write_json
from vlpnb.machine import Clock, Memory, duration, environment
from vlpnb.stage.definition import StageContext
from vlpnb.stage.folder import MANIFEST, list_files, remove_scratch
from vlpnb.stage.plan import Plan


def run_stage(plan: Plan, context: StageContext) -> None:
    """Call the stage's function and, when it returns, publish the folder by writing its manifest."""
    clock = Clock(plan.folder / ".elapsed")
    memory = Memory(context.device)
    before = f", continued after {duration(clock.before)}" if clock.before else ""
    context.log(f"started in {plan.folder.name}{before}")
    try:
        with clock:
            metrics = plan.stage.run(context)
        metrics = _checked_metrics(plan.stage.name, metrics)
    except BaseException as error:
        error.add_note(f"in stage {context.name!r}, folder {plan.folder}")
        with contextlib.suppress(OSError), open(plan.folder / "log.txt", "a", encoding="utf-8") as stream:
            stream.write(traceback.format_exc())
        if is_full_disk(error) and not isinstance(error, UserError):
            full = cannot_write(plan.folder, error)
            full.add_note(error.__notes__[-1])
            raise full from error
        raise
    if context.rank != 0:
        return
    context.log(f"finished in {duration(clock.total())}")
    config = plan.config.model_dump(mode="json")
    manifest = {
        "stage": plan.stage.name,
        "version": plan.stage.version,
        "hash": plan.digest,
        "config": config,
        "inputs": {role: {"folder": p.folder.name, "hash": p.digest} for role, p in plan.inputs.items()},
        "seeds": {key: value for key, value in config.items() if key == "seed" or key.endswith("_seed")},
        "metrics": metrics,
        "seconds": round(clock.total(), 3),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "device": memory.device_name(),
        "world_size": context.world_size,
        **memory.peaks(),
        **environment(),
        "files": list_files(plan.folder),
    }
    write_json(plan.folder / MANIFEST, manifest)
    remove_scratch(plan.folder)


def _checked_metrics(name: str, metrics: Any) -> dict[str, float]:
    if not isinstance(metrics, Mapping):
        raise TypeError(f"stage {name!r} must return a mapping of metrics, found {type(metrics).__name__}")
    try:
        return {str(key): float(value) for key, value in metrics.items()}
    except (TypeError, ValueError) as error:
        raise TypeError(f"stage {name!r} returned a metric that is not a number: {error}") from error
