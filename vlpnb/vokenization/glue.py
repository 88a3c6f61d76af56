"""Stage `vokenization.glue`: fine-tune a pre-trained model on GLUE (paper, section 4.2).

The work is in `vlpnb.downstream.glue`.
"""

from collections.abc import Mapping

from vlpnb.downstream import glue
from vlpnb.downstream.glue import GlueConfig
from vlpnb.stage import Request, Stage, StageContext
from vlpnb.vokenization.pretrained import Pretrained, model_and, pretrained_folder


class VokenizationGlueConfig(Pretrained, GlueConfig):
    """Which model is fine-tuned, and how."""


def inputs(config: VokenizationGlueConfig) -> Mapping[str, Request]:
    """The model and the stage `glue_data`."""
    return model_and("glue_data", config)


def run(context: StageContext) -> dict[str, float]:
    """Fine-tune the model with every seed; metrics and files as `downstream.glue.run` says."""
    return glue.run(context, pretrained_folder(context))


GLUE = Stage(
    name="vokenization.glue",
    config=VokenizationGlueConfig,
    run=run,
    inputs=inputs,
    variant=("supervision", "seed"),
    version=2,
    distributed=True,
    doc="Fine-tune a pre-trained model on GLUE.",
)
