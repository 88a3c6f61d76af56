"""Stage `vokenization.squad`: fine-tune a pre-trained model on SQuAD v1.1 and v2.0 (paper, section 4.2).

The work is in `vlpnb.downstream.squad`.
"""

from collections.abc import Mapping

from vlpnb.downstream import squad
from vlpnb.downstream.squad import SquadConfig
from vlpnb.stage import Request, Stage, StageContext
from vlpnb.vokenization.pretrained import Pretrained, model_and, pretrained_folder


class VokenizationSquadConfig(Pretrained, SquadConfig):
    """Which model is fine-tuned, and how."""


def inputs(config: VokenizationSquadConfig) -> Mapping[str, Request]:
    """The model and the stage `squad_data`."""
    return model_and("squad_data", config)


def run(context: StageContext) -> dict[str, float]:
    """Fine-tune the model with every seed; metrics and files as `downstream.squad.run` says."""
    return squad.run(context, pretrained_folder(context))


SQUAD = Stage(
    name="vokenization.squad",
    config=VokenizationSquadConfig,
    run=run,
    inputs=inputs,
    variant=("supervision", "seed"),
    version=1,
    distributed=True,
    doc="Fine-tune a pre-trained model on SQuAD v1.1 and v2.0.",
)
