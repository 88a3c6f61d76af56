"""The stages across the systems, in the order of the pipeline; each is defined beside its code."""

from vlpnb.across.pictures import PICTURES
from vlpnb.across.results import RESULTS
from vlpnb.across.words import WORDS
from vlpnb.stage import Stage

STAGES: tuple[Stage, ...] = (WORDS, PICTURES, RESULTS)
