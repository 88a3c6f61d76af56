"""Folders of recorded numbers: tiny random weights, inputs, and what a reference returned for them.

Files are safetensors and JSON (and, rarely, text). A folder notes what is read of it, down to the single tensor and
the single field: a recorded number that nobody asked for is a gap in a comparison, and `RecordedFolder.files` tells it.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from vlpnb.data.agreement import EXACT, Case, Tolerance
from vlpnb.data.text_files import read_json, require
from vlpnb.errors import UserError, did_you_mean
from vlpnb.nn.checkpoints import read_tensors

DOCUMENTATION = "README.md"
NOTES = ("note", "*_note")  # fields for people
DATA = "VLPNB_SHARED_DATA"  # where published files lie, unless in `data` beside the folder that holds recorded ones
SUGGESTED_AMONG = 30  # names; a message does not list more


class Entries(Mapping):
    """The tensors of a file, or the fields of an object in a JSON file; they remember which were asked for."""

    def __init__(self, file: Path, entries: Mapping[str, Any], prefix: str = ""):
        self.file, self.prefix = file, prefix
        self._entries = {name: _wrapped(file, value, f"{prefix}{name}") for name, value in entries.items()}
        self._read: set[str] = set()
        self._passed_over: set[str] = set()
        self.skipped: list[str] = []
        """What was not compared for a lack of this machine: names, and why."""

    def __getitem__(self, name: str) -> Any:
        if name not in self._entries:
            hint = did_you_mean(name, self._entries) if len(self._entries) <= SUGGESTED_AMONG else ""
            raise UserError(f"{self.file}: '{self.prefix}{name}' is missing{hint}")
        self._read.add(name)
        return self._entries[name]

    def get(self, name: str, default: Any = None) -> Any:
        return self[name] if name in self._entries else default

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def below(self, prefix: str) -> dict[str, Any]:
        """The entries whose names begin with `prefix`, by the rest of their names."""
        return {name.removeprefix(prefix): self[name] for name in self if name.startswith(prefix)}

    def case(self, name: str, ours: Any, tolerance: Tolerance = EXACT) -> Case:
        """The entry of that name, to be compared with ours."""
        return Case(self.file.name, f"{self.prefix}{name}", ours, _plain(self[name]), tolerance)

    def leave_out(self, *patterns: str) -> None:
        """Take entries for read that say something of other programs, and nothing of ours."""
        self._read |= {name for name in self for pattern in patterns if fnmatch(name, pattern)}

    def skip(self, why: str, *names: str) -> None:
        """Leave entries out that this machine cannot compute, which is told and no failure."""
        names = [name for name in names if name in self]
        self._passed_over |= {*names}
        self.skipped += [f"{', '.join(names)}: {why}"] if names else []

    def unread(self) -> list[str]:
        """Full names of what nobody asked for."""
        names = []
        for name, value in self._entries.items():
            if name in self._passed_over:
                continue
            if name in self._read:
                names += [left for inner in _objects(value) for left in inner.unread()]
            elif not any(fnmatch(name, pattern) for pattern in NOTES):
                names.append(f"{self.prefix}{name}")
        return names


def _wrapped(file: Path, value: Any, name: str) -> Any:
    if isinstance(value, Mapping):
        return Entries(file, value, f"{name}.")
    if isinstance(value, list):
        return [_wrapped(file, item, f"{name}[{i}]") for i, item in enumerate(value)]
    return value


def _objects(value: Any) -> Iterator[Entries]:
    if isinstance(value, Entries):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _objects(item)


def _plain(value: Any) -> Any:
    if isinstance(value, Entries):
        return {name: _plain(value[name]) for name in value}
    return [_plain(item) for item in value] if isinstance(value, list) else value


class RecordedFolder:
    """A folder of recorded numbers, whose files are opened at first use, each once.

    Raises:
        UserError: there is no such folder, or a file or an entry is absent, damaged or of another form.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise UserError(f"{self.folder}: no such folder; expected one of recorded tensors")
        self._entries: dict[str, Entries] = {}
        self._whole: set[str] = set()

    def tensors(self, file: str) -> Entries:
        """The tensors of a safetensors file."""
        return self._open(file, read_tensors)

    def json(self, file: str) -> Entries:
        """The fields of the object that a JSON file holds; the objects within it are `Entries` too."""
        return self._open(file, lambda path: read_json(path, "one object of recorded values"))

    def path(self, file: str) -> Path:
        """A file that is read as a whole, such as a vocabulary."""
        self._whole.add(file)
        return require(self.folder / file, "recorded values")

    def _open(self, file: str, read: Callable[[Path], Any]) -> Entries:
        if file not in self._entries:
            found = read(require(self.folder / file, "recorded values"))
            if not isinstance(found, dict):
                raise UserError(f"{self.folder / file}: expected one object, found {type(found).__name__}")
            self._entries[file] = Entries(self.folder / file, found)
        return self._entries[file]

    def skipped(self) -> dict[str, list[str]]:
        """File → what was left out of it because this machine lacks something (`Entries.skip`)."""
        return {name: entries.skipped for name, entries in self._entries.items() if entries.skipped}

    def files(self) -> dict[str, list[str] | None]:
        """Every file → the entries that nobody asked for; None where nobody asked for the file.

        The folder's README is for people, and hidden files are the system's: they are left out.
        """
        names = sorted(path.name for path in self.folder.iterdir())
        left: dict[str, list[str] | None] = {}
        for name in names:
            if name in self._whole or name in self._entries:
                left[name] = [] if name in self._whole else self._entries[name].unread()
            elif name != DOCUMENTATION and not name.startswith("."):
                left[name] = None
        return left


def published(folder: RecordedFolder, name: str) -> Path | None:
    """A file by its place in the folder itself or among the published data; None where it is not here."""
    if (folder.folder / name).exists():
        return folder.path(name)
    roots = [Path(os.environ[DATA])] if DATA in os.environ else []
    roots.append(folder.folder.resolve().parents[1] / "data")
    return next((root / name for root in roots if (root / name).exists()), None)
