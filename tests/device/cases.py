"""Every loss that a stage trains, of all five systems, at toy size.

Used on the meta device (`test_meta.py`) and in bfloat16 (`test_bfloat16.py`). Weights are the models' own new ones; all
is float32, so that a case is what a stage's first update is.
"""

from collections.abc import Mapping

from tests.device import cclm, lxmert, valm, vlp, vokenization
from tests.device.given import Case

SYSTEMS: Mapping[str, Mapping[str, Case]] = {
    "vokenization": vokenization.cases(),
    "lxmert": lxmert.cases(),
    "vlp": vlp.cases(),
    "valm": valm.cases(),
    "cclm": cclm.cases(),
}
