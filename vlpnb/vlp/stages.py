"""The stages of part 3, in the order of the pipeline; each is defined beside its code."""

from vlpnb.stage import Stage
from vlpnb.vlp.captioning import CAPTIONING
from vlpnb.vlp.pretraining import PRETRAINING
from vlpnb.vlp.scst import SCST
from vlpnb.vlp.vqa import VQA

STAGES: tuple[Stage, ...] = (PRETRAINING, CAPTIONING, SCST, VQA)
