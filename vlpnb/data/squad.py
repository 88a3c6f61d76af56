"""SQuAD v1.1 and v2.0 in their original JSON: questions about paragraphs whose answers are spans of the text.

Both versions share one layout, `data[].paragraphs[].{context, qas[]}`; v2.0 adds `is_impossible` and
`plausible_answers`, which are not read. `answer_start` counts characters (code points) of the context.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from vlpnb.data.fields import field, list_field, one_line, text_field
from vlpnb.data.text_files import read_json, require
from vlpnb.errors import UserError

Version = Literal["1.1", "2.0"]
VERSIONS: tuple[Version, ...] = ("1.1", "2.0")
HOLDS = "SQuAD questions {data: [{paragraphs: [{context, qas}]}]}"


@dataclass(frozen=True)
class SquadQuestion:
    """One question. `answers` are (text, first character) pairs; none when it is impossible (v2.0)."""

    id: str
    question: str
    context: str
    answers: tuple[tuple[str, int], ...]
    title: str = ""

    @property
    def impossible(self) -> bool:
        return not self.answers


def squad_file(folder: Path, version: str, split: str) -> Path:
    """`<folder>/<train|dev>-v<version>.json`, the name of the distribution; UserError for unknown names."""
    names = {"train": "train", "valid": "dev", "dev": "dev"}
    if split not in names:
        raise UserError(f"SQuAD split '{split}' is unknown; expected train or valid.")
    if version not in VERSIONS:
        raise UserError(f"SQuAD version '{version}' is unknown; expected {' or '.join(VERSIONS)}.")
    return Path(folder) / f"{names[split]}-v{version}.json"


def read_squad(folder: Path, version: str, split: str) -> list[SquadQuestion]:
    """The questions of one split of one version, in the order of its file.

    Raises:
        UserError: names the file and the field: a missing field, a field of another type, an answer that is not
            the text at its `answer_start`, a question without an answer in v1.1, an id that occurs twice.
    """
    path = require(squad_file(folder, version, split), f"the {split} split of SQuAD v{version}")
    return read_squad_file(path, allow_impossible=version == "2.0")


def read_squad_file(path: Path, allow_impossible: bool = True) -> list[SquadQuestion]:
    """The questions of one file of either version; errors as in `read_squad`."""
    found: dict[str, SquadQuestion] = {}
    for a, article in enumerate(list_field(read_json(path, HOLDS), "data", f"{path}")):
        where = f"{path}: data[{a}]"
        title = text_field(article, "title", where, "")
        for p, paragraph in enumerate(list_field(article, "paragraphs", where)):
            place = f"{where}.paragraphs[{p}]"
            context = text_field(paragraph, "context", place)
            for q, item in enumerate(list_field(paragraph, "qas", place)):
                question = _question(item, context, f"{place}.qas[{q}]", title, allow_impossible)
                if question.id in found:
                    raise UserError(f"{place}.qas[{q}].id: '{question.id}' is the id of an earlier question.")
                found[question.id] = question
    if not found:
        raise UserError(f"{path}: no question in the file; expected {HOLDS}.")
    return list(found.values())


def _question(item: Any, context: str, where: str, title: str, allow_impossible: bool) -> SquadQuestion:
    name, text = one_line(text_field(item, "id", where), f"{where}.id"), text_field(item, "question", where)
    impossible = item.get("is_impossible", False)
    if not isinstance(impossible, bool):
        raise UserError(f"{where}.is_impossible: found {impossible!r}, expected true or false.")
    answers = []
    for i, answer in enumerate([] if impossible else list_field(item, "answers", where)):
        place = f"{where}.answers[{i}]"
        said, start = text_field(answer, "text", place), field(answer, "answer_start", place)
        if not isinstance(start, int) or isinstance(start, bool):
            raise UserError(f"{place}.answer_start: found {start!r}, expected a whole number.")
        there = context[start : start + len(said)] if start >= 0 else ""
        if there != said or not said:
            raise UserError(
                f"{place}.answer_start: the context has {there!r} at character {start}, expected {said!r} (question "
                f"'{name}')."
            )
        answers.append((said, start))
    if not answers and not (impossible and allow_impossible):
        wanted = "at least one answer, or is_impossible" if allow_impossible else "at least one answer (v1.1)"
        raise UserError(f"{where}.answers: question '{name}' has none; expected {wanted}.")
    return SquadQuestion(name, text, context, tuple(answers), title)
