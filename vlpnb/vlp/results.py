"""Stage `vlp.results`: what pre-training brings to captions and to questions, and which mix of its two masks brings it.

Paper: VLP (Zhou et al. 2020), its table of ablations: no pre-training, seq2seq alone, bidirectional alone, three
quarters of one and a quarter of the other. A row is a start (`start.py`), a column a task; differences are paired by
seed and the verdict is computed. Beside the captioners stand captions that nobody trained: one for all pictures, the
nearest training picture's, the one that those of the ten nearest agree on, and what one person scores against the
others.

Differs from the paper, which has one run of each. With `seeds` every row is pre-trained and fine-tuned with each of
them; without, all fine-tuning seeds of a row start from one pre-training, whose own luck they do not show.
"""

from collections.abc import Mapping
from typing import Any, get_args

from pydantic import Field

from vlpnb.config import Config, Seed
from vlpnb.data.description import load_captions
from vlpnb.downstream.captions import baselines_of_test
from vlpnb.downstream.results import (
    comparisons,
    folders_by_row,
    publish,
    remarks,
    seeded,
    verdicts,
)
from vlpnb.downstream.seeds import summary
from vlpnb.files import read_back
from vlpnb.foundations.captions import splits_only
from vlpnb.foundations.regions import load_regions
from vlpnb.stage import Request, Stage, StageContext
from vlpnb.vlp.reading_results import (
    DETAILS,
    MAIN,
    NAMES,
    SHARES,
    SUBJECT,
    TITLES,
    ModelName,
    TaskName,
    results_page,
)

MIXES: tuple[ModelName, ...] = ("scratch", "s2s", "bi", "pretrained")

UNTRAINED: tuple[ModelName, ...] = ("scratch", "bert")


class VlpResultsConfig(Config):
    """What is compared with what."""

    tasks: tuple[TaskName, ...] = Field(("captioning", "vqa"), min_length=1)
    """Columns of the table."""
    models: tuple[ModelName, ...] = Field(("blind", "scratch", "pretrained"), min_length=1)
    """Rows of the table: starts of the fine-tuning, and "blind", which sees no picture."""
    mixes: bool = False
    """Also the rows of the paper's ablation; each pre-trains anew."""
    seeds: tuple[Seed, ...] = ()
    """Every row is pre-trained and fine-tuned with each of them; empty: one pre-training, the tasks' own seeds."""
    scratch: dict[str, Any] = Field(default_factory=lambda: {"lr": 3e-4})
    """Fields of `vlp.captioning` that are other without pre-training; the original's rate is ten times higher then."""
    blind: dict[str, Any] = Field(default_factory=dict)
    """Fields of `vlp.captioning` that are other without pictures: words alone are learned sooner."""
    baselines: bool = True
    """Also what captions score that nobody trained."""

    @property
    def rows(self) -> tuple[ModelName, ...]:
        """The models, each once, in the order of the table."""
        wanted = {*self.models, *(MIXES if self.mixes else ())}
        return tuple(name for name in get_args(ModelName) if name in wanted)


def inputs(config: VlpResultsConfig) -> Mapping[str, Request]:
    """Every task fine-tuned from every model, with every seed; captions and regions for what nobody trained."""
    found = {}
    for task in config.tasks:
        for model in config.rows:
            start: dict[str, Any] = {"blind": True} if model == "blind" else {"start": model, "blind": False}
            if task == "captioning":
                start |= config.blind if model == "blind" else config.scratch if model in UNTRAINED else {}
            found |= seeded(f"{task}.{model}", f"vlp.{task}", start, config.seeds)
    if config.baselines and "captioning" in config.tasks:
        found |= {"captions": splits_only, "regions": Request("regions")}
    return found


def run(context: StageContext) -> dict[str, float]:
    """Collect, average, compare; writes `results.json` and `results.md`.

    Metrics, shares and CIDEr × 100 as in the paper: `<task>.<model>.<metric>` with `…_std`, of the validation split
    and with `test_` of the test split, and `….diverged`, a count; `baseline.<name>.<metric>` of the test split.
    Differences of a task's main metric on the test split where it has one, paired by seed:
    `difference_<task>.<model>_minus_<model>.{mean,low,high}`.
    """
    config: VlpResultsConfig = context.config
    runs: dict[tuple[str, str], list[dict[str, Any]]] = {
        (task, model): [run for folder in folders for run in read_back(folder / f"{task}.json")]
        for task, models in folders_by_row(context.inputs).items()
        for model, folders in models.items()
    }
    metrics: dict[str, float] = {}
    scores: dict[tuple[str, str], dict[int, float]] = {}
    for (task, model), found in runs.items():
        values = summary(found)
        for name in (MAIN[task], *DETAILS[task]):
            for full in (f"{split}{name}{std}" for split in ("", "test_") for std in ("", "_std")):
                if full in values:
                    metrics[f"{task}.{model}.{full}"] = values[full] * (100 if name in SHARES else 1)
        metrics[f"{task}.{model}.diverged"] = values["diverged"]
        scores[task, model] = {run["seed"]: 100 * _judged(run, MAIN[task]) for run in found}
    if "captions" in context.inputs:
        data = load_captions(context.inputs["captions"])
        metrics |= baselines_of_test(data, load_regions(context.inputs["regions"]))
    titles = {task: TITLES[task] for task in config.tasks}
    differences, sentences = verdicts(scores, comparisons(config.rows, SUBJECT), titles, NAMES)
    metrics |= differences
    notes = remarks(runs, TITLES, NAMES, unsaid=("blind",))
    most = max(len(found) for found in runs.values())
    page = results_page(config.tasks, config.rows, metrics, most, bool(config.seeds), sentences, notes)
    rows = {f"{task}.{model}": found for (task, model), found in scores.items()}
    return publish(context, page, metrics, sentences, rows=rows, notes=notes)


def _judged(run: Mapping[str, Any], name: str) -> float:
    """A run's main metric: of the test split where that has labels."""
    return float(run["splits"].get("test", run["metrics"])[name])


RESULTS = Stage(
    name="vlp.results",
    config=VlpResultsConfig,
    run=run,
    inputs=inputs,
    doc="What pre-training brings to captions and questions, over seeds, with a verdict; `mixes` adds its two halves.",
)
