"""Stage `lxmert.vqa`: fine-tune a model on VQA v2 (Goyal et al. 2017).

Paper: LXMERT (Tan and Bansal 2019), section 4.2. The metric is the official one, over ten people's answers, by type of
answer; where a data set gives scores of answers and no people, it is the mean score of the given answers.
"""

from collections.abc import Mapping

from pydantic import Field

from vlpnb.downstream.answering import vqa
from vlpnb.lxmert import answering
from vlpnb.lxmert.answering import AnsweringConfig
from vlpnb.lxmert.finetuning import inputs as shared_inputs
from vlpnb.stage import Request, Stage, StageContext


class VqaConfig(AnsweringConfig):
    """How to fine-tune. Defaults: the paper's."""

    lr: float = Field(5e-5, gt=0)
    """Peak learning rate."""


def inputs(config: VqaConfig) -> Mapping[str, Request]:
    """The stage `questions`, the regions, and the pre-training unless a model is named."""
    return shared_inputs("questions", config)


def run(context: StageContext) -> dict[str, float]:
    """Fine-tune with every seed; files and metrics as `downstream.answering.run_asked` says."""
    return answering.run(context, vqa())


VQA = Stage(
    name="lxmert.vqa",
    config=VqaConfig,
    run=run,
    inputs=inputs,
    variant=("start", "model", "blind", "load_answers", "objective"),
    distributed=True,
    doc="Fine-tune on VQA v2.",
)
