"""GQA questions in their official JSON: one object, question id → question."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vlpnb.data.text_files import field, read_json
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
        types = item.get("types") or {} if isinstance(item, dict) else {}
        examples.append(
            GqaExample(
                str(identity),
                str(field(item, "imageId", where)),
                field(item, "question", where),
                item.get("answer"),
                item.get("fullAnswer"),
                types.get("structural") or "",
                types.get("semantic") or "",
            )
        )
    return examples
