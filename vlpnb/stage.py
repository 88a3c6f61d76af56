"""The engine: a stage is a function from a configuration to a folder; a run is the folder of its stages.

A stage's folder is named by what determines its content: the SHA-256 of the stage's name and version, its
hashed configuration fields and the hashes of its inputs. `manifest.json`, written last and atomically, says
that the folder is complete; a folder without one belongs to a killed or failed attempt and is continued by
the next. One process at a time works in a folder (a file lock); others wait and then reuse. Nothing is ever
overwritten, so re-running is resuming.

Under `torchrun` every process walks through the same calls: process 0 locks, prints and writes the
manifest; a stage declared `distributed` runs on all processes, any other only on process 0 while the rest
wait for its manifest. `Run.grid(jobs=N)` keeps N worker processes of its own and works from a notebook,
because a worker rebuilds the run from plain arguments and never imports `__main__`.
"""

import atexit
import contextlib
import hashlib
import importlib
import itertools
import json
import math
import os
import pickle
import re
import shutil
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vlpnb.config import Config, Profile, load_profile, merge, nest, parse_config
from vlpnb.errors import UserError, cannot_write, did_you_mean, is_full_disk
from vlpnb.folders import (
    MANIFEST,
    Clock,
    Memory,
    cores,
    duration,
    environment,
    find_damage,
    interactive,
    list_files,
    lock,
    make_writable,
    plain,
    read_json,
    remove_leftovers,
    remove_scratch,
    say_line,
    short,
    write_json,
)
from vlpnb.workers import Pool

HEARTBEAT_SECONDS = 10.0


@dataclass(frozen=True)
class Request:
    """This stage with these overrides on top of the run's profile."""

    stage: str
    overrides: Mapping[str, Any] = field(default_factory=dict)


def no_inputs(config: Config) -> Mapping[str, Request]:
    """The inputs of a stage that starts from nothing."""
    return {}


def no_fingerprint(config: Config) -> str:
    """The fingerprint of a stage that reads no files from outside its run."""
    return ""


@dataclass(frozen=True)
class Stage:
    """A named function from a validated configuration (and the folders of its inputs) to a folder.

    `run` returns flat metrics under local names (nan allowed). `variant` names the fields that label variants
    in reports. Raise `version` when the behaviour changes. `distributed`: all `torchrun` processes call
    `run`. `fingerprint`: a hash of the files from outside that the stage reads; it enters the stage's
    identity.
    """

    name: str
    config: type[Config]
    run: Callable[["StageContext"], Mapping[str, float]]
    inputs: Callable[[Any], Mapping[str, Request]] = no_inputs
    variant: tuple[str, ...] = ()
    version: int = 1
    doc: str = ""
    distributed: bool = False
    fingerprint: Callable[[Any], str] = no_fingerprint


@dataclass
class StageContext:
    """What a stage's function is given."""

    config: Any
    folder: Path
    inputs: Mapping[str, Path]
    device: str
    rank: int = 0
    world_size: int = 1
    name: str = ""
    say: Callable[[str], None] | None = None  # where lines go; None: the terminal or the notebook
    _beat: float = field(default=0.0, init=False, repr=False)
    _started: float = field(default_factory=time.monotonic, init=False, repr=False)

    def log(self, message: str) -> None:
        """One line to the terminal or the notebook (process 0) and to the folder's `log.txt`."""
        if self.rank == 0:
            say_line(self.say, f"[{self.name or self.folder.name}] {message}")
        file = "log.txt" if self.rank == 0 else f"log.{self.rank}.txt"
        with contextlib.suppress(OSError), open(self.folder / file, "a", encoding="utf-8") as stream:
            stream.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {message}\n")

    def progress(self, done: int, total: int, **values: float) -> None:
        """Report `done` of `total`: a bar where a person watches, elsewhere a line every ten seconds."""
        if self.rank != 0:
            return
        now = time.monotonic()
        watched = self.say is None and interactive()
        last = done >= total
        if not last and now - self._beat < (0.1 if watched else HEARTBEAT_SECONDS):
            return
        if self._beat == 0.0 and not watched and not last:
            self._beat = now  # the first heartbeat comes after one interval: quick stages stay quiet
            return
        if not (last and self._beat == 0.0 and not watched):
            share = done / total if total else 1.0
            elapsed = now - self._started
            left = f", {duration(elapsed * (1 - share) / share)} left" if 0 < share < 1 else ""
            shown = "".join(f", {key} {short(value)}" for key, value in values.items())
            if watched:
                full = round(24 * share)
                bar = "█" * full + "░" * (24 - full)
                text = f"[{self.name}] {bar} {done:,}/{total:,}{shown}{left}"
                sys.stdout.write("\r" + text[:140].ljust(140) + ("\n" if last else ""))
                sys.stdout.flush()
            else:
                self.log(f"{done:,} of {total:,} ({share:.0%}), {duration(elapsed)}{left}{shown}")
        self._beat = now


