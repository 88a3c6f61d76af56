"""The student edition: the notebooks without the solutions of their exercises.

A stub of the shipped notebooks is skipped by the runner (its solution follows it). Here it takes the solution's
place, so it is executed. Until it is filled in, its check fails, and so may the cells that use it: both are tagged
`raises-exception`, so that "restart and run all" goes on and shows the check's message.
"""

import ast
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vlpnb.errors import UserError
from vlpnb.files import make_writable, read_back, write_text


def student_edition(notebook: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a notebook (as JSON) without cells tagged `solution`; stubs and checks stay."""
    cells, own = [], set()
    for cell in notebook["cells"]:
        tags = list(cell["metadata"].get("tags", []))
        if "solution" in tags:
            continue
        if "exercise" in tags:
            tags.remove("skip-execution")
            own |= {s.name for s in ast.parse("".join(cell["source"])).body if isinstance(s, ast.FunctionDef)}
        elif cell["cell_type"] == "code" and own & _used("".join(cell["source"])):
            tags.append("raises-exception")
        metadata = {**cell["metadata"], "tags": tags} if tags else cell["metadata"]
        cells.append({**cell, "metadata": metadata})
    return {**notebook, "cells": cells}


def _used(source: str) -> set[str]:
    return {node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)}


def write_student_edition(notebooks: Path, folder: Path) -> list[Path]:
    """Write the student edition of every notebook into `folder`; the paths written.

    Raises:
        UserError: there are no notebooks, or the folder holds a file of the same name and other content, such as
            somebody's answers; nothing is written then.
    """
    paths = sorted(notebooks.glob("[0-9]*.ipynb"))
    if not paths:
        raise UserError(f"{notebooks}: no notebooks here; run this in a checkout of the course")
    texts = {}
    for path in paths:
        target = folder / path.name
        texts[target] = json.dumps(student_edition(read_back(path)), indent=1, ensure_ascii=False) + "\n"
        if target.exists() and target.read_text(encoding="utf-8") != texts[target]:
            raise UserError(
                f"{target} exists and differs, perhaps by answers; choose another folder or move it"
            )
    make_writable(folder)
    for target, text in texts.items():
        write_text(target, text)
    return list(texts)
