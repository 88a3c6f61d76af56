"""Stage `cclm.results`: what one model for all views brings, in languages that were never seen with a picture.

Paper: Zeng et al., "Cross-View Language Modeling" (ACL 2023), its tables of retrieval and IGLUE, and its ablations. A
row is a pre-training (`reading_results.NAMES`): all objectives, without parallel text, the contrastive losses alone,
without regions, with a language withheld everywhere, with captions in every language. A column is a language;
all but English are zero-shot, except in the last row. Every row is trained with each of `seeds`.

Intervals are over *pictures*: all that is asked of a picture is drawn together, averaged over seeds first. Differences
are paired by sentence or question. The paper has one run of each and no intervals.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
from pydantic import Field

from vlpnb.cclm.reading_results import (
    NAMES,
    RETRIEVAL,
    TITLES,
    ModelName,
    TaskName,
    results_page,
    sentence,
)
from vlpnb.cclm.start import STARTS
from vlpnb.config import Config, Name, Seed
from vlpnb.data.text_files import read_json_lines
from vlpnb.downstream.results import (
    Judged,
    comparisons,
    difference,
    folders_by_row,
    named,
    publish,
    seeded,
    shares,
)
from vlpnb.files import read_back
from vlpnb.stage import Request, Stage, StageContext

ENGLISH = "en"
RECALLS = {
    "img_r1": ("again", 1), "img_r10": ("again", 10), "vectors_img_r1": ("near", 1), "vectors_img_r10": ("near", 10),
}  # fmt: skip


class CclmResultsConfig(Config):
    """What is compared with what."""

    models: tuple[ModelName, ...] = Field(
        ("all", "no_parallel", "contrastive_only", "no_regions", "withheld"), min_length=1
    )
    """Rows of the table of retrieval: pre-trainings."""
    tasks: tuple[TaskName, ...] = Field(get_args(TaskName), min_length=1)
    """What is asked of them."""
    task_models: tuple[ModelName, ...] = ("all",)
    """Rows of the other tasks' tables, each fine-tuned."""
    blind: bool = True
    """Also each task without pictures: what is then reached was guessed from the words."""
    withheld: tuple[Name, ...] = ("zh",)
    """The languages that the row "withheld" never sees."""
    every_language: dict[str, Any] = Field(default_factory=lambda: {"pictures_in": ()})
    """Fields of `cclm.pretraining` of the row "every_language"."""
    seeds: tuple[Seed, ...] = ()
    """Every row is pre-trained and fine-tuned with each of them; empty: once, with the run's own."""

    def start(self, row: ModelName) -> dict[str, Any]:
        """Fields of a stage that starts from a row's pre-training."""
        further = {"withheld": {"withheld": self.withheld}, "every_language": self.every_language}
        found: dict[str, Any] = {"start": row if row in STARTS else "all"}
        return {**found, "pretraining": further[row]} if row in further else found


def inputs(config: CclmResultsConfig) -> Mapping[str, Request]:
    """Every task of every row with every seed."""
    found = {}
    for task in config.tasks:
        rows = config.models if task == RETRIEVAL else config.task_models
        asked = [(row, config.start(row)) for row in rows]
        if config.blind and task != RETRIEVAL:
            asked.append(("blind", {**config.start("all"), "blind": True}))
        for row, fields in asked:
            found |= seeded(f"{task}.{row}", f"cclm.{task}", fields, config.seeds)
    return found


def judged(task: str, folders: Sequence[Path]) -> dict[tuple[str, str], Judged]:
    """(language, metric) → what was right, from the files of a row's runs."""
    found: dict[tuple[str, str], list[tuple[np.ndarray, Sequence[Any]]]] = {}
    for folder in folders:
        if task == RETRIEVAL:
            for run in read_back(folder / "retrieval.json"):
                for language, kept in run["ranks"].items():
                    for metric, (name, k) in RECALLS.items():
                        right = np.array(kept[name]) <= k
                        found.setdefault((language, metric), []).append((right, kept["owner"]))
            continue
        for file in sorted(folder.glob("seed-*/predictions_*.jsonl")):
            rows = [row for _, row in read_json_lines(file, "answers")]
            right = np.array([np.nan if row["right"] is None else row["right"] for row in rows], float)
            split = file.stem.removeprefix("predictions_")
            found.setdefault((split, "accuracy"), []).append((right, [row["group"] for row in rows]))
    return {
        key: Judged(np.array([right for right, _ in runs], float), runs[0][1])
        for key, runs in found.items()
        if key[0] != "valid" and not key[0].endswith("_valid")
    }


