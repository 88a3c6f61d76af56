"""The obj36 TSV, the form in which LXMERT's authors publish the regions of COCO, Visual Genome, GQA and NLVR2.

One picture a line, no header, ten fields with a tab between: id, height, width (pixels), object classes (base64 of
int64), their confidences (float32), attribute classes, their confidences, the number of boxes, boxes (float32, left,
top, right, bottom in pixels), features (float32). Numbers are little-endian. The number of boxes and the width of the
features follow from each line; 36 × 2048 are only the published ones.

The original reads a whole file into memory, believes every line, and takes the first rows of one file for the
"minival" split (LXM-19). Here lines are decoded one at a time and checked, every error names file and line, and
pictures are found by their id, wherever their line is.
"""

import base64
import binascii
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vlpnb.data.fields import one_line
from vlpnb.data.forms import READING, open_text, unreadable
from vlpnb.data.regions import PictureRegions, checked
from vlpnb.data.text_files import lines_of, require
from vlpnb.errors import UserError
from vlpnb.files import atomic

FIELDS = (
    "img_id", "img_h", "img_w", "objects_id", "objects_conf", "attrs_id", "attrs_conf", "num_boxes", "boxes",
    "features",
)  # fmt: skip
HOLDS = "one picture with its regions a line (obj36 TSV)"
MOST_BOXES = 10_000  # a line with more is damaged


@dataclass(frozen=True)
class Place:
    """Where the line of a picture is: the file, the line's number, and its bytes."""

    path: Path
    line: int
    start: int
    length: int


def read_obj36(
    path: Path, objects: int | None = None, attributes: int | None = None
) -> Iterator[PictureRegions]:
    """The pictures of a file in its order, one in memory at a time.

    Args:
        objects, attributes: how many classes there are, where it is known.
    Raises:
        UserError: file and line of the first that is cut short, has other than ten fields, numbers that are not
            finite, boxes outside of the picture, or a picture that another line had already.
    """
    seen: dict[str, int] = {}
    for place, raw in _lines(Path(path)):
        found = decode_line(raw, f"{path}:{place.line}", objects, attributes)
        _refuse_second(found.image_id, place, seen)
        yield found


def index_obj36(paths: Iterable[Path]) -> dict[str, Place]:
    """Where each picture's line is, in one or several files; only ids are kept.

    UserError for a line with other than ten fields, and for a picture with two lines.
    """
    places: dict[str, Place] = {}
    for path in paths:
        for place, raw in _lines(Path(path)):
            where = f"{path}:{place.line}"
            name = _text(_fields(raw, where)[0], f"{where}: img_id")
            if name in places:
                other = places[name]
                raise UserError(
                    f"{where}: picture {name} has a line already ({other.path}:{other.line}); expected one"
                )
            places[name] = place
    return places


def read_place(place: Place, objects: int | None = None, attributes: int | None = None) -> PictureRegions:
    """The picture of one line; errors as in `read_obj36`."""
    where = f"{place.path}:{place.line}"
    try:
        with place.path.open("rb") as file:
            file.seek(place.start)
            raw = file.read(place.length)
    except OSError as error:
        raise unreadable(place.path, error) from error
    return decode_line(raw, where, objects, attributes)


def _lines(path: Path) -> Iterator[tuple[Place, bytes]]:
    """The lines of a file with their places; blank ones are passed over."""
    require(path, HOLDS)
    try:
        with open_text(path, HOLDS, compressed=False) as file:
            start = file.tell()
            for number, raw in enumerate(file, start=1):
                if raw.strip():
                    yield Place(path, number, start, len(raw)), raw
                start += len(raw)
    except READING as error:
        raise unreadable(path, error) from error


def _refuse_second(name: str, place: Place, seen: dict[str, int]) -> None:
    if name in seen:
        raise UserError(
            f"{place.path}:{place.line}: picture {name} has a line already ({seen[name]}); expected one"
        )
    seen[name] = place.line


def _fields(raw: bytes, where: str) -> list[bytes]:
    values = raw.rstrip(b"\r\n").split(b"\t")
    if len(values) != len(FIELDS):
        cut = " (the line has no end, so the file may be cut short)" if not raw.endswith(b"\n") else ""
        raise UserError(
            f"{where}: {len(values)} fields{cut}; expected {len(FIELDS)}: {', '.join(FIELDS)}. Fetch the file again"
        )
    return values


