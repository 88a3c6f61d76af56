"""Questions about pictures in one form, whatever they were read from: VQA v2, GQA, LXMERT's JSON, easy-VQA, imdb.

The files name pictures by a COCO number, an id, or a file's number; here `image_id` is the picture's id throughout
(`images.picture_id` of its file), so that the features of a picture are found whoever asks about it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

from vlpnb.data.captions import PictureFinder, refuse_outside
from vlpnb.data.easy_vqa import easy_vqa_picture, read_easy_vqa
from vlpnb.data.fields import id_field, list_field, text_field
from vlpnb.data.gqa import read_gqa
from vlpnb.data.images import list_images, picture_id
from vlpnb.data.imdb import read_imdb
from vlpnb.data.text_files import read_json
from vlpnb.data.vqa import numbered_picture, read_lxmert_questions, read_vqa
from vlpnb.data.vqa_labels import imdb_spelling, imdb_targets, soft_targets
from vlpnb.errors import UserError

QuestionFormat = Literal["vqa", "gqa", "lxmert", "easy_vqa", "imdb"]


@dataclass(frozen=True)
class AskedQuestion:
    """A question about one picture. `targets`: answer → score, empty where nobody says the answer."""

    question_id: int | str
    image_id: str
    sentence: str
    targets: dict[str, float]
    human: tuple[str, ...] = ()  # VQA: what ten people said
    answer_type: str = ""  # VQA: yes/no, number, other
    structural: str = ""  # GQA: verify, query, choose, logical, compare
    semantic: str = ""  # GQA: obj, attr, cat, rel, global
    detailed: str = ""  # GQA: the template
    group: str = ""  # GQA: questions whose answers are drawn from the same few
    entailed: tuple[str, ...] = ()  # GQA: questions that the right answer answers too
    balanced: bool = True  # GQA

    def with_targets(self, answers: Collection[str]) -> AskedQuestion:
        """With the targets of what people said, among these answers; where a file gives scores alone, with those."""
        return replace(self, targets=imdb_targets(self.human, answers)) if self.human else self


@dataclass(frozen=True)
class PictureNames:
    """How the files of a split name pictures.

    `images`: their folder, or None where there are features and no pictures. `names`: what the number of a picture in
    VQA's files stands for: a COCO file (`….json`) with `images: [{id, file_name}]`; a pattern such as
    `COCO_train2014_{:012d}`; or empty: the picture in the folder whose name ends with the number.
    """

    images: Path | None
    names: Path | str = ""

    def numbered(self) -> Callable[[int | str], str]:
        """The function from a number to a picture's id."""
        if isinstance(self.names, Path):
            return _from_coco(self.names)
        if self.names:
            return partial(numbered_picture, self.names)
        return _from_folder(self.images)

    def place(self, split: str) -> Callable[[str], Path | None]:
        """The function from a picture's id to its file, which may not be there."""
        if self.images is None:
            return lambda name: None
        finder = PictureFinder(self.images, split)
        return finder.path


def read_questions(
    format: QuestionFormat,
    files: Iterable[Path],
    annotations: Iterable[Path],
    names: PictureNames,
    split: str,
    trusted: bool = False,
) -> tuple[list[AskedQuestion], dict[str, Path]]:
    """The questions of a split in file order, and the files of their pictures (which may not be there) by id.

    Args:
        trusted: pickled files (imdb) may be opened.
    Raises:
        UserError: a damaged file or field, an unknown format, a pickle that is not trusted, or two questions with one
            id.
    """
    files, annotations = list(files), list(annotations)
    if format == "easy_vqa":
        asked, paths = _easy_vqa(files)
    else:
        if format == "vqa":
            asked = _vqa(files, annotations, names.numbered())
        elif format == "imdb":
            asked = _imdb(files, annotations, trusted, labelled=split == "train")
        else:
            asked = {"gqa": _gqa, "lxmert": _lxmert}[format](files)
        place, paths = names.place(split), {}
        for question in asked:
            if question.image_id not in paths and (path := place(question.image_id)) is not None:
                paths[question.image_id] = path
    seen: set[int | str] = set()
    for question in asked:
        if question.question_id in seen:
            raise UserError(f"{files[0]} …: two questions have the id {question.question_id}; expected one.")
        seen.add(question.question_id)
    return asked, paths


