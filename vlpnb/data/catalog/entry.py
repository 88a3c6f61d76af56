"""What the catalog says of a dataset: which files, where they live, and how the folder that holds them looks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vlpnb.data.captions import CaptionFormat, read_captions
from vlpnb.data.images import IMAGE_SUFFIXES
from vlpnb.data.text_files import lines_of, read_json, read_json_lines

Check = Callable[[Path], object]
ARCHIVES = (".zip", ".tar.gz", ".tgz")


@dataclass(frozen=True)
class Remote:
    """One file to download: `urls` in order of preference, `name` inside the dataset's folder."""

    urls: tuple[str, ...]
    name: str
    sha256: str | None = None
    megabytes: float | None = None
    unpack: bool = False

    @property
    def verified(self) -> str:
        """ "sha256 …", or that none is known."""
        return f"sha256 {self.sha256[:12]}…" if self.sha256 else "not verified"


@dataclass(frozen=True)
class Expected:
    """One path of the finished folder: what it holds, a reader that must accept it, or a number of pictures."""

    path: str
    holds: str
    read: Check | None = None
    pictures: int = 0
    suffixes: frozenset[str] = IMAGE_SUFFIXES  # of the pictures
    optional: bool = False
    also: tuple[str, ...] = ()  # other names under which people have it

    def place(self, folder: Path) -> Path:
        """Where it lies in the folder: under the first of its names that exists, else under its own."""
        found = (folder / name for name in (self.path, *self.also) if (folder / name).exists())
        return next(found, folder / self.path)


@dataclass(frozen=True)
class PublicDataset:
    """A dataset: what for, under which licence, which files, and the layout of its folder."""

    name: str
    what: str
    licence: str
    remotes: tuple[Remote, ...]
    layout: tuple[Expected, ...]
    note: str = ""
    systems: tuple[
        str, ...
    ] = ()  # whose papers use it; none: it is for the course's `photos`, or a substitute
    size: float | None = None  # megabytes, where that is not the sum of the files to download

    @property
    def megabytes(self) -> float | None:
        """What has to be fetched, by download or by hand; None where nobody has told us."""
        sizes = [remote.megabytes for remote in self.remotes]
        if self.size is not None or not sizes:
            return self.size
        return None if None in sizes else sum(sizes)


def one(*urls: str, name: str = "", **more) -> Remote:
    """One file under each of the addresses, unpacked if it is an archive."""
    return Remote(urls, name or urls[0].rpartition("/")[2], unpack=urls[0].endswith(ARCHIVES), **more)


def json_file(path: Path) -> object:
    """Read a JSON file."""
    return read_json(path, "JSON")


def text(path: Path) -> object:
    """Read the first line of a text."""
    return next(iter(lines_of(path, "text")))


def json_lines(path: Path) -> object:
    """Read the first of a file's JSON lines."""
    return next(read_json_lines(path, "JSON lines"))


def captions(format: CaptionFormat) -> Check:
    """A reader of captions in one of the formats of `vlpnb.data.captions`."""
    return lambda path: read_captions(format, path, path.parent)
