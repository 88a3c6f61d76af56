"""Validated configurations, and the profiles that hold their differences.

A stage's configuration is one frozen `Config` beside the code that uses it; its defaults are the paper's
values. A profile is a small YAML file of differences, from them or from another profile (`extends`). Values
also arrive as text (`--set matching.rate=1e-4`, papermill, YAML 1.1 which reads `1e-4` as a string), so text
that spells a number, a switch, nothing or a list is read as such; anything else is refused with the nearest
valid name.
"""

import json
import re
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, TypeVar

import pydantic
import yaml

from vlpnb.errors import UserError, did_you_mean

PROFILES = Path(__file__).parent / "course" / "profiles"


NAME = re.compile(r"\w(?:[\w .-]{0,118}\w)?")


def check_name(name: str, what: str = "the name") -> str:
    """The name itself if it can name a file in its folder and stand on a page: letters, digits, `_`, `-`, `.`, space.

    Names of runs, profiles, image sets and the like come from settings and from files; with `/` or `..` they would
    lead out of their folder.
    """
    if not NAME.fullmatch(name):
        raise UserError(f"{what} is called {name[:60]!r}; expected letters, digits, '_', '-', '.' or a space")
    return name


Seed = Annotated[int, pydantic.Field(ge=0, lt=2**32)]  # what every generator of random numbers takes
Count = Annotated[int, pydantic.Field(ge=1)]
Index = Annotated[int, pydantic.Field(ge=0)]
Share = Annotated[float, pydantic.Field(gt=0, le=1)]


