"""Region lines: pictures with boxes, and what is said of each in several languages, as JSON lines.

The layout of CCLM's 4M variant (Zeng et al., ACL 2023; their released translations of COCO and Visual Genome):

    {"binary": PICTURE, "caption": {"en": …, "de": …},
     "elems": [{"bb": [x, y, w, h], "caption": {…}, "attributes": {…}}, …]}

`binary` is the picture itself in base64, or its path; `caption` (of the whole picture) and `attributes` may be absent,
and a caption may be a list of such objects. Boxes are in pixels of the stored picture, from its upper left corner.
A set is a file or a folder of files, read in the order of their names.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlpnb.data.fields import as_list, as_number, field, list_field
from vlpnb.data.images import picture_id, picture_size
from vlpnb.data.multilingual import binary_of, captions_of, shards_of
from vlpnb.data.text_files import read_json_lines, require
from vlpnb.errors import UserError
from vlpnb.files import atomic

HOLDS = "regions of pictures with texts: JSON lines with `binary` and `elems`"

Box = tuple[float, float, float, float]  # x, y, width, height


@dataclass(frozen=True)
class Region:
    """A box in pixels of its picture, and what is said of it by language."""

    box: Box
    captions: Mapping[str, str]
    attributes: Mapping[str, str]


@dataclass(frozen=True)
class RegionPicture:
    """A picture with its regions. `captions` are of the whole of it: none, or one or several texts by language."""

    id: str
    path: Path
    width: int
    height: int
    captions: tuple[Mapping[str, str], ...]
    regions: tuple[Region, ...]


def read_region_text(
    place: Path, images: Path, unpacked: Path, left_out: Callable[[str], None] = lambda line: None
) -> Iterator[RegionPicture]:
    """The pictures of a file or folder of region lines, in order.

    Args:
        images: the folder that paths are relative to; a picture's id is its path without the suffix.
        unpacked: the folder that pictures given in base64 are written to, by a hash of their content, their id.
        left_out: told of each line that cannot be used (place and reason): a broken record, an unreadable picture.
    """
    for path in shards_of(place):
        for number, row in read_json_lines(path, HOLDS):
            try:
                yield _picture(row, f"{path}:{number}", images, unpacked)
            except UserError as error:
                left_out(str(error))


def _picture(row: Any, where: str, images: Path, unpacked: Path) -> RegionPicture:
    regions = tuple(
        _region(item, f"{where}.elems[{i}]") for i, item in enumerate(list_field(row, "elems", where))
    )
    if not regions:
        raise UserError(f"{where}.elems: empty; expected one region at least")
    captions = _captions(row.get("caption"), f"{where}.caption")
    name, path = _stored(row, where, images, unpacked)
    width, height = picture_size(path)
    return RegionPicture(name, path, width, height, captions, regions)


def _region(item: Any, where: str) -> Region:
    values = as_list(field(item, "bb", where), f"{where}.bb")
    if len(values) != 4:
        raise UserError(f"{where}.bb: {len(values)} numbers; expected 4: x, y, width, height in pixels")
    x, y, width, height = (as_number(value, f"{where}.bb") for value in values)
    if width <= 0 or height <= 0:
        raise UserError(f"{where}.bb: {width:g} × {height:g} pixels; expected a box with an area")
    captions = _captions(field(item, "caption", where), f"{where}.caption")
    if not captions:
        raise UserError(f"{where}.caption: null; expected texts by language")
    attributes = _captions(item.get("attributes"), f"{where}.attributes")
    return Region((x, y, width, height), captions[0], attributes[0] if attributes else {})


def _captions(value: Any, where: str) -> tuple[Mapping[str, str], ...]:
    """One object of texts by language, or a list of them; none where it is absent."""
    found = () if value is None else captions_of(value, where)
    if not all(found):
        raise UserError(f"{where}: no language; expected texts by language")
    return found


def _stored(row: Any, where: str, images: Path, unpacked: Path) -> tuple[str, Path]:
    """A picture's id and file: the path as given, or what base64 spells, written once."""
    name, data = binary_of(row, "", where)
    if data is None:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise UserError(f"{where}.binary: {name[:80]} leads out of {images}; expected a path below it")
        return picture_id(name), require(images / name, f"the picture of {where}")
    name = hashlib.sha256(data).hexdigest()[:16]
    path = unpacked / f"{name}.img"
    if not path.is_file():
        with atomic(path) as temporary:
            temporary.write_bytes(data)
    return name, path
