"""VQA v2 in its official JSON pair, and the LXMERT question format shared by VQA, OK-VQA and GQA releases."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vlpnb.data.text_files import field, read_json
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


def coco_image_name(image_id: int, split: str) -> str:
    """The file name of a COCO 2014 picture: `coco_image_name(9, "train2014")`."""
    return f"COCO_{split}_{int(image_id):012d}.jpg"


def read_vqa(questions: Path, annotations: Path | None = None) -> list[VqaExample]:
    """Read `{questions: [...]}`, in order, and, unless it is a test set, `{annotations: [...]}`.

    Raises:
        UserError: a damaged file, a missing field, or a question without its annotation.
    """
    about: dict = {}
    if annotations is not None:
        found = field(read_json(annotations, "VQA annotations"), "annotations", str(annotations))
        for i, item in enumerate(found):
            about[field(item, "question_id", f"{annotations}: annotations[{i}]")] = (i, item)
    examples = []
    for i, item in enumerate(field(read_json(questions, "VQA questions"), "questions", str(questions))):
        where = f"{questions}: questions[{i}]"
        identity = field(item, "question_id", where)
        image_id, question = field(item, "image_id", where), field(item, "question", where)
        if annotations is None:
            examples.append(VqaExample(identity, image_id, question))
            continue
        if identity not in about:
            raise UserError(f"{where}: question_id {identity} has no annotation in {annotations}.")
        row, answer = about[identity]
        place = f"{annotations}: annotations[{row}]"
        examples.append(
            VqaExample(
                identity,
                image_id,
                question,
                tuple(str(field(a, "answer", place)) for a in field(answer, "answers", place)),
                answer.get("multiple_choice_answer"),
                answer.get("question_type", ""),
                answer.get("answer_type", ""),
            )
        )
    return examples


def read_lxmert_questions(path: Path) -> list[ScoredQuestion]:
    """Read `[{question_id, img_id, sent, label: {answer: score}}]`; `label` may be missing in test files."""
    data = read_json(path, "LXMERT questions [{question_id, img_id, sent, label}]")
    if not isinstance(data, list):
        raise UserError(f"{path}: expected a JSON list of questions, found {type(data).__name__}.")
    return [
        ScoredQuestion(
            field(item, "question_id", f"{path}: [{i}]"),
            str(field(item, "img_id", f"{path}: [{i}]")),
            field(item, "sent", f"{path}: [{i}]"),
            {str(answer): float(score) for answer, score in (item.get("label") or {}).items()},
        )
        for i, item in enumerate(data)
    ]
