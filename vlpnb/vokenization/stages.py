"""The stages of part 1, in the order of the pipeline; each is defined beside its code."""

from vlpnb.stage import Stage
from vlpnb.vokenization.benchmark import BENCHMARK
from vlpnb.vokenization.glue import GLUE
from vlpnb.vokenization.keys import KEYS
from vlpnb.vokenization.matching import MATCHING
from vlpnb.vokenization.pretraining import PRETRAINING
from vlpnb.vokenization.probes import PROBES
from vlpnb.vokenization.results import RESULTS
from vlpnb.vokenization.squad import SQUAD
from vlpnb.vokenization.swag import SWAG
from vlpnb.vokenization.vokens import VOKENS

STAGES: tuple[Stage, ...] = (
    MATCHING, KEYS, VOKENS, BENCHMARK, PRETRAINING, GLUE, SQUAD, SWAG, PROBES, RESULTS,
)  # fmt: skip
