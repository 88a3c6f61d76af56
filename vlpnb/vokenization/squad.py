"""Stage `vokenization.squad`: fine-tune a pre-trained model on SQuAD v1.1 and v2.0 (paper, section 4.2).

The work is in `vlpnb.downstream.squad`.
"""

from vlpnb.downstream import squad
from vlpnb.downstream.squad import SquadConfig
from vlpnb.vokenization.pretrained import Pretrained, asking


class VokenizationSquadConfig(Pretrained, SquadConfig):
    """Which model is fine-tuned, and how."""


SQUAD = asking(
    "squad",
    VokenizationSquadConfig,
    squad.run,
    "squad_data",
    distributed=True,
    doc="Fine-tune a pre-trained model on SQuAD v1.1 and v2.0.",
)
