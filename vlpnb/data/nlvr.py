"""NLVR v1 (Suhr et al. 2017): is the sentence true of this picture of three boxes with shapes?

A split is a folder with `<split>.json`, JSON lines, and `images/<directory>/<split>-<identifier>-<order>.png`, each
picture 400 × 100 pixels: three boxes of 100 pixels and grey between them. Of the six orders of the boxes the course
reads the first.
"""

from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from vlpnb.data.fields import field, id_field, text_field
from vlpnb.data.text_files import read_json_lines
from vlpnb.errors import UserError

BOXES = 3
GAP = 0.5  # between two boxes, in widths of a box


@dataclass(frozen=True)
class NlvrExample:
    """A statement about one picture. `identifier` is `<sentence>-<number>`: equal sentences share the first part."""

    identifier: str
    sentence: str
    label: bool
    picture: str  # below the split's folder

    @property
    def sentence_id(self) -> str:
        """What the pictures of one sentence share."""
        return self.identifier.rpartition("-")[0]


def read_nlvr(path: Path) -> list[NlvrExample]:
    """Read `<split>.json` in order.

    UserError names file and line of a missing field, a label that is neither true nor false, or an identifier that is
    no `<sentence>-<number>`.
    """
    path = Path(path)
    found = []
    for number, item in read_json_lines(path, "NLVR examples {identifier, directory, sentence, label}"):
        where = f"{path}:{number}"
        identifier = str(id_field(item, "identifier", where))
        if not all(part.isdigit() for part in identifier.split("-")) or identifier.count("-") != 1:
            raise UserError(f"{where}: identifier '{identifier}', expected the form sentence-number.")
        label = str(field(item, "label", where)).lower()
        if label not in ("true", "false"):
            raise UserError(f"{where}: label '{item['label']}', expected true or false.")
        picture = f"images/{id_field(item, 'directory', where)}/{path.stem}-{identifier}-0.png"
        found.append(NlvrExample(identifier, text_field(item, "sentence", where), label == "true", picture))
    return found


def crop_box(picture: Image.Image, number: int) -> Image.Image:
    """One of the three boxes of a picture, from the left. UserError for a picture of another shape."""
    width, height = picture.size
    if width != round(height * (BOXES + (BOXES - 1) * GAP)):
        raise UserError(
            f"a picture of {width} × {height} pixels, expected NLVR's three square boxes with gaps, 4 times as wide as "
            "high"
        )
    left = round(number * height * (1 + GAP))
    return picture.crop((left, 0, left + height, height))
