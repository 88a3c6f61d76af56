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

import contextlib
import functools
import hashlib
import importlib
import importlib.metadata
import itertools
import json
import math
import os
import pickle
import platform
import re
import select
import shutil
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path
from typing import Any

from vlpnb.config import Config, Profile, load_profile, merge, nest, parse_config
from vlpnb.errors import UserError, did_you_mean

try:
    import fcntl
except ImportError:  # Windows has no advisory locks; two processes at once are then the user's care
    fcntl = None

MANIFEST = "manifest.json"
PACKAGES = ("torch", "torchvision", "transformers", "tokenizers", "numpy", "h5py", "faiss-gpu", "faiss-cpu")
HEARTBEAT_SECONDS = 10.0


@dataclass(frozen=True)
class Request:
    """This stage with these overrides on top of the run's profile."""

    stage: str
    overrides: Mapping[str, Any] = field(default_factory=dict)


def no_inputs(config: Config) -> Mapping[str, Request]:
    """The inputs of a stage that starts from nothing."""
    return {}


@dataclass(frozen=True)
class Stage:
    """A named function from a validated configuration (and the folders of its inputs) to a folder.

    `run` returns flat metrics under local names (nan allowed). `variant` names the fields that label
    variants in reports. Raise `version` when the behaviour changes. `distributed`: all `torchrun` processes
    call `run`.
    """

    name: str
    config: type[Config]
    run: Callable[["StageContext"], Mapping[str, float]]
    inputs: Callable[[Any], Mapping[str, Request]] = no_inputs
    variant: tuple[str, ...] = ()
    version: int = 1
    doc: str = ""
    distributed: bool = False
    fingerprint: Callable[[Any], str] | None = None  # of files outside the run that the result depends on


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
            _say(self.say, f"[{self.name or self.folder.name}] {message}")
        file = "log.txt" if self.rank == 0 else f"log.{self.rank}.txt"
        with contextlib.suppress(OSError), open(self.folder / file, "a", encoding="utf-8") as stream:
            stream.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {message}\n")

    def progress(self, done: int, total: int, **values: float) -> None:
        """Report `done` of `total`: a bar where a person watches, elsewhere a line every ten seconds."""
        if self.rank != 0:
            return
        now = time.monotonic()
        watched = self.say is None and _interactive()
        last = done >= total
        if not last and now - self._beat < (0.1 if watched else HEARTBEAT_SECONDS):
            return
        if self._beat == 0.0 and not watched and not last:
            self._beat = now  # the first heartbeat comes after one interval: quick stages stay quiet
            return
        if not (last and self._beat == 0.0 and not watched):
            share = done / total if total else 1.0
            elapsed = now - self._started
            left = f", {_duration(elapsed * (1 - share) / share)} left" if 0 < share < 1 else ""
            shown = "".join(f", {key} {_short(value)}" for key, value in values.items())
            if watched:
                full = round(24 * share)
                bar = "█" * full + "░" * (24 - full)
                text = f"[{self.name}] {bar} {done:,}/{total:,}{shown}{left}"
                sys.stdout.write("\r" + text[:140].ljust(140) + ("\n" if last else ""))
                sys.stdout.flush()
            else:
                self.log(f"{done:,} of {total:,} ({share:.0%}), {_duration(elapsed)}{left}{shown}")
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
    ):
        if not re.fullmatch(r"[\w.+-]+", name) or name.startswith("."):
            raise UserError(f"run name {name!r}: letters, digits and . _ + - only, and no leading dot")
        self.root, self.name, self.say = Path(root).absolute(), name, say
        self.profile = profile if isinstance(profile, Profile) else load_profile(profile)
        self._source = stages
        self.stages = {stage.name: stage for stage in load_stages(stages)}
        self.settings = nest(settings or {})
        self._device = device
        self._pool: _Pool | None = None
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
        self._note()
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
        self._note()
        order = _in_order(plans)
        if jobs > 1 and (reason := self._cannot_share()):
            _say(self.say, f"[{name}] one job at a time: {reason}")
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
        plain = {key: _plain(value) for key, value in overrides.items()}
        return parse_config(self.stages[name].config, merge(values, nest(plain)), name)

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
        if stage.fingerprint is not None and (fingerprint := stage.fingerprint(config)):
            identity["fingerprint"] = fingerprint
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

    def _note(self) -> None:
        """Remember the profile and the settings, so that `report` and `site` read the run as it was made."""
        if _rank() == 0:
            _writable(self.folder)
            note = {"profile": self.profile.name, "settings": _plain(self.settings)}
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
        damage = _damage(plan.folder, read_json(path))
        if damage:
            _say(self.say, f"[{plan.stage.name}] {plan.folder.name} is damaged ({damage}): made again")
            path.unlink()
            for item in plan.folder.iterdir():
                if item.name != ".lock":
                    shutil.rmtree(item) if item.is_dir() else item.unlink()
            return None
        with contextlib.suppress(OSError):
            os.utime(path)  # "newest" in reports means last used
        return self._result(plan, reused=True)

    def _execute(self, plan: _Plan) -> StageResult:
        rank, world_size = _rank(), int(os.environ.get("WORLD_SIZE", "1"))
        if rank != 0 and not plan.stage.distributed:
            return self._await(plan)
        if rank == 0:
            _writable(plan.folder)
        with _lock(plan, self.say) if rank == 0 else contextlib.nullcontext():
            result = self._reuse(plan) if rank == 0 else None
            run_it = result is None
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
            self._pool = _Pool(jobs, arguments, self._device, self.say)
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


