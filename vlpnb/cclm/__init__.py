"""CCLM (Zeng et al., ACL 2023): one model for pictures and sentences of many languages, each a view of the other.

The names below are what a reader of the notebooks needs; everything else is imported from its module.
"""

from typing import TYPE_CHECKING

from vlpnb.facade import offers

if TYPE_CHECKING:
    from vlpnb.cclm.config import SIZES, CclmConfig, parameter_count, size_config
    from vlpnb.cclm.model import Cclm, FusionLayer
    from vlpnb.cclm.objectives import CclmPretraining

__all__ = [
    "SIZES",
    "Cclm",
    "CclmConfig",
    "CclmPretraining",
    "FusionLayer",
    "parameter_count",
    "size_config",
]

__getattr__, __dir__ = offers(
    __name__,
    {
        "SIZES": "vlpnb.cclm.config",
        "Cclm": "vlpnb.cclm.model",
        "CclmConfig": "vlpnb.cclm.config",
        "CclmPretraining": "vlpnb.cclm.objectives",
        "FusionLayer": "vlpnb.cclm.model",
        "parameter_count": "vlpnb.cclm.config",
        "size_config": "vlpnb.cclm.config",
    },
)
