"""Stage `lxmert.gqa`: fine-tune a model on GQA (Hudson and Manning 2019).

Paper: LXMERT (Tan and Bansal 2019), section 4.2. The metrics are the official ones; of the questions that are not
balanced none counts for an accuracy. The paper trains on both training and validation questions, whose pictures the
pre-training has seen, and validates on "testdev": on a split of known pictures the accuracy is far too high.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field

from vlpnb.data.asked import AskedQuestion
from vlpnb.data.asked_data import QuestionData
from vlpnb.data.submissions import gqa_submission
from vlpnb.downstream.answering import Benchmark
from vlpnb.lxmert import answering
from vlpnb.lxmert.answering import AnsweringConfig
from vlpnb.lxmert.finetuning import inputs as shared_inputs
from vlpnb.metrics.gqa import gqa_scores
from vlpnb.stage import Request, Stage, StageContext


class GqaConfig(AnsweringConfig):
    """How to fine-tune. Defaults: the paper's."""

    lr: float = Field(1e-5, gt=0)
    """Peak learning rate."""


def inputs(config: GqaConfig) -> Mapping[str, Request]:
    """The stage `questions`, the regions, and the pre-training unless a model is named."""
    return shared_inputs("questions", config)


def score(
    said: Mapping[Any, str], asked: Sequence[AskedQuestion], data: QuestionData, split: str
) -> dict[str, float]:
    """`accuracy`, `binary`, `open`, `consistency`, `distribution` and more, as `metrics.gqa.gqa_scores` says."""
    return gqa_scores(said, asked, data.choices("gqa", split))


def run(context: StageContext) -> dict[str, float]:
    """Fine-tune with every seed; files and metrics as `downstream.answering.run_asked` says."""
    return answering.run(context, Benchmark("gqa", "GQA", score, gqa_submission))


GQA = Stage(
    name="lxmert.gqa",
    config=GqaConfig,
    run=run,
    inputs=inputs,
    variant=("start", "model", "blind", "load_answers", "objective"),
    distributed=True,
    doc="Fine-tune on GQA.",
)
