"""VQA v2 in its official JSON pair, and the LXMERT question format shared by VQA, OK-VQA and GQA releases."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vlpnb.data.fields import (
    as_list,
    id_field,
    list_field,
    object_field,
    text_field,
    unknown_id,
)
from vlpnb.data.lxmert import scored_answers
from vlpnb.data.text_files import read_json
from vlpnb.errors import UserError


@dataclass(frozen=True)
class VqaExample:
    """A question about one picture. `answers`: the (usually ten) human answers, empty without annotations."""

    question_id: int | str
    image_id: int | str
    question: str
    answers: tuple[str, ...] = ()
    answer: str | None = None  # the most frequent one, `multiple_choice_answer`
    question_type: str = ""
    answer_type: str = ""


@dataclass(frozen=True)
class ScoredQuestion:
    """A question with soft targets: answer → score in [0, 1], empty for test files."""

    question_id: int | str
    image_id: str
    question: str
    targets: dict[str, float]
    question_type: str = ""
    answer_type: str = ""


def coco_image_name(image_id: int, split: str) -> str:
    """The file name of a COCO 2014 picture: `coco_image_name(9, "train2014")`."""
    return f"COCO_{split}_{int(image_id):012d}.jpg"


def numbered_picture(pattern: str, number: int | str) -> str:
    """The id of a picture by its number in VQA's files: `COCO_train2014_{:012d}` makes 9 COCO_train2014_000000000009.

    UserError where the pattern has no place for the number, or another than this number fits.
    """
    try:
        if pattern.format(0) != pattern.format(1):
            return pattern.format(int(number) if str(number).isdecimal() else number)
    except (ValueError, LookupError, AttributeError):
        pass
    raise UserError(
        f"picture {number!r} has no name by the pattern {pattern!r}; expected a number, and a pattern with one place "
        "for it such as COCO_train2014_{:012d}."
    )


def read_vqa(questions: Path, annotations: Path | None = None) -> list[VqaExample]:
    """Read `{questions: [...]}`, in order, and, unless it is a test set, `{annotations: [...]}`.

    Raises:
        UserError: a damaged file, a missing field, or a question without its annotation.
    """
    about: dict = {}
    if annotations is not None:
        found = list_field(read_json(annotations, "VQA annotations"), "annotations", str(annotations))
        for i, item in enumerate(found):
            about[id_field(item, "question_id", f"{annotations}: annotations[{i}]")] = (i, item)
    examples = []
    for i, item in enumerate(list_field(read_json(questions, "VQA questions"), "questions", str(questions))):
        where = f"{questions}: questions[{i}]"
        identity = id_field(item, "question_id", where)
        image_id, question = id_field(item, "image_id", where), text_field(item, "question", where)
        if annotations is None:
            examples.append(VqaExample(identity, image_id, question))
            continue
        if identity not in about:
            unknown = unknown_id(identity, about, f"the annotations of {annotations}")
            raise UserError(f"{where}: question_id {unknown}.")
        row, answer = about[identity]
        place = f"{annotations}: annotations[{row}]"
        answers = enumerate(list_field(answer, "answers", place))
        examples.append(
            VqaExample(
                identity,
                image_id,
                question,
                tuple(text_field(a, "answer", f"{place}.answers[{j}]") for j, a in answers),
                text_field(answer, "multiple_choice_answer", place, "") or None,
                text_field(answer, "question_type", place, ""),
                text_field(answer, "answer_type", place, ""),
            )
        )
    return examples


def read_lxmert_questions(path: Path) -> list[ScoredQuestion]:
    """Read `[{question_id, img_id, sent, label: {answer: score}}]`; `label` may be missing in test files."""
    data = as_list(read_json(path, "LXMERT questions [{question_id, img_id, sent, label}]"), str(path))
    examples = []
    for i, item in enumerate(data):
        where = f"{path}: [{i}]"
        image_id, sentence = str(id_field(item, "img_id", where)), text_field(item, "sent", where)
        scores = scored_answers(object_field(item, "label", where), f"{where}.label")
        kinds = (text_field(item, name, where, "") for name in ("question_type", "answer_type"))
        identity = id_field(item, "question_id", where)
        examples.append(ScoredQuestion(identity, image_id, sentence, scores, *kinds))
    return examples
