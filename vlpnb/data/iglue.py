"""Rows of IGLUE (Bugliarello et al. 2022): XVNLI, MaRVL with NLVR2, xFlickr&CO; xGQA and WIT have files of their own.

Of each set every layout that is about is read: the benchmark's own files, zero-shot, few-shot and machine-translated;
what CCLM's programs convert them to; and e-SNLI-VE, whose rows train XVNLI. A row names its pictures by an id without
suffix; `vlpnb.data.iglue_data` finds their files. Rows whose gold label is "-", because people disagreed, stay, with
the label None: how they count is the metric's affair (CCL-31).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from vlpnb.data.fields import as_list, as_text, field, id_field, list_field, text_field
from vlpnb.data.text_files import lines_of, read_json, read_json_lines
from vlpnb.errors import UserError

LABELS = ("contradiction", "entailment", "neutral")  # in CCLM's order of classes
UNDECIDED = "-"  # the gold label of a row that people disagreed about


@dataclass(frozen=True)
class EntailmentRow:
    """A hypothesis about a picture. `label` is of `LABELS`, or None where people disagreed."""

    identifier: str
    image_id: str
    hypothesis: str
    label: str | None
    premise: str = ""  # what SNLI's people read in place of the picture; no model here is given it


@dataclass(frozen=True)
class PairRow:
    """A statement about a left and a right picture; the pairs of one statement share `group`.

    `label` is None in unlabelled files. `named`: the files' names where the row has addresses besides (NLVR2).
    """

    identifier: str
    sentence: str
    left: str
    right: str
    label: bool | None
    group: str
    concept: str = ""  # MaRVL: the folder of the pictures
    language: str = ""  # MaRVL
    named: tuple[str, str] | None = None


@dataclass(frozen=True)
class CaptionRow:
    """A picture with its sentences, none of which is empty."""

    image_id: str
    sentences: tuple[str, ...]


def stem(name: str, where: str) -> str:
    """The id of a picture that is named by its file: the name without folders and suffix.

    Raises:
        UserError: the name leads out of its folder, or is empty.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.stem:
        raise UserError(
            f"{where}: found {name!r}, expected the name of a picture, without folders outside its own"
        )
    return path.stem


def read_entailment(path: Path) -> list[EntailmentRow]:
    """XVNLI's JSON lines, or the table of e-SNLI-VE (a name that ends with .csv), in file order.

    A row needs `Flikr30kID`, `gold_label` and `sentence2`; e-SNLI-VE's `Flickr30kID`, `gold_label` and `hypothesis`.
    Labels that are neither of `LABELS` nor "-" are refused.

    Raises:
        UserError: with file, line and field.
    """
    if Path(path).name.removesuffix(".gz").endswith(".csv"):
        return list(_esnlive(Path(path)))
    rows = []
    for number, item in read_json_lines(path, "hypotheses of XVNLI {Flikr30kID, gold_label, sentence2}"):
        where = f"{path}:{number}"
        rows.append(
            EntailmentRow(
                text_field(item, "pairID", where, f"{Path(path).name}:{number}"),
                stem(f"{id_field(item, 'Flikr30kID', where)}.jpg", f"{where}.Flikr30kID"),
                text_field(item, "sentence2", where),
                _label(text_field(item, "gold_label", where), where),
                text_field(item, "sentence1", where, ""),
            )
        )
    return rows


def _label(value: str, where: str) -> str | None:
    if value == UNDECIDED:
        return None
    if value not in LABELS:
        raise UserError(
            f"{where}.gold_label: found {value!r}, expected {', '.join(LABELS)} or {UNDECIDED!r}."
        )
    return value


def _esnlive(path: Path) -> Iterator[EntailmentRow]:
    """A hypothesis may hold line breaks inside quotes, so that the table is read as a whole."""
    holds = "the table of e-SNLI-VE: pairID, Flickr30kID, hypothesis, gold_label"
    text = "\n".join(line.text for line in lines_of(path, holds))
    table = csv.DictReader(io.StringIO(text, newline=""))
    for item in table:
        where = f"{path}:{table.line_num}"
        if None in item or None in item.values():
            raise UserError(f"{where}: another number of columns than the header has; expected {holds}.")
        yield EntailmentRow(
            text_field(item, "pairID", where),
            stem(text_field(item, "Flickr30kID", where), f"{where}.Flickr30kID"),
            text_field(item, "hypothesis", where),
            _label(text_field(item, "gold_label", where), where),
        )


def read_pair_rows(path: Path) -> list[PairRow]:
    """Statements about two pictures, in file order, in any of their layouts, which the rows tell apart.

    MaRVL's JSON lines `{caption, concept, language, left_img, right_img, id, label}`, where a file's name may have its
    concept before it (the few-shot files); NLVR2's `{identifier, sentence, label, left_url, right_url}`, whose pictures
    are `dev-850-0-img0` and `…-img1`; and CCLM's JSON list of `{sentence, label, images: [left, right]}`.

    Raises:
        UserError: with file, line and field; also where two rows have one id.
    """
    if _is_list(path):
        items = enumerate(
            as_list(read_json(path, "a list of statements {sentence, label, images}"), str(path))
        )
        rows = [_converted(item, f"{path}: [{number}]", number) for number, item in items]
    else:
        rows = []
        for number, item in read_json_lines(path, "statements of MaRVL or NLVR2"):
            where = f"{path}:{number}"
            rows.append(
                _nlvr2(item, where)
                if isinstance(item, dict) and "identifier" in item
                else _marvl(item, where)
            )
    _refuse_twice((row.identifier for row in rows), path)
    return rows


