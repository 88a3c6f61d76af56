"""Descriptions of datasets: small files that say where captions, pictures, text and the sets for fine-tuning lie.

The generated world and every real dataset are described alike, so that moving from one to the other changes a path
and never code. There is one description per kind of file, made by the stage of that name (`vlpnb.foundations`):

| file | class | holds |
|---|---|---|
| `captions.json` | `CaptionData` | captioned pictures of the splits and of further sets; the world's scenes |
| `pictures.json` | `PictureData` | the pictures that can become vokens, by image set |
| `text.json` | `TextData` | raw text, and the rules for its lines |
| `sentences.json`, `questions.json`, `pairs.json` | see `vlpnb.data.asked_data` | what is said and asked of pictures |
| `iglue.json` | see `vlpnb.data.iglue_data` | IGLUE's five sets in several languages |
| `glue_data.json`, `squad_data.json`, `swag_data.json`, `knowledge.json` | `FolderData` | one folder of files |

Paths in a file are relative to the data's root, and the root of data inside the run (the world's folder) is relative to
the description, so that a run may be moved. Where data outside the run lies is a matter of the machine and no part of
the result: it stands beside the description in a file of its own, which `point` may rewrite.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vlpnb.config import check_name
from vlpnb.data.captions import (
    CaptionedImage,
    CaptionFormat,
    conceptual_ids,
    joined,
    lxmert_ids,
    original_image_path,
    read_captions,
    refuse_clashes,
    refuse_outside,
    split_missing,
)
from vlpnb.data.fields import field as json_field
from vlpnb.data.fields import one_line
from vlpnb.data.images import list_images, picture_id
from vlpnb.data.text_files import lines_of, read_json, require
from vlpnb.errors import UserError
from vlpnb.files import write_text

ROOT = ".root"  # hidden, as `.lock` is: it does not belong to what a manifest lists
SPLITS = ("train", "valid", "test")
CAPTIONED = re.compile(r"\w+")  # what names a split or a caption set; places of files have a slash or a dot


def point(folder: Path, root: str | Path) -> None:
    """Say where the data behind a description lies on this machine; "" for the world, which the run itself holds."""
    path, text = folder / ROOT, f"{root}\n"
    if root and (not path.is_file() or path.read_text(encoding="utf-8") != text):
        write_text(path, text)


def write_description(folder: Path, name: str, root: Path, about: Mapping[str, Any]) -> Path:
    """Write `<name>.json` into a stage's folder, and beside it where data outside the run lies."""
    folder, root = Path(folder).absolute(), Path(root).absolute()
    inside = root.is_relative_to(folder.parent)
    place = os.path.relpath(root, folder) if inside else None
    path = folder / f"{name}.json"
    if not inside:
        point(folder, root)
    write_text(path, json.dumps({"root": place, **about}, indent=1) + "\n")
    return path


def read_description(folder: Path, name: str) -> tuple[dict[str, Any], Path, str]:
    """A description, the data's root, and the file's name for messages."""
    path = Path(folder) / f"{name}.json"
    about = read_json(path, f"a description of data, written by the stage `{name}`")
    root = place_of(folder, name)
    if about["root"] is None and not root.is_dir():
        raise UserError(
            f"{root}: does not exist, and {path} describes files in it. If they lie elsewhere on this machine, "
            "say where with --data FOLDER"
        )
    return about, root, str(path)


def place_of(folder: Path, name: str) -> Path:
    """The root of the data that the stage `name` described in a folder, whether it is there or not."""
    path = Path(folder).absolute() / f"{name}.json"
    about = read_json(path, f"a description of data, written by the stage `{name}`")
    place = json_field(about, "root", str(path))
    if place is not None:
        return Path(os.path.normpath(path.parent / place))
    beside = require(path.with_name(ROOT), "the folder of the data; `--data FOLDER` says it again")
    return Path(beside.read_text(encoding="utf-8").rstrip("\n"))


def within(path: Path, root: Path) -> str:
    """A path as a description says it: below the root, or as it is."""
    path = Path(path)
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


@dataclass(frozen=True)
class CaptionFiles:
    """Annotation files per split, all in one format, and the folder of their pictures (`{split}` is replaced).

    Without a folder ("") there are no pictures: their regions come from files.
    """

    format: CaptionFormat
    annotations: dict[str, tuple[Path, ...]]
    images: str
    source: str | None = None  # one sentence source of the lxmert layout
    max_images: int | None = None  # only the first pictures of each split
    max_sentences: int | None = None  # only the first sentences of each picture
    split: str | None = (
        None  # of a set in the karpathy or flickr layout: the file's split that it is; None: all
    )
    valid: Path | None = None  # a list of the pictures that count; see `read_valid_images`

    def described(self, root: Path) -> dict[str, Any]:
        """This as plain values, paths relative to the root."""
        files = {split: [within(path, root) for path in paths] for split, paths in self.annotations.items()}
        images = within(Path(self.images), root) if self.images else ""
        valid = self.valid and within(self.valid, root)
        return {**vars(self), "annotations": files, "images": images, "valid": valid}

    @classmethod
    def from_description(cls, values: Any, root: Path, where: str) -> CaptionFiles:
        """What `described` gave."""
        files = {
            split: tuple(root / path for path in paths)
            for split, paths in json_field(values, "annotations", where).items()
        }
        kind, images = json_field(values, "format", where), json_field(values, "images", where)
        images = str(root / images) if images else ""
        rest = (values.get(name) for name in ("source", "max_images", "max_sentences", "split"))
        valid = values.get("valid")
        return cls(kind, files, images, *rest, root / valid if valid else None)


