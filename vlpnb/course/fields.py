"""`vlpnb stage NAME --help`: every field of a stage's configuration with its default and its meaning."""

import textwrap
import types
import typing
from collections.abc import Iterator
from typing import Any

from vlpnb.config import Config
from vlpnb.stage import Stage

WIDTH = 110
REQUIRED = "required"  # in the place of a default


def describe(stage: Stage) -> str:
    """The stage, what it starts from, and a paragraph for each field: `name = default`, its kind, its meaning."""
    inputs = ", ".join(dict.fromkeys(request.stage for request in stage.inputs(stage.config()).values()))
    lines = [f"{stage.name}: {stage.doc}", f"Starts from {inputs or 'nothing'}.", ""]
    about = (stage.config.__doc__ or "").strip()
    lines += [*textwrap.wrap(" ".join(about.split()), WIDTH), ""]
    for name, default, kind, meaning in fields(stage.config):
        lines.append(f"  {name} = {default}    ({kind})")
        lines += textwrap.wrap(meaning, WIDTH, initial_indent="      ", subsequent_indent="      ")
    lines += [
        "",
        f"Set one with --set {stage.name}.FIELD=VALUE. The defaults are the paper's; profiles change them.",
    ]
    return "\n".join(lines)


def fields(config: type[Config], prefix: str = "") -> Iterator[tuple[str, str, str, str]]:
    """(dotted name, default, kind, meaning) of every field, those of nested blocks after each other.

    A block that may be left out, and a list of blocks, have a row of their own before those of their fields.
    """
    for name, info in config.model_fields.items():
        default = REQUIRED if info.is_required() else info.get_default(call_default_factory=True)
        meaning = " ".join((info.description or "").split())
        blocks = [block for block in (info.annotation, *typing.get_args(info.annotation)) if _is_block(block)]
        if not blocks:
            yield f"{prefix}{name}", _value(default), _kind(info.annotation), meaning
            continue
        if typing.get_origin(info.annotation) in (tuple, list):
            shown = default if default is REQUIRED else f"{len(default)} of them"
            yield f"{prefix}{name}", shown, "list of blocks of the fields below", meaning
        elif blocks[0] is not info.annotation:
            shown = "none" if default is None else "as below"
            yield f"{prefix}{name}", shown, "the fields below, or null", meaning
        yield from fields(blocks[0], f"{prefix}{name}.")


def _is_block(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Config)


def _value(value: Any) -> str:
    if value is None or value == "":
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {_value(item)}' for key, item in value.items())}}}" if value else "{}"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _kind(annotation: Any) -> str:
    """A type in words: `number`, `whole number`, `one of a, b`, `list of text`."""
    words = {int: "whole number", float: "number", str: "text", bool: "true or false", type(None): "none"}
    if annotation in words:
        return words[annotation]
    origin, given = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _kind(given[0])
    if origin is typing.Literal:
        return f"one of {', '.join(map(str, given))}"
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(map(_kind, given)))
    if origin in (tuple, list):
        kinds = dict.fromkeys(_kind(kind) for kind in given if kind is not ...)
        return f"list of {' and '.join(kinds)}"
    return "mapping" if origin is dict else getattr(annotation, "__name__", str(annotation))
