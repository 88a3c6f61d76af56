"""Lists of ids, one a line."""

import pytest

from vlpnb.data.text_files import compare_ids
from vlpnb.errors import UserError


def test_id_lists_are_compared(tmp_path):
    """VOK-08: the original raised whatever the lists said."""
    path = tmp_path / "a.ids"
    path.write_text("x\ny\n")
    compare_ids(["x", "y"], path)
    with pytest.raises(UserError, match=r"a\.ids:2: the list says 'y', the pictures give 'z'"):
        compare_ids(["x", "z"], path)
    with pytest.raises(UserError, match="2 ids, the pictures give 3"):
        compare_ids(["x", "y", "z"], path)