@dataclass(frozen=True)
class CaptionData:
    """Captioned pictures: those of the splits, and sets beside them, each with its name as its only split."""

    root: Path
    splits: CaptionFiles
    sets: dict[str, CaptionFiles] = field(default_factory=dict)
    scenes: Path | None = None  # what is really in the world's pictures

    @property
    def names(self) -> tuple[str, ...]:
        """The splits, then the further sets: what `captioned` and `annotated` know."""
        return (*self.splits.annotations, *self.sets)

    def files(self, name: str) -> CaptionFiles:
        """The files of a split or a further set. UserError for an unknown name."""
        if name in self.splits.annotations:
            return self.splits
        if name not in self.sets:
            raise UserError(f"there are no captions for split '{name}'; there are {', '.join(self.names)}.")
        return self.sets[name]

    def captioned(self, name: str) -> list[CaptionedImage]:
        """Captioned pictures of a split or a further set whose files exist, in file order; all if they have no folder.

        UserError if there are none.
        """
        if not self.files(name).images:
            return self.annotated(name)
        present, missing = split_missing(self.annotated(name))
        if not present:
            place = f"captions.sets.{name}.images" if name in self.sets else "captions.images"
            raise UserError(
                f"none of the {len(missing):,} pictures of split '{name}' exists; the first should be at "
                f"{missing[0].path}. Put the pictures there or correct `{place}`."
            )
        return present

    def annotated(self, name: str, left_out: list[str] | None = None) -> list[CaptionedImage]:
        """All captioned pictures of a split's annotations, whether their files exist or not; see `read_captions`."""
        c = self.files(name)
        images = Path(c.images.replace("{split}", name))
        split = c.split if name in self.sets and c.format in ("karpathy", "flickr") else name
        found: dict[Path, CaptionedImage] = {}
        for path in c.annotations[name]:
            for image in read_captions(c.format, path, images, split, c.source, left_out, c.valid):
                found[image.path] = joined(found.get(image.path), image, left_out)
        refuse_clashes(found.values())
        kept = list(found.values())[: c.max_images]
        if c.max_sentences is None:
            return kept
        return [replace(image, sentences=image.sentences[: c.max_sentences]) for image in kept]

    def save(self, folder: Path) -> Path:
        """Write `captions.json` into a stage's folder."""
        about = {
            "splits": self.splits.described(self.root),
            "sets": {name: files.described(self.root) for name, files in self.sets.items()},
            "scenes": self.scenes and within(self.scenes, self.root),
        }
        return write_description(folder, "captions", self.root, about)


def load_captions(folder: Path) -> CaptionData:
    """Read the `captions.json` of a folder. UserError if it is absent or lacks a field."""
    about, root, where = read_description(folder, "captions")
    sets, scenes = about.get("sets", {}), about.get("scenes")
    return CaptionData(
        root,
        CaptionFiles.from_description(json_field(about, "splits", where), root, f"{where}: splits"),
        {n: CaptionFiles.from_description(v, root, f"{where}: sets.{n}") for n, v in sets.items()},
        root / scenes if scenes else None,
    )


