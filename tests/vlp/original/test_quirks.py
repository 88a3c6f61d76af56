"""The page of quirks names code, tests and settings that exist, and what no other test shows."""

import pytest

import vlpnb.vlp
from tests import quirks
from vlpnb.vlp.pretraining import PretrainingConfig, training_plan
from vlpnb.vlp.stages import STAGES

PAGE = quirks.page_of(vlpnb.vlp)
ROWS = quirks.rows_of(PAGE, "VLP")


def test_every_quirk_has_one_row():
    assert quirks.check_numbers(ROWS, "VLP")[0] >= 21


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_its_code_and_its_tests_exist(row):
    quirks.check_row(row)


def test_settings_that_the_page_names_exist():
    expected = {
        "vlp.pretraining.original.any_random", "vlp.scst.original.reference_view", "vlp.vqa.original.spelling",
    }  # fmt: skip
    quirks.check_settings(PAGE, STAGES, expected)


@pytest.mark.parametrize(("given", "precision"), [({}, "float32"), ({"precision": "bfloat16"}, "bfloat16")])
def test_the_precision_is_float32_unless_changed(given, precision):
    assert training_plan(PretrainingConfig(**given), per_epoch=3).precision == precision
