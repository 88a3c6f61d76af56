"""Profiles: small YAML files of differences from the paper's values, one section per system.

    world: {train: 3000}              a stage of the foundations
    vokenization:                     the stages of a system
      matching: {epochs: 12}

A combination `paper+wikipedia+base` is the profile `paper` with additions (`course/profiles/additions`) on top, from
left to right. A file of one's own may stand on any of them: `extends: paper`, `extends: [paper, wikipedia]`. What an
addition changes only beside another one stands under `when: {other: …}`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from vlpnb.config import NAME, merge, nest
from vlpnb.errors import UserError, did_you_mean
from vlpnb.outside import written_in

PROFILES = Path(__file__).parents[1] / "course" / "profiles"
ADDITIONS = PROFILES / "additions"
OWN = (".yaml", ".yml")
ABOUT = ("description", "notebooks", "parts", "extends", "when")  # what a file holds beside sections


@dataclass(frozen=True)
class Profile:
    """A named set of differences from the paper's values.

    `stages` holds the sections: fields by stage, and for a system fields by its stages; `notebooks` are the beginnings
    of the names that `vlpnb run` executes, none for all. A file says them as `notebooks: [10, 11]` or, for all of a
    part, `parts: [1]`.
    """

    name: str
    description: str = ""
    notebooks: tuple[str, ...] = ()
    stages: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    source: str = ""  # the file or combination, when it is not one of the package's profiles


def profile_names() -> list[str]:
    """The profiles that come with the package."""
    return sorted(path.stem for path in PROFILES.glob("*.yaml"))


def addition_names() -> list[str]:
    """What may follow a profile's name after a `+`."""
    return sorted(path.stem for path in ADDITIONS.glob("*.yaml"))


def load_profile(name: str | Path) -> Profile:
    """A profile of the package by name, a combination `profile+addition`, or any YAML file by its path.

    Raises:
        UserError: for an unknown name, for a file that is not a mapping of stages to fields, and for profiles
            that extend each other in a circle.
    """
    first, *additions = _parts(str(name))
    path = _file(first, Path())
    content = _combined(_layers([first, *additions], Path()))
    parts = [str(part) for part in content.pop("parts", None) or []]
    notebooks = content.pop("notebooks", None) or []
    prefixes = (*parts, *(item if isinstance(item, str) else f"{item:02d}" for item in notebooks))
    description = str(content.pop("description", "")).strip()
    ours = path.parent == PROFILES
    label = "+".join([path.stem, *(Path(part).stem for part in additions)])
    ours = ours and not additions
    source = "" if ours else "+".join(_absolute(part) for part in (first, *additions))
    return Profile(label, description, prefixes, content, source)


def _absolute(name: str) -> str:
    """A part of a combination so that it means the same in every folder."""
    return str(Path(name).expanduser().absolute()) if name.endswith(OWN) else name


def _parts(name: str) -> list[str]:
    """The names of a combination; a path may hold a `+` of its own."""
    return [name] if Path(name).is_file() else name.split("+")


def _file(name: str, folder: Path, where: str = "") -> Path:
    """The file of a profile or an addition; a YAML file is looked for from `folder` on."""
    named = [PROFILES / f"{name}.yaml", ADDITIONS / f"{name}.yaml"] if NAME.fullmatch(name) else []
    places = [folder / Path(name).expanduser()] if name.endswith(OWN) else named
    for path in places:
        if path.is_file():
            return path
    names = [*profile_names(), *addition_names()]
    raise UserError(f"{where}profile {name!r} not found{did_you_mean(name, names)}")


def _combined(layers: Sequence[tuple[Path, dict[str, Any]]]) -> dict[str, Any]:
    """Files on top of each other, the first below; a `when` counts as soon as the file that it names is there too."""
    result: dict[str, Any] = {}
    waiting: list[tuple[str, dict[str, Any]]] = []
    present: set[str] = set()
    for path, content in layers:
        present.add(path.stem)
        waiting += content.pop("when", {}).items()
        if content.keys() & {"notebooks", "parts"}:  # what is run is said once, by the last who says it
            result = {key: value for key, value in result.items() if key not in ("notebooks", "parts")}
        result = merge({**result, "description": ""}, content)
        for change in [change for other, change in waiting if other in present]:
            result = merge(result, change)
        waiting = [item for item in waiting if item[0] not in present]
    return result


def _layers(
    names: Sequence[str], folder: Path, above: tuple[Path, ...] = (), where: str = ""
) -> list[tuple[Path, dict[str, Any]]]:
    """The files of these names with all that they extend, what lies below first."""
    found: list[tuple[Path, dict[str, Any]]] = []
    for name in names:
        path = _file(name, folder, where).absolute()
        chain = (*above, path)
        if path in above:
            raise UserError(f"{above[-1]}: extends: in a circle: {' → '.join(item.stem for item in chain)}")
        content = _read(path)
        below = content.pop("extends", None) or []
        below = [below] if isinstance(below, str) else below
        if not isinstance(below, list) or not all(isinstance(item, str) for item in below):
            raise UserError(
                f"{path}: extends: expected the name of a profile or a list of names, found {below!r}"
            )
        parts = [part for item in below for part in _parts(item)]
        found += [*_layers(parts, path.parent, chain, f"{path}: extends: "), (path, content)]
    return found


def _read(path: Path) -> dict[str, Any]:
    """One file: its sections, and what it says about itself."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8-sig")) or {}
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"{path}: not valid YAML in UTF-8: {error}") from None
    if not isinstance(content, Mapping):
        raise UserError(f"{path}: expected a mapping of stages to fields, found {type(content).__name__}")
    for key, example in (("notebooks", "[00, 01]"), ("parts", "[1]")):
        if not isinstance(content.get(key) or [], list):
            raise UserError(f"{path}: {key}: expected a list such as {example}, found {content[key]!r}")
    result: dict[str, Any] = {}
    for key, value in content.items():
        if value is not None and not isinstance(value, Mapping) and key not in ABOUT:
            raise UserError(f"{path}: {key}: expected fields of the stage as `name: value`, found {value!r}")
        result[str(key)] = written_in(path.parent, value if key in ABOUT else nest(value or {}))
    return result
