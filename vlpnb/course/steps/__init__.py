"""The training step, or the forward pass, of each stage, for `vlpnb plan`: one file a room, one function a stage.

A function takes the stage's configuration, `of` (stage → its configuration in the same profile), and by name what only
the data knows, such as how many blocks of text there are (`course/plan.yaml`). It gives the stage's own module with a
representative batch and how often it runs (`train.counting.Step`), or in words why there is nothing to count.
"""

from collections.abc import Callable, Mapping

from vlpnb.course.steps import cclm, foundations, lxmert, valm, vlp, vokenization
from vlpnb.train.counting import Step

STEPS: Mapping[str, Callable[..., Step | str]] = {
    name: function
    for room in (foundations, vokenization, lxmert, vlp, valm, cclm)
    for name, function in room.STEPS.items()
}
