"""Vokenization (Tan and Bansal, EMNLP 2020): the matcher, the vokens, and the language model that learns from them.

The names below are what a reader of the notebooks needs; everything else is imported from its module.
"""

from typing import TYPE_CHECKING

from vlpnb.facade import offers

if TYPE_CHECKING:
    from vlpnb.vokenization.keys import load_keys
    from vlpnb.vokenization.matcher import load_matcher, new_matcher, picture_vectors
    from vlpnb.vokenization.pretraining import snapshot_folders
    from vlpnb.vokenization.results import read_results
    from vlpnb.vokenization.visual_lm import VisuallySupervisedLM, load_snapshot
    from vlpnb.vokenization.vokeniser import Vokeniser, decode_marks

__all__ = [
    "VisuallySupervisedLM",
    "Vokeniser",
    "decode_marks",
    "load_keys",
    "load_matcher",
    "load_snapshot",
    "new_matcher",
    "picture_vectors",
    "read_results",
    "snapshot_folders",
]

__getattr__, __dir__ = offers(
    __name__,
    {
        "VisuallySupervisedLM": "vlpnb.vokenization.visual_lm",
        "Vokeniser": "vlpnb.vokenization.vokeniser",
        "decode_marks": "vlpnb.vokenization.vokeniser",
        "load_keys": "vlpnb.vokenization.keys",
        "load_matcher": "vlpnb.vokenization.matcher",
        "load_snapshot": "vlpnb.vokenization.visual_lm",
        "new_matcher": "vlpnb.vokenization.matcher",
        "picture_vectors": "vlpnb.vokenization.matcher",
        "read_results": "vlpnb.vokenization.results",
        "snapshot_folders": "vlpnb.vokenization.pretraining",
    },
)
