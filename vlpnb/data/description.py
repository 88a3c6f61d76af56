"""The description of a dataset: one `dataset.json` that says where captions, pictures, text, GLUE, SQuAD
and SWAG files lie.

The generated world and every real dataset are described alike, so that moving from one to the other changes a
path and never code. Stages read it with `load_dataset`; the stage in `stage.py` checks and writes it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

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

FILE = "dataset.json"
HOLDS = "a dataset description, written by the `dataset` stage"


@dataclass(frozen=True)
class Captions:
    """Captioned pictures:

    format, annotation paths per split, and the picture folder (`{split}` is replaced).
    """

    format: CaptionFormat
    annotations: dict[str, Path | tuple[Path, ...]]
    images: str
    source: str | None = None  # one sentence source of the lxmert layout
    max_images: int | None = None  # only the first pictures of each split
    max_sentences: int | None = None  # only the first sentences of each picture

    def files(self, split: str) -> tuple[Path, ...]:
        """The annotation files of a split, in order."""
        paths = self.annotations[split]
        return paths if isinstance(paths, tuple) else (paths,)


@dataclass(frozen=True)
class Corpus:
    """Raw text files per split and the rules by which their lines are kept."""

    rules: str
    train: tuple[Path, ...] = ()
    valid: tuple[Path, ...] = ()
    test: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Dataset:
    """Where everything is;

    all paths are absolute. `universe`: splits, folders or id lists whose pictures become vokens.
    `caption_sets`: captioned pictures beside the splits, each with its own format and the set's name as split.
    """

    root: Path
    captions: Captions
    universe: tuple[str, ...]
    corpus: Corpus
    glue: Path | None = None
    glue_tasks: tuple[str, ...] = ()
    squad: Path | None = None
    swag: Path | None = None
    scenes: Path | None = None
    knowledge: Path | None = None
    caption_sets: dict[str, Captions] = field(default_factory=dict)
    extra: dict = field(default_factory=dict)

    @property
    def captioned_names(self) -> tuple[str, ...]:
        """The splits with captions, then the further caption sets: what `captioned` and `annotated` know."""
        return (*self.captions.annotations, *self.caption_sets)

    def captions_of(self, split: str) -> Captions:
        """The description of a split's, or a further caption set's, captions. UserError for an unknown name."""
        if split in self.captions.annotations:
            return self.captions
        if split not in self.caption_sets:
            known = ", ".join(self.captioned_names)
            raise UserError(f"the dataset has no captions for split '{split}'; it has {known}.")
        return self.caption_sets[split]

    def captioned(self, split: str) -> list[CaptionedImage]:
        """Captioned pictures of a split, or of a further caption set, whose files exist, in file order.

        UserError if there are none.
        """
        present, missing = split_missing(self.annotated(split))
        if not present:
            own = split in self.caption_sets
            place = f"dataset.caption_sets.{split}.images" if own else "dataset.captions.images"
            raise UserError(
                f"none of the {len(missing):,} pictures of split '{split}' exists; the first should be at "
                f"{missing[0].path}. Put the pictures there or correct `{place}`."
            )
        return present

    def annotated(self, split: str, left_out: list[str] | None = None) -> list[CaptionedImage]:
        """All captioned pictures of a split's annotations, whether their files exist or not; see `read_captions`."""
        c = self.captions_of(split)
        images = Path(c.images.replace("{split}", split))
        found: dict[Path, CaptionedImage] = {}
        for path in c.files(split):
            for image in read_captions(c.format, path, images, split, c.source, left_out):
                found[image.path] = joined(found.get(image.path), image, left_out)
        refuse_clashes(found.values())
        kept = list(found.values())[: c.max_images]
        if c.max_sentences is None:
            return kept
        return [replace(image, sentences=image.sentences[: c.max_sentences]) for image in kept]

    def universe_sets(
        self, log: Callable[[str], None] = lambda line: None
    ) -> dict[str, list[CaptionedImage]]:
        """The pictures that can become vokens, by image set, in alphabetical order of the sets' names.

        An entry of `universe` is a split or set with captions; a folder of pictures below `root`, sorted by path
        (pictures of a folder have no sentences); or a list of picture ids, `….ids` with one a line, an lxmert
        file `….json` or a conceptual file `….tsv`, whose pictures lie where the original project has them. An
        image set has the name of the split, of the folder or of the list, or the one before `=` in `name=entry`.
        A file that two entries name belongs to the first set. `log` hears what folders hold and what is left out.
        """
        sets: dict[str, list[CaptionedImage]] = {}
        for entry in self.universe:
            given, _, place = entry.rpartition("=")
            name = check_name(given or Path(place).stem, f"dataset.universe: {entry!r}: the image set")
            if name in sets:
                raise UserError(
                    f"dataset.universe: two image sets are called '{name}'; give '{entry}' another name, "
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
        if place in self.captioned_names:
            return self.captioned(place)
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

    def universe_images(self) -> list[CaptionedImage]:
        """All pictures of `universe_sets`, one set after the other; row i of the keys is the i-th readable one."""
        return [image for images in self.universe_sets().values() for image in images]

    def save(self, folder: Path) -> Path:
        """Write `dataset.json` into `folder`."""
        path = Path(folder) / FILE
        write_text(path, json.dumps(asdict(self), indent=1, default=str) + "\n")
        return path


def _listed_ids(path: Path) -> list[str]:
    found = []
    for number, text in lines_of(path, "one picture id a line"):
        if text:
            found.append(one_line(text, f"{path}:{number}"))
    return found


def load_dataset(folder: Path) -> Dataset:
    """Read the `dataset.json` of a folder (or the file itself).

    UserError if it is absent or lacks a field.
    """
    path = Path(folder)
    path = path / FILE if path.is_dir() else path
    data = read_json(path, HOLDS)
    c, t = json_field(data, "captions", str(path)), json_field(data, "corpus", str(path))

    def captions(values: dict, where: str) -> Captions:
        where = f"{path}: {where}"
        annotations = {
            split: Path(p) if isinstance(p, str) else tuple(map(Path, p))
            for split, p in json_field(values, "annotations", where).items()
        }
        kind, images = json_field(values, "format", where), json_field(values, "images", where)
        limits = (values.get(name) for name in ("source", "max_images", "max_sentences"))
        return Captions(kind, annotations, images, *limits)

    def optional(name: str) -> Path | None:
        return Path(data[name]) if data.get(name) else None

    return Dataset(
        root=Path(json_field(data, "root", str(path))),
        captions=captions(c, "captions"),
        universe=tuple(json_field(data, "universe", str(path))),
        corpus=Corpus(
            json_field(t, "rules", f"{path}: corpus"),
            *(tuple(Path(p) for p in t.get(split, ())) for split in ("train", "valid", "test")),
        ),
        glue=optional("glue"),
        glue_tasks=tuple(data.get("glue_tasks", ())),
        squad=optional("squad"),
        swag=optional("swag"),
        scenes=optional("scenes"),
        knowledge=optional("knowledge"),
        caption_sets={
            name: captions(values, f"caption_sets.{name}")
            for name, values in data.get("caption_sets", {}).items()
        },
        extra=data.get("extra", {}),
    )
