"""From a plan to its finished result: found and checked, waited for, or made."""

import contextlib
import time
import traceback
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from vlpnb.errors import UserError, cannot_write, is_full_disk
from vlpnb.files import lock, make_writable, may_write
from vlpnb.hashes import kept_in
from vlpnb.machine import Clock, Memory, duration, environment, say_line
from vlpnb.stage.changes import changed_since, check_unchanged, remember
from vlpnb.stage.definition import StageContext, StageResult
from vlpnb.stage.folder import (
    Damaged,
    find_damage,
    move_aside,
    read_manifest,
    remove_leftovers,
    remove_scratch,
    write_manifest,
)
from vlpnb.stage.plan import Plan
from vlpnb.stage.results import result_of
from vlpnb.stage.torchrun import agree, launch, process_count, process_rank

if TYPE_CHECKING:
    from vlpnb.stage.run import Run


def execute(run: "Run", plan: Plan) -> StageResult:
    """The result of a plan whose inputs are finished: reused, or made by this process or by several."""
    rank, world_size = process_rank(), process_count()
    if plan.finished and not may_write(plan.folder):
        return _read_only(run, plan)
    if run.devices > 1 and world_size == 1 and plan.stage.distributed and not plan.finished:
        launch(run, plan)
    if rank != 0 and not plan.stage.distributed:
        return _await(plan)
    if rank == 0:
        make_writable(plan.folder)
    with lock(plan.folder, plan.stage.name, run.say) if rank == 0 else contextlib.nullcontext():
        result = _reuse(run, plan) if rank == 0 else None
        run_it = result is None
        if rank == 0 and run_it:
            run.note()
            remove_leftovers(plan.folder)
            if changed := changed_since(plan):
                say_line(run.say, f"[{plan.stage.name}] made again, because {changed}")
        if plan.stage.distributed and world_size > 1:
            run_it = agree(run_it, run.device)
        if not run_it:
            return result or _await(plan)
        if not plan.stage.distributed:
            world_size = 1
        folders = {role: item.folder for role, item in plan.inputs.items()}
        name = ".".join(filter(None, [plan.stage.name, plan.label]))
        _attempt(
            plan,
            StageContext(plan.config, plan.folder, folders, run.device, rank, world_size, name, run.say),
        )
    return result_of(plan, reused=False) if rank == 0 else _await(plan)


def _reuse(run: "Run", plan: Plan) -> StageResult | None:
    """The finished result, every file of it as it was written; None when it has to be made."""
    if not plan.finished:
        return None
    if damage := _damage(run, plan):
        aside = move_aside(plan.folder)
        say_line(
            run.say,
            f"[{plan.stage.name}] {plan.folder.name} is damaged ({damage}): moved to {aside.name}, made again",
        )
        return None
    remove_scratch(plan.folder)  # of a process killed right after it published
    plan.stage.reused(plan.config, plan.folder)
    return result_of(plan, reused=True)


def _damage(run: "Run", plan: Plan) -> str:
    with kept_in(run.root / ".hashes", run.say):
        try:
            files = read_manifest(plan.folder)["files"]
        except Damaged as error:
            return str(error).removeprefix(f"{plan.folder}/")
        return find_damage(plan.folder, files, plan.stage.spare(list(files)))


def _read_only(run: "Run", plan: Plan) -> StageResult:
    """A finished result that may only be read, such as a course's on a shared machine: no lock, no cleaning."""
    if damage := _damage(run, plan):
        raise UserError(
            f"{plan.folder}: damaged ({damage}), and may only be read; let its owner make it again, or choose "
            "another place with VLPNB_DATA"
        )
    return result_of(plan, reused=True)


def _await(plan: Plan) -> StageResult:
    while not plan.finished:
        time.sleep(0.05)  # a failure of process 0 makes torchrun end this process
    return result_of(plan, reused=True)


def _attempt(plan: Plan, context: StageContext) -> None:
    """Call the stage's function and, when it returns, publish the folder by writing its manifest."""
    clock = Clock(plan.folder / ".elapsed")
    memory = Memory(context.device)
    before = f", continued after {duration(clock.before)}" if clock.before else ""
    context.log(f"started in {plan.folder.name}{before}")
    try:
        with clock:
            metrics = plan.stage.run(context)
        metrics = _checked_metrics(plan.stage.name, metrics)
        if context.rank == 0:
            check_unchanged(plan)
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
        "identity": plan.identity,
        "config": config,
        "inputs": {role: {"folder": p.folder.name, "hash": p.digest} for role, p in plan.inputs.items()},
        "seeds": {key: value for key, value in config.items() if key == "seed" or key.endswith("_seed")},
        "metrics": metrics,
        "seconds": round(clock.total(), 3),
        "finished": datetime.now().astimezone().isoformat(timespec="milliseconds"),
        "device": memory.device_name(),
        "world_size": context.world_size,
        **memory.peaks(),
        **environment(),
    }
    remember(plan)
    write_manifest(plan.folder, manifest)
    remove_scratch(plan.folder)


def _checked_metrics(name: str, metrics: Any) -> dict[str, float]:
    if not isinstance(metrics, Mapping):
        raise TypeError(f"stage {name!r} must return a mapping of metrics, found {type(metrics).__name__}")
    try:
        return {str(key): float(value) for key, value in metrics.items()}
    except (TypeError, ValueError) as error:
        raise TypeError(f"stage {name!r} returned a metric that is not a number: {error}") from error
