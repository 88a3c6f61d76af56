"""The page of quirks names code, tests and settings that exist, and the answer that no other test shows."""

from types import SimpleNamespace

import pytest
from torch import nn

import vlpnb.lxmert
from tests import quirks
from vlpnb.config import parse_config
from vlpnb.data.lxmert import AnswerTable
from vlpnb.errors import UserError
from vlpnb.lxmert.pretraining import PretrainingConfig, new_model, training_plan
from vlpnb.lxmert.stages import STAGES
from vlpnb.nn.attention import Attention

PAGE = quirks.page_of(vlpnb.lxmert)
ROWS = quirks.rows_of(PAGE, "LXM")


def test_every_quirk_has_one_row():
    assert quirks.check_numbers(ROWS, "LXM")[0] >= 38


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_its_code_and_its_tests_exist(row):
    quirks.check_row(row)


def test_settings_that_the_page_names_exist():
    expected = {
        "lxmert.pretraining.visual_label_scope", "lxmert.pretraining.original.fresh_evaluation"
    }  # fmt: skip
    quirks.check_settings(PAGE, STAGES, expected)


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
