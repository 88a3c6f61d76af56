"""Stage `valm.commonsense`: what VaLM says of the looks of things, with the pictures of one setting (`shown.py`).

Paper: VaLM (Wang et al. 2023), tables of object colour, shape and size; what is asked and kept is in
`downstream/commonsense.py`.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from vlpnb.downstream import commonsense
from vlpnb.stage import Request, Stage, StageContext
from vlpnb.valm.scoring import open_scorer
from vlpnb.valm.shown import Setting


class CommonsenseConfig(commonsense.CommonsenseConfig):
    """What is asked of which model. Defaults: the paper's tasks."""

    model: dict[str, Any] = Field(default_factory=dict)
    """Fields of the stage `valm.pretraining` that are other than the run's: {variant: none, seed: 2}."""
    setting: Setting = "trained"
    """Which pictures the model is asked with."""


def inputs(config: CommonsenseConfig) -> Mapping[str, Request]:
    """The model, the lists, and with "oracle" the captions."""
    wanted = commonsense.wanted(config, config.setting == "oracle")
    return {"model": Request("valm.pretraining", config.model), **wanted}


def run(context: StageContext) -> dict[str, float]:
    """Ask (`downstream.commonsense.run`)."""
    setting = context.config.setting
    scorer = open_scorer(context.inputs["model"], setting, context.device)
    return commonsense.run(context, scorer, setting)


COMMONSENSE = Stage(
    "valm.commonsense", CommonsenseConfig, run, inputs, variant=("model", "setting"),
    doc="Ask VaLM for colours, shapes, materials and sizes of things.",
)  # fmt: skip
