"""A run: a profile, the folder of its stages, and the calls that make or find their results."""

import itertools
import os
import pickle
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vlpnb.config import fields_of, merge, nest
from vlpnb.errors import UserError, did_you_mean
from vlpnb.files import make_writable, plain, read_back, write_json
from vlpnb.machine import say_line
from vlpnb.outside import typed_here
from vlpnb.stage.definition import Request, Stage, StageResult, load_stages
from vlpnb.stage.execution import execute
from vlpnb.stage.folder import finished_folders
from vlpnb.stage.plan import Plan, Planner, in_order
from vlpnb.stage.profiles import Profile, load_profile
from vlpnb.stage.results import find_result, results_of
from vlpnb.stage.torchrun import process_count, process_rank
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
        for stage in self.stages.values():
            fields = fields_of(self.settings, stage.name)
            if isinstance(fields, Mapping) and fields:
                self.settings = merge(self.settings, nest({stage.name: typed_here(stage.config, fields)}))
        self._device, self.devices = device, devices
        self._planner = Planner(self.stages, self.profile, self.settings, self.folder, say)
        self._pool: Pool | None = None
        self._planner.check()

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

    def config(self, name: str, /, **overrides: Any) -> Any:
        """The configuration of a stage: its defaults, the profile, the settings, then `overrides`."""
        return self._planner.config(name, overrides)

    def plan(self, name: str, /, **overrides: Any) -> Plan:
        """What a stage would be: its configuration, its inputs, its folder. Reads what it needs from outside."""
        return self._planner.plan(name, overrides)

    def stage(self, name: str, /, **overrides: Any) -> StageResult:
        """Run a stage after its inputs. Finished folders are reused, killed ones continued."""
        return [execute(self, item) for item in in_order([self.plan(name, **overrides)])][-1]

    def grid(self, name: str, jobs: int = 1, **axes: Sequence[Any]) -> list[StageResult]:
        """The stage for every combination of `axes` (the last axis varies fastest).

        With `jobs` > 1 as many worker processes share the cores (and the GPUs, in turn); shared inputs run
        once. Every combination is validated before the first starts. When one fails, those under way finish
        first.
        """
        for axis, values in axes.items():
            if isinstance(values, str) or not isinstance(values, Sequence):
                raise UserError(f"grid of {name}: {axis}: expected a list of values, found {values!r}")
        points = itertools.product(*axes.values())
        return self.several([Request(name, dict(zip(axes, values, strict=True))) for values in points], jobs)

    def several(self, requests: Sequence[Request], jobs: int = 1) -> list[StageResult]:
        """Several stages with their overrides, in this order; `jobs` as in `grid`."""
        known: dict[str, Plan] = {}
        plans = [self._planner.plan(request.stage, request.overrides, known) for request in requests]
        order = in_order(plans)
        if jobs > 1 and (reason := self._cannot_share()):
            names = ", ".join(dict.fromkeys(request.stage for request in requests))
            say_line(self.say, f"[{names}] one job at a time: {reason}")
            jobs = 1
        if jobs > 1 and sum(not item.finished for item in order) > 1:
            self._run_in_workers(order, jobs)
        done = {item.digest: execute(self, item) for item in order}
        return [done[plan.digest] for plan in plans]

    def find(self, name: str, /, **overrides: Any) -> StageResult | None:
        """The finished result of a stage, or None; runs nothing."""
        return find_result(self.plan(name, **overrides))

    def results(self) -> list[StageResult]:
        """The finished result per stage and variant of this run's configuration, in the order of the pipeline."""
        return results_of(self._planner)

    def one_of(self, name: str, variant: str | None = None, what: str = "result") -> StageResult:
        """A finished result of a stage, by its variant as metrics name it; None: the run's own, else the first.

        UserError: there is none; `what` says what it would have been.
        """
        found = {result.label: result for result in self.results() if result.name == name}
        if not found:
            raise UserError(
                f"run '{self.name}' has no {what}: no finished stage {name}. Make one with `vlpnb stage {name} "
                f"--profile {self.profile.name} --run {self.name}`"
            )
        if variant is None:
            return found.get(self.plan(name).label, next(iter(found.values())))
        if variant not in found:
            raise UserError(f"run '{self.name}' has no {name} {variant!r}{did_you_mean(variant, found)}")
        return found[variant]

    def others(self) -> list[str]:
        """The finished folders that `results` passes over: of another configuration, version or data, or damaged."""
        ours = {result.folder.name for result in self.results()}
        return [folder.name for folder in finished_folders(self.folder) if folder.name not in ours]

    def metrics(self) -> dict[str, float]:
        """Flat `stage[.variant].metric` → value; see `Stage.variant`."""
        flat = {}
        for result in self.results():
            prefix = ".".join([result.name, result.label] if result.label else [result.name])
            flat.update({f"{prefix}.{key}": value for key, value in result.metrics.items()})
        return flat

    def note(self) -> None:
        """Remember the profile and the settings, so that `report` and `site` read the run as it was made.

        For a process that is about to make something and holds the lock of its place; one that only waits and reuses
        says nothing of how the run was made.
        """
        path = self.folder / "run.json"
        note = {"profile": self.profile.source or self.profile.name, "settings": plain(self.settings)}
        before = read_back(path) if path.is_file() else note
        if process_rank() != 0 or (path.is_file() and before == note):
            return
        make_writable(self.folder)
        if before["profile"] != note["profile"]:
            say_line(
                self.say,
                f"[{self.name}] was a run of profile {before['profile']}, and is one of {note['profile']} from now on",
            )
        write_json(path, note)

    def close(self) -> None:
        """Stop the worker processes that `grid` keeps."""
        if self._pool is not None:
            self._pool.close()
            self._pool = None

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
