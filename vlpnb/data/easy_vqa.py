"""easy-VQA (Zhou 2020): small pictures of one coloured shape, with questions that have 13 answers.

A split is a folder with `questions.json`, a list of [question, answer, picture's number], and `images/<number>.png`.
"""

from dataclasses import dataclass
from pathlib import Path

from vlpnb.data.fields import as_list, as_text
from vlpnb.data.text_files import read_json
from vlpnb.errors import UserError

QUESTIONS = "easy-VQA's questions [[question, answer, picture's number]]"


@dataclass(frozen=True)
class EasyQuestion:
    """A question, its one answer, and the number of its picture."""

    question: str
    answer: str
    image: int


def read_easy_vqa(folder: Path) -> list[EasyQuestion]:
    """Read the questions of a split in order. UserError names file, row and what is wrong in it."""
    path = Path(folder) / "questions.json"
    found = []
    for i, row in enumerate(as_list(read_json(path, QUESTIONS), str(path))):
        where = f"{path}: [{i}]"
        if len(as_list(row, where)) != 3:
            raise UserError(
                f"{where}: {len(row)} values, expected question, answer and the picture's number."
            )
        number = row[2]
        if isinstance(number, bool) or not isinstance(number, int) or number < 0:
            raise UserError(f"{where}[2]: found {number!r}, expected the number of a picture.")
        found.append(EasyQuestion(as_text(row[0], f"{where}[0]"), as_text(row[1], f"{where}[1]"), number))
    return found


def easy_vqa_picture(folder: Path, number: int) -> Path:
    """The file of a picture of a split."""
    return Path(folder) / "images" / f"{number}.png"
