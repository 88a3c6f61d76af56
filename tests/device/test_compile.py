"""Nothing in the package is compiled (`torch.compile`): what a GPU would gain by it nobody here can measure.

Whoever adds it tests it on the CPU, in this file, with a tiny model.
"""

import re
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "vlpnb"


def test_nothing_is_compiled_yet():
    found = [
        file.relative_to(PACKAGE).as_posix()
        for file in PACKAGE.rglob("*.py")
        if re.search(r"(?<!\bre)\.compile\(", file.read_text(encoding="utf-8"))
    ]
    assert found == []