def write_json(path: Path, content: Any) -> None:
    """Write JSON so that a reader sees the old file or the new one, never a part. nan becomes null."""
    text = json.dumps(_plain(content), indent=1, ensure_ascii=False, allow_nan=False)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "w", encoding="utf-8") as stream:
            stream.write(text + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def read_json(path: Path) -> Any:
    """Read JSON.

    Raises:
        UserError: names the file when it is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid JSON ({error}); remove the file and run again") from None


@functools.cache
def environment() -> dict[str, Any]:
    """Versions of Python and the packages that matter; the checkout's git commit (None without one)."""
    versions = {"python": platform.python_version()}
    for package in ("vlpnb", *PACKAGES):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    here = Path(__file__).parent
    commit = None
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        # Only a checkout of this package counts, not whatever repository an installed copy happens to lie in.
        top = _git(here, "rev-parse", "--show-toplevel")
        if top and Path(top) == here.parent:
            commit = _git(here, "rev-parse", "HEAD") + (
                "+changes" if _git(here, "status", "--porcelain", ".") else ""
            )
    return {"packages": versions, "git_commit": commit}


def cores() -> int:
    """Processor cores that this process may use: its affinity, or OMP_NUM_THREADS where that is set."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    if wanted.isdigit() and int(wanted) > 0:
        return int(wanted)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()


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
    clock = _Clock(plan.folder / ".elapsed")
    memory = _Memory(context.device)
    before = f", continued after {_duration(clock.before)}" if clock.before else ""
    context.log(f"started in {plan.folder.name}{before}")
    try:
        with clock:
            metrics = plan.stage.run(context)
        metrics = _checked_metrics(plan.stage.name, metrics)
    except BaseException as error:
        error.add_note(f"in stage {context.name!r}, folder {plan.folder}")
        with contextlib.suppress(OSError), open(plan.folder / "log.txt", "a", encoding="utf-8") as stream:
            stream.write(traceback.format_exc())
        raise
    if context.rank != 0:
        return
    context.log(f"finished in {_duration(clock.total())}")
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
        "files": _files(plan.folder),
    }
    write_json(plan.folder / MANIFEST, manifest)
    clock.path.unlink(missing_ok=True)


def _checked_metrics(name: str, metrics: Any) -> dict[str, float]:
    if not isinstance(metrics, Mapping):
        raise TypeError(f"stage {name!r} must return a mapping of metrics, found {type(metrics).__name__}")
    try:
        return {str(key): float(value) for key, value in metrics.items()}
    except (TypeError, ValueError) as error:
        raise TypeError(f"stage {name!r} returned a metric that is not a number: {error}") from error


class _Clock:
    """Wall seconds over all attempts; a small file keeps the time of attempts that were killed."""

    def __init__(self, path: Path):
        self.path = path
        try:
            self.before = float(path.read_text())
        except (OSError, ValueError):
            self.before = 0.0
        self._stop = threading.Event()
        self._start = time.monotonic()
        self._seconds: float | None = None

    def total(self) -> float:
        return self.before + (time.monotonic() - self._start if self._seconds is None else self._seconds)

    def _tick(self) -> None:
        while not self._stop.wait(2.0):
            with contextlib.suppress(OSError):
                self.path.write_text(f"{self.total():.2f}")

    def __enter__(self) -> "_Clock":
        self._start = time.monotonic()
        if _rank() == 0:
            threading.Thread(target=self._tick, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._seconds = time.monotonic() - self._start
        self._stop.set()
        if _rank() == 0:
            with contextlib.suppress(OSError):
                self.path.write_text(f"{self.total():.2f}")


class _Memory:
    """Peak memory of this process (and of the GPU) since the object was made."""

    def __init__(self, device: str):
        self.device = device
        with contextlib.suppress(OSError):  # Linux: restart the high-water mark, which otherwise never falls
            Path("/proc/self/clear_refs").write_text("5")
        if device.startswith("cuda"):
            import torch

            torch.cuda.reset_peak_memory_stats(device)

    def device_name(self) -> str:
        if self.device.startswith("cuda"):
            import torch

            return f"{self.device} ({torch.cuda.get_device_name(self.device)})"
        return self.device

    def peaks(self) -> dict[str, int]:
        rss = 0
        with contextlib.suppress(OSError, IndexError):
            found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
            rss = int(found[1]) * 1024 if found else 0
        if not rss and os.name == "posix":
            import resource

            unit = 1 if sys.platform == "darwin" else 1024
            rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        peaks = {"peak_rss_bytes": rss}
        if self.device.startswith("cuda"):
            import torch

            peaks["peak_gpu_bytes"] = torch.cuda.max_memory_allocated(self.device)
        return peaks


def _files(folder: Path) -> dict[str, int | list[int]]:
    """Path → bytes. A sub-folder with many files is one entry, `folder/*` → [files, bytes]."""
    files: dict[str, int | list[int]] = {}
    for parent, folders, names in os.walk(folder):
        folders.sort()
        inside = Path(parent).relative_to(folder)
        kept = [
            name
            for name in sorted(names)
            if not name.startswith((".", "checkpoint", "log.")) and name not in (MANIFEST, "metrics.jsonl")
        ]
        folders[:] = [name for name in folders if not name.startswith((".", "checkpoint"))]
        sizes = {(inside / name).as_posix(): (Path(parent) / name).stat().st_size for name in kept}
        if len(sizes) > 50:
            files[(inside / "*").as_posix()] = [len(sizes), sum(sizes.values())]
        else:
            files.update(sizes)
    return files


def _damage(folder: Path, manifest: Mapping[str, Any]) -> str:
    """What is missing or cut short in a finished folder, in words; "" when nothing is."""
    found = _files(folder)
    for path, size in manifest.get("files", {}).items():
        if path not in found:
            return f"{path} is missing"
        if found[path] != size:
            return f"{path} has {found[path]} bytes, {size} expected"
    return ""


@contextlib.contextmanager
def _lock(plan: _Plan, say: Callable[[str], None] | None) -> Iterator[None]:
    """Hold the folder's lock; while another process has it, say who and wait."""
    if fcntl is None:
        yield
        return
    path = plan.folder / ".lock"
    with open(path, "a+", encoding="utf-8") as stream:
        told = 0.0
        while True:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() - told > 60 or not told:
                    told = time.monotonic()
                    holder = path.read_text(encoding="utf-8").strip() or "another process"
                    _say(say, f"[{plan.stage.name}] waiting: {plan.folder.name} is held by {holder}")
                time.sleep(0.1)
            except OSError as error:
                _say(
                    say,
                    f"[{plan.stage.name}] no lock on this file system ({error}): run one process at a time",
                )
                break
        stream.truncate(0)
        stream.write(
            f"process {os.getpid()} on {socket.gethostname()} since {time.strftime('%Y-%m-%d %H:%M:%S')}"
        )
        stream.flush()
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                stream.truncate(0)


def _writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{folder}: cannot be made ({error.strerror}); choose another place with VLPNB_DATA"
        ) from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f"{folder}: not writable; choose another place with VLPNB_DATA")


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
    answers = [answer]
    dist.broadcast_object_list(answers, src=0, device=torch.device(device) if on_gpu else None)
    return answers[0]


