"""What the tests of every system's page of quirks share: its rows, and whether what they name exists."""

import ast
import functools
import importlib
import re
from collections.abc import Sequence
from pathlib import Path

from vlpnb.config import flatten
from vlpnb.stage import Stage

ROOT = Path(__file__).parents[1]


def page_of(room: object) -> Path:
    """The page of a system's package."""
    return Path(room.__file__).parent / "original" / "quirks.md"


def rows_of(page: Path, prefix: str) -> list[list[str]]:
    """The cells of the rows whose first cell begins with the prefix, such as VOK."""
    lines = page.read_text(encoding="utf-8").splitlines()
    return [
        [cell.strip() for cell in line.strip("|\n").split("|")]
        for line in lines
        if line.startswith(f"| {prefix}-")
    ]


def check_numbers(rows: Sequence[Sequence[str]], prefix: str) -> tuple[int, int]:
    """Every quirk has one whole row, in order, then every further difference; how many of each there are."""
    further = sum(row[0].startswith(f"{prefix}-D") for row in rows)
    quirks = len(rows) - further
    assert [row[0] for row in rows] == [
        *(f"{prefix}-{number:02d}" for number in range(1, quirks + 1)),
        *(f"{prefix}-D{number:02d}" for number in range(1, further + 1)),
    ]
    assert all(len(row) == 5 and all(row) for row in rows)
    return quirks, further


def check_row(row: Sequence[str], constants: bool = False) -> None:
    """The code and the tests that a row names exist; `constants`: code may be a constant too."""
    for name in _names(row[3]):
        assert name.startswith("vlpnb.")
        code = _found(name)
        assert constants or callable(code), name
    for name in _names(row[4]):
        file, _, function = name.partition("::")
        assert function in _functions(ROOT / file), name


def check_settings(page: Path, stages: Sequence[Stage], expected: set[str]) -> None:
    """The settings that a page names are fields of these stages, and the expected ones are among them."""
    fields = {f"{stage.name}.{name}" for stage in stages for name in flatten(stage.config().model_dump())}
    fields |= {f"{stage.name}.{name}" for stage in stages for name in stage.config.model_fields}
    names = "|".join(re.escape(stage.name) for stage in stages)
    named = set(re.findall(rf"`((?:{names})\.[\w.]+)(?:=\w+)?`", page.read_text(encoding="utf-8")))
    assert expected <= named
    assert named <= fields


def _names(cell: str) -> list[str]:
    """The names in backticks; nothing but commas may be between them."""
    found = re.findall(r"`([^`]+)`", cell)
    assert re.sub(r"`[^`]+`", "", cell).strip(", ") == ""
    assert found
    return found


def _found(name: str) -> object:
    """What a dotted name means: in a module, or in a class there."""
    module, _, attribute = name.rpartition(".")
    try:
        return getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError:
        return getattr(_found(module), attribute)


@functools.cache
def _functions(path: Path) -> frozenset[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef))
