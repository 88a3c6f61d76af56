"""Readers of captioned pictures: the layouts of COCO, Karpathy, Flickr8k/30k, LXMERT and
Conceptual Captions.

All give the same list of `CaptionedImage`, in file order. A picture that the annotations name but the
folder lacks is kept in the list with the path where it was expected: `split_missing` separates them, so that
a partial download is counted and listed instead of being fatal.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from dataclasses import field as dataclass_field
from pathlib import Path, PurePath
from typing import Any, Literal, NamedTuple, get_args

from vlpnb.data.fields import (
    as_text,
    field,
    id_field,
    list_field,
    object_field,
    one_line,
    text_field,
    unknown_id,
)
from vlpnb.data.flickr_tables import read_flickr_lines
from vlpnb.data.images import picture_id
from vlpnb.data.text_files import lines_of, read_json, require
from vlpnb.data.valid_images import read_valid_images
from vlpnb.errors import UserError

CaptionFormat = Literal["coco", "karpathy", "flickr", "lxmert", "conceptual"]
Split = Literal["train", "valid", "test"]

# The names by which the distributions call our three splits. Karpathy's `restval` joins the training split,
# as is usual.
KARPATHY_SPLITS = {"train": {"train", "restval"}, "valid": {"val"}, "test": {"test"}}
FLICKR_SPLITS = {
    "train": ("Flickr_8k.trainImages.txt", "train.txt"),
    "valid": ("Flickr_8k.devImages.txt", "val.txt"),
    "test": ("Flickr_8k.testImages.txt", "test.txt"),
}
FLICKR_CAPTIONS = (
    "Flickr8k.token.txt",
    "results_20130124.token",
    "results.token",
    "captions.txt",
    "results.csv",
)
FLICKR_LINES = (
    "lines 'image.jpg#0<TAB>sentence', or a table with a header 'image,caption' or 'image_name| …| comment'"
)
CONCEPTUAL = "lines 'sentence<TAB>image id', such as 'a red ball<TAB>training_0'"
CONCEPTUAL_ID = re.compile("[A-Za-z]+_[0-9]+")  # <split>_<n>
KARPATHY_FOLDER = "trainval"  # where pictures lie whose entry does not say it, as VLP takes it


@dataclass(frozen=True)
class CaptionedImage:
    """One picture with its captions. `image_id` is its `picture_id`; `sentences` may be empty.

    `number` is what files of official evaluations call it, where its annotations say so.
    """

    image_id: str
    path: Path
    sentences: tuple[str, ...]
    number: int | None = dataclass_field(default=None, compare=False)


class Row(NamedTuple):
    """What a reader finds of one picture: its file's name, its captions, its folder and number if they are told."""

    name: str
    sentences: tuple[str, ...]
    folder: str = ""
    number: int | None = None


def read_captions(
    format: CaptionFormat,
    annotations: Path,
    images: Path,
    split: str | None = None,
    source: str | None = None,
    left_out: list[str] | None = None,
    valid: Path | None = None,
) -> list[CaptionedImage]:
    """Read captioned pictures in file order. Empty captions, and then pictures without any, are left out.

    A picture that the file names twice comes once, at its first place, with the captions of both.

    `split` chooses train, valid or test inside the karpathy and flickr layouts (None: everything); the others
    have one file per split, and there `split` only helps to find the picture's sub-folder. `source` keeps one
    of the lxmert sentence sources (mscoco, vg, vqa, gqa, visual7w); None keeps all. `valid` is a file that lists the
    pictures to keep (`read_valid_images`). What is left out is added to `left_out`, in words. Raises UserError naming
    the file and its field or line; the conceptual layout's one caption of a picture must not be empty.
    """
    annotations, images = Path(annotations), Path(images)
    rows = read_rows(format, annotations, split, source)
    finder = PictureFinder(images, split, conceptual=format == "conceptual")
    found: dict[Path, CaptionedImage] = {}
    listed = None if valid is None else read_valid_images(valid)
    for name, sentences, folder, number in rows:
        refuse_outside(name, f"{annotations}")
        if listed is not None and picture_id(name) not in listed:
            if left_out is not None:
                left_out.append(f"{name}: a picture that {valid} does not list")
            continue
        kept = tuple(sentence for sentence in sentences if sentence)
        if left_out is not None and len(kept) < len(sentences):
            left_out.append(
                f"{name}: {len(sentences) - len(kept)} of its {len(sentences)} captions are empty"
            )
        if left_out is not None and not kept:
            left_out.append(f"{name}: a picture without a caption")
        if kept:
            path = finder.path(name, folder)
            image = CaptionedImage(picture_id(name), path, kept, number)
            found[path] = joined(found.get(path), image, left_out)
    if not found:
        of = f" for split '{split}'" if split else ""
        among = "" if valid is None else f" among the {len(listed):,} pictures that {valid} lists"
        raise UserError(f"{annotations}: no captioned picture{of} in {format} format{among}.")
    refuse_clashes(found.values())
    return list(found.values())


