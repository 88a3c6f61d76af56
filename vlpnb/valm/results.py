"""Stage `valm.results`: what pictures bring a language model, beside every control that might bring it as well.

Paper: Wang et al., "Visually-Augmented Language Modeling" (ICLR 2023), its tables of object commonsense and its
ablations. A row is a model and what it is shown when it is asked (`reading_results.ROWS`): trained on text alone, with
random pictures, with the words of captions, with the query itself, with found pictures; the last one also without
pictures and with pictures known to show what is asked. Each is trained with each of `seeds`.

Intervals are over *things*: all answers about a kind are drawn together, averaged over seeds first, because a model
that believes swans to be red errs in every template. Differences are paired by answer. The paper has one run of each
and no intervals. The pictures that are found may be those that the text describes; `disjoint` trains and asks another
model whose pictures the text does not describe.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import numpy as np
from pydantic import Field

from vlpnb.config import Config, Seed
from vlpnb.downstream.commonsense import ANSWERS
from vlpnb.downstream.comparison import spread
from vlpnb.downstream.language_tasks import RESULTS as LANGUAGE
from vlpnb.downstream.results import (
    Judged,
    comparisons,
    difference,
    folders_by_row,
    named,
    publish,
    shares,
)
from vlpnb.files import read_back
from vlpnb.stage import Request, Stage, StageContext
from vlpnb.valm.reading_results import KINDS, ROWS, SUBJECT, ModelName, results_page, sentence
from vlpnb.valm.shown import HELD_OUT


class ValmResultsConfig(Config):
    """What is compared with what."""

    models: tuple[ModelName, ...] = Field(get_args(ModelName), min_length=1)
    """Rows of the table."""
    seeds: tuple[Seed, ...] = ()
    """Every row is trained with each of them; empty: once, with the run's own."""
    disjoint: dict[str, Any] = Field(default_factory=dict)
    """Fields of `valm.pretraining` that give pictures which the text does not describe, such as {images: {source:
    pictures}}; empty: that is not run."""
    language: bool = True
    """Also what the models make of running text (stage `valm.language_tasks`)."""

    @property
    def rows(self) -> dict[str, tuple[dict[str, Any], str]]:
        """Name of a row → fields of `valm.pretraining`, and the setting in which the model is asked."""
        found = {
            name: (dict(fields), setting) for name, (fields, setting) in ROWS.items() if name in self.models
        }
        if self.disjoint and "retrieved" in found:
            fields, setting = found["retrieved"]
            found["retrieved_disjoint"] = ({**fields, **self.disjoint}, setting)
        return found


def inputs(config: ValmResultsConfig) -> Mapping[str, Request]:
    """Every row with every seed: the model, what it knows of things, and what it makes of text."""
    found = {}
    for name, (fields, setting) in config.rows.items():
        for seed in config.seeds or (None,):
            model = fields if seed is None else {**fields, "seed": seed}
            key = f"{name}.{'' if seed is None else seed}"
            found[f"model.{key}"] = Request("valm.pretraining", model)
            found[f"commonsense.{key}"] = Request("valm.commonsense", {"model": model, "setting": setting})
            if config.language and setting != "oracle":
                found[f"language.{key}"] = Request(
                    "valm.language_tasks", {"model": model, "setting": setting}
                )
    return found


def run(context: StageContext) -> dict[str, float]:
    """Collect, average, compare; writes `results.json` and `results.md`.

    Metrics: `<task>.<row>.raw` and `.calibrated`, shares of right answers, with `_low`, `_high` (95 % over things) and
    `_std` (over seeds); `<text>.<row>.<measure>` of what `valm.language_tasks` measured; `held_out.<row>.<text>`, nats
    per token as the pre-training measured them; `difference_<task>.<row>_minus_<row>.{mean,low,high}` of calibrated
    shares.
    """
    config: ValmResultsConfig = context.config
    folders = folders_by_row(context.inputs)
    answers = {row: [read_back(f / ANSWERS) for f in each] for row, each in folders["commonsense"].items()}
    first = next(iter(answers.values()))[0]
    metrics: dict[str, float] = {}
    right: dict[tuple[str, str, str], Judged] = {}
    things = {task: [one["item"] for one in about["answers"]] for task, about in first["tasks"].items()}
    for row, seeds in answers.items():
        for task, items in things.items():
            for kind in KINDS:
                runs = [[one[kind] for one in seed["tasks"][task]["answers"]] for seed in seeds]
                right[task, row, kind] = Judged(np.array(runs, float), items)
                values = shares(right[task, row, kind])
                metrics |= {f"{task}.{row}.{kind}{end}": value for end, value in values.items()}
    for task, predictors in first["trivial"].items():
        metrics |= {f"{task}.trivial.{name}": value for name, value in predictors.items()}
    metrics |= _held_out(folders["model"], config) | _language(folders.get("language", {}))
    sentences = []
    for task in things:
        for a, b in comparisons(list(answers), SUBJECT):
            found = difference([(right[task, a, "calibrated"], right[task, b, "calibrated"])])
            metrics |= named(f"difference_{task}.{a}_minus_{b}", found)
            sentences.append(sentence(a, b, task, found))
    page = results_page(list(things), list(answers), metrics, max(map(len, answers.values())), sentences)
    return publish(context, page, metrics, sentences, tasks=list(things), rows=list(answers))


def _held_out(models: Mapping[str, list[Path]], config: ValmResultsConfig) -> dict[str, float]:
    """Nats per token of held-out text that the pre-trainings measured, of the setting of each row."""
    found = {}
    for row, seeds in models.items():
        setting = config.rows[row][1]
        ending = "" if setting == "trained" else f"_{setting}"
        runs = [read_back(folder / HELD_OUT) for folder in seeds]
        for name in runs[0]:
            if name.endswith(f"_loss{ending}"):
                mean, std = spread([run[name] for run in runs])
                text = name.removesuffix(f"_loss{ending}")
                found |= {f"held_out.{row}.{text}": mean, f"held_out.{row}.{text}_std": std}
    return found


def _language(rows: Mapping[str, list[Path]]) -> dict[str, float]:
    """What `valm.language_tasks` measured: perplexities of texts, LAMBADA, classifications."""
    found = {}
    for row, seeds in rows.items():
        runs = [_measures(read_back(folder / LANGUAGE)) for folder in seeds]
        for task, measure in runs[0]:
            mean, std = spread([run[task, measure] for run in runs])
            found |= {f"{task}.{row}.{measure}": mean, f"{task}.{row}.{measure}_std": std}
    return found


def _measures(kept: Mapping[str, Any]) -> dict[tuple[str, str], float]:
    """(text or task, measure) → value, of one model."""
    about = {**kept["texts"], **kept["classified"]}
    found = {name: each["metrics"] for name, each in about.items()}
    if "lambada" in kept:
        found["lambada"] = kept["lambada"]
    return {(name, key): value for name, each in found.items() for key, value in each.items()}


RESULTS = Stage(
    name="valm.results",
    config=ValmResultsConfig,
    run=run,
    inputs=inputs,
    doc="What pictures bring a language model, beside its controls, over seeds, with intervals over things.",
)
