"""The stages of the foundations, in the order of the pipeline; each is defined beside its code."""

from vlpnb.foundations.corpus import CORPUS
from vlpnb.foundations.dataset import DATASET
from vlpnb.foundations.features import FEATURES
from vlpnb.foundations.language import LANGUAGE
from vlpnb.foundations.vision import VISION
from vlpnb.foundations.world import WORLD
from vlpnb.stage import Stage

STAGES: tuple[Stage, ...] = (WORLD, DATASET, VISION, LANGUAGE, FEATURES, CORPUS)
