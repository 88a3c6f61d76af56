"""Writes `defaults.json`, what every field of every stage is by default: `python -m tests.stage.record_defaults`.

A result is named by the fields that differ from the defaults. A default that changes would therefore give old results
a new meaning, unless the stage's `version` is raised too; `test_defaults.py` compares with this record.
"""

import json
from pathlib import Path
from typing import Any

from vlpnb.config import Config
from vlpnb.course.pipeline import STAGES
from vlpnb.stage import Stage

RECORD = Path(__file__).with_name("defaults.json")


def defaults_of(config: type[Config], prefix: str = "") -> dict[str, Any]:
    """Every field that counts, with its default as plain JSON; those of a nested configuration by dotted names."""
    found: dict[str, Any] = {}
    for name, value in ((name, getattr(config(), name)) for name in config.hashed_fields()):
        if isinstance(value, Config):
            given = value.identity()
            found |= {f"{prefix}{name}": given} if given else {}
            found |= defaults_of(type(value), f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = json.loads(config().model_dump_json(include={name}))[name]
    return found


def now() -> dict[str, dict[str, Any]]:
    """The record as it would be written."""
    return {stage.name: {"version": stage.version, "defaults": defaults_of(stage.config)} for stage in STAGES}


def complaints(recorded: dict[str, Any], stages: tuple[Stage, ...] = STAGES) -> list[str]:
    """What speaks against going on with the record, or against replacing it, in words."""
    found = []
    for stage in stages:
        before = recorded.get(stage.name, {"version": stage.version, "defaults": {}})
        if stage.version != before["version"]:
            continue
        current = defaults_of(stage.config)
        for field, value in before["defaults"].items():
            if field in current and current[field] != value:
                found.append(
                    f"{stage.name}.{field}: the default was {value!r} and is {current[field]!r}, so that results made "
                    f"with the old one would be taken for new ones: raise the stage's version to {stage.version + 1}"
                )
    return found


if __name__ == "__main__":
    before = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.is_file() else {}
    if wrong := complaints(before):
        raise SystemExit("\n".join(wrong))
    RECORD.write_text(json.dumps(now(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