@dataclass(frozen=True)
class PictureData:
    """The pictures that can become vokens.

    An entry is the name of a split or a set with captions (`captions` holds them); a folder of pictures below the root,
    sorted by path (pictures of a folder have no sentences); or a list of picture ids, `….ids` with one a line, an
    lxmert file `….json` or a conceptual file `….tsv`, whose pictures lie where the original project has them. An image
    set has the name of the split, of the folder or of the list, or the one before `=` in `name=entry`.
    """

    root: Path
    entries: tuple[str, ...]
    captions: Path | None = None  # the folder of the stage `captions`, where an entry names a split or a set

    def sets(self, log: Callable[[str], None] = lambda line: None) -> dict[str, list[CaptionedImage]]:
        """The pictures by image set, in alphabetical order of the sets' names.

        A file that two entries name belongs to the first set. `log` hears what folders hold and what is left out.
        """
        sets: dict[str, list[CaptionedImage]] = {}
        for entry in self.entries:
            given, _, place = entry.rpartition("=")
            name = check_name(given or Path(place).stem, f"pictures.sets: {entry!r}: the image set")
            if name in sets:
                raise UserError(
                    f"pictures.sets: two image sets are called '{name}'; give '{entry}' another name, "
                    f"such as 'other={place}'"
                )
            sets[name] = self._image_set(place, log)
        taken: set[Path] = set()
        for name in sorted(sets):
            distinct = {image.path: image for image in reversed(sets[name]) if image.path not in taken}
            sets[name] = list(reversed(distinct.values()))
            refuse_clashes(sets[name])
            taken |= distinct.keys()
        return dict(sorted(sets.items()))

    def _image_set(self, place: str, log: Callable[[str], None]) -> list[CaptionedImage]:
        if names_captions(place):
            return self._captioned(place)
        path = require(self.root / place, "the pictures that become vokens")
        readers = {".ids": _listed_ids, ".json": lxmert_ids, ".tsv": conceptual_ids}
        if path.suffix in readers:
            ids = readers[path.suffix](path)
            for name in ids:
                refuse_outside(name, str(path))
            found = [CaptionedImage(i, original_image_path(i, self.root), ()) for i in ids]
        else:
            listing = list_images(path)
            log(listing.said())
            found = [CaptionedImage(picture_id(f.relative_to(path)), f, ()) for f in listing.files]
        if not found:
            raise UserError(f"{path} holds no picture; expected the pictures that become vokens.")
        return found

    def _captioned(self, name: str) -> list[CaptionedImage]:
        data = load_captions(self.captions) if self.captions is not None else None
        if data is None or name not in data.names:
            known = ", ".join(data.names) if data is not None else "none"
            raise UserError(
                f"pictures.sets: '{name}' is no split or set with captions (there are {known}); a folder is "
                f"written with a slash, './{name}'"
            )
        return data.captioned(name)

    def images(self) -> list[CaptionedImage]:
        """All pictures, one set after the other; row i of the keys is the i-th readable one."""
        return [image for images in self.sets().values() for image in images]

    def save(self, folder: Path) -> Path:
        """Write `pictures.json` into a stage's folder."""
        captions = self.captions and os.path.relpath(self.captions, folder)
        return write_description(
            folder, "pictures", self.root, {"entries": self.entries, "captions": captions}
        )


def names_captions(entry: str) -> bool:
    """Whether an entry of `PictureData` names a split or a set with captions, and no file or folder."""
    return CAPTIONED.fullmatch(entry.rpartition("=")[2]) is not None


def load_pictures(folder: Path) -> PictureData:
    """Read the `pictures.json` of a folder. UserError if it is absent or lacks a field."""
    about, root, where = read_description(folder, "pictures")
    captions = about.get("captions")
    entries = tuple(json_field(about, "entries", where))
    return PictureData(root, entries, Path(folder) / captions if captions else None)


def _listed_ids(path: Path) -> list[str]:
    found = []
    for number, text in lines_of(path, "one picture id a line"):
        if text:
            found.append(one_line(text, f"{path}:{number}"))
    return found


@dataclass(frozen=True)
class TextData:
    """Raw text files per split and the rules by which their lines are kept."""

    root: Path
    rules: str
    train: tuple[Path, ...] = ()
    valid: tuple[Path, ...] = ()
    test: tuple[Path, ...] = ()
    images: tuple[
        Path, ...
    ] = ()  # where its lines describe pictures: the list of those of each training file

    def save(self, folder: Path) -> Path:
        """Write `text.json` into a stage's folder."""
        parts = (*SPLITS, "images") if self.images else SPLITS
        files = {part: [within(path, self.root) for path in getattr(self, part)] for part in parts}
        return write_description(folder, "text", self.root, {"rules": self.rules, **files})


def load_text(folder: Path) -> TextData:
    """Read the `text.json` of a folder. UserError if it is absent or lacks a field."""
    about, root, where = read_description(folder, "text")
    files = (tuple(root / path for path in json_field(about, split, where)) for split in SPLITS)
    images = tuple(root / path for path in about.get("images", ()))
    return TextData(root, json_field(about, "rules", where), *files, images=images)


@dataclass(frozen=True)
class FolderData:
    """One folder of files: GLUE's tasks, SQuAD's JSON, SWAG's CSV, the commonsense lists."""

    root: Path
    folder: Path
    tasks: tuple[str, ...] = ()  # of GLUE

    def save(self, folder: Path, name: str) -> Path:
        """Write `<name>.json` into the folder of the stage of that name."""
        about = {"folder": within(self.folder, self.root), "tasks": self.tasks}
        return write_description(folder, name, self.root, about)


def load_folder(folder: Path, name: str) -> FolderData:
    """Read the description that the stage `name` left in a folder. UserError if it is absent or lacks a field."""
    about, root, where = read_description(folder, name)
    return FolderData(root, root / json_field(about, "folder", where), tuple(about.get("tasks", ())))