def read_rows(
    format: CaptionFormat, annotations: Path, split: str | None = None, source: str | None = None
) -> list[Row]:
    """What a file says of pictures, in file order, before anything is looked for or left out; see `read_captions`."""
    readers = {"coco": _coco, "karpathy": _karpathy, "flickr": _flickr, "conceptual": _conceptual}
    if format == "lxmert":
        return _lxmert(annotations, source)
    if format in readers:
        return readers[format](Path(annotations), split)
    raise UserError(
        f"captions format '{format}' is unknown; expected one of {', '.join(get_args(CaptionFormat))}."
    )


def refuse_clashes(images: Iterable[CaptionedImage]) -> None:
    """UserError for two files with one id, which would overwrite each other wherever ids name them."""
    paths: dict[str, Path] = {}
    for image in images:
        if paths.setdefault(image.image_id, image.path) != image.path:
            raise UserError(
                f"{paths[image.image_id]} and {image.path}: two pictures with the id '{image.image_id}'; expected one. "
                "Rename or remove one."
            )


def joined(
    first: CaptionedImage | None, again: CaptionedImage, left_out: list[str] | None = None
) -> CaptionedImage:
    """Two entries of one picture as one: trained on once, with every caption once."""
    if first is None:
        return again
    if left_out is not None:
        left_out.append(f"{again.image_id}: a picture that is named again; its captions are joined")
    new = tuple(sentence for sentence in again.sentences if sentence not in first.sentences)
    return replace(first, sentences=first.sentences + new)


def refuse_outside(name: str, where: str) -> None:
    """UserError for the name of a picture that leads out of the folder of pictures."""
    path = PurePath(name)
    if path.is_absolute() or ".." in path.parts or not path.name:
        raise UserError(
            f"{where}: picture {name!r} lies outside the folder of pictures, or is none; expected a path inside it."
        )


def split_missing(images: Iterable[CaptionedImage]) -> tuple[list[CaptionedImage], list[CaptionedImage]]:
    """Separate the pictures whose file exists from those whose file does not, both in order."""
    folders = _Folders()
    present: list[CaptionedImage] = []
    missing: list[CaptionedImage] = []
    for image in images:
        (present if folders.holds(image.path) else missing).append(image)
    return present, missing


def original_image_path(image_id: str, data: Path) -> Path:
    """Where the original project keeps the picture of an id, below its `data` folder.

    `COCO_<tag>_<number>` → mscoco/images/<tag>/<id>.jpg; Conceptual Captions' `<split>_<number>` →
    cc/images/<split>/<id>, without a suffix; any other id is Visual Genome's → vg/images/<id>.jpg.
    """
    parts = image_id.split("_")
    if "COCO" in parts and len(parts) == 3:
        return Path(data) / "mscoco" / "images" / parts[1] / f"{image_id}.jpg"
    if len(parts) == 2 and parts[1].isdigit():
        return Path(data) / "cc" / "images" / parts[0] / image_id
    return Path(data) / "vg" / "images" / f"{image_id}.jpg"


class _Folders:
    """Which files exist, by listing each folder once: asking 100,000 times is slow on network disks."""

    def __init__(self):
        self._names: dict[Path, frozenset[str]] = {}

    def holds(self, path: Path) -> bool:
        folder = path.parent
        if folder not in self._names:
            self._names[folder] = frozenset(os.listdir(folder)) if folder.is_dir() else frozenset()
        return path.name in self._names[folder]


