"""Fields that name files and models outside of a run.

A path becomes absolute once, where it was typed: on the command line, in a script or notebook, or in a profile's file.
A notebook's kernel, a worker or another day's `report` runs in another folder, where it would mean something else.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic.fields import FieldInfo

WORDS = (
    "stage",
    "sentences",
    "scratch",
    "bert",
    "minilm",
    "efficientnet_lite0",
    "byte-bpe",
    "DEFAULT",
)  # that mean no folder of such a name


class Written(str):
    """Text of a file, from whose folder its paths count."""

    folder: Path

    def __new__(cls, text: str, folder: Path) -> "Written":
        made = super().__new__(cls, text)
        made.folder = folder
        return made

    def __getnewargs__(self) -> tuple[str, Path]:  # type: ignore[override]
        return str(self), self.folder


def written_in(folder: Path, values: Any) -> Any:
    """Values as read from a file of this folder, at every depth."""
    if isinstance(values, str):
        return Written(values, folder)
    if isinstance(values, Mapping):
        return {key: written_in(folder, value) for key, value in values.items()}
    return [written_in(folder, value) for value in values] if isinstance(values, list) else values


@dataclass(frozen=True)
class Outside:
    """Marks a field that holds a path, or (`named`) a path or a name that a library knows.

    Of the latter a path is what looks like one (`./x`, `~/x`, `/x`), what is there, and `x/y` where there is a folder
    `x`: a misspelt folder is then missed here, and not asked of the hub.
    """

    named: bool = False

    def resolve(self, value: Any) -> Any:
        """A path as an absolute one; whatever else as it is."""
        if not isinstance(value, str | os.PathLike):
            return value
        text = os.fspath(value)
        if not text or (self.named and (text in WORDS or text.startswith("package:"))):
            return str(text)
        path = Path(text).expanduser()
        typed = getattr(value, "folder", Path.cwd()) / path
        if self.named and not (
            path.is_absolute()
            or text.startswith(".")
            or typed.exists()
            or (len(path.parts) > 1 and (typed.parents[len(path.parts) - 2]).is_dir())
        ):
            return str(text)
        return os.path.abspath(typed)

    def path(self, value: Any) -> Path | None:
        """The file or folder that a value means, or None where it is a name or nothing."""
        resolved = self.resolve(value)
        return Path(resolved) if resolved and os.path.isabs(resolved) else None


OutsidePath = Annotated[str, Outside()]
ModelName = Annotated[str, Outside(named=True)]


def outside(info: FieldInfo) -> Outside | None:
    """How a field was marked, also within `… | None`."""
    marks = [
        *info.metadata,
        *(mark for part in _parts(info.annotation) for mark in getattr(part, "__metadata__", ())),
    ]
    return next((mark for mark in marks if isinstance(mark, Outside)), None)


def _parts(annotation: Any) -> tuple[Any, ...]:
    return getattr(annotation, "__args__", ())


def typed_here(config: Any, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a configuration (its class), as they were typed, with the paths among them absolute."""
    result = dict(fields)
    for name, value in fields.items():
        if (info := config.model_fields.get(name)) is None:
            continue
        if mark := outside(info):
            result[name] = mark.resolve(value)
        elif isinstance(value, Mapping) and hasattr(info.annotation, "model_fields"):
            result[name] = typed_here(info.annotation, value)
    return result
