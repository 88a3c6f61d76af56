"""Questions of xGQA (Pfeiffer et al. 2022) and of GQA as CCLM trains on it; answers are English in every language.

Three layouts: xGQA's own JSON object (question id → question, as GQA's files); LXMERT's JSON list of
`{img_id, label: {answer: weight}, question_id, sent}`; and the pickled list of `{image_id, labels, scores, question_id,
question}` beside xGQA's JSON, whose labels are places in the list of answers. A pickle is a program, so that it is read
only where somebody says that it is trusted, and nothing but plain containers, texts and numbers is made of it; the JSON
beside it says the same.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlpnb.data.fields import as_list, as_number, as_text, id_field, list_field, object_field, text_field
from vlpnb.data.iglue import stem
from vlpnb.data.text_files import read_json, require
from vlpnb.errors import UserError

HOLDS = "questions of xGQA: an object {id: {question, imageId, answer}} or a list [{question_id, img_id, sent, label}]"


@dataclass(frozen=True)
class QuestionRow:
    """A question about a picture. `answers`: English answer → weight; empty where nobody says it."""

    question_id: str
    image_id: str
    question: str
    answers: dict[str, float]

    @property
    def answer(self) -> str | None:
        """The answer of the greatest weight; of several the first. None where there is none."""
        return max(self.answers, key=self.answers.__getitem__) if self.answers else None


def read_xgqa(path: Path, answers: Sequence[str] = (), trusted: bool = False) -> list[QuestionRow]:
    """The questions of a file in its order, whatever its layout; the name of a pickle ends with `.pkl`.

    Args:
        answers: by class, of a pickle alone.
        trusted: a pickle may be opened.
    Raises:
        UserError: a damaged file or field, a pickle that is not trusted or holds what is not plain, or two questions
            with one id; with file and question.
    """
    path = Path(path)
    if path.suffix == ".pkl":
        rows = _pickled(path, answers, trusted)
    else:
        data = read_json(path, HOLDS)
        if isinstance(data, dict):
            rows = [_own(name, item, f"{path}: {name}") for name, item in data.items()]
        else:
            rows = [_listed(item, f"{path}: [{i}]") for i, item in enumerate(as_list(data, str(path)))]
    seen: set[str] = set()
    for row in rows:
        if row.question_id in seen:
            raise UserError(f"{path}: two questions have the id {row.question_id}; expected one.")
        seen.add(row.question_id)
    return rows


def _own(name: str, item: Any, where: str) -> QuestionRow:
    answer = text_field(item, "answer", where, "")
    return QuestionRow(
        name,
        stem(f"{id_field(item, 'imageId', where)}.jpg", f"{where}.imageId"),
        text_field(item, "question", where),
        {answer: 1.0} if answer else {},
    )


def _listed(item: Any, where: str) -> QuestionRow:
    label = object_field(item, "label", where)
    return QuestionRow(
        str(id_field(item, "question_id", where)),
        stem(f"{id_field(item, 'img_id', where)}.jpg", f"{where}.img_id"),
        text_field(item, "sent", where),
        {as_text(a, f"{where}.label"): as_number(w, f"{where}.label.{a}") for a, w in label.items()},
    )


class _Plain(pickle.Unpickler):
    """Makes containers, texts and numbers, and refuses everything else by name."""

    def find_class(self, module: str, name: str) -> Any:
        raise UserError(
            f"it would run {module}.{name}; expected texts, numbers, lists and dicts alone. Do not use the file unless "
            "you know who made it"
        )


def _pickled(path: Path, answers: Sequence[str], trusted: bool) -> list[QuestionRow]:
    require(path, "questions of xGQA, pickled")
    if not trusted:
        raise UserError(
            f"{path}: this file is a pickle, which can run any program when it is opened; expected somebody to answer "
            "for it. Set `trusted: true` beside the files if you know who made it, or take the JSON beside it."
        )
    try:
        with path.open("rb") as file:
            items = _Plain(file).load()
    except UserError as error:
        raise UserError(f"{path}: {error}.") from None
    except MemoryError:
        raise
    except Exception as error:  # a damaged pickle fails in any way
        raise UserError(f"{path}: cannot be read ({error}); expected {HOLDS}. Fetch it again.") from error
    rows = []
    for i, item in enumerate(as_list(items, str(path))):
        where = f"{path}: [{i}]"
        labels, scores = list_field(item, "labels", where), list_field(item, "scores", where)
        if len(labels) != len(scores):
            raise UserError(f"{where}: {len(labels)} labels and {len(scores)} scores; expected as many.")
        said = {
            _answer(label, answers, where): as_number(s, where)
            for label, s in zip(labels, scores, strict=True)
        }
        rows.append(
            QuestionRow(
                str(id_field(item, "question_id", where)),
                stem(f"{id_field(item, 'image_id', where)}.jpg", f"{where}.image_id"),
                text_field(item, "question", where),
                said,
            )
        )
    return rows


def _answer(label: Any, answers: Sequence[str], where: str) -> str:
    if isinstance(label, bool) or not isinstance(label, int) or not 0 <= label < len(answers):
        raise UserError(
            f"{where}.labels: found {label!r}, expected a place in the list of {len(answers):,} answers; is it the "
            "list that the file was made with?"
        )
    return answers[label]
