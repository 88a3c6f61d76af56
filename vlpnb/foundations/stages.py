"""The stages of the foundations, in the order of the pipeline; each is defined beside its code."""

from vlpnb.foundations.blocks import BLOCKS
from vlpnb.foundations.captions import CAPTIONS
from vlpnb.foundations.corpus import CORPUS
from vlpnb.foundations.detector import DETECTOR
from vlpnb.foundations.features import FEATURES
from vlpnb.foundations.glue_data import GLUE_DATA
from vlpnb.foundations.iglue import IGLUE
from vlpnb.foundations.knowledge import KNOWLEDGE
from vlpnb.foundations.language import LANGUAGE
from vlpnb.foundations.multilingual import MULTILINGUAL
from vlpnb.foundations.pairs import PAIRS
from vlpnb.foundations.patches import PATCHES
from vlpnb.foundations.picture_vectors import PICTURE_VECTORS
from vlpnb.foundations.pictures import PICTURES
from vlpnb.foundations.pieces import PIECES
from vlpnb.foundations.questions import QUESTIONS
from vlpnb.foundations.region_text import REGION_TEXT
from vlpnb.foundations.regions import REGIONS
from vlpnb.foundations.sentences import SENTENCES
from vlpnb.foundations.squad_data import SQUAD_DATA
from vlpnb.foundations.swag_data import SWAG_DATA
from vlpnb.foundations.text import TEXT
from vlpnb.foundations.towers import TOWERS
from vlpnb.foundations.vision import VISION
from vlpnb.foundations.world import WORLD
from vlpnb.stage import Stage

STAGES: tuple[Stage, ...] = (
    WORLD, CAPTIONS, SENTENCES, QUESTIONS, PAIRS, PICTURES, TEXT, GLUE_DATA, SQUAD_DATA, SWAG_DATA, KNOWLEDGE,
    MULTILINGUAL, IGLUE, REGION_TEXT, VISION, DETECTOR, REGIONS, LANGUAGE, FEATURES, CORPUS, PIECES, PATCHES,
    BLOCKS, TOWERS, PICTURE_VECTORS,
)  # fmt: skip
