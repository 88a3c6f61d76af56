"""The stages of the course, in the order in which they run."""

from vlpnb.foundations.dataset import DATASET
from vlpnb.foundations.world import WORLD
from vlpnb.stage import Stage
from vlpnb.vokenization.stages import STAGES as VOKENIZATION

STAGES: tuple[Stage, ...] = (WORLD, DATASET, *VOKENIZATION)
