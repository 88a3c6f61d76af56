"""LXMERT (Tan and Bansal, EMNLP 2019): two streams, words and regions, that look at each other.

The names below are what a reader of the notebooks needs; everything else is imported from its module.
"""

from typing import TYPE_CHECKING

from vlpnb.facade import offers

if TYPE_CHECKING:
    from vlpnb.lxmert.heads import AnsweringModel, LxmertForPretraining, PairModel
    from vlpnb.lxmert.model import SIZES, Lxmert, LxmertConfig, parameter_count

__all__ = [
    "SIZES",
    "AnsweringModel",
    "Lxmert",
    "LxmertConfig",
    "LxmertForPretraining",
    "PairModel",
    "parameter_count",
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
        "parameter_count": "vlpnb.lxmert.model",
    },
)
