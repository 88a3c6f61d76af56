"""Lists of the pictures that count, as VLP keeps them beside Conceptual Captions: which could be downloaded.

Differs from the original, which takes every picture where there is no list, and then writes an empty one, so that the
next run finds no picture (VLP-11). Here a list is never written, and a missing or empty one is an error.
"""

from pathlib import Path

from vlpnb.data.fields import one_line
from vlpnb.data.images import picture_id
from vlpnb.data.text_files import read_json
from vlpnb.errors import UserError


def read_valid_images(path: Path) -> frozenset[str]:
    """The ids of the pictures of a list: a JSON list of file names, or an object with them as keys.

    Raises:
        UserError: no such file, another content, or a list that names nothing.
    """
    names = read_json(
        path, "a list of valid pictures: a JSON list of file names, or an object with them as keys"
    )
    if not isinstance(names, list | dict):
        raise UserError(
            f"{path}: expected a JSON list of file names, or an object with them as keys; found {str(names)[:60]!r}."
        )
    if not names:
        raise UserError(
            f"{path}: lists no picture, so that nothing would be left; expected the file names of those that are "
            "there. Write it again, or empty `valid_images` to take all."
        )
    return frozenset(picture_id(one_line(name, f"{path}: [{i}]")) for i, name in enumerate(names))
