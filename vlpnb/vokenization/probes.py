"""Stage `vokenization.probes`: what a pre-trained model knows of the looks of things.

The work is in `vlpnb.downstream.probes`.
"""

from vlpnb.downstream import probes
from vlpnb.downstream.probes import ProbesConfig
from vlpnb.vokenization.pretrained import Pretrained, asking


class VokenizationProbesConfig(Pretrained, ProbesConfig):
    """Which model is asked, and how."""


PROBES = asking(
    "probes", VokenizationProbesConfig, probes.run, "knowledge", doc="Ask a language model how things look."
)
