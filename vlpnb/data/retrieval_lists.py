"""The lists by which CCLM is fine-tuned for retrieval and evaluated (Zeng et al. 2023, section 4.2): Multi30k, COCO.

| list | rows |
|---|---|
| train | `{"caption": "a red ball", "image": "a.jpg", "image_id": 7}`, a row for each caption |
| val, test | `{"caption": ["a red ball", …], "image": "a.jpg", "image_id": 7}`, a row for each picture |

A text in place of the list would be taken letter by letter, and is refused.
"""

from pathlib import Path
from typing import Literal, NamedTuple

from vlpnb.data.fields import as_list, as_text, field, id_field, one_line, text_field
from vlpnb.data.text_files import read_json
from vlpnb.errors import UserError

Kind = Literal["train", "test"]


class RetrievalRow(NamedTuple):
    """A picture and what is said of it; `image_id` is "" where the row has none."""

    image: str
    captions: tuple[str, ...]
    image_id: int | str = ""


def read_retrieval_list(path: Path, kind: Kind) -> list[RetrievalRow]:
    """The rows of a list in file order; empty captions are in it.

    Args:
        kind: "train": a caption each; "test" (validation too): all captions of a picture.
    Raises:
        UserError: naming file, row and field.
    """
    path = Path(path)
    rows = as_list(read_json(path, "a JSON list of {image, caption, image_id}"), f"{path}")
    return [_row(row, kind, f"{path}: [{i}]") for i, row in enumerate(rows)]


def _row(row: object, kind: Kind, where: str) -> RetrievalRow:
    image, found = one_line(text_field(row, "image", where), f"{where}.image"), field(row, "caption", where)
    if kind == "test" and isinstance(found, str):
        raise UserError(
            f"{where}.caption: found the text {found[:40]!r}; expected the list of the picture's captions. Write it as "
            '["…"], or read the file as a training list.'
        )
    texts = [found] if kind == "train" else as_list(found, f"{where}.caption")
    captions = tuple(as_text(text, f"{where}.caption") for text in texts)
    return RetrievalRow(image, captions, id_field(row, "image_id", where) if "image_id" in row else "")