def decode_line(
    raw: bytes, where: str, objects: int | None = None, attributes: int | None = None
) -> PictureRegions:
    """The regions of one line; see `read_obj36` for what is refused."""
    values = dict(zip(FIELDS, _fields(raw, where), strict=True))
    name = one_line(_text(values["img_id"], f"{where}: img_id"), f"{where}: img_id")
    height, width, count = (_number(values[f], f"{where}: {f}") for f in ("img_h", "img_w", "num_boxes"))
    if count > MOST_BOXES:
        raise UserError(f"{where}: num_boxes: found {count}; expected at most {MOST_BOXES}")
    arrays = {}
    for field, kind, row in (
        ("objects_id", "<i8", 1), ("objects_conf", "<f4", 1), ("attrs_id", "<i8", 1), ("attrs_conf", "<f4", 1),
        ("boxes", "<f4", 4), ("features", "<f4", None),
    ):  # fmt: skip
        arrays[field] = _array(values[field], kind, count, row, f"{where}: {field}")
    found = PictureRegions(
        name, height, width, arrays["boxes"], arrays["features"], arrays["objects_id"][:, 0],
        arrays["objects_conf"][:, 0], arrays["attrs_id"][:, 0], arrays["attrs_conf"][:, 0],
    )  # fmt: skip
    return checked(found, where, objects, attributes)


def _text(raw: bytes, where: str) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{where}: not UTF-8 ({error.reason}); expected the id of a picture") from None


def _number(raw: bytes, where: str) -> int:
    if not raw.isdigit() or len(raw) > 9:
        raise UserError(f"{where}: found {_text(raw[:40], where)!r}; expected a whole number")
    return int(raw)


def _array(raw: bytes, kind: str, count: int, row: int | None, where: str) -> np.ndarray:
    """(count, row) numbers of one field; `row` is what the length gives where it is not known."""
    try:
        data = binascii.a2b_base64(raw, strict_mode=True) if raw else b""
    except binascii.Error as error:
        raise UserError(f"{where}: not base64 ({error}); the line is damaged: fetch the file again") from None
    size = np.dtype(kind).itemsize
    wanted = f"{row} a box" if row is not None else "the same number for each box"
    if count == 0 and not data:
        return np.empty((0, row or 0), np.dtype(kind))
    if (
        len(data) % (size * max(count, 1))
        or (row is not None and len(data) != size * count * row)
        or not data
    ):
        raise UserError(
            f"{where}: {len(data):,} bytes, which do not fit {count} boxes; expected {size} bytes a number, {wanted}. "
            "The line is damaged: fetch the file again"
        )
    return np.frombuffer(data, np.dtype(kind)).reshape(count, -1)


def encode_line(regions: PictureRegions) -> bytes:
    """The line of one picture, with its end."""
    name = one_line(regions.image_id, "img_id")

    def packed(values: np.ndarray, kind: str) -> bytes:
        return base64.b64encode(np.ascontiguousarray(values, np.dtype(kind)).tobytes())

    return b"\t".join((
        name.encode(), str(regions.height).encode(), str(regions.width).encode(),
        packed(regions.object_ids, "<i8"), packed(regions.object_conf, "<f4"),
        packed(regions.attribute_ids, "<i8"), packed(regions.attribute_conf, "<f4"),
        str(len(regions)).encode(), packed(regions.boxes, "<f4"), packed(regions.features, "<f4"),
    )) + b"\n"  # fmt: skip


def write_obj36(path: Path, pictures: Iterable[PictureRegions]) -> int:
    """Write a file whole or not at all, one picture in memory at a time; returns the number of pictures."""
    count = 0
    with atomic(Path(path)) as temporary, temporary.open("wb") as file:
        for regions in pictures:
            file.write(encode_line(regions))
            count += 1
    return count


def read_classes(path: Path, what: str) -> tuple[str, ...]:
    """Names of classes, one a line in the order of their numbers; of synonyms with commas between, the first.

    UserError for an empty file or line.
    """
    found = [text.split(",")[0].strip() for _, text in lines_of(Path(path), f"names of {what}, one a line")]
    if not found or "" in found:
        line = f":{found.index('') + 1}" if found else ""
        raise UserError(f"{path}{line}: no name; expected names of {what}, one a line")
    return tuple(found)
