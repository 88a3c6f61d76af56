"""A run: a profile, the folder of its stages, and the calls that make or find their results."""

import contextlib
import hashlib
import itertools
import json
import math
import os
import pickle
import re
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vlpnb.config import fields_of, merge, nest, parse_config
from vlpnb.errors import UserError, did_you_mean
from vlpnb.files import lock, make_writable, plain, read_back, write_json
from vlpnb.machine import say_line
from vlpnb.stage.definition import Stage, StageContext, StageResult, load_stages
from vlpnb.stage.execution import run_stage
from vlpnb.stage.folder import MANIFEST, find_damage, remove_leftovers, remove_scratch
from vlpnb.stage.plan import Plan, in_order
from vlpnb.stage.profiles import Profile, load_profile
from vlpnb.stage.torchrun import agree, launch, process_count, process_rank
from vlpnb.stage.workers import Pool


class Run:
    """A named folder of stages under one profile.

    Args:
        root: the folder of all runs, such as `data/runs`.
        name: of this run; its stages live in `root/name/<stage>-<hash>`.
        profile: a profile's name, a YAML file, or a `Profile`.
        stages: the stages, or `"module:attribute"` of their tuple (which `grid(jobs>1)` can send to workers
            even when the stages hold local functions).
        settings: overrides on top of the profile, `{"stage": {"field": value}}` or with dotted names.
        device: "auto", "cpu", "cuda", "cuda:1".
        say: receives every line instead of standard output.
        devices: processes for the stages that can be distributed; more than one starts them under `torchrun`.

    Raises:
        UserError: for an unknown stage or field or an ill-typed value, in the profile or the settings.
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
        for item in in_order([plan]):
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
        order = in_order(plans)
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
            manifest = read_back(path)
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
        """Flat `stage[.variant].metric` → value; see `Stage.variant`."""
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
            self._check_sections(source, where)
        errors = []
        for name in self.stages:
            try:
                self._plan(name, {})
            except UserError as error:
                errors.append(str(error))
        if errors:
            lines = dict.fromkeys("\n".join(errors).split("\n"))
            raise UserError("\n".join(lines))

    def _check_sections(self, sections: Mapping[str, Any], where: str, system: str = "") -> None:
        for key, fields in sections.items():
            name = f"{system}{key}"
            is_system = any(stage.startswith(f"{name}.") for stage in self.stages)
            if name not in self.stages and not is_system:
                raise UserError(f"{where}: unknown stage {name!r}{did_you_mean(name, self.stages)}")
            if not isinstance(fields, Mapping):
                raise UserError(f"{where}: {name}: expected fields of the stage, found {fields!r}")
            if is_system:
                self._check_sections(fields, where, f"{name}.")

    def _config(self, name: str, overrides: Mapping[str, Any]) -> Any:
        if name not in self.stages:
            raise UserError(f"unknown stage {name!r}{did_you_mean(name, self.stages)}")
        values = merge(fields_of(nest(self.profile.stages), name), fields_of(self.settings, name))
        return parse_config(self.stages[name].config, merge(values, nest(plain(overrides))), name)

    def _plan(self, name: str, overrides: Mapping[str, Any], above: tuple[str, ...] = ()) -> Plan:
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
        key = json.dumps([name, config.model_dump(mode="json")], sort_keys=True)
        if key not in self._fingerprints:  # files are read once in the life of a run
            self._fingerprints[key] = stage.fingerprint(config)
        if self._fingerprints[key]:
            identity["fingerprint"] = self._fingerprints[key]
        text = json.dumps(identity, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        digest = hashlib.sha256(text.encode()).hexdigest()
        return Plan(stage, config, digest, self.folder / f"{name}-{digest[:8]}", inputs)

    def _label(self, stage: Stage, config: Any) -> str:
        default = stage.config()
        parts = []
        for name in stage.variant:
            value = getattr(config, name)
            if value == getattr(default, name) and name != "seed":
                continue
            if isinstance(value, bool):
                parts.append(name if value else f"no_{name}")
            else:
                text = value if isinstance(value, str) else f"{name}{value}"
                parts.append(re.sub(r"[^\w-]+", "_", text).strip("_") or f"no_{name}")
        return ".".join(parts)

    def note(self) -> None:
        """Remember the profile and the settings, so that `report` and `site` read the run as it was made."""
        if process_rank() == 0:
            make_writable(self.folder)
            note = {"profile": self.profile.source or self.profile.name, "settings": plain(self.settings)}
            if not (self.folder / "run.json").is_file() or read_back(self.folder / "run.json") != note:
                write_json(self.folder / "run.json", note)

    def _result(self, plan: Plan, reused: bool) -> StageResult:
        manifest = read_back(plan.folder / MANIFEST)
        if manifest["hash"] != plan.digest:
            raise UserError(
                f"{plan.folder}: holds another result ({manifest['hash'][:16]}); remove it and run again"
            )
        label = self._label(plan.stage, plan.config)
        return _result(plan.stage, plan.config, plan.folder, manifest, label, reused)

    def _reuse(self, plan: Plan) -> StageResult | None:
        path = plan.folder / MANIFEST
        if not path.is_file():
            return None
        damage = find_damage(plan.folder, read_back(path))
        if damage:
            say_line(self.say, f"[{plan.stage.name}] {plan.folder.name} is damaged ({damage}): made again")
            for item in plan.folder.iterdir():
                if item.name not in (".lock", MANIFEST):
                    shutil.rmtree(item) if item.is_dir() else item.unlink()
            path.unlink()  # last: a kill before leaves a folder that is still known to be damaged
            return None
        remove_scratch(plan.folder)  # of a process killed right after it published
        plan.stage.reused(plan.config, plan.folder)
        with contextlib.suppress(OSError):
            os.utime(path)  # "newest" in reports means last used
        return self._result(plan, reused=True)

    def _execute(self, plan: Plan) -> StageResult:
        rank, world_size = process_rank(), process_count()
        finished = (plan.folder / MANIFEST).is_file()
        if self.devices > 1 and world_size == 1 and plan.stage.distributed and not finished:
            launch(self, plan)
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
                run_it = agree(run_it, self.device)
            if not run_it:
                return result or self._await(plan)
            if not plan.stage.distributed:
                world_size = 1
            folders = {role: item.folder for role, item in plan.inputs.items()}
            name = ".".join(filter(None, [plan.stage.name, self._label(plan.stage, plan.config)]))
            context = StageContext(
                plan.config, plan.folder, folders, self.device, rank, world_size, name, self.say
            )
            run_stage(plan, context)
        return self._result(plan, reused=False) if rank == 0 else self._await(plan)

    def _await(self, plan: Plan) -> StageResult:
        while not (plan.folder / MANIFEST).is_file():
            time.sleep(0.05)  # a failure of process 0 makes torchrun end this process
        return self._result(plan, reused=True)

    def _cannot_share(self) -> str:
        if os.name != "posix":
            return "worker processes need Linux or macOS"
        if process_count() > 1:
            return "already under torchrun"
        if isinstance(self._source, str):
            return ""
        try:
            pickle.dumps(tuple(self._source))
        except (pickle.PicklingError, AttributeError, TypeError):
            return "these stages hold local functions; give Run their 'module:attribute' instead"
        functions = [function for s in self._source for function in (s.run, s.inputs, s.config)]
        if any(function.__module__ == "__main__" for function in functions):
            return "these stages are defined in the notebook or script, where no worker can find them"
        return ""

    def _run_in_workers(self, order: Sequence[Plan], jobs: int) -> None:
        if self._pool is None or self._pool.jobs != jobs:
            self.close()
            arguments = (self.root, self.name, self.profile, self._source, self.settings)
            self._pool = Pool(jobs, arguments, self._device, self.say)
        try:
            self._pool.run(order)
        except BaseException:
            self.close()
            raise


def _result(stage: Stage, config: Any, folder: Path, manifest: dict, label: str, reused: bool) -> StageResult:
    metrics = {key: math.nan if value is None else float(value) for key, value in manifest["metrics"].items()}
    return StageResult(stage.name, folder, manifest, metrics, config, manifest["seconds"], reused, label)
