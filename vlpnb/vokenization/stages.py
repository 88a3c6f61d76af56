"""The stages of part 1, in the order of the pipeline; each is defined beside its code."""

from vlpnb.stage import Stage
from vlpnb.vokenization.benchmark import BENCHMARK
from vlpnb.vokenization.corpus import CORPUS
from vlpnb.vokenization.features import FEATURES
from vlpnb.vokenization.glue import GLUE
from vlpnb.vokenization.keys import KEYS
from vlpnb.vokenization.language import LANGUAGE
from vlpnb.vokenization.matching_training import MATCHING
from vlpnb.vokenization.pretraining import VLM
from vlpnb.vokenization.probes import PROBES
from vlpnb.vokenization.results import RESULTS
from vlpnb.vokenization.squad import SQUAD
from vlpnb.vokenization.swag import SWAG
from vlpnb.vokenization.vision import VISION
from vlpnb.vokenization.vokenize import VOKENS

STAGES: tuple[Stage, ...] = (
    VISION, LANGUAGE, FEATURES, MATCHING, KEYS, CORPUS, VOKENS, BENCHMARK, VLM, GLUE, SQUAD, SWAG,
    PROBES, RESULTS,
)  # fmt: skip
