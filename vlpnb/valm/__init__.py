"""VaLM (Wang et al., ICLR 2023): a language model that looks pictures up while it reads and writes.

The names below are what a reader of the notebooks needs; everything else is imported from its module.
"""

from typing import TYPE_CHECKING

from vlpnb.facade import offers

if TYPE_CHECKING:
    from vlpnb.valm.config import SIZES, ValmConfig, parameter_count, size_config
    from vlpnb.valm.fusion import JointAttention
    from vlpnb.valm.model import Valm
    from vlpnb.valm.objectives import ValmLM

__all__ = ["SIZES", "JointAttention", "Valm", "ValmConfig", "ValmLM", "parameter_count", "size_config"]

__getattr__, __dir__ = offers(
    __name__,
    {
        "SIZES": "vlpnb.valm.config",
        "JointAttention": "vlpnb.valm.fusion",
        "Valm": "vlpnb.valm.model",
        "ValmConfig": "vlpnb.valm.config",
        "ValmLM": "vlpnb.valm.objectives",
        "parameter_count": "vlpnb.valm.config",
        "size_config": "vlpnb.valm.config",
    },
)
