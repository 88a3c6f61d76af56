"""GQA questions in their official JSON: one object, question id → question."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vlpnb.data.fields import id_field, object_field, one_line, text_field
from vlpnb.data.text_files import read_json
from vlpnb.errors import UserError


@dataclass(frozen=True)
class GqaExample:
    """A compositional question with one short answer (None in submission files)."""

    question_id: str
    image_id: str
    question: str
    answer: str | None
    full_answer: str | None
    structural: str = ""  # verify, query, choose, logical, compare
    semantic: str = ""  # obj, attr, cat, rel, global


def read_gqa(path: Path) -> list[GqaExample]:
    """Read one questions file in its order. UserError names the question and the missing field."""
    data = read_json(path, "GQA questions {id: {imageId, question, answer}}")
    if not isinstance(data, dict):
        raise UserError(f"{path}: expected a JSON object of questions, found {type(data).__name__}.")
    examples = []
    for identity, item in data.items():
        where = f"{path}: {identity}"
        types = object_field(item, "types", where)
        examples.append(
            GqaExample(
                one_line(identity, f"{path}: the id of a question"),
                str(id_field(item, "imageId", where)),
                text_field(item, "question", where),
                text_field(item, "answer", where) if item.get("answer") is not None else None,
                text_field(item, "fullAnswer", where) if item.get("fullAnswer") is not None else None,
                text_field(types, "structural", f"{where}.types", ""),
                text_field(types, "semantic", f"{where}.types", ""),
            )
        )
    return examples
