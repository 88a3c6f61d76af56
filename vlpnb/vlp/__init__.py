"""VLP (Zhou et al., AAAI 2020): one Transformer that reads and writes, by its attention mask.

The names below are what a reader of the notebooks needs; everything else is imported from its module.
"""

from typing import TYPE_CHECKING

from vlpnb.facade import offers

if TYPE_CHECKING:
    from vlpnb.vlp.geometry import region_geometry
    from vlpnb.vlp.heads import VlpForAnswers, VlpForGeneration
    from vlpnb.vlp.masks import caption_mask, sequence_mask
    from vlpnb.vlp.model import SIZES, Vlp, VlpConfig, parameter_count
    from vlpnb.vlp.original.weights import load_model

__all__ = [
    "SIZES",
    "Vlp",
    "VlpConfig",
    "VlpForAnswers",
    "VlpForGeneration",
    "caption_mask",
    "load_model",
    "parameter_count",
    "region_geometry",
    "sequence_mask",
]

__getattr__, __dir__ = offers(
    __name__,
    {
        "SIZES": "vlpnb.vlp.model",
        "Vlp": "vlpnb.vlp.model",
        "VlpConfig": "vlpnb.vlp.model",
        "VlpForAnswers": "vlpnb.vlp.heads",
        "VlpForGeneration": "vlpnb.vlp.heads",
        "caption_mask": "vlpnb.vlp.masks",
        "load_model": "vlpnb.vlp.original.weights",
        "parameter_count": "vlpnb.vlp.model",
        "region_geometry": "vlpnb.vlp.geometry",
        "sequence_mask": "vlpnb.vlp.masks",
    },
)
