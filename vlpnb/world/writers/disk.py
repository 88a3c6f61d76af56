"""Files that appear whole or not at all."""

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from vlpnb.files import atomic


def write(path: Path, content: bytes | Iterable[str]) -> None:
    """Write bytes, or text piece by piece, under a temporary name and rename it when complete."""
    with atomic(path, flush=False) as temporary, temporary.open("wb") as file:
        if isinstance(content, bytes):
            file.write(content)
        else:
            file.writelines(piece.encode() for piece in content)


def link(source: Path, target: Path) -> None:
    """A hard link, or a copy where the file system has none."""
    try:
        os.link(source, target)
    except FileExistsError:
        pass
    except OSError:
        shutil.copyfile(source, target)


def json_text(value: Any) -> list[str]:
    """The text of a JSON file."""
    return [json.dumps(value, ensure_ascii=False), "\n"]


def json_lines(rows: Iterable[Mapping]) -> Iterable[str]:
    """The text of a file of JSON lines."""
    return (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
