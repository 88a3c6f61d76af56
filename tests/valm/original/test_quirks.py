"""The page of quirks names code and tests that exist."""

import pytest

import vlpnb.valm
from tests import quirks
from vlpnb.valm.commonsense import COMMONSENSE

ROWS = quirks.rows_of(quirks.page_of(vlpnb.valm), "VAL")


def test_every_quirk_has_one_whole_row_in_order():
    ids = [row[0] for row in ROWS]
    assert ids == sorted({*ids}, key=lambda name: ("D" in name, name))
    assert all(len(row) == 5 and all(row) for row in ROWS)
    assert len(ROWS) > 20


def test_settings_that_the_page_names_exist():
    expected = {"valm.commonsense.original.one_order", "valm.commonsense.original.placeholder_left"}
    quirks.check_settings(quirks.page_of(vlpnb.valm), [COMMONSENSE], expected)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_its_code_and_its_tests_exist(row):
    quirks.check_row(row)
