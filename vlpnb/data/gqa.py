"""GQA questions in their official JSON: one object, question id → question."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vlpnb.data.fields import as_text, id_field, list_field, object_field, one_line, text_field
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
    detailed: str = ""  # the template
    group: str = ""  # `groups.global`: questions whose answers are drawn from the same few; empty for yes/no
    entailed: tuple[str, ...] = ()  # questions that the right answer to this one answers too
    equivalent: tuple[str, ...] = ()
    balanced: bool = True  # the accuracies count balanced questions alone


@dataclass(frozen=True)
class GqaChoices:
    """Of one question: the answers that fit its words, and those of them that fit the world."""

    valid: frozenset[str]
    plausible: frozenset[str]


def read_gqa(path: Path) -> list[GqaExample]:
    """Read one questions file in its order. UserError names the question and the missing field."""
    data = read_json(path, "GQA questions {id: {imageId, question, answer}}")
    if not isinstance(data, dict):
        raise UserError(f"{path}: expected a JSON object of questions, found {type(data).__name__}.")
    examples = []
    for identity, item in data.items():
        where = f"{path}: {identity}"
        types, groups = object_field(item, "types", where), object_field(item, "groups", where)
        examples.append(
            GqaExample(
                one_line(identity, f"{path}: the id of a question"),
                str(id_field(item, "imageId", where)),
                text_field(item, "question", where),
                text_field(item, "answer", where) if item.get("answer") is not None else None,
                text_field(item, "fullAnswer", where) if item.get("fullAnswer") is not None else None,
                text_field(types, "structural", f"{where}.types", ""),
                text_field(types, "semantic", f"{where}.types", ""),
                text_field(types, "detailed", f"{where}.types", ""),
                text_field(groups, "global", f"{where}.groups", ""),
                _names(item, "entailed", where),
                _names(item, "equivalent", where),
                _switch(item, "isBalanced", where),
            )
        )
    return examples


def read_gqa_choices(path: Path) -> dict[str, GqaChoices]:
    """Question id → its valid and plausible answers, from the choices file of the evaluation.

    UserError names the question and the missing field.
    """
    data = read_json(path, "GQA choices {id: {valid: [answer], plausible: [answer]}}")
    if not isinstance(data, dict):
        raise UserError(f"{path}: expected a JSON object of questions, found {type(data).__name__}.")
    found = {}
    for identity, item in data.items():
        where = f"{path}: {identity}"
        kinds = (_names(item, kind, where, required=True) for kind in ("valid", "plausible"))
        found[identity] = GqaChoices(*map(frozenset, kinds))
    return found


def _names(item: dict, name: str, where: str, required: bool = False) -> tuple[str, ...]:
    if not required and item.get(name) is None:
        return ()
    return tuple(as_text(value, f"{where}.{name}") for value in list_field(item, name, where))


def _switch(item: dict, name: str, where: str) -> bool:
    value = item.get(name, True)
    if not isinstance(value, bool):
        raise UserError(f"{where}.{name}: found {value!r}, expected true or false.")
    return value
