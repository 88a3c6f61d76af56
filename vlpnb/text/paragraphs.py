"""The lines that a language model learns to read: paragraphs of what captions say of a picture, and running text.

VaLM (Wang et al. 2023, section 4) trains on CC-100, whose crawled pages say what their pictures show. Here the
text of the visual world or of an encyclopedia says nothing of pictures; so all captions of a picture, joined to one
paragraph, are part of the text. A paragraph keeps the id of its picture, so that a model need not be shown the very
picture whose captions it reads.
"""

from collections.abc import Collection, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from vlpnb.data.description import CaptionData, TextData
from vlpnb.data.evaluated import photo_key
from vlpnb.data.text_files import lines_of
from vlpnb.errors import UserError
from vlpnb.text.lines import keeps, read_lines

ENDS = (".", "!", "?", '"', "'", "…")


class Paragraph(NamedTuple):
    """A line of text; `picture` is the id of the one that it describes, or "" """

    text: str
    picture: str = ""


def joined(sentences: Sequence[str]) -> str:
    """Captions as one paragraph: each ends with a stop."""
    kept = [" ".join(sentence.split()) for sentence in sentences if sentence.strip()]
    return " ".join(sentence if sentence.endswith(ENDS) else f"{sentence} ." for sentence in kept)


def captioned(
    data: CaptionData, names: Sequence[str], one_paragraph: bool = True, some: slice = slice(None)
) -> Iterator[Paragraph]:
    """What the captions of some splits or sets say; `some`: of which of the pictures of each."""
    for name in names:
        for image in data.annotated(name)[some]:
            yield from _said(image.sentences, image.image_id, one_paragraph)


def described(
    text: TextData, split: str, one_paragraph: bool = True, unseen: Collection[str] = ()
) -> Iterator[Paragraph]:
    """Lines that describe pictures, as Multi30k's: the files of a split side by side, line i of each of one picture.

    Where the training files have lists of images, those say which lines belong together, and the picture's id; lines
    about `unseen` ones (`photo_key`) are left out.

    Raises:
        UserError: files of other lengths than their lists or than each other.
    """
    files = [[line.text for line in lines_of(path, "sentences, one a line")] for path in getattr(text, split)]
    lists = _lists(text, split, files)
    found: dict[str, list[str]] = {}
    for lines, names in zip(files, lists, strict=True):
        for name, line in zip(names, lines, strict=True):
            if keeps(line, text.rules):
                found.setdefault(name, []).append(line)
    named = split == "train" and bool(text.images)
    for name, sentences in found.items():
        if named and photo_key(name) in unseen:
            continue
        yield from _said(sentences, name if named else "", one_paragraph)


def running(text: TextData, split: str, most: int | None = None) -> Iterator[Paragraph]:
    """The lines of running text that its rules keep; at most so many."""
    lines = (line for path in getattr(text, split) for line in read_lines(path, text.rules))
    for line in islice(lines, most):
        yield Paragraph(line.strip())


def _said(sentences: Sequence[str], picture: str, one_paragraph: bool) -> Iterator[Paragraph]:
    for said in [sentences] if one_paragraph else [[sentence] for sentence in sentences]:
        if text := joined(said):
            yield Paragraph(text, picture)


def _lists(text: TextData, split: str, files: list[list[str]]) -> list[list[str]]:
    """For each file what its lines are about: names of images, or their numbers where there is no list."""
    paths = getattr(text, split)
    if split == "train" and text.images:
        lists = [[Path(line.text.strip()).stem for line in lines_of(path, "images")] for path in text.images]
        for path, about, names, lines in zip(paths, text.images, lists, files, strict=True):
            if len(lines) != len(names):
                raise UserError(
                    f"{path}: has {len(lines):,} lines, and {about} names {len(names):,} images; expected an image "
                    "for each line."
                )
        return lists
    for path, lines in zip(paths, files, strict=True):
        if len(lines) != len(files[0]):
            raise UserError(
                f"{path}: has {len(lines):,} lines and {paths[0]} {len(files[0]):,}; expected files whose lines with "
                "one number describe one picture."
            )
    return [[str(i) for i in range(len(lines))] for lines in files]


def rows_of_pictures(pictures: Sequence[str], ids: Sequence[str]) -> Int[np.ndarray, " P"]:
    """Where pictures that text describes are among the ids of a database; −1 for those that are not.

    Collections may name a photograph differently (`photo_key`).
    """
    rows = {photo_key(name): row for row, name in enumerate(ids)} | {
        name: row for row, name in enumerate(ids)
    }
    return np.array([rows.get(name, rows.get(photo_key(name), -1)) for name in pictures], np.int64)
