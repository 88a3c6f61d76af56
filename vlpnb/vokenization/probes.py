"""Stage `vokenization.probes`: what a pre-trained model knows of the looks of things; the work is in
`vlpnb.downstream.probes`.
"""

from collections.abc import Mapping

from vlpnb.downstream import probes
from vlpnb.downstream.probes import ProbesConfig
from vlpnb.stage import Request, Stage, StageContext
from vlpnb.vokenization.pretrained import Pretrained, model_and, pretrained_folder


class VokenizationProbesConfig(Pretrained, ProbesConfig):
    """Which model is asked, and how."""


def inputs(config: VokenizationProbesConfig) -> Mapping[str, Request]:
    """The model and the stage `knowledge`."""
    return model_and("knowledge", config)


def run(context: StageContext) -> dict[str, float]:
    """Ask the model; metrics and files as `downstream.probes.run` says."""
    return probes.run(context, pretrained_folder(context))


PROBES = Stage(
    name="vokenization.probes",
    config=VokenizationProbesConfig,
    run=run,
    inputs=inputs,
    variant=("supervision", "seed"),
    doc="Ask a language model how things look.",
)
