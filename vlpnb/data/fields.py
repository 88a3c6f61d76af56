"""Fields of a JSON object as the readers want them: text, a list, an object, a number, an id.

Every reader of a public format asks through these, so that a missing field, one of another type, or half a
character reads the same everywhere: file, place, field, what was found, what was expected.
"""

from __future__ import annotations

import math
from typing import Any

from vlpnb.errors import UserError


def field(item: Any, name: str, where: str) -> Any:
    """`item[name]`, or UserError naming the place, the missing field and the fields that are there."""
    if not isinstance(item, dict):
        raise UserError(f"{where}: expected an object with field '{name}', found {_kind(item)}.")
    if name not in item:
        raise UserError(f"{where}: field '{name}' is missing; found {', '.join(sorted(item)) or 'no field'}.")
    return item[name]


def as_text(value: Any, where: str) -> str:
    """The value itself if it is text of whole characters.

    JSON can spell half a character (a lone surrogate such as \\ud83d), which no tokenizer and no file takes.
    """
    if not isinstance(value, str):
        raise UserError(f"{where}: expected text, found {_kind(value)}.")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        half = f"\\u{ord(value[error.start]):04x}"
        raise UserError(
            f"{where}: half a character ({half}) at position {error.start} of {value[:60]!r}; expected text of whole "
            "characters: repair or remove it."
        ) from None
    return value


def text_field(item: Any, name: str, where: str, default: str | None = None) -> str:
    """A field that holds text of whole characters; `default` where it is absent or null, if one is given."""
    if default is not None and isinstance(item, dict) and item.get(name) is None:
        return default
    return as_text(field(item, name, where), f"{where}.{name}")


def list_field(item: Any, name: str, where: str) -> list:
    """A field that holds a list."""
    return as_list(field(item, name, where), f"{where}.{name}")


def as_list(value: Any, where: str) -> list:
    """The value itself if it is a list."""
    if not isinstance(value, list):
        raise UserError(f"{where}: expected a list, found {_kind(value)}.")
    return value


def object_field(item: Any, name: str, where: str) -> dict:
    """A field that holds an object; an empty one where it is absent or null."""
    value = {} if isinstance(item, dict) and item.get(name) is None else field(item, name, where)
    return as_object(value, f"{where}.{name}")


def as_object(value: Any, where: str) -> dict:
    """The value itself if it is an object."""
    if not isinstance(value, dict):
        raise UserError(f"{where}: expected an object, found {_kind(value)}.")
    return value


def id_field(item: Any, name: str, where: str) -> int | str:
    """A field that identifies something: a whole number, or text on one line."""
    value = field(item, name, where)
    if isinstance(value, str):
        return one_line(value, f"{where}.{name}")
    if isinstance(value, bool) or not isinstance(value, int):
        raise UserError(f"{where}.{name}: expected an id (a whole number or text), found {_kind(value)}.")
    return value


def one_line(value: str, where: str) -> str:
    """The text itself if it is a name: not empty, whole characters, no line break or other control character.

    Lists of ids hold one a line.
    """
    as_text(value, where)
    if not value.strip() or is_broken_name(value):
        raise UserError(f"{where}: expected a name or id on one line, found {value[:60]!r}.")
    return value


def is_broken_name(name: str) -> bool:
    """Whether a name cannot stand on a line of its own: control characters, or bytes that are not UTF-8."""
    return any(
        c < " " or "\x7f" <= c <= "\x9f" or "\ud800" <= c <= "\udfff" or c in "\u2028\u2029" for c in name
    )


def number_field(item: Any, name: str, where: str) -> float:
    """A field that holds a finite number."""
    return as_number(field(item, name, where), f"{where}.{name}")


def as_number(value: Any, where: str) -> float:
    """The value as a number, if it is one that is finite."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UserError(f"{where}: expected a number, found {value!r}.")
    return float(value)


def unknown_id(value: int | str, known: Any, what: str) -> str:
    """Words for an id that is not among the known ones; says so where text was compared with numbers.

    `7` and `"7"` look alike in print and are not equal.
    """
    other = next((k for k in known if str(k) == str(value) and k != value), None)
    if other is not None:
        return f"{value!r} ({_kind(value)}) is not among {what}, which have {other!r} ({_kind(other)})"
    return f"{value} is not among {what}"


def _kind(value: Any) -> str:
    names = {str: "text", dict: "an object", list: "a list", bool: "true or false", type(None): "null"}
    names |= {int: "a number", float: "a number"}
    shown = f" ({str(value)[:40]!r})" if isinstance(value, str | int | float) else ""
    return names.get(type(value), type(value).__name__) + shown
