"""The stages of part 5, in the order of the pipeline; each is defined beside its code."""

from vlpnb.cclm.marvl import MARVL
from vlpnb.cclm.pretraining import PRETRAINING
from vlpnb.cclm.results import RESULTS
from vlpnb.cclm.retrieval import RETRIEVAL
from vlpnb.cclm.xgqa import XGQA
from vlpnb.cclm.xvnli import XVNLI
from vlpnb.stage import Stage

STAGES: tuple[Stage, ...] = (PRETRAINING, RETRIEVAL, XVNLI, XGQA, MARVL, RESULTS)
