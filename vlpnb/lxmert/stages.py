"""The stages of part 2, in the order of the pipeline; each is defined beside its code."""

from vlpnb.lxmert.gqa import GQA
from vlpnb.lxmert.nlvr2 import NLVR2
from vlpnb.lxmert.pretraining import PRETRAINING
from vlpnb.lxmert.results import RESULTS
from vlpnb.lxmert.vqa import VQA
from vlpnb.stage import Stage

STAGES: tuple[Stage, ...] = (PRETRAINING, VQA, GQA, NLVR2, RESULTS)
