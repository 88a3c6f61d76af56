"""NLVR2 statements in their official JSON lines: is the sentence true of this pair of pictures?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vlpnb.data.fields import id_field, text_field
from vlpnb.data.text_files import read_json_lines
from vlpnb.errors import UserError


@dataclass(frozen=True)
class Nlvr2Example:
    """A statement about a left and a right picture. `label` is None in unlabelled test files."""

    identifier: str
    sentence: str
    left: str
    right: str
    label: bool | None
    directory: str = ""  # sub-folder of the training pictures


def read_nlvr2(path: Path) -> list[Nlvr2Example]:
    """Read one split. Picture names follow the release: `dev-850-0-1` → `dev-850-0-img0.png`, `…-img1.png`.

    Raises:
        UserError: with file and line for a missing field or a label that is neither True nor False.
    """
    examples = []
    for number, item in read_json_lines(path, "NLVR2 examples {identifier, sentence, label}"):
        where = f"{path}:{number}"
        identifier = str(id_field(item, "identifier", where))
        stem, dash, _ = identifier.rpartition("-")
        if not dash:
            raise UserError(f"{where}: identifier '{identifier}', expected the form split-set-pair-sentence.")
        label = item.get("label")
        if label is not None and str(label) not in {"True", "False"}:
            raise UserError(f"{where}: label '{label}', expected True or False.")
        examples.append(
            Nlvr2Example(
                identifier,
                text_field(item, "sentence", where),
                f"{stem}-img0.png",
                f"{stem}-img1.png",
                None if label is None else str(label) == "True",
                str(id_field(item, "directory", where)) if "directory" in item else "",
            )
        )
    return examples
