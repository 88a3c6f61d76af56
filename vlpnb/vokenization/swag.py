"""Stage `vokenization.swag`: fine-tune a pre-trained model on SWAG (paper, section 4.2).

The work is in `vlpnb.downstream.swag`.
"""

from vlpnb.downstream import swag
from vlpnb.downstream.swag import SwagConfig
from vlpnb.vokenization.pretrained import Pretrained, asking


class VokenizationSwagConfig(Pretrained, SwagConfig):
    """Which model is fine-tuned, and how."""


SWAG = asking(
    "swag",
    VokenizationSwagConfig,
    swag.run,
    "swag_data",
    distributed=True,
    doc="Fine-tune a pre-trained model on SWAG.",
)
