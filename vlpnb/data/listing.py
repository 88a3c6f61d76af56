"""What a folder holds: every file below it, with the reasons for what is passed over.

Linked folders are searched, each folder once however many links lead to it, so that links in a circle end. Hidden
files, and folders that systems and network disks make for themselves, are passed over, as are names that cannot stand
on a line of a list. Nothing is passed over in silence: callers log `Listing.said`.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from vlpnb.data.fields import is_broken_name
from vlpnb.errors import UserError

SYSTEM = frozenset(
    {
        "__MACOSX",
        "@eaDir",
        "$RECYCLE.BIN",
        "System Volume Information",
        "lost+found",
        "Thumbs.db",
        "desktop.ini",
    }
)


@dataclass
class Listing:
    """The files of a folder, sorted by path, and what was left out: (path, reason)."""

    folder: Path
    files: list[Path]
    left_out: list[tuple[Path, str]] = field(default_factory=list)

    def said(self) -> str:
        """`images: 24 taken; left out: 2 hidden (._a.jpg …), 1 …`: one line for the log."""
        reasons = Counter(reason for _, reason in self.left_out)
        first = {reason: path for path, reason in reversed(self.left_out)}
        words = [f"{n:,} {reason} ({_shown(first[reason])}{' …' * (n > 1)})" for reason, n in reasons.items()]
        return f"{self.folder}: {len(self.files):,} taken; left out: {', '.join(words) or 'nothing'}"


def _shown(path: Path) -> str:
    """A file's name that can be printed, whatever is in it."""
    return ascii(path.name)[1:-1] if is_broken_name(path.name) else path.name


def list_folder(folder: Path) -> Listing:
    """Every file below a folder. UserError if the folder itself cannot be read."""
    folder = Path(folder)
    files: list[Path] = []
    left_out: list[tuple[Path, str]] = []
    seen: set[tuple[int, int]] = set()
    places = [folder]
    linked: list[Path] = []  # after all others: a folder is listed at its own place, not under a link to it
    while places or linked:
        place = places.pop() if places else linked.pop(0)
        try:
            about = place.stat()
            if (about.st_dev, about.st_ino) in seen:
                left_out.append((place, "linked folders that are listed already"))
                continue
            seen.add((about.st_dev, about.st_ino))
            entries = sorted(os.scandir(place), key=lambda entry: entry.name)
        except OSError as error:
            if place == folder:
                raise UserError(f"{folder}: cannot be read ({error.strerror}).") from error
            left_out.append((place, "folders that cannot be read"))
            continue
        for entry in entries:
            path = Path(entry.path)
            if entry.name.startswith(".") or entry.name in SYSTEM:
                left_out.append((path, "hidden or of the system"))
            elif is_broken_name(entry.name):
                left_out.append((path, "with a line break, or bytes that are not UTF-8, in the name"))
            elif path.is_dir() if entry.is_symlink() else entry.is_dir():
                (linked if entry.is_symlink() else places).append(path)
            elif path.is_file():
                files.append(path)
            else:
                left_out.append((path, "links to nothing, or no files"))
    return Listing(folder, sorted(files), left_out)
