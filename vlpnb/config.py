"""Validated configurations.

A stage's configuration is one frozen `Config` beside the code that uses it; its defaults are the paper's
values, and a profile holds differences from them (`vlpnb.stage.profiles`). Values also arrive as text (`--set`,
papermill, YAML 1.1 which reads `1e-4` as a string), so text that spells a number, a switch, nothing or a list is read
as such; anything else is refused with the nearest valid name.
"""

import json
import re
import types
import typing
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import pydantic
import yaml

from vlpnb.errors import UserError, did_you_mean
from vlpnb.outside import outside, typed_here

NAME = re.compile(r"\w(?:[\w .-]{0,118}\w)?")


def check_name(name: str, what: str = "the name") -> str:
    """The name itself if it can name a file in its folder and stand on a page: letters, digits, `_`, `-`, `.`, space.

    Names of runs, profiles, image sets and the like come from settings and from files; with `/` or `..` they would
    lead out of their folder.
    """
    if not NAME.fullmatch(name):
        raise UserError(f"{what} is called {name[:60]!r}; expected letters, digits, '_', '-', '.' or a space")
    return name


def _named(name: str) -> str:
    if not NAME.fullmatch(name):
        raise ValueError("expected letters, digits, '_', '-', '.' or a space")
    return name


Name = Annotated[str, pydantic.AfterValidator(_named)]  # becomes the name of a file or folder
Seed = Annotated[int, pydantic.Field(ge=0, lt=2**32)]  # what every generator of random numbers takes
Count = Annotated[int, pydantic.Field(ge=1)]
Index = Annotated[int, pydantic.Field(ge=0)]
Share = Annotated[float, pydantic.Field(gt=0, le=1)]


def _in_order(pair: tuple) -> tuple:
    if pair[0] > pair[1]:
        raise ValueError(f"{pair[0]} to {pair[1]} is no range; give the smaller number first")
    return pair


def one_of(names: Collection[str]) -> pydantic.AfterValidator:
    """For a field that is a key of a table, such as the sizes of a model."""

    def known(value: str) -> str:
        if value not in names:
            raise ValueError(f"expected one of {', '.join(names)}")
        return value

    return pydantic.AfterValidator(known)


Shares = Annotated[tuple[Share, Share], pydantic.AfterValidator(_in_order)]  # from, to
Indices = Annotated[tuple[Index, Index], pydantic.AfterValidator(_in_order)]  # from, to


class Config(pydantic.BaseModel):
    """Base of all configurations: frozen, unknown fields refused, numbers and switches may be text.

    A field declared with `Field(json_schema_extra={"hash": False})` (workers, log intervals) does not change
    the identity of a result. What a field from outside (`vlpnb.outside`) names enters it with its content.
    """

    model_config = pydantic.ConfigDict(
        frozen=True,
        extra="forbid",
        validate_default=True,
        coerce_numbers_to_str=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,  # what `vlpnb stage NAME --help` prints
    )

    @pydantic.model_validator(mode="before")
    @classmethod
    def _read_text(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        values = {
            name: _from_text(value, cls.model_fields[name].annotation) if name in cls.model_fields else value
            for name, value in values.items()
        }
        return typed_here(cls, values)

    @classmethod
    def hashed_fields(cls) -> dict[str, Any]:
        """The fields that change the identity of a result, by name."""
        return {
            name: info
            for name, info in cls.model_fields.items()
            if not (
                isinstance(info.json_schema_extra, Mapping) and info.json_schema_extra.get("hash") is False
            )
        }

    def identity(self) -> dict[str, Any]:
        """What identifies a result, as plain JSON values: the fields that differ from the class's defaults.

        A field that is new and has a default changes nothing; so a default that changes needs a new version of
        the stage. In place of the name of a file or folder stands a mark (see `outside`).
        """
        found, named = {}, self.outside()
        for name, info in type(self).hashed_fields().items():
            value = _identity(getattr(self, name))
            if name in named:
                found[name] = OUTSIDE
            elif info.is_required() or value != _identity(info.get_default(call_default_factory=True)):
                found[name] = value
        return found

    def outside(self) -> dict[str, Path]:
        """The files and folders from outside that this configuration names, by field (dotted in nested ones)."""
        found: dict[str, Path] = {}
        for name, info in type(self).model_fields.items():
            value = getattr(self, name)
            if isinstance(value, Config):
                found |= {f"{name}.{inner}": path for inner, path in value.outside().items()}
            elif (mark := outside(info)) and (path := mark.path(value)):
                found[name] = path
        return found


OUTSIDE = "<outside>"


def _identity(value: Any) -> Any:
    """A value of a field as plain JSON, configurations in it as their identity."""
    if isinstance(value, Config):
        return value.identity()
    if isinstance(value, Mapping):
        return {str(key): _identity(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_identity(item) for item in value]
    return pydantic.TypeAdapter(Any).dump_python(value, mode="json")


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


def fields_of(sections: Mapping[str, Any], stage: str) -> Mapping[str, Any]:
    """A stage's fields in a profile or in settings; those of `vokenization.matching` lie in a section of its system."""
    for part in stage.split("."):
        sections = sections.get(part) or {}
    return sections


def flatten(sections: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"a": {"b": 1}}` → `{"a.b": 1}`, at every depth."""
    flat: dict[str, Any] = {}
    for key, value in sections.items():
        name = f"{prefix}{key}"
        flat |= flatten(value, f"{name}.") if isinstance(value, Mapping) else {name: value}
    return flat


def parse_settings(settings: str | Mapping[str, Any] | list[str] | None) -> dict[str, Any]:
    """Settings as a nested mapping, from a mapping, or from texts: JSON, or `"features.splice=2,vision.epochs=3"`.

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
                raise UserError(
                    f"setting {item!r}: expected stage.field=value, such as vokenization.matching.epochs=3"
                )
            result = merge(result, nest({name.strip(): value.strip()}))
    return result


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
    options = tuple(o.__origin__ if typing.get_origin(o) is Annotated else o for o in options)
    if type(None) in options and value.strip().lower() in ("none", "null", ""):
        return None
    if any(typing.get_origin(option) in (tuple, list) for option in options) and str not in options:
        text = value
        if value.strip().startswith("["):
            try:
                return json.loads(value)
            except json.JSONDecodeError:
                if "{" in value:
                    return _blocks(value)
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


def _blocks(text: str) -> Any:
    """Mappings in a list, as YAML writes them: `[{format: coco, files: [a.json]}]`; the text itself if it is none."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


EXPECTED = {  # by what pydantic calls the error
    "tuple_type": "expected a list, [a, b]",
    "list_type": "expected a list, [a, b]",
    "dict_type": "expected names with values, {name: value}",
    "model_type": "expected fields with values, {field: value}; `vlpnb stage NAME --help` names a stage's",
}


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
    message = EXPECTED.get(item["type"], message[:1].lower() + message[1:])
    if not location:
        return f"{name}: {message}"
    return f"{name}: found {item['input']!r}: {message}"
