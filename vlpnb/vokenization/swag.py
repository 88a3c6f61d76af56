"""Stage `vokenization.swag`: fine-tune a pre-trained model on SWAG (paper, section 4.2).

The work is in `vlpnb.downstream.swag`.
"""

from collections.abc import Mapping

from vlpnb.downstream import swag
from vlpnb.downstream.swag import SwagConfig
from vlpnb.stage import Request, Stage, StageContext
from vlpnb.vokenization.pretrained import Pretrained, model_and, pretrained_folder


class VokenizationSwagConfig(Pretrained, SwagConfig):
    """Which model is fine-tuned, and how."""


def inputs(config: VokenizationSwagConfig) -> Mapping[str, Request]:
    """The model and the stage `swag_data`."""
    return model_and("swag_data", config)


def run(context: StageContext) -> dict[str, float]:
    """Fine-tune the model with every seed; metrics and files as `downstream.swag.run` says."""
    return swag.run(context, pretrained_folder(context))


SWAG = Stage(
    name="vokenization.swag",
    config=VokenizationSwagConfig,
    run=run,
    inputs=inputs,
    variant=("supervision", "seed"),
    version=1,
    distributed=True,
    doc="Fine-tune a pre-trained model on SWAG.",
)
