"""The page of quirks names code and tests that exist."""

import pytest

import vlpnb.cclm
from tests import quirks

ROWS = quirks.rows_of(quirks.page_of(vlpnb.cclm), "CCL")


def test_every_quirk_has_one_whole_row_in_order():
    ids = [row[0] for row in ROWS]
    assert ids == sorted({*ids})
    assert all(len(row) == 5 and all(row) for row in ROWS)
    assert len(ROWS) >= 10


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_its_code_and_its_tests_exist(row):
    quirks.check_row(row)
