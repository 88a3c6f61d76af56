"""The description of a dataset: one `dataset.json` that says where captions, pictures, text, GLUE, SQuAD
and SWAG files lie.

The generated world and every real dataset are described alike, so that moving from one to the other changes a
path and never code. Stages read it with `load_dataset`; the stage in `stage.py` checks and writes it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from vlpnb.data.captions import (
    CaptionedImage,
    CaptionFormat,
    lxmert_ids,
    original_image_path,
    read_captions,
    split_missing,
)
from vlpnb.data.files import field as json_field
from vlpnb.data.files import lines_of, read_json, require, write_text_atomic
from vlpnb.data.images import list_images
from vlpnb.errors import UserError

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
    extra: dict = field(default_factory=dict)

    def captioned(self, split: str) -> list[CaptionedImage]:
        """Captioned pictures of a split whose files exist, in file order. UserError if there are none."""
        present, missing = split_missing(self.annotated(split))
        if not present:
            raise UserError(
                f"none of the {len(missing):,} pictures of split '{split}' exists; the first should be at "
                f"{missing[0].path}. Put the pictures there or correct `dataset.captions.images`."
            )
        return present

    def annotated(self, split: str, left_out: list[str] | None = None) -> list[CaptionedImage]:
        """All captioned pictures of a split's annotations, whether their files exist or not; see `read_captions`."""
        c = self.captions
        if split not in c.annotations:
            known = ", ".join(c.annotations)
            raise UserError(f"the dataset has no captions for split '{split}'; it has {known}.")
        images = Path(c.images.replace("{split}", split))
        return [
            image
            for path in c.files(split)
            for image in read_captions(c.format, path, images, split, c.source, left_out)
        ]

    def universe_sets(self) -> dict[str, list[CaptionedImage]]:
        """The pictures that can become vokens, by image set, in alphabetical order of the sets' names (spec 4).

        An entry of `universe` is a split with captions; a folder of pictures below `root`, sorted by path
        (pictures of a folder have no sentences); or a list of picture ids, `….ids` with one a line or an lxmert
        file `….json`, whose pictures lie where the original project has them. A set has the name of the split,
        of the folder or of the list, or the one before `=` in `name=entry`. A file that two entries name belongs
        to the first set.
        """
        sets: dict[str, list[CaptionedImage]] = {}
        for entry in self.universe:
            given, _, place = entry.rpartition("=")
            name = given or Path(place).stem
            if name in sets:
                raise UserError(
                    f"dataset.universe: two image sets are called '{name}'; give '{entry}' another name, "
                    f"such as 'other={place}'"
                )
            sets[name] = self._image_set(place)
        taken: set[Path] = set()
        for name in sorted(sets):
            distinct: dict[str, CaptionedImage] = {}
            for image in sets[name]:
                if image.path not in taken:
                    distinct.setdefault(image.image_id, image)
            taken |= {image.path for image in distinct.values()}
            sets[name] = list(distinct.values())
        return dict(sorted(sets.items()))

    def _image_set(self, place: str) -> list[CaptionedImage]:
        if place in self.captions.annotations:
            return self.captioned(place)
        path = require(self.root / place, "the pictures that become vokens")
        if path.suffix in (".ids", ".json"):
            ids = (
                lxmert_ids(path)
                if path.suffix == ".json"
                else [text for _, text in lines_of(path, "one picture id a line") if text]
            )
            found = [CaptionedImage(i, original_image_path(i, self.root), ()) for i in ids]
        else:
            found = [CaptionedImage(image.stem, image, ()) for image in list_images(path)]
        if not found:
            raise UserError(f"{path} holds no picture; expected the pictures that become vokens.")
        return found

    def universe_images(self) -> list[CaptionedImage]:
        """All pictures of `universe_sets`, one set after the other; row i of the keys is the i-th readable one."""
        return [image for images in self.universe_sets().values() for image in images]

    def save(self, folder: Path) -> Path:
        """Write `dataset.json` into `folder`."""
        path = Path(folder) / FILE
        write_text_atomic(path, json.dumps(asdict(self), indent=1, default=str) + "\n")
        return path


def load_dataset(folder: Path) -> Dataset:
    """Read the `dataset.json` of a folder (or the file itself).

    UserError if it is absent or lacks a field.
    """
    path = Path(folder)
    path = path / FILE if path.is_dir() else path
    data = read_json(path, HOLDS)
    c, t = json_field(data, "captions", str(path)), json_field(data, "corpus", str(path))

    def optional(name: str) -> Path | None:
        return Path(data[name]) if data.get(name) else None

    return Dataset(
        root=Path(json_field(data, "root", str(path))),
        captions=Captions(
            json_field(c, "format", f"{path}: captions"),
            {
                split: Path(p) if isinstance(p, str) else tuple(map(Path, p))
                for split, p in json_field(c, "annotations", f"{path}: captions").items()
            },
            json_field(c, "images", f"{path}: captions"),
            c.get("source"),
        ),
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
        extra=data.get("extra", {}),
    )
