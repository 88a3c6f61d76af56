"""Stage `vokenization.glue`: fine-tune a pre-trained model on GLUE (paper, section 4.2).

The work is in `vlpnb.downstream.glue`.
"""

from vlpnb.downstream import glue
from vlpnb.downstream.glue import GlueConfig
from vlpnb.vokenization.pretrained import Pretrained, asking


class VokenizationGlueConfig(Pretrained, GlueConfig):
    """Which model is fine-tuned, and how."""


GLUE = asking(
    "glue",
    VokenizationGlueConfig,
    glue.run,
    "glue_data",
    version=2,
    distributed=True,
    doc="Fine-tune a pre-trained model on GLUE.",
)
