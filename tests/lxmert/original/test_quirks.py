"""The page of quirks names code, tests and settings that exist, and the answer that no other test shows."""

import ast
import functools
import importlib
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from torch import nn

import vlpnb.lxmert
from vlpnb.config import flatten, parse_config
from vlpnb.data.lxmert import AnswerTable
from vlpnb.errors import UserError
from vlpnb.lxmert.pretraining import PretrainingConfig, new_model, training_plan
from vlpnb.lxmert.stages import STAGES
from vlpnb.nn.attention import Attention

ROOT = Path(__file__).parents[3]
PAGE = Path(vlpnb.lxmert.__file__).parent / "original" / "quirks.md"
ROWS = [
    [cell.strip() for cell in line.strip("|\n").split("|")]
    for line in PAGE.read_text(encoding="utf-8").splitlines()
    if line.startswith("| LXM-")
]


def test_every_quirk_has_one_row():
    further = sum(row[0].startswith("LXM-D") for row in ROWS)
    quirks = len(ROWS) - further
    assert quirks >= 38
    assert [row[0] for row in ROWS] == [
        *(f"LXM-{number:02d}" for number in range(1, quirks + 1)),
        *(f"LXM-D{number:02d}" for number in range(1, further + 1)),
    ]
    assert all(len(row) == 5 and all(row) for row in ROWS)


def names(cell: str) -> list[str]:
    """The names in backticks; nothing but commas may be between them."""
    found = re.findall(r"`([^`]+)`", cell)
    assert re.sub(r"`[^`]+`", "", cell).strip(", ") == ""
    assert found
    return found


def found(name: str) -> object:
    """What a dotted name means: in a module, or in a class there."""
    module, _, attribute = name.rpartition(".")
    try:
        return getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError:
        return getattr(found(module), attribute)


@functools.cache
def functions(path: Path) -> frozenset[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_its_code_and_its_tests_exist(row):
    for name in names(row[3]):
        assert name.startswith("vlpnb.")
        assert callable(found(name)), name
    for name in names(row[4]):
        file, _, function = name.partition("::")
        assert function in functions(ROOT / file), name


def test_settings_that_the_page_names_exist():
    fields = {f"{stage.name}.{name}" for stage in STAGES for name in flatten(stage.config().model_dump())}
    fields |= {f"{stage.name}.{name}" for stage in STAGES for name in stage.config.model_fields}
    stages = "|".join(re.escape(stage.name) for stage in STAGES)
    named = set(re.findall(rf"`((?:{stages})\.[\w.]+)(?:=\w+)?`", PAGE.read_text(encoding="utf-8")))
    assert {"lxmert.pretraining.visual_label_scope", "lxmert.pretraining.original.fresh_evaluation"} <= named
    assert named <= fields


def test_no_setting_is_accepted_and_unused():
    """LXM-35: an unknown one is refused, and those of the original have an effect."""
    with pytest.raises(UserError, match="drop_out"):
        parse_config(PretrainingConfig, {"drop_out": 0.2})
    config = PretrainingConfig(size="tiny", dropout=0.3, optimiser="adamw")
    store = SimpleNamespace(feature_width=4, objects=("dog",), attributes=("red",))
    table = AnswerTable(("a", "b", "c"), (frozenset(),) * 3)
    model = new_model(SimpleNamespace(config=config), store, ["word"] * 50, table)
    assert {part.p for part in model.modules() if isinstance(part, nn.Dropout)} == {0.3}
    assert {part.dropout for part in model.modules() if isinstance(part, Attention)} == {0.3}
    assert training_plan(config, ("words",), per_epoch=2).optimiser == "adamw"