class Config(pydantic.BaseModel):
    """Base of all configurations: frozen, unknown fields refused, numbers and switches may be text.

    A field declared with `Field(json_schema_extra={"hash": False})` (workers, log intervals) does not change
    the identity of a result.
    """

    model_config = pydantic.ConfigDict(
        frozen=True, extra="forbid", validate_default=True, coerce_numbers_to_str=True, allow_inf_nan=False
    )

    @pydantic.model_validator(mode="before")
    @classmethod
    def _read_text(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        return {
            name: _from_text(value, cls.model_fields[name].annotation) if name in cls.model_fields else value
            for name, value in values.items()
        }

    def hashed(self) -> dict[str, Any]:
        """The fields that identify a result, as plain JSON values."""
        plain = self.model_dump(mode="json")
        for name, info in type(self).model_fields.items():
            value = getattr(self, name)
            if isinstance(info.json_schema_extra, Mapping) and info.json_schema_extra.get("hash") is False:
                del plain[name]
            elif isinstance(value, Config):
                plain[name] = value.hashed()
        return plain


C = TypeVar("C", bound=Config)


def parse_config(cls: type[C], values: Mapping[str, Any], where: str = "") -> C:
    """Validate `values` (nested, or with dotted names) as a `cls`.

    Raises:
        UserError: names `where.field`, the value found, what was expected, and the nearest valid name.
    """
    try:
        return cls.model_validate(nest(values, where))
    except pydantic.ValidationError as error:
        lines = [_explain(cls, item, where) for item in error.errors()]
        raise UserError("\n".join(lines)) from None


def nest(values: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    """`{"a.b": 1, "a": {"c": 2}}` → `{"a": {"b": 1, "c": 2}}`."""
    result: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            value = nest(value, where)
        for part in reversed(str(key).split(".")[1:]):
            value = {part: value}
        result = merge(result, {str(key).split(".")[0]: value})
    return result


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` on top of `base`, mappings merged at every depth; neither argument changes."""
    result = dict(base)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = merge(result[key], value) if both else value
    return result


def parse_settings(settings: str | Mapping[str, Any] | list[str] | None) -> dict[str, Any]:
    """Settings as a nested mapping, from a mapping, or from texts: JSON, or `"matching.epochs=3,vlm.steps=100"`.

    A comma separates settings only where a `name=` follows, so that `glue.tasks=RTE,MRPC` stays one setting.

    Raises:
        UserError: for text that is neither.
    """
    if not settings:
        return {}
    if isinstance(settings, Mapping):
        return nest(settings)
    if isinstance(settings, str) and settings.lstrip().startswith("{"):
        try:
            return nest(json.loads(settings))
        except json.JSONDecodeError as error:
            raise UserError(f"settings: not valid JSON ({error}); found {settings!r}") from None
    result: dict[str, Any] = {}
    for text in [settings] if isinstance(settings, str) else settings:
        if text.lstrip().startswith("{"):
            result = merge(result, parse_settings(text))
            continue
        for item in _split_settings(text):
            name, equals, value = item.partition("=")
            if not equals or "." not in name.strip():
                raise UserError(f"setting {item!r}: expected stage.field=value, such as matching.epochs=3")
            result = merge(result, nest({name.strip(): value.strip()}))
    return result


@dataclass(frozen=True)
class Profile:
    """A named set of differences from the paper's values.

    `stages` maps a stage's name to its fields; `notebooks` are the prefixes that `vlpnb run` executes.
    """

    name: str
    description: str = ""
    notebooks: tuple[str, ...] = ()
    stages: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    source: str = ""  # the file, when it is not one of the package's


def profile_names() -> list[str]:
    """The profiles that come with the package."""
    return sorted(path.stem for path in PROFILES.glob("*.yaml"))


def load_profile(name: str | Path) -> Profile:
    """A profile of the package by name, or any YAML file by its path.

    A file that says `extends: NAME` holds only its differences from that profile (of the package, or a YAML
    file beside it); the description is its own.

    Raises:
        UserError: for an unknown name, for a file that is not a mapping of stages to fields, and for profiles
            that extend each other in a circle.
    """
    path = _profile_path(name, Path())
    content = _read_profile(path)
    notebooks = content.pop("notebooks", None) or []
    prefixes = tuple(item if isinstance(item, str) else f"{item:02d}" for item in notebooks)
    description = str(content.pop("description", "")).strip()
    source = "" if path.parent == PROFILES else str(path.absolute())
    return Profile(path.stem, description, prefixes, content, source)


def _profile_path(name: str | Path, folder: Path, where: str = "") -> Path:
    """The file of a profile; a YAML file is looked for from `folder` on."""
    is_file = str(name).endswith((".yaml", ".yml"))
    path = folder / name if is_file else PROFILES / f"{name}.yaml"
    if not (is_file or NAME.fullmatch(str(name))) or not path.is_file():
        raise UserError(f"{where}profile {str(name)!r} not found{did_you_mean(str(name), profile_names())}")
    return path


def _read_profile(path: Path, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    """A profile's file on top of the one that it extends: description, notebooks, and fields by stage."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML: {error}") from None
    if not isinstance(content, Mapping):
        raise UserError(f"{path}: expected a mapping of stages to fields, found {type(content).__name__}")
    result: dict[str, Any] = {}
    for key, value in content.items():
        if key == "notebooks" and value is not None and not isinstance(value, list):
            raise UserError(f"{path}: notebooks: expected a list such as [00, 01], found {value!r}")
        if key == "extends" and not isinstance(value, str):
            raise UserError(f"{path}: extends: expected the name of one profile, found {value!r}")
        if key in ("description", "notebooks", "extends"):
            result[key] = value
            continue
        if value is not None and not isinstance(value, Mapping):
            raise UserError(f"{path}: {key}: expected fields of the stage as `name: value`, found {value!r}")
        result[str(key)] = nest(value or {})
    parent = result.pop("extends", None)
    if parent is None:
        return result
    base = _profile_path(parent, path.parent, f"{path}: extends: ").absolute()
    chain = (*above, path.absolute())
    if base in chain:
        raise UserError(f"{path}: extends: in a circle: {' → '.join(p.stem for p in (*chain, base))}")
    return merge({**_read_profile(base, chain), "description": ""}, result)


def _split_settings(text: str) -> list[str]:
    items: list[str] = []
    for piece in text.split(","):
        starts_setting = "=" in piece and "." in piece.split("=")[0]
        if items and not starts_setting:
            items[-1] += "," + piece
        else:
            items.append(piece)
    return [item for item in items if item.strip()]


def _from_text(value: Any, annotation: Any) -> Any:
    """Read text as the list, whole number or nothing that the field wants; pydantic does the rest."""
    if not isinstance(value, str):
        return value
    union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    options = typing.get_args(annotation) if union else (annotation,)
    if type(None) in options and value.strip().lower() in ("none", "null", ""):
        return None
    if any(typing.get_origin(option) in (tuple, list) for option in options) and str not in options:
        text = value
        if value.strip().startswith("["):
            try:
                return json.loads(value)
            except json.JSONDecodeError:
                value, closed, after = value.strip()[1:].partition("]")  # as in YAML: [vokens, term]
                if not closed or after or any(mark in value for mark in "[{\"'"):
                    return text
        return [item.strip() for item in value.split(",") if item.strip()]
    if int in options and float not in options and str not in options:
        try:
            number = float(value)
        except ValueError:
            return value
        return int(number) if number.is_integer() else value
    return value


def _explain(cls: type[Config], item: Mapping[str, Any], where: str) -> str:
    location = [str(part) for part in item["loc"]]
    name = ".".join([*([where] if where else []), *location]) or cls.__name__
    if item["type"] == "extra_forbidden":
        owner: Any = cls
        for part in location[:-1]:
            annotation = owner.model_fields[part].annotation if hasattr(owner, "model_fields") else None
            options = [annotation, *typing.get_args(annotation)]
            owner = next((option for option in options if hasattr(option, "model_fields")), None)
        return f"{name}: unknown field{did_you_mean(location[-1], getattr(owner, 'model_fields', ()))}"
    if item["type"] == "missing":
        return f"{name}: a value is required and none was given"
    message = item["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    if not location:
        return f"{name}: {message}"
    return f"{name}: found {item['input']!r}: {message}"
