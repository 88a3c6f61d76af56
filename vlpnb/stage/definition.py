"""What a stage is: its declaration, what its function is given, and its result."""

import contextlib
import importlib
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vlpnb.config import Config
from vlpnb.errors import UserError
from vlpnb.files import write_text
from vlpnb.hashes import describe
from vlpnb.machine import duration, interactive, say_line, short

HEARTBEAT_SECONDS = 10.0


@dataclass(frozen=True)
class Request:
    """This stage with these overrides on top of the run's profile."""

    stage: str
    overrides: Mapping[str, Any] = field(default_factory=dict)


def no_inputs(config: Config) -> Mapping[str, Request]:
    """The inputs of a stage that starts from nothing."""
    return {}


def named_by_fields(config: Config) -> Mapping[str, Path]:
    """What a stage reads from outside its run: the files and folders that its fields name (`config.Outside`)."""
    return config.outside()


def as_it_is(config: Config, folder: Path) -> None:
    """A finished folder that needs nothing when it is used again."""


def nothing_spare(names: Collection[str]) -> Collection[str]:
    """Every file of a result is needed."""
    return ()


@dataclass(frozen=True)
class Stage:
    """A named function from a validated configuration (and the folders of its inputs) to a folder.

    `run` returns flat metrics under local names (nan allowed). `variant` names the fields that label variants
    in reports: those that differ from the class's defaults, whatever the profile says, and every `seed`. Raise
    `version` when the behaviour changes, or a default. `distributed`: all `torchrun` processes call `run`. `outside`:
    files and folders from outside the run that the stage reads, by a name that says nothing of where they lie; their
    content enters the stage's identity. `spare`: which files of a result, of all by name, nobody will miss. `reused` is
    told of every use of a finished folder: where the files from outside lie may have changed, though they did not.
    """

    name: str
    config: type[Config]
    run: Callable[["StageContext"], Mapping[str, float]]
    inputs: Callable[[Any], Mapping[str, Request]] = no_inputs
    variant: tuple[str, ...] = ()
    version: int = 1
    doc: str = ""
    distributed: bool = False
    outside: Callable[[Any], Mapping[str, Path]] = named_by_fields
    spare: Callable[[Collection[str]], Collection[str]] = nothing_spare
    reused: Callable[[Any, Path], None] = as_it_is

    def content(self, config: Any) -> dict[str, str]:
        """What the files and folders from outside hold that the stage reads (`hashes.describe`)."""
        return {name: describe(path) for name, path in sorted(self.outside(config).items())}


def load_stages(source: Sequence[Stage] | str) -> tuple[Stage, ...]:
    """The stages themselves, from a sequence or from `"module:attribute"`."""
    if isinstance(source, str):
        module, _, attribute = source.partition(":")
        source = getattr(importlib.import_module(module), attribute)
    names = [stage.name for stage in source]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UserError(f"stages: {', '.join(twice)} defined twice")
    return tuple(source)


@dataclass
class StageContext:
    """What a stage's function is given."""

    config: Any
    folder: Path
    inputs: Mapping[str, Path]
    device: str
    rank: int = 0
    world_size: int = 1
    name: str = ""
    say: Callable[[str], None] | None = None  # where lines go; None: the terminal or the notebook
    _beat: float = field(default=0.0, init=False, repr=False)
    _started: float = field(default_factory=time.monotonic, init=False, repr=False)

    def log(self, message: str) -> None:
        """One line to the terminal or the notebook (process 0) and to the folder's `log.txt`."""
        if self.rank == 0:
            say_line(self.say, f"[{self.name or self.folder.name}] {message}")
        file = "log.txt" if self.rank == 0 else f"log.{self.rank}.txt"
        with contextlib.suppress(OSError), open(self.folder / file, "a", encoding="utf-8") as stream:
            stream.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {message}\n")

    def list_left_out(self, file: str, lines: Sequence[str], what: str) -> None:
        """Write what is left out into a file of the folder, a line each, and say how many and the first."""
        if lines and self.rank == 0:
            write_text(self.folder / file, "\n".join(lines) + "\n")
            self.log(f"{len(lines):,} {what} (listed in {file}): {lines[0]} …")

    def progress(self, done: int, total: int, **values: float) -> None:
        """Report `done` of `total`: a bar where a person watches, elsewhere a line every ten seconds."""
        if self.rank != 0:
            return
        now = time.monotonic()
        watched = self.say is None and interactive()
        last = done >= total
        if not last and now - self._beat < (0.1 if watched else HEARTBEAT_SECONDS):
            return
        if self._beat == 0.0 and not watched and not last:
            self._beat = now  # the first heartbeat comes after one interval: quick stages stay quiet
            return
        if not (last and self._beat == 0.0 and not watched):
            share = done / total if total else 1.0
            elapsed = now - self._started
            left = f", {duration(elapsed * (1 - share) / share)} left" if 0 < share < 1 else ""
            shown = "".join(f", {key} {short(value)}" for key, value in values.items())
            if watched:
                full = round(24 * share)
                bar = "█" * full + "░" * (24 - full)
                text = f"[{self.name}] {bar} {done:,}/{total:,}{shown}{left}"
                sys.stdout.write("\r" + text[:140].ljust(140) + ("\n" if last else ""))
                sys.stdout.flush()
            else:
                self.log(f"{done:,} of {total:,} ({share:.0%}), {duration(elapsed)}{left}{shown}")
        self._beat = now


@dataclass(frozen=True)
class StageResult:
    """A finished stage. `label` names its variant ("" at the class's defaults)."""

    name: str
    folder: Path
    manifest: dict[str, Any]
    metrics: dict[str, float]
    config: Any
    seconds: float
    reused: bool
    label: str = ""