class PictureFinder:
    """Where a picture lies: in the folder, the sub-folder its id names (COCO, Conceptual Captions), or the
    split's sub-folder.
    """

    def __init__(self, images: Path, split: str | None, conceptual: bool = False):
        self.images, self.split, self.conceptual, self.folders = images, split, conceptual, _Folders()

    def path(self, name: str, folder: str = "") -> Path:
        """First existing candidate for a file name or a bare id (lxmert, conceptual); else the first candidate.

        `folder` is a sub-folder that the annotations name.
        """
        stem = Path(name).stem
        parts = stem.split("_")
        folders = [self.images]
        if len(parts) == 3:
            folders.append(self.images / parts[1])  # COCO_train2014_000000000009 -> train2014
        if folder:
            folders.append(self.images / folder)
        if self.split:
            folders.append(self.images / self.split)
        names = [name] if Path(name).suffix else [f"{name}.jpg", f"{name}.png", f"{name}.jpeg"]
        if self.conceptual:  # training_0 -> training/training_0; without a suffix, unless one was added
            folders.insert(0, self.images / parts[0])
            names.insert(0, name)
        candidates = [folder / name for folder in folders for name in names]
        return next((c for c in candidates if self.folders.holds(c)), candidates[0])


def _coco(path: Path, split: str | None) -> list[Row]:
    holds = "COCO captions {images: [{id, file_name}], annotations: [{image_id, caption}]}"
    data = read_json(path, holds)
    images: dict[int | str, str] = {}
    for i, image in enumerate(list_field(data, "images", f"{path}")):
        where = f"{path}: images[{i}]"
        image_id, name = id_field(image, "id", where), _name(image, "file_name", where)
        if images.setdefault(image_id, name) != name:
            raise UserError(f"{where}: id {image_id} is {name!r} here and {images[image_id]!r} before.")
    sentences: dict[int | str, list[str]] = {image_id: [] for image_id in images}
    for i, annotation in enumerate(list_field(data, "annotations", f"{path}")):
        where = f"{path}: annotations[{i}]"
        image_id = id_field(annotation, "image_id", where)
        if image_id not in sentences:
            raise UserError(f"{where}: image_id {unknown_id(image_id, images, 'the ids of the images')}.")
        sentences[image_id].append(_clean(text_field(annotation, "caption", where)))
    return [
        Row(name, tuple(sentences[image_id]), number=image_id if isinstance(image_id, int) else None)
        for image_id, name in images.items()
    ]


def _karpathy(path: Path, split: str | None) -> list[Row]:
    holds = "Karpathy's dataset JSON {images: [{filename, split, sentences: [{raw}]}]}"
    wanted = _splits(split, KARPATHY_SPLITS, path)
    data, rows = read_json(path, holds), []
    images = list_field(data, "images", f"{path}")
    flickr = str(data.get("dataset", "")).startswith("flickr")
    for i, image in enumerate(images):
        where = f"{path}: images[{i}]"
        if wanted is not None and text_field(image, "split", where) not in wanted:
            continue
        raw = [_clean(text_field(s, "raw", where)) for s in list_field(image, "sentences", where)]
        name = _name(image, "filename", where)
        folder = text_field(image, "filepath", where, KARPATHY_FOLDER)
        refuse_outside(f"{folder}/{name}", where)
        rows.append(Row(name, tuple(raw), folder, _karpathy_number(image, name, flickr)))
    return rows


def _karpathy_number(image: dict[str, Any], name: str, flickr: bool) -> int | None:
    """COCO's number; of Flickr's pictures the file's name where it is one; else the entry's own (`imgid`)."""
    stem = PurePath(name).stem
    own = int(stem) if flickr and stem.isascii() and stem.isdigit() else None
    numbers = (image.get("cocoid"), own, image.get("imgid"))
    return next((n for n in numbers if isinstance(n, int) and not isinstance(n, bool)), None)


