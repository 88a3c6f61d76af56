"""The stages of the course, in the order in which they run."""

from vlpnb.across.stages import STAGES as ACROSS
from vlpnb.cclm.stages import STAGES as CCLM
from vlpnb.foundations.stages import STAGES as FOUNDATIONS
from vlpnb.lxmert.stages import STAGES as LXMERT
from vlpnb.stage import Stage
from vlpnb.valm.stages import STAGES as VALM
from vlpnb.vlp.stages import STAGES as VLP
from vlpnb.vokenization.stages import STAGES as VOKENIZATION

STAGES: tuple[Stage, ...] = (*FOUNDATIONS, *VOKENIZATION, *LXMERT, *VLP, *VALM, *CCLM, *ACROSS)
