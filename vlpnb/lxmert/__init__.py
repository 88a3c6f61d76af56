"""LXMERT (Tan and Bansal, EMNLP 2019): two streams, words and regions, that look at each other.

The names below are what a reader of the notebooks needs; everything else is imported from its module.
"""

from typing import TYPE_CHECKING

from vlpnb.facade import offers

if TYPE_CHECKING:
    from vlpnb.lxmert.answering import load_answerer
    from vlpnb.lxmert.heads import AnsweringModel, LxmertForPretraining, PairModel
    from vlpnb.lxmert.model import SIZES, Lxmert, LxmertConfig, parameter_count
    from vlpnb.lxmert.nlvr2 import load_pair_reader
    from vlpnb.lxmert.reading_results import read_results

__all__ = [
    "SIZES",
    "AnsweringModel",
    "Lxmert",
    "LxmertConfig",
    "LxmertForPretraining",
    "PairModel",
    "load_answerer",
    "load_pair_reader",
    "parameter_count",
    "read_results",
]

__getattr__, __dir__ = offers(
    __name__,
    {
        "SIZES": "vlpnb.lxmert.model",
        "AnsweringModel": "vlpnb.lxmert.heads",
        "Lxmert": "vlpnb.lxmert.model",
        "LxmertConfig": "vlpnb.lxmert.model",
        "LxmertForPretraining": "vlpnb.lxmert.heads",
        "PairModel": "vlpnb.lxmert.heads",
        "load_answerer": "vlpnb.lxmert.answering",
        "load_pair_reader": "vlpnb.lxmert.nlvr2",
        "parameter_count": "vlpnb.lxmert.model",
        "read_results": "vlpnb.lxmert.reading_results",
    },
)
