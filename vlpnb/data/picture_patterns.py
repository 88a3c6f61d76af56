"""Finding pictures by patterns of their files' names, where annotations say an id and no file.

A pattern is a path below one of several places, such as `flickr30k-images/{id}.jpg`,
`{language}/images/{concept}/{id}.*` or, for Flickr8k, whose files have Flickr30k's number and a hash, `{id}_*.jpg`.
Folders are listed once.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vlpnb.errors import UserError


@dataclass(frozen=True)
class PicturePatterns:
    """Patterns that are tried one after the other, each in every place.

    The last part of a pattern may hold `{id}` and `*` (anything); the folders before it fields that `find` fills.
    """

    places: tuple[Path, ...]
    patterns: tuple[str, ...]
    _folders: dict[tuple[Path, str], dict[str, Path]] = field(default_factory=dict, compare=False, repr=False)

    def find(self, names: Iterable[str], about: Mapping[str, str]) -> tuple[str, Path] | None:
        """The id and the file of the first picture that has one of the names, or None.

        Args:
            names: what stands for `{id}`.
            about: what the other fields stand for. Those named `language` and `concept` become part of the id where the
                pattern has them, since files of one name lie in several such folders.
        Returns:
            The id (the file's stem, after those parts) and the file.
        Raises:
            UserError: two files of a folder are one picture's by the pattern.
        """
        names = list(names)
        for pattern in self.patterns:
            folder, _, last = pattern.rpartition("/")
            before = [about[part] for part in ("language", "concept") if f"{{{part}}}" in folder]
            for place in self.places:
                listed = self._listed(place / folder.format(**about), last)
                for name in names:
                    if path := listed.get(name):
                        return "/".join([*before, path.stem]), path
        return None

    def _listed(self, folder: Path, last: str) -> dict[str, Path]:
        """Id → file of the pictures in a folder whose name has the form of a pattern's last part."""
        if (folder, last) not in self._folders:
            # an id may hold dots (before the suffix: greedy), and ends where anything else begins
            form = re.escape(last).replace(r"\{id\}\.", r"(?P<id>.+)\.").replace(r"\{id\}", "(?P<id>.+?)")
            form = form.replace(r"\*", ".*?")
            found: dict[str, Path] = {}
            for name in sorted(os.listdir(folder)) if folder.is_dir() else ():
                if match := re.fullmatch(form, name):
                    other = found.setdefault(match["id"], folder / name)
                    if other.name != name:
                        raise UserError(
                            f"{folder}: {other.name} and {name} are both pictures of '{match['id']}' by the pattern "
                            f"{last}; expected one. Remove one, or write a narrower pattern."
                        )
            self._folders[folder, last] = found
        return self._folders[folder, last]


def fixed_folder(pattern: str) -> str:
    """The folders of a pattern before the first that holds a field: `images` of `images/{split}/{id}.png`."""
    kept: list[str] = []
    for part in pattern.split("/")[:-1]:
        if "{" in part or "*" in part:
            break
        kept.append(part)
    return "/".join(kept)