def run(context: StageContext) -> dict[str, float]:
    """Collect, average, compare; writes `results.json` and `results.md`.

    Metrics × 100: `<task>.<row>.<language>.<metric>` with `_low`, `_high` (95 % over pictures) and `_std` (over seeds);
    in points `difference_<task>.<row>_minus_<row>.{mean,low,high}` over the zero-shot languages,
    `reranking.<row>.{mean,low,high}` of R@1 over all languages; `chance.retrieval` of R@10.
    """
    config: CclmResultsConfig = context.config
    folders = folders_by_row(context.inputs)
    metrics: dict[str, float] = {}
    languages, sentences = {}, []
    for task, rows in folders.items():
        right = {row: judged(task, each) for row, each in rows.items()}
        for row, found in right.items():
            for (language, metric), about in found.items():
                values = shares(about, 100)
                metrics |= {f"{task}.{row}.{language}.{metric}{end}": v for end, v in values.items()}
        names = {language for found in right.values() for language, _ in found}
        languages[task] = sorted(names, key=lambda name: (name != ENGLISH, name))
        if task == RETRIEVAL:
            metrics |= _chance(next(iter(rows.values()))[0])
        sentences += _told(task, right, config, metrics)
    seeds = max(len(each) for rows in folders.values() for each in rows.values())
    shown = {task: list(rows) for task, rows in folders.items()}
    page = results_page(shown, languages, metrics, seeds, sentences)
    return publish(context, page, metrics, sentences, tasks=list(shown), rows=shown, languages=languages)


def _chance(folder: Path) -> dict[str, float]:
    """R@10 × 100 of a guess, of the largest gallery that is asked."""
    splits = read_back(folder / "retrieval.json")[0]["splits"]
    pictures = max(each["pictures"] for each in splits.values())
    return {"chance.retrieval": 100 * min(1.0, 10 / pictures)}


def _told(
    task: str,
    right: Mapping[str, Mapping[tuple[str, str], Judged]],
    config: CclmResultsConfig,
    metrics: dict[str, float],
) -> list[str]:
    """Sentences on a task, and their differences into `metrics`."""
    told, retrieval = [], task == RETRIEVAL
    metric = "vectors_img_r10" if retrieval else "accuracy"
    what = "text to picture R@10" if retrieval else f"accuracy on {TITLES[task]}"
    for a, b in comparisons(list(right), "all", 0):
        common = sorted(key for key in right[a] if key in right[b] and key[1] == metric)
        only = config.withheld if b == "withheld" else ()
        # neither translated, nor of few rows, nor of another set
        plain = [key for key in common if "_" not in key[0]]
        asked = [key for key in plain if (key[0] in only if only else key[0] != ENGLISH)] or common
        if b == "blind":
            asked = [key for key in common if key[0] == ENGLISH] or common
        if not asked:
            continue
        found = difference([(right[a][key], right[b][key]) for key in asked], 100)
        metrics |= named(f"difference_{task}.{a}_minus_{b}", found)
        spoken = ", ".join(key[0] for key in asked)
        told.append(sentence(NAMES[a], NAMES[b], f"{what} ({spoken})", found))
    if retrieval:
        for row, each in right.items():
            keys = sorted(name for name, metric in each if metric == "img_r1" and "_" not in name)
            pairs = [(each[name, "img_r1"], each[name, "vectors_img_r1"]) for name in keys]
            found = difference(pairs, 100)
            metrics |= named(f"reranking.{row}", found)
            what = "text to picture R@1, all languages"
            told.append(sentence(f"{NAMES[row]}: re-ranking", "the order of the vectors", what, found))
    return told


RESULTS = Stage(
    name="cclm.results",
    config=CclmResultsConfig,
    run=run,
    inputs=inputs,
    doc="What CCLM finds and answers in every language, beside ablations and controls, with intervals over pictures.",
)