class _Pool:
    """Worker processes that keep their imports warm between stages, and end with this process."""

    def __init__(self, jobs: int, arguments: tuple, device: str, say: Callable[[str], None] | None):
        self.jobs, self.say = jobs, say
        threads = max(1, cores() // jobs)
        self.workers: dict[Connection, subprocess.Popen] = {}
        command = "import pickle, sys; from vlpnb.stage import _worker; _worker(int(sys.argv[1]))"
        for index in range(jobs):
            ours, theirs = Pipe()
            paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
            variables = {
                "OMP_NUM_THREADS": str(threads),
                "MKL_NUM_THREADS": str(threads),
                "PYTHONPATH": paths,
            }
            process = subprocess.Popen(
                [sys.executable, "-c", command, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env={**os.environ, **variables},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,  # lines come through the pipe, so that a notebook shows them
                start_new_session=True,  # an interrupt reaches the notebook, which then stops its workers
            )
            theirs.close()
            ours.send((arguments, device, index, threads))
            self.workers[ours] = process

    def run(self, order: Sequence[_Plan]) -> None:
        """Run the plans, each as soon as its inputs are finished. The first failure is raised at the end."""
        waiting = {plan.digest: plan for plan in order}
        busy: dict[Connection, _Plan] = {}
        failure: BaseException | None = None
        while busy or (waiting and failure is None):
            pending = {plan.digest for plan in [*waiting.values(), *busy.values()]}
            ready = [
                plan
                for plan in waiting.values()
                if not any(item.digest in pending for item in plan.inputs.values())
            ]
            for connection in [item for item in self.workers if item not in busy]:
                if ready and failure is None:
                    plan = ready.pop(0)
                    connection.send((plan.stage.name, plan.config.model_dump(mode="json")))
                    busy[connection] = waiting.pop(plan.digest)
            for connection in wait(list(busy)):
                assert isinstance(connection, Connection)
                failure = self._hear(connection, busy) or failure
        if failure is not None:
            raise failure

    def _hear(self, connection: Connection, busy: dict[Connection, _Plan]) -> BaseException | None:
        try:
            kind, content = connection.recv()
        except EOFError:
            plan = busy.pop(connection)
            code = self.workers.pop(connection).wait()
            how = f"killed by signal {-code}; out of memory?" if code < 0 else f"exit code {code}"
            return RuntimeError(
                f"the worker process for {plan.folder.name} ended ({how}). "
                "Run again to continue where it was, with fewer jobs if memory is short."
            )
        if kind == "line":
            _say(self.say, content)
            return None
        busy.pop(connection)
        return content

    def close(self) -> None:
        for connection, process in self.workers.items():
            process.terminate()
            process.wait()
            connection.close()
        self.workers.clear()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self.close()


def _worker(descriptor: int) -> None:
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
            run._execute(run._plan(name, config))
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


def _plain(value: Any) -> Any:
    """Plain JSON values: paths as text, numpy and torch scalars as numbers, nan and infinities as null."""
    if isinstance(value, Config):
        return value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in (sorted(value) if isinstance(value, set | frozenset) else value)]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "item"):
        return _plain(value.item())
    raise TypeError(f"{value!r} ({type(value).__name__}) has no plain JSON form")


def _say(say: Callable[[str], None] | None, line: str) -> None:
    if say is not None:
        say(line)
    else:
        print(line, flush=True)


def _interactive() -> bool:
    """Whether a person watches: a terminal, or a notebook that no runner executes."""
    if os.environ.get("VLPNB_HEADLESS"):
        return False
    if "ipykernel" in sys.modules and "IPython" in sys.modules:
        shell = sys.modules["IPython"].get_ipython()
        if shell is not None and hasattr(shell, "kernel"):
            return True
    return sys.stdout is not None and sys.stdout.isatty()


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _duration(seconds: float) -> str:
    seconds = max(0.0, seconds)
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
