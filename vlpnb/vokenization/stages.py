"""The stages of part 1, in the order of the pipeline; each is defined beside its code."""

from vlpnb.downstream.glue import GLUE
from vlpnb.downstream.probes import PROBES
from vlpnb.downstream.squad import SQUAD
from vlpnb.downstream.swag import SWAG
from vlpnb.foundations.corpus import CORPUS
from vlpnb.foundations.features import FEATURES
from vlpnb.foundations.language import LANGUAGE
from vlpnb.foundations.vision import VISION
from vlpnb.stage import Stage
from vlpnb.vokenization.benchmark import BENCHMARK
from vlpnb.vokenization.keys import KEYS
from vlpnb.vokenization.matching import MATCHING
from vlpnb.vokenization.pretraining import VLM
from vlpnb.vokenization.results import RESULTS
from vlpnb.vokenization.vokens import VOKENS

STAGES: tuple[Stage, ...] = (
    VISION, LANGUAGE, FEATURES, MATCHING, KEYS, CORPUS, VOKENS, BENCHMARK, VLM, GLUE, SQUAD, SWAG,
    PROBES, RESULTS,
)  # fmt: skip