def _vqa(files: list[Path], annotations: list[Path], name: Callable[[int | str], str]) -> list[AskedQuestion]:
    if annotations and len(annotations) != len(files):
        raise UserError(
            f"{len(files)} files of questions ({files[0]} …) and {len(annotations)} of annotations; expected as many"
        )
    return [
        AskedQuestion(
            q.question_id, name(q.image_id), q.question, soft_targets(q.answers), q.answers, q.answer_type
        )
        for questions, answers in zip(files, annotations or [None] * len(files), strict=True)
        for q in read_vqa(questions, answers)
    ]


def _imdb(files: list[Path], annotations: list[Path], trusted: bool, labelled: bool) -> list[AskedQuestion]:
    """VLP's form, spelt as it trains; types of answers stand in VQA's annotations alone."""
    types = {}
    for path in annotations:
        for i, row in enumerate(list_field(read_json(path, "VQA annotations"), "annotations", str(path))):
            where = f"{path}: annotations[{i}]"
            types[id_field(row, "question_id", where)] = text_field(row, "answer_type", where, "")
    found = []
    for path in files:
        for q in read_imdb(path, trusted, labelled):
            refuse_outside(str(q.image_id), str(path))
            targets = imdb_targets(q.answers, map(imdb_spelling, q.answers))
            kind = types.get(q.question_id, "")
            found.append(AskedQuestion(q.question_id, str(q.image_id), q.question, targets, q.answers, kind))
    return found


def _gqa(files: list[Path]) -> list[AskedQuestion]:
    return [
        AskedQuestion(
            q.question_id,
            q.image_id,
            q.question,
            {} if q.answer is None else {q.answer: 1.0},
            structural=q.structural,
            semantic=q.semantic,
            detailed=q.detailed,
            group=q.group,
            entailed=q.entailed,
            balanced=q.balanced,
        )
        for path in files
        for q in read_gqa(path)
    ]


def _lxmert(files: list[Path]) -> list[AskedQuestion]:
    found = []
    for path in files:
        for q in read_lxmert_questions(path):
            refuse_outside(q.image_id, str(path))
            found.append(
                AskedQuestion(
                    q.question_id, picture_id(q.image_id), q.question, q.targets, answer_type=q.answer_type
                )
            )
    return found


def _easy_vqa(folders: list[Path]) -> tuple[list[AskedQuestion], dict[str, Path]]:
    asked, paths = [], {}
    for folder in folders:
        for i, q in enumerate(read_easy_vqa(folder)):
            name = f"{folder.name}_{q.image}"  # the numbers of both splits begin with 0
            paths[name] = easy_vqa_picture(folder, q.image)
            asked.append(AskedQuestion(f"{folder.name}-{i}", name, q.question, {q.answer: 1.0}))
    return asked, paths


def _from_coco(path: Path) -> Callable[[int | str], str]:
    found = {}
    for i, image in enumerate(
        list_field(read_json(path, "COCO's images [{id, file_name}]"), "images", str(path))
    ):
        where = f"{path}: images[{i}]"
        found[id_field(image, "id", where)] = picture_id(text_field(image, "file_name", where))
    return lambda number: found.get(number, str(number))


def _from_folder(images: Path | None) -> Callable[[int | str], str]:
    """Numbers at the ends of file names: COCO_train2014_000000000009.jpg and 000000000009.jpg are both picture 9."""
    found: dict[int, str] = {}
    for path in list_images(images).files if images is not None and images.is_dir() else ():
        name = picture_id(path.relative_to(images))
        if end := re.search(r"\d+$", name):
            first = found.setdefault(int(end[0]), name)
            if first != name:
                raise UserError(
                    f"{images}: pictures '{first}' and '{name}' both end with number {int(end[0])}; say with "
                    "`image_names` which one questions mean"
                )
    return lambda number: found.get(int(number), str(number)) if str(number).isdecimal() else str(number)
