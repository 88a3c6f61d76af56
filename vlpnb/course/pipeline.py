"""The stages of the course, in the order in which they run."""

from vlpnb.data.stage import DATASET
from vlpnb.stage import Stage
from vlpnb.vokenization.stages import STAGES as VOKENIZATION
from vlpnb.world.stage import WORLD

STAGES: tuple[Stage, ...] = (WORLD, DATASET, *VOKENIZATION)