@dataclass(frozen=True)
class StageResult:
    """A finished stage. `label` names its variant ("" at the profile's defaults)."""

    name: str
    folder: Path
    manifest: dict[str, Any]
    metrics: dict[str, float]
    config: Any
    seconds: float
    reused: bool
    label: str = ""


@dataclass(frozen=True)
class _Plan:
    """One stage with everything decided: its configuration, inputs and folder."""

    stage: Stage
    config: Any
    digest: str
    folder: Path
    inputs: Mapping[str, "_Plan"]


class Run:
    """A named folder of stages under one profile.

    Args:
        root: the folder of all runs, such as `data/runs`.
        name: of this run; its stages live in `root/name/<stage>-<hash>`.
        profile: a profile's name, a YAML file, or a `Profile`.
        stages: the stages, or `"module:attribute"` of their tuple (which `grid(jobs>1)` can send to workers
        even
            when the stages hold local functions).
        settings: overrides on top of the profile, `{"stage": {"field": value}}` or with dotted names.
        device: "auto", "cpu", "cuda", "cuda:1".
        say: receives every line instead of standard output.
        devices: processes for the stages that can be distributed; more than one starts them under `torchrun`.

    Raises:
        UserError: for an unknown stage or field or an ill-typed value, anywhere in the profile or the
        settings.
    """

    def __init__(
        self,
        root: str | Path,
        name: str,
        profile: str | Path | Profile,
        stages: Sequence[Stage] | str,
        settings: Mapping[str, Any] | None = None,
        device: str = "auto",
        say: Callable[[str], None] | None = None,
        devices: int = 1,
    ):
        if not re.fullmatch(r"[\w.+-]+", name) or name.startswith("."):
            raise UserError(f"run name {name!r}: letters, digits and . _ + - only, and no leading dot")
        self.root, self.name, self.say = Path(root).absolute(), name, say
        self.profile = profile if isinstance(profile, Profile) else load_profile(profile)
        self._source = stages
        self.stages = {stage.name: stage for stage in load_stages(stages)}
        self.settings = nest(settings or {})
        self._device, self.devices = device, devices
        self._fingerprints: dict[str, str] = {}
        self._pool: Pool | None = None
        self._check()

    @property
    def folder(self) -> Path:
        """`root/name`."""
        return self.root / self.name

    @property
    def device(self) -> str:
        """The device that stages of this process compute on."""
        if self._device != "auto":
            return self._device
        import torch

        return f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if torch.cuda.is_available() else "cpu"

    def config(self, stage: str, **overrides: Any) -> Any:
        """The configuration of a stage: its defaults, the profile, the settings, then `overrides`."""
        return self._config(stage, overrides)

    def stage(self, name: str, **overrides: Any) -> StageResult:
        """Run a stage after its inputs. Finished folders are reused, killed ones continued."""
        plan = self._plan(name, overrides)
        self.note()
        result = None
        for item in _in_order([plan]):
            result = self._execute(item)
        assert result is not None
        return result

    def grid(self, name: str, jobs: int = 1, **axes: Sequence[Any]) -> list[StageResult]:
        """The stage for every combination of `axes` (the last axis varies fastest).

        With `jobs` > 1 as many worker processes share the cores (and the GPUs, in turn); shared inputs run
        once. Every combination is validated before the first starts. When one fails, those under way finish
        first.
        """
        for axis, values in axes.items():
            if isinstance(values, str) or not isinstance(values, Sequence):
                raise UserError(f"grid of {name}: {axis}: expected a list of values, found {values!r}")
        points = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
        plans = [self._plan(name, point) for point in points]
        self.note()
        order = _in_order(plans)
        if jobs > 1 and (reason := self._cannot_share()):
            say_line(self.say, f"[{name}] one job at a time: {reason}")
            jobs = 1
        if jobs > 1 and sum(not (item.folder / MANIFEST).is_file() for item in order) > 1:
            self._run_in_workers(order, jobs)
        done = {item.digest: self._execute(item) for item in order}
        return [done[plan.digest] for plan in plans]

    def find(self, name: str, **overrides: Any) -> StageResult | None:
        """The finished result of a stage, or None; runs nothing."""
        plan = self._plan(name, overrides)
        return self._result(plan, reused=True) if (plan.folder / MANIFEST).is_file() else None

    def results(self) -> list[StageResult]:
        """The newest finished (or last reused) result per stage and variant, in the order of the pipeline."""
        newest: dict[tuple[str, str], tuple[float, StageResult]] = {}
        for path in self.folder.glob(f"*/{MANIFEST}"):
            manifest = read_json(path)
            stage = self.stages.get(manifest.get("stage", ""))
            if stage is None:
                continue
            try:
                config = parse_config(stage.config, manifest["config"], stage.name)
            except UserError:  # written by an older version of the stage
                continue
            result = _result(stage, config, path.parent, manifest, self._label(stage, config), reused=True)
            key, used = (stage.name, result.label), path.stat().st_mtime
            if key not in newest or newest[key][0] < used:
                newest[key] = (used, result)
        order = list(self.stages)
        found = sorted(newest.items(), key=lambda item: (order.index(item[0][0]), item[0][1]))
        return [result for _, (_, result) in found]

    def metrics(self) -> dict[str, float]:
        """Flat `stage[.variant].metric` → value; variant fields at the profile's default are left out."""
        flat = {}
        for result in self.results():
            prefix = ".".join([result.name, result.label] if result.label else [result.name])
            flat.update({f"{prefix}.{key}": value for key, value in result.metrics.items()})
        return flat

    def close(self) -> None:
        """Stop the worker processes that `grid` keeps."""
        if self._pool is not None:
            self._pool.close()
            self._pool = None

    def _check(self) -> None:
        for source, where in (
            (self.profile.stages, f"profile {self.profile.name}"),
            (self.settings, "settings"),
        ):
            for name, fields in source.items():
                if name not in self.stages:
                    raise UserError(f"{where}: unknown stage {name!r}{did_you_mean(name, self.stages)}")
                if not isinstance(fields, Mapping):
                    raise UserError(f"{where}: {name}: expected fields of the stage, found {fields!r}")
        errors = []
        for name in self.stages:
            try:
                self._plan(name, {})
            except UserError as error:
                errors.append(str(error))
        if errors:
            lines = dict.fromkeys("\n".join(errors).split("\n"))
            raise UserError("\n".join(lines))

    def _config(self, name: str, overrides: Mapping[str, Any]) -> Any:
        if name not in self.stages:
            raise UserError(f"unknown stage {name!r}{did_you_mean(name, self.stages)}")
        values = merge(nest(self.profile.stages.get(name, {})), self.settings.get(name, {}))
        return parse_config(self.stages[name].config, merge(values, nest(plain(overrides))), name)

    def _plan(self, name: str, overrides: Mapping[str, Any], above: tuple[str, ...] = ()) -> _Plan:
        if name in above:
            raise UserError(f"stages need each other in a circle: {' → '.join([*above, name])}")
        config = self._config(name, overrides)
        stage = self.stages[name]
        inputs = {
            role: self._plan(request.stage, request.overrides, (*above, name))
            for role, request in stage.inputs(config).items()
        }
        identity = {
            "stage": name,
            "version": stage.version,
            "config": config.hashed(),
            "inputs": {role: plan.digest for role, plan in sorted(inputs.items())},
        }
        key = json.dumps([name, identity["config"]], sort_keys=True)
        if key not in self._fingerprints:  # files are read once in the life of a run
            self._fingerprints[key] = stage.fingerprint(config)
        if self._fingerprints[key]:
            identity["fingerprint"] = self._fingerprints[key]
        text = json.dumps(identity, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        digest = hashlib.sha256(text.encode()).hexdigest()
        return _Plan(stage, config, digest, self.folder / f"{name}-{digest[:8]}", inputs)

    def _label(self, stage: Stage, config: Any) -> str:
        default = self._config(stage.name, {})
        parts = []
        for name in stage.variant:
            value = getattr(config, name)
            if value == getattr(default, name):
                continue
            if isinstance(value, bool):
                parts.append(name if value else f"no_{name}")
            else:
                text = value if isinstance(value, str) else f"{name}{value}"
                parts.append(re.sub(r"[^\w-]+", "_", text).strip("_") or f"no_{name}")
        return ".".join(parts)

    def note(self) -> None:
        """Remember the profile and the settings, so that `report` and `site` read the run as it was made."""
        if _rank() == 0:
            make_writable(self.folder)
            note = {"profile": self.profile.source or self.profile.name, "settings": plain(self.settings)}
            if not (self.folder / "run.json").is_file() or read_json(self.folder / "run.json") != note:
                write_json(self.folder / "run.json", note)

    def _result(self, plan: _Plan, reused: bool) -> StageResult:
        manifest = read_json(plan.folder / MANIFEST)
        if manifest["hash"] != plan.digest:
            raise UserError(
                f"{plan.folder}: holds another result ({manifest['hash'][:16]}); remove it and run again"
            )
        label = self._label(plan.stage, plan.config)
        return _result(plan.stage, plan.config, plan.folder, manifest, label, reused)

    def _reuse(self, plan: _Plan) -> StageResult | None:
        path = plan.folder / MANIFEST
        if not path.is_file():
            return None
        damage = find_damage(plan.folder, read_json(path))
        if damage:
            say_line(self.say, f"[{plan.stage.name}] {plan.folder.name} is damaged ({damage}): made again")
            for item in plan.folder.iterdir():
                if item.name not in (".lock", MANIFEST):
                    shutil.rmtree(item) if item.is_dir() else item.unlink()
            path.unlink()  # last: a kill before leaves a folder that is still known to be damaged
            return None
        remove_scratch(plan.folder)  # of a process killed right after it published
        with contextlib.suppress(OSError):
            os.utime(path)  # "newest" in reports means last used
        return self._result(plan, reused=True)

    def _execute(self, plan: _Plan) -> StageResult:
        rank, world_size = _rank(), int(os.environ.get("WORLD_SIZE", "1"))
        finished = (plan.folder / MANIFEST).is_file()
        if self.devices > 1 and world_size == 1 and plan.stage.distributed and not finished:
            self._launch(plan)
        if rank != 0 and not plan.stage.distributed:
            return self._await(plan)
        if rank == 0:
            make_writable(plan.folder)
        with lock(plan.folder, plan.stage.name, self.say) if rank == 0 else contextlib.nullcontext():
            result = self._reuse(plan) if rank == 0 else None
            run_it = result is None
            if rank == 0 and run_it:
                remove_leftovers(plan.folder)
            if plan.stage.distributed and world_size > 1:
                run_it = _agree(run_it, self.device)
            if not run_it:
                return result or self._await(plan)
            if not plan.stage.distributed:
                world_size = 1
            folders = {role: item.folder for role, item in plan.inputs.items()}
            name = ".".join(filter(None, [plan.stage.name, self._label(plan.stage, plan.config)]))
            context = StageContext(
                plan.config, plan.folder, folders, self.device, rank, world_size, name, self.say
            )
            _run_stage(plan, context)
        return self._result(plan, reused=False) if rank == 0 else self._await(plan)

    def _launch(self, plan: _Plan) -> None:
        """Run one stage under `torchrun` on this machine, streaming its lines."""
        overrides = json.dumps(plan.config.model_dump(mode="json"))
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command += [f"--nproc-per-node={self.devices}", "-m", "vlpnb", "stage", plan.stage.name]
        command += [
            "--run",
            self.name,
            "--profile",
            self.profile.source or self.profile.name,
            "--overrides",
            overrides,
        ]
        if self.settings:
            command += ["--set", json.dumps(plain(self.settings))]
        threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, cores() // self.devices))
        variables = {"VLPNB_DATA": str(self.root.parent), "OMP_NUM_THREADS": threads, "VLPNB_HEADLESS": "1"}
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
                say_line(self.say, line.rstrip("\n"))
        if process.returncode:
            raise RuntimeError(
                f"stage {plan.stage.name!r} ended with code {process.returncode} under torchrun:\n{''.join(tail)}"
            )

    def _await(self, plan: _Plan) -> StageResult:
        while not (plan.folder / MANIFEST).is_file():
            time.sleep(0.05)  # a failure of process 0 makes torchrun end this process
        return self._result(plan, reused=True)

    def _cannot_share(self) -> str:
        if os.name != "posix":
            return "worker processes need Linux or macOS"
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            return "already under torchrun"
        if isinstance(self._source, str):
            return ""
        try:
            pickle.dumps(tuple(self._source))
        except (pickle.PicklingError, AttributeError, TypeError):
            return "these stages hold local functions; give Run their 'module:attribute' instead"
        if any(
            function.__module__ == "__main__"
            for s in self._source
            for function in (s.run, s.inputs, s.config)
        ):
            return "these stages are defined in the notebook or script, where no worker can find them"
        return ""

    def _run_in_workers(self, order: Sequence[_Plan], jobs: int) -> None:
        if self._pool is None or self._pool.jobs != jobs:
            self.close()
            arguments = (self.root, self.name, self.profile, self._source, self.settings)
            self._pool = Pool(jobs, arguments, self._device, self.say)
        try:
            self._pool.run(order)
        except BaseException:
            self.close()
            raise


def load_stages(source: Sequence[Stage] | str) -> tuple[Stage, ...]:
    """The stages themselves, from a sequence or from `"module:attribute"`."""
    if isinstance(source, str):
        module, _, attribute = source.partition(":")
        source = getattr(importlib.import_module(module), attribute)
    names = [stage.name for stage in source]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UserError(f"stages: {', '.join(twice)} defined twice")
    return tuple(source)


def _result(stage: Stage, config: Any, folder: Path, manifest: dict, label: str, reused: bool) -> StageResult:
    metrics = {key: math.nan if value is None else float(value) for key, value in manifest["metrics"].items()}
    return StageResult(stage.name, folder, manifest, metrics, config, manifest["seconds"], reused, label)


def _in_order(plans: Sequence[_Plan]) -> list[_Plan]:
    """The plans and all they need, each once, inputs first."""
    order: dict[str, _Plan] = {}

    def add(plan: _Plan) -> None:
        for item in plan.inputs.values():
            add(item)
        order.setdefault(plan.digest, plan)

    for plan in plans:
        add(plan)
    return list(order.values())


def _run_stage(plan: _Plan, context: StageContext) -> None:
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


def _rank() -> int:
    return int(os.environ.get("RANK", "0"))


def _agree(answer: bool, device: str) -> bool:
    """Process 0's answer, on all processes."""
    import torch
    import torch.distributed as dist

    on_gpu = device.startswith("cuda")
    if on_gpu:
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        dist.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo")
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
