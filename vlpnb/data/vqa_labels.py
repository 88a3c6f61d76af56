"""From ten answers of people to the soft targets on which VQA models are trained.

Antol et al. (2015, section 3) score an answer by min(n / 3, 1), n of the other nine people giving it, on average over
the ten people who can be left out. Someone who gave it leaves n - 1 behind, anyone else n, so with n of ten the mean is

    (n · min((n - 1) / 3, 1) + (10 - n) · min(n / 3, 1)) / 10  =  0, 0.3, 0.6, 0.9, 1, 1 …

for n = 0, 1, 2, 3, 4, 5 …: the targets of Teney et al. (2018), and after them of LXMERT, are the metric itself.

The answers that a model chooses from are those that are most people's answer to at least nine questions, spelt as the
official evaluation spells them; what single people said is compared with them as it stands
(LXM-38).
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from vlpnb.data.lxmert import read_labels
from vlpnb.data.vqa import VqaExample, numbered_picture, read_vqa
from vlpnb.data.vqa_answers import normalise
from vlpnb.errors import UserError
from vlpnb.files import write_json

PEOPLE = 10
ENOUGH = 3  # people who agree with an answer make it right
UNKNOWN = "<unk>"
LEAST = 9  # questions that an answer must be most people's answer to


def soft_score(count: int, people: int = PEOPLE) -> float:
    """The score of an answer that `count` of the people gave."""
    if people < 2:
        return float(count > 0)  # nobody to leave out
    with_one_left_out = count * min(count - 1, ENOUGH) + (people - count) * min(count, ENOUGH)
    return with_one_left_out / (ENOUGH * people)


def soft_targets(answers: Sequence[str]) -> dict[str, float]:
    """Answer → score of all that people said, compared as they wrote it, in the order in which it first occurs."""
    return {answer: soft_score(n, len(answers)) for answer, n in Counter(answers).items()}


def imdb_spelling(answer: str) -> str:
    """An answer as the training of Pythia, and after it of VLP, looks it up: full stops, hyphens and articles stay."""
    return answer.lower().replace(",", "").replace("?", "").replace("'s", " 's").strip()


def imdb_targets(answers: Sequence[str], known: Iterable[str]) -> dict[str, float]:
    """Answer → score of what people said and is known, but `<unk>`; as VLP trains.

    Answers that are missing to make ten count as unknown.
    """
    known = set(known) - {UNKNOWN}
    said = Counter(imdb_spelling(answer) for answer in answers)
    return {answer: soft_score(n, max(PEOPLE, len(answers))) for answer, n in said.items() if answer in known}


def with_unknown(answers: Sequence[str]) -> list[str]:
    """The answers with `<unk>` in front, where it is not among them: the class that is never predicted (VLP-18)."""
    return list(answers) if UNKNOWN in answers else [UNKNOWN, *answers]


def frequent(answers: Iterable[str], least: int) -> list[str]:
    """What occurs at least `least` times, in alphabetical order."""
    return sorted(answer for answer, n in Counter(answers).items() if n >= least)


def most_peoples(answers: Sequence[str]) -> str:
    """What most people said, the first of several such; spelt officially."""
    return normalise(Counter(answers).most_common(1)[0][0])


class SplitFiles(NamedTuple):
    """A split of VQA: its questions, its answers unless it is a test set, and what a picture's number stands for."""

    questions: Path
    annotations: Path | None = None
    names: str = "{}"  # such as COCO_train2014_{:012d}


def lxmert_rows(examples: Iterable[VqaExample], answers: Iterable[str], names: str = "{}") -> list[dict]:
    """Questions in LXMERT's form. `label` has the scores of what people said and is among the answers; without
    annotations it is absent.
    """
    known, rows = set(answers), []
    for q in examples:
        row = {
            "img_id": numbered_picture(names, q.image_id),
            "question_id": q.question_id,
            "sent": q.question,
        }
        if q.answers:
            kinds = {"question_type": q.question_type, "answer_type": q.answer_type}
            scores = {answer: score for answer, score in soft_targets(q.answers).items() if answer in known}
            row |= {**{name: kind for name, kind in kinds.items() if kind}, "label": scores}
        rows.append(row)
    return rows


def build_labels(
    splits: dict[str, SplitFiles], folder: Path, least: int = LEAST, answers: Path | None = None
) -> dict[str, int]:
    """Write `<split>.json` in LXMERT's form, `trainval_label2ans.json` and `trainval_ans2label.json` into a folder.

    The answers are those of `answers` (a checkpoint needs the classes that it was trained with), or the frequent ones
    over all splits that have annotations. Returns counts: `answers`, and per split `<split>_questions` and
    `<split>_without` (answered questions none of whose answers is a class).

    Raises:
        UserError: a damaged file, or no answer that is frequent.
    """
    read = {split: read_vqa(files.questions, files.annotations) for split, files in splits.items()}
    if answers is not None:
        classes = list(read_labels(answers))
    else:
        best = (
            normalise(q.answer) if q.answer else most_peoples(q.answers)
            for examples in read.values()
            for q in examples
            if q.answers
        )
        classes = frequent(best, least)
    if not classes:
        raise UserError(
            f"no answer is most people's answer to {least} questions in {', '.join(splits)}; lower --least, or give a "
            "split with annotations"
        )
    folder.mkdir(parents=True, exist_ok=True)
    counts = {"answers": len(classes)}
    for split, examples in read.items():
        rows = lxmert_rows(examples, classes, splits[split].names)
        write_json(folder / f"{split}.json", rows)
        counts[f"{split}_questions"] = len(rows)
        counts[f"{split}_without"] = sum("label" in row and not row["label"] for row in rows)
    write_json(folder / "trainval_label2ans.json", classes)
    write_json(folder / "trainval_ans2label.json", {answer: i for i, answer in enumerate(classes)})
    return counts