def _is_list(path: Path) -> bool:
    """Whether a JSON file begins with a list, and is none of lines."""
    first = next((line.text.strip() for line in lines_of(path, "statements") if line.text.strip()), "")
    return first.startswith("[")


def _refuse_twice(identifiers: Iterator[str], path: Path) -> None:
    seen: set[str] = set()
    for identifier in identifiers:
        if identifier in seen:
            raise UserError(f"{path}: two rows have the id '{identifier}'; expected one.")
        seen.add(identifier)


def _marvl(item: Any, where: str) -> PairRow:
    sentence, language = text_field(item, "caption", where), text_field(item, "language", where)
    concept = text_field(item, "concept", where)
    if not concept.strip() or "/" in concept or "\\" in concept or concept.strip(".") == "":
        raise UserError(f"{where}.concept: found {concept!r}, expected the name of a folder of pictures.")
    sides = [stem(text_field(item, name, where), f"{where}.{name}") for name in ("left_img", "right_img")]
    return PairRow(
        str(id_field(item, "id", where)),
        sentence,
        *sides,
        _truth(item, where),
        f"{concept}: {sentence}",
        concept,
        language,
    )


def _nlvr2(item: Any, where: str) -> PairRow:
    identifier = str(id_field(item, "identifier", where))
    parts = identifier.split("-")
    if len(parts) < 4:
        raise UserError(f"{where}: identifier '{identifier}', expected the form split-set-pair-sentence.")
    folder = "-".join(parts[:-1])
    sides = [stem(f"{folder}-img{side}.png", f"{where}.identifier") for side in (0, 1)]
    named = None
    if "left_url" in item and "right_url" in item:
        one, two = (
            stem(text_field(item, n, where).rpartition("/")[2] or "-", f"{where}.{n}")
            for n in ("left_url", "right_url")
        )
        named = (one, two)
    group = "-".join(
        [*parts[:2], "", *parts[3:]]
    )  # the pairs of one sentence, as NLVR2's own scorer groups them
    return PairRow(
        identifier, text_field(item, "sentence", where), *sides, _truth(item, where), group, named=named
    )


def _converted(item: Any, where: str, number: int) -> PairRow:
    sentence, images = text_field(item, "sentence", where), list_field(item, "images", where)
    if len(images) != 2:
        raise UserError(f"{where}.images: found {len(images)} pictures, expected two: left and right.")
    sides = [stem(as_text(name, f"{where}.images"), f"{where}.images") for name in images]
    return PairRow(str(number), sentence, *sides, _truth(item, where), sentence)


def _truth(item: Any, where: str) -> bool | None:
    value = item.get("label")
    if value is not None and str(value) not in ("True", "False"):
        raise UserError(f"{where}.label: found {value!r}, expected true or false.")
    return None if value is None else str(value) == "True"


def read_captions_by_picture(path: Path, left_out: list[str] | None = None) -> list[CaptionRow]:
    """xFlickr&CO's and Flickr30k's JSON lines `{sentences: [text], id, img_path}`, in file order.

    A picture without a sentence that says something is left out and told to `left_out` (CCL-32). The id is a text for
    Flickr30k and a number for COCO; the picture is what `img_path` names, or else the id: `COCO_val2014_` and twelve
    digits for a number.

    Raises:
        UserError: with file, line and field: also where `sentences` is a text, which would be taken for a list of its
            letters, and where two rows name one picture.
    """
    rows = []
    for number, item in read_json_lines(path, "captioned pictures {sentences: [text], id, img_path}"):
        where = f"{path}:{number}"
        said = [as_text(text, f"{where}.sentences") for text in _sentences(item, where)]
        kept = tuple(text for text in said if text.strip())
        image_id = _captioned_picture(item, where)
        if left_out is not None and len(kept) < len(said):
            left_out.append(f"{where} {image_id}: {len(said) - len(kept)} of {len(said)} sentences are empty")
        if kept:
            rows.append(CaptionRow(image_id, kept))
        elif left_out is not None and not said:
            left_out.append(f"{where} {image_id}: a picture without a sentence")
    _refuse_twice((row.image_id for row in rows), path)
    return rows


def _sentences(item: Any, where: str) -> list:
    value = field(item, "sentences", where)
    if isinstance(value, str):
        raise UserError(
            f"{where}.sentences: found the text {value[:40]!r}, expected a list of sentences; write [{value[:20]!r}]."
        )
    return as_list(value, f"{where}.sentences")


def _captioned_picture(item: Any, where: str) -> str:
    if name := text_field(item, "img_path", where, ""):
        return stem(name, f"{where}.img_path")
    value = id_field(item, "id", where)
    return f"COCO_val2014_{value:012d}" if isinstance(value, int) else stem(f"{value}.jpg", f"{where}.id")
