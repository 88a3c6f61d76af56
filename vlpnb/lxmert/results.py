"""Stage `lxmert.results`: what pre-training brings to VQA, GQA and NLVR2, and what its parts bring.

Paper: LXMERT (Tan and Bansal 2019), tables 3 to 5, whose figures stand beside ours. A row is a model: questions without
pictures, the whole model without pre-training, the pre-trained one; with `ablations` also those whose pre-training
lacked something. Each is fine-tuned with several seeds; differences are paired by seed and the verdict is computed.

Differs from the paper, which has one run of each and gives no spread. The seeds are those of fine-tuning: all of a row
start from one pre-training, whose own luck they do not show.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from vlpnb.config import Config
from vlpnb.downstream.results import comparisons, publish, remarks, verdicts
from vlpnb.downstream.seeds import summary
from vlpnb.files import read_back
from vlpnb.lxmert.reading_results import (
    DETAILS,
    MAIN,
    NAMES,
    SUBJECT,
    TITLES,
    ModelName,
    TaskName,
    results_page,
)
from vlpnb.stage import Request, Stage, StageContext

BERTS: tuple[ModelName, ...] = ("bert", "from_bert")
ABLATIONS: tuple[ModelName, ...] = ("no_vision", "features", "labels", "no_qa", "mismatch_0", "mismatch_50")


class LxmertResultsConfig(Config):
    """What is compared with what."""

    tasks: tuple[TaskName, ...] = Field(("vqa", "gqa", "nlvr2"), min_length=1)
    """Columns of the table."""
    models: tuple[ModelName, ...] = Field(("blind", "scratch", "pretrained"), min_length=1)
    """Rows of the table."""
    ablations: bool = False
    """Also the rows of the paper's tables 3 to 5 whose pre-training lacks something, and two rates of wrong pairs; each
    pre-trains anew.
    """
    bert: bool = True
    """Among these the rows that start from BERT, which must have the model's width."""

    @property
    def rows(self) -> tuple[ModelName, ...]:
        """The models, each once."""
        more = (*(BERTS if self.bert else ()), *ABLATIONS) if self.ablations else ()
        return tuple(dict.fromkeys((*self.models, *more)))


def inputs(config: LxmertResultsConfig) -> Mapping[str, Request]:
    """Every task fine-tuned from every model."""
    return {
        f"{task}.{model}": Request(
            f"lxmert.{task}", {"blind": True} if model == "blind" else {"start": model, "blind": False}
        )
        for task in config.tasks
        for model in config.rows
    }


def run(context: StageContext) -> dict[str, float]:
    """Collect, average, compare; writes `results.json` and `results.md`.

    Metrics, in points (× 100): `<task>.<model>.accuracy` with `…_std`, and so `.test_accuracy`, VQA's `.yes_no`,
    `.number` and `.other`, GQA's `.binary`, `.open` and `.consistency`, NLVR2's `.consistency`; `….majority`;
    `….diverged` is a count. Differences of accuracy, paired by seed, are
    `difference_<task>.<model>_minus_<model>.{mean,low,high}`.
    """
    config: LxmertResultsConfig = context.config
    runs: dict[tuple[str, str], list[dict[str, Any]]] = {
        (task, model): read_back(context.inputs[f"{task}.{model}"] / f"{task}.json")
        for task in config.tasks
        for model in config.rows
    }
    metrics: dict[str, float] = {}
    for (task, model), found in runs.items():
        values = summary(found)
        names = [
            n for name in (MAIN, *DETAILS[task], f"test_{MAIN}") for n in (name, f"{name}_std") if n in values
        ]
        metrics |= {f"{task}.{model}.{name}": 100 * values[name] for name in (*names, "majority")}
        metrics[f"{task}.{model}.diverged"] = values["diverged"]
    scores = {key: {run["seed"]: 100 * run["metrics"][MAIN] for run in found} for key, found in runs.items()}
    titles = {task: TITLES[task] for task in config.tasks}
    differences, sentences = verdicts(scores, comparisons(config.rows, SUBJECT), titles, NAMES)
    metrics |= differences
    notes = remarks(runs, TITLES, NAMES)
    most = max(len(found) for found in runs.values())
    page = results_page(config.tasks, config.rows, metrics, most, sentences, notes)
    rows = {f"{task}.{model}": found for (task, model), found in scores.items()}
    return publish(context, page, metrics, sentences, rows=rows, notes=notes)


RESULTS = Stage(
    name="lxmert.results",
    config=LxmertResultsConfig,
    run=run,
    inputs=inputs,
    doc="The tables of the paper, over seeds, with a verdict; `ablations` adds the rows with less pre-training.",
)
