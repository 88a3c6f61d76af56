"""Readers of pictures with sentences in several languages, and what they give.

| layout | file |
|---|---|
| `records` | CCLM's JSON lines `{"binary": path or base64, "caption": {"en": …, "de": …}}`, or a list of such objects |
| `lines` | Multi30k's: a file of lines for each language, and the list of the pictures that they describe |
| `coco`, `karpathy` | their JSON, a file for each language, see `vlpnb.data.captions` |
| `flickr` | Flickr8k's `image.jpg#0<TAB>sentence`, and Flickr8k-CN's, whose ids end in a space |
| `retrieval` | CCLM's lists for retrieval, see `vlpnb.data.retrieval_lists` |

A sentence where an object or a list of sentences is expected would be taken letter by letter, and is refused.
"""

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from vlpnb.data.fields import as_object, as_text, field, one_line
from vlpnb.data.flickr_tables import read_flickr_lines
from vlpnb.data.text_files import lines_of, read_json_lines, require
from vlpnb.errors import UserError

LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})?")
FINISHED = "_SUCCESS"  # an empty file that a cluster leaves beside its shards
RECORDS = 'JSON lines {"binary": image path or base64, "caption": {"en": "a red ball", …}}'
CHINESE = re.compile(r"(?P<image>[^#\s]+)#zh[a-z]#\d+ (?P<sentence>.*)")  # Flickr8k-CN's lines
LONGEST_NAME = 250  # characters of a file's name; base64 of a picture has more


@dataclass(frozen=True)
class Picture:
    """A picture with its captions by language; `id` is its path below the folder of pictures, without the suffix."""

    id: str
    path: Path
    captions: Mapping[str, tuple[str, ...]]


class Said(NamedTuple):
    """One sentence about a picture, and its language."""

    image: str
    language: str
    sentence: str


class Record(NamedTuple):
    """One of CCLM's image–text records: its picture's name, or its bytes; one object of captions or several."""

    image: str
    binary: bytes | None
    captions: tuple[Mapping[str, str], ...]


def check_language(code: str, where: str) -> str:
    """The code itself if it looks like one of a language: en, de, zh, zh-TW."""
    if not isinstance(code, str) or not LANGUAGE.fullmatch(code):
        raise UserError(f"{where}: expected the code of a language such as en or zh, found {code!r}.")
    return code


def shards_of(path: Path) -> list[Path]:
    """A file, or the files of a folder in the order of their names; hidden ones and `_SUCCESS` are none.

    The order is the same on every machine, so that processes can divide the records among them.
    """
    require(path, RECORDS)
    if not path.is_dir():
        return [path]
    found = sorted(p for p in path.iterdir() if p.is_file() and FINISHED not in p.name and p.name[0] != ".")
    if not found:
        raise UserError(f"{path}: holds no file; expected {RECORDS}, in one file or several.")
    return found


def read_records(path: Path) -> Iterator[Record]:
    """CCLM's image–text records of a file or a folder, in order; captions may be empty.

    A picture that is in the record as base64 is called after its file and line.

    Raises:
        UserError: naming file, line and field.
    """
    for file in shards_of(Path(path)):
        for number, row in read_json_lines(file, RECORDS):
            where = f"{file}:{number}"
            image, binary = binary_of(row, f"{file.stem}_{number:07d}", where)
            yield Record(image, binary, captions_of(field(row, "caption", where), f"{where}.caption"))


def captions_of(value: object, where: str) -> tuple[dict[str, str], ...]:
    """An object of captions by language, or a list of such objects, as a tuple of them."""
    if isinstance(value, str):
        raise UserError(
            f"{where}: found the text {value[:40]!r}; expected captions by language, "
            '{"en": "…"}, or a list of such objects.'
        )
    several = value if isinstance(value, list) else [value]
    return tuple(
        {
            check_language(language, where): as_text(text, f"{where}.{language}")
            for language, text in as_object(one, where).items()
        }
        for one in several
    )


def binary_of(row: object, name: str, where: str) -> tuple[str, bytes | None]:
    """The path in the field `binary` of one of CCLM's lines; or `name`, and the bytes that base64 spells there."""
    text = as_text(field(row, "binary", where), f"{where}.binary")
    if len(text) <= LONGEST_NAME and "." in text:  # base64 has no full stop
        return one_line(text, f"{where}.binary"), None
    try:
        binary = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise UserError(
            f"{where}.binary: neither the path of a picture nor base64 of one ({error}): {text[:40]!r}."
        ) from error
    if not binary:
        raise UserError(f"{where}.binary: is empty; expected the path of a picture, or base64 of one.")
    return name, binary


def read_lines_about(path: Path, listed: Path, language: str) -> Iterator[Said]:
    """Multi30k's: line i of a file describes the picture in line i of a list.

    Raises:
        UserError: they differ in length.
    """
    sentences = [line.text for line in lines_of(path, "sentences, one a line")]
    images = read_image_list(listed)
    if len(sentences) != len(images):
        raise UserError(
            f"{path}: has {len(sentences):,} lines, and {listed} names {len(images):,} images; expected an image for "
            "each line."
        )
    for image, sentence in zip(images, sentences, strict=True):
        yield Said(image, language, sentence)


def read_image_list(path: Path) -> list[str]:
    """The pictures that a list names, one a line."""
    return [line.text.strip() for line in lines_of(path, "names of pictures, one a line")]


def read_flickr_sentences(path: Path, language: str) -> Iterator[Said]:
    """Flickr8k's or Flickr8k-CN's lines. UserError names file and line."""
    first = next((line.text for line in lines_of(path, "sentences about pictures") if line.text.strip()), "")
    if not CHINESE.fullmatch(first):
        for _, image, sentence in read_flickr_lines(path):
            yield Said(image, language, sentence)
        return
    for number, text in lines_of(path, "lines 'image.jpg#zhc#0 sentence'"):
        found = CHINESE.fullmatch(text)
        if not found:
            raise UserError(f"{path}:{number}: expected 'image.jpg#zhc#0 sentence', found {text[:60]!r}.")
        yield Said(found["image"], language, found["sentence"])
