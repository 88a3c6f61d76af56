"""A stage with everything decided, how that is decided, and the order of what it needs."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlpnb.config import fields_of, merge, nest, parse_config
from vlpnb.errors import UserError, did_you_mean
from vlpnb.files import plain
from vlpnb.hashes import hash_of, kept_in
from vlpnb.machine import say_line
from vlpnb.stage.definition import Stage
from vlpnb.stage.folder import MANIFEST, manifests
from vlpnb.stage.profiles import Profile


@dataclass(frozen=True)
class Plan:
    """One stage with everything decided: its configuration, its inputs, and the folder that its identity names.

    `identity` is all that determines the result, and `digest` its hash; `label` names the variant ("" at the class's
    defaults).
    """

    stage: Stage
    config: Any
    identity: Mapping[str, Any]
    digest: str
    folder: Path
    inputs: Mapping[str, "Plan"]
    label: str

    @property
    def finished(self) -> bool:
        """Whether the folder holds a finished result."""
        return (self.folder / MANIFEST).is_file()


def in_order(plans: Sequence[Plan]) -> list[Plan]:
    """The plans and all they need, each once, inputs first."""
    order: dict[str, Plan] = {}

    def add(plan: Plan) -> None:
        if plan.digest in order:
            return
        for item in plan.inputs.values():
            add(item)
        order[plan.digest] = plan

    for plan in plans:
        add(plan)
    return list(order.values())


class Planner:
    """Configurations and identities of the stages of one run.

    Files from outside are looked at when a stage that reads them is planned, each time anew: they may change while
    a notebook is open.
    """

    def __init__(
        self,
        stages: Mapping[str, Stage],
        profile: Profile,
        settings: Mapping[str, Any],
        folder: Path,
        say: Callable[[str], None] | None,
    ):
        self.stages, self.profile, self.settings, self.folder, self.say = (
            stages,
            profile,
            settings,
            folder,
            say,
        )
        self._sections = nest(profile.stages)
        self._said: set[str] = set()

    def config(self, name: str, overrides: Mapping[str, Any]) -> Any:
        """The configuration of a stage: its defaults, the profile, the settings, then `overrides`."""
        if name not in self.stages:
            raise UserError(f"unknown stage {name!r}{did_you_mean(name, self.stages)}")
        values = merge(fields_of(self._sections, name), fields_of(self.settings, name))
        return parse_config(self.stages[name].config, merge(values, nest(plain(overrides))), name)

    def check(self) -> None:
        """Validate profile, settings and every stage with all that it needs; no file from outside is read.

        Raises:
            UserError: names all that is wrong.
        """
        _check_sections(self.profile.stages, f"profile {self.profile.name}", self.stages)
        _check_sections(self.settings, "settings", self.stages)
        errors, checked = [], set()
        for name in self.stages:
            try:
                self._check(name, {}, (), checked)
            except UserError as error:
                errors.append(str(error))
        if errors:
            raise UserError("\n".join(dict.fromkeys("\n".join(errors).split("\n"))))

    def _check(self, name: str, overrides: Mapping, above: tuple[str, ...], checked: set[str]) -> None:
        if name in above:
            raise UserError(f"stages need each other in a circle: {' → '.join([*above, name])}")
        config = self.config(name, overrides)
        key = _key(name, config)
        if key not in checked:
            for request in self.stages[name].inputs(config).values():
                self._check(request.stage, request.overrides, (*above, name), checked)
            checked.add(key)

    def plan(self, name: str, overrides: Mapping[str, Any], known: dict[str, Plan] | None = None) -> Plan:
        """A stage with everything decided. `known` holds what was planned a moment ago, and is added to."""
        known = {} if known is None else known
        config = self.config(name, overrides)
        key = _key(name, config)
        if key not in known:
            stage = self.stages[name]
            inputs = {
                role: self.plan(request.stage, request.overrides, known)
                for role, request in stage.inputs(config).items()
            }
            identity = {
                "stage": name,
                "version": stage.version,
                "config": config.identity(),
                "inputs": {role: plan.digest for role, plan in sorted(inputs.items())},
            }
            if outside := self._outside(stage, config, identity):
                identity["outside"] = outside
            digest = hash_of(identity)
            folder = self.folder / f"{name}-{digest[:8]}"
            known[key] = Plan(stage, config, identity, digest, folder, inputs, label(stage, config))
        return known[key]

    def _outside(self, stage: Stage, config: Any, identity: Mapping[str, Any]) -> dict[str, str]:
        """What the files from outside hold that a stage reads.

        Where none of them is there, as on a machine that a finished run was copied to, they are taken to be as they
        were for the run's latest result that is the same otherwise.
        """
        places = stage.outside(config)
        if places and not any(path.exists() for path in places.values()):
            earlier = [(m["finished"], f.name, m["identity"]) for f, m in manifests(self.folder)]
            for _, folder, found in sorted(earlier, key=lambda item: item[0], reverse=True):
                if {**found, "outside": None} == {**identity, "outside": None} and "outside" in found:
                    absent = f"{next(iter(places.values()))} is not here; taken as it was for {folder}"
                    if absent not in self._said:
                        self._said.add(absent)
                        say_line(self.say, f"[{stage.name}] {absent}")
                    return found["outside"]
        with kept_in(self.folder.parent / ".hashes", self.say):
            return stage.content(config)


def _key(name: str, config: Any) -> str:
    return json.dumps([name, config.model_dump(mode="json")], sort_keys=True)


def _check_sections(
    sections: Mapping[str, Any], where: str, stages: Mapping[str, Stage], system: str = ""
) -> None:
    for key, fields in sections.items():
        name = f"{system}{key}"
        is_system = any(stage.startswith(f"{name}.") for stage in stages)
        if name not in stages and not is_system:
            raise UserError(f"{where}: unknown stage {name!r}{did_you_mean(name, stages)}")
        if not isinstance(fields, Mapping):
            raise UserError(f"{where}: {name}: expected fields of the stage, found {fields!r}")
        if is_system:
            _check_sections(fields, where, stages, f"{name}.")


def label(stage: Stage, config: Any) -> str:
    """The name of a variant: the fields of `Stage.variant` that differ from the class's defaults, and every seed."""
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