def _flickr(path: Path, split: str | None) -> list[Row]:
    folder = require(path, f"one of {', '.join(FLICKR_CAPTIONS)} and the split lists")
    if folder.is_file():
        captions, folder = folder, folder.parent
    else:
        captions = _first(folder, FLICKR_CAPTIONS, FLICKR_LINES)
    wanted: set[str] | None = None
    names = _splits(split, FLICKR_SPLITS, path)
    if names is not None:
        advice = (
            "many downloads come without these lists: add them, or take Karpathy's JSON (format 'karpathy')"
        )
        listing = _first(folder, names, f"the picture names of split '{split}', one a line; {advice}")
        wanted = {Path(line.text.strip()).stem for line in lines_of(listing, "picture names")} - {""}
    rows: dict[str, list[str]] = {}
    for number, name, sentence in read_flickr_lines(captions):
        if wanted is None or Path(name).stem in wanted:
            rows.setdefault(one_line(name, f"{captions}:{number}"), []).append(_clean(sentence))
    return [Row(name, tuple(sentences)) for name, sentences in rows.items()]


def _lxmert_rows(path: Path) -> list[dict]:
    data = read_json(path, "LXMERT captions [{img_id, sentf: {source: [sentence]}}]")
    if not isinstance(data, list):
        raise UserError(f"{path}: expected a JSON list of pictures, found {type(data).__name__}.")
    return data


def lxmert_ids(path: Path) -> list[str]:
    """The picture ids of a caption file of the lxmert layout, in order. UserError names file and field."""
    return [_name(row, "img_id", f"{path}: [{i}]") for i, row in enumerate(_lxmert_rows(Path(path)))]


def _lxmert(path: Path, source: str | None) -> list[Row]:
    rows, known = [], set()
    for i, image in enumerate(_lxmert_rows(path)):
        where = f"{path}: [{i}]"
        field(image, "sentf", where)
        sources = object_field(image, "sentf", where)
        known |= sources.keys()
        chosen = [name for name in sources if source in (None, name)]
        raw = [
            _clean(as_text(sentence, f"{where}.sentf.{name}"))
            for name in chosen
            for sentence in list_field(sources, name, f"{where}.sentf")
        ]
        rows.append(Row(_name(image, "img_id", where), tuple(raw)))
    if source is not None and rows and source not in known:
        raise UserError(f"{path}: no sentence of source '{source}'; the file has {', '.join(sorted(known))}.")
    return rows


def _conceptual(path: Path, split: str | None) -> list[Row]:
    rows: dict[str, tuple[int, str]] = {}
    for number, text in lines_of(path, CONCEPTUAL):
        where, columns = f"{path}:{number}", text.split("\t")
        if not text:
            continue
        if len(columns) != 2:
            raise UserError(
                f"{where}: {len(columns)} columns, expected 2, 'sentence<TAB>image id'; found {text[:60]!r}."
            )
        sentence, name = _clean(columns[0]), columns[1].strip()
        if not CONCEPTUAL_ID.fullmatch(name):
            raise UserError(
                f"{where}: the second column is {name[:60]!r}, expected an image id <split>_<number> such as "
                "training_0; where the release has addresses, number the pictures as they are downloaded."
            )
        if not sentence:
            raise UserError(f"{where}: the caption of {name} is empty; remove the line.")
        if name in rows:
            first, _ = rows[name]
            raise UserError(f"{where}: image id {name} is in line {first} already; remove one of the lines.")
        rows[name] = (number, sentence)
    return [Row(name, (sentence,)) for name, (_, sentence) in rows.items()]


def conceptual_ids(path: Path) -> list[str]:
    """The picture ids of a file of the conceptual layout, in order. UserError names file and line."""
    return [row.name for row in _conceptual(Path(path), None)]


def _splits(split: str | None, table: dict, path: Path):
    if split is None:
        return None
    if split not in table:
        raise UserError(f"{path}: split '{split}' is unknown; expected one of {', '.join(table)}.")
    return table[split]


def _first(folder: Path, names: Iterable[str], holds: str) -> Path:
    names = tuple(names)
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise UserError(f"{folder} has none of {', '.join(names)}; one of them should hold {holds}.")


def _name(item: object, name: str, where: str) -> str:
    """A field that names a picture, on one line."""
    return one_line(str(id_field(item, name, where)), f"{where}.{name}")


def _clean(sentence: str) -> str:
    return " ".join(sentence.split())
