"""LXMERT's files (Tan and Bansal 2019): sentences and answers by picture, the answer table, pairs of pictures.

One entry of the pre-training files is a picture with its sentences by source (captions, region phrases, questions);
the sentences of a question source have answers with scores beside them. The answer table's row is the class of the
answering head, so that a checkpoint needs the very table that it was trained with.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from vlpnb.data.fields import (
    as_list,
    as_number,
    as_object,
    as_text,
    field,
    id_field,
    list_field,
    object_field,
    one_line,
    text_field,
)
from vlpnb.data.nlvr2 import Nlvr2Example
from vlpnb.data.text_files import lines_of, read_json
from vlpnb.errors import UserError

SENTENCES = "LXMERT's sentences [{img_id, sentf: {source: [sentence]}, labelf: {source: [{answer: score}]}}]"
PAIRS = "LXMERT's statements [{identifier, img0, img1, label, sent}]"
TABLE = "LXMERT's answer table [{ans, dsets}]"
ARTICLES = ("a ", "an ", "the ")  # in the order in which they are taken away
# whole answers that are written in another way; of the last four only "the a man" still has one to lose
ONE_WAY = {"grey": "gray"} | {f"{article} {who}": who for article in ("a", "the") for who in ("man", "woman")}
NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
ONE_WAY |= {word: str(n) for n, word in enumerate(NUMBERS, start=1)}


@dataclass(frozen=True)
class LxmertImage:
    """A picture's sentences by source. `labels[s][i]` are the answers (with scores) of `sentences[s][i]`; sources
    without answers, such as captions, are not in `labels`.
    """

    image_id: str
    sentences: dict[str, tuple[str, ...]]
    labels: dict[str, tuple[dict[str, float], ...]]


def read_lxmert(path: Path) -> list[LxmertImage]:
    """Read one pre-training file in its order, sentences and answers as they stand.

    Raises:
        UserError: with file, entry and field; also where a source has more or fewer answers than sentences.
    """
    found = []
    for i, row in enumerate(as_list(read_json(path, SENTENCES), str(path))):
        where = f"{path}: [{i}]"
        field(row, "sentf", where)
        sources = object_field(row, "sentf", where)
        sentences = {
            source: tuple(
                as_text(text, f"{where}.sentf.{source}[{j}]")
                for j, text in enumerate(list_field(sources, source, f"{where}.sentf"))
            )
            for source in sources
        }
        answered = object_field(row, "labelf", where)
        labels = {}
        for source in answered:
            rows = list_field(answered, source, f"{where}.labelf")
            if len(rows) != len(sentences.get(source, ())):
                raise UserError(
                    f"{where}: {len(rows)} answers of source '{source}' and {len(sentences.get(source, ()))} of its "
                    "sentences; expected answers to every sentence."
                )
            labels[source] = tuple(
                scored_answers(item, f"{where}.labelf.{source}[{j}]") for j, item in enumerate(rows)
            )
        found.append(LxmertImage(str(id_field(row, "img_id", where)), sentences, labels))
    return found


def scored_answers(item: object, where: str) -> dict[str, float]:
    """`{answer: score}` of one question. UserError unless it is an object of numbers in [0, 1]."""
    scores = {}
    for answer, score in as_object(item, where).items():
        value = as_number(score, f"{where}[{answer!r}]")
        if not 0 <= value <= 1:
            raise UserError(f"{where}[{answer!r}]: score {value:g}, expected a number from 0 to 1.")
        scores[as_text(answer, where)] = value
    return scores


def normalise_answer(text: str) -> str:
    """An answer as the table spells it: small letters, no full stop at the end, no article before it, 10 for "ten".

    As the original does it, to the letter: each article is taken away at most once, in the order a, an, the; numbers
    and "grey" are replaced only where they are the whole answer ("the a cat" keeps its "a", "the a man" does not);
    other blanks stay.
    """
    text = text.lower()
    if text.endswith("."):
        text = text[:-1].strip()
    for article in ARTICLES:
        if text.startswith(article):
            text = text[len(article) :].strip()
    return ONE_WAY.get(text, text)


@dataclass(frozen=True)
class AnswerTable:
    """The answers that the answering head knows; row i is its class i. `sources[i]`: the data sets that ask for it."""

    answers: tuple[str, ...]
    sources: tuple[frozenset[str], ...]

    def __post_init__(self):
        object.__setattr__(self, "_rows", {answer: i for i, answer in enumerate(self.answers)})

    @classmethod
    def read(cls, path: Path) -> AnswerTable:
        """Read `all_ans.json`. UserError for a damaged row, or an answer that stands twice."""
        answers: dict[str, frozenset[str]] = {}
        for i, row in enumerate(as_list(read_json(path, TABLE), str(path))):
            where = f"{path}: [{i}]"
            answer = text_field(row, "ans", where)
            if answer in answers:
                raise UserError(
                    f"{where}: answer {answer!r} stands in the table already; remove one of the two."
                )
            sources = list_field(row, "dsets", where)
            answers[answer] = frozenset(as_text(source, f"{where}.dsets") for source in sources)
        return cls(tuple(answers), tuple(answers.values()))

    def rows(self) -> list[dict]:
        """The rows of `all_ans.json`."""
        pairs = zip(self.answers, self.sources, strict=True)
        return [{"ans": answer, "dsets": sorted(sources)} for answer, sources in pairs]

    def restricted(self, sources: Iterable[str]) -> AnswerTable:
        """The answers that some of these data sets ask for, numbered anew; sentences without an answer in it stay
        sentences (LXM-13).

        UserError for a source that no answer has.
        """
        wanted, known = set(sources), frozenset().union(*self.sources)
        if unknown := sorted(wanted - known):
            there = ", ".join(sorted(known)) or "none: the table is empty"
            raise UserError(f"no answer of the table is of source '{unknown[0]}'; expected some of {there}")
        kept = [i for i, of in enumerate(self.sources) if of & wanted]
        return AnswerTable(tuple(self.answers[i] for i in kept), tuple(self.sources[i] for i in kept))

    def index(self, answer: str) -> int | None:
        """The row of an answer that is spelt as the table spells it, or None."""
        return self._rows.get(answer)

    def __len__(self) -> int:
        return len(self.answers)

    def prune(self, labels: Mapping[str, float]) -> dict[int, float]:
        """Row → score of a question's answers, those outside the table left out.

        Where two become the same by `normalise_answer`, the one that was spelt otherwise wins, whatever their order,
        and the last of several such: the original rewrites its labels in place, and its checkpoints saw that
        (LXM-12).
        """
        kept = dict(labels)
        for given in labels:
            spelt = normalise_answer(given)
            if self.index(spelt) is None:
                del kept[given]
            elif spelt != given:
                kept[spelt] = kept.pop(given)
        return {self._rows[answer]: score for answer, score in kept.items()}


def read_labels(path: Path) -> tuple[str, ...]:
    """The answers of a task, class by class: `trainval_label2ans.json`, or VLP's text with one a line (`.txt`).

    Raises:
        UserError: an answer stands twice or a line is empty, or `trainval_ans2label.json` beside it says otherwise.
    """
    holds = "a task's answers"
    if Path(path).suffix == ".txt":
        found = [
            one_line(text, f"{path}:{number}") for number, text in lines_of(path, f"{holds}, one a line")
        ]
    else:
        found = as_list(read_json(path, f"{holds}, [answer]"), str(path))
    answers = tuple(as_text(answer, f"{path}: [{i}]") for i, answer in enumerate(found))
    rows: dict[str, int] = {}
    for i, answer in enumerate(answers):
        if rows.setdefault(answer, i) != i:
            raise UserError(f"{path}: [{i}]: answer {answer!r} is class {rows[answer]} already.")
    other = Path(path).with_name(Path(path).name.replace("label2ans", "ans2label"))
    if other != Path(path) and other.is_file():
        inverse = read_json(other, "a task's classes, {answer: class}")
        if inverse != rows:
            raise UserError(f"{other} and {path} disagree; expected one to be the inverse of the other.")
    return answers


def read_lxmert_pairs(path: Path) -> list[Nlvr2Example]:
    """Read LXMERT's own form of NLVR2, a JSON list; pictures are named without a suffix, as there.

    UserError names file, entry and field.
    """
    found = []
    for i, row in enumerate(as_list(read_json(path, PAIRS), str(path))):
        where = f"{path}: [{i}]"
        label = row.get("label") if isinstance(row, dict) else None
        if label is not None and (isinstance(label, bool) or label not in (0, 1)):
            raise UserError(f"{where}.label: found {label!r}, expected 0 or 1.")
        found.append(
            Nlvr2Example(
                str(id_field(row, "identifier", where)),
                text_field(row, "sent", where),
                str(id_field(row, "img0", where)),
                str(id_field(row, "img1", where)),
                None if label is None else bool(label),
            )
        )
    return found


def lxmert_pairs(examples: Iterable[Nlvr2Example], split: str) -> list[dict]:
    """Statements in LXMERT's own form, the picture's suffix left out and each with a `uid` of its split."""
    rows = []
    for i, example in enumerate(examples):
        row = {
            "identifier": example.identifier,
            "img0": example.left.removesuffix(".png"),
            "img1": example.right.removesuffix(".png"),
            "label": None if example.label is None else int(example.label),
            "sent": example.sentence,
            "uid": f"nlvr2_{split}_{i}",
        }
        rows.append({name: value for name, value in row.items() if value is not None})
    return rows
