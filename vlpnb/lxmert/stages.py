"""The stages of part 2, in the order of the pipeline; each is defined beside its code."""

from vlpnb.lxmert.pretraining import PRETRAINING
from vlpnb.stage import Stage

STAGES: tuple[Stage, ...] = (PRETRAINING,)
