"""Stage `results`: the table of the Vokenization paper, with its spread, and what it does and does not show.

The layout is that of the original's table. Why a spread: the published table has one fine-tuning
seed on development sets, and for one task most of the printed gain is plausibly the baseline's bad luck. Here each
cell is a mean and a standard deviation over pre-training seeds, differences are paired by seed, and the verdict is
computed.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import Field

from vlpnb.config import Config, Seed
from vlpnb.downstream.comparison import Difference, paired, spread, verdict
from vlpnb.downstream.glue import COLUMNS, HEADER, read_runs, result_row
from vlpnb.downstream.results import comparisons, named, publish, read_kept, shown, table, with_spread
from vlpnb.stage import Request, Stage, StageContext
from vlpnb.vokenization.pretraining import Supervision
from vlpnb.vokenization.reading_results import read_reading, reading_metrics, reading_table, reading_values

SUBJECT = "vokens"  # the row that is compared with every other
SHOWN = 12  # diverged runs that the page lists
NAMES = {
    "mlm": "MLM only",
    "vokens": "MLM + vokens",
    "sentence": "MLM + one voken a sentence",
    "propagated": "MLM + sentences' vokens",
    "term": "MLM + context-free vokens",
    "random": "MLM + random vokens",
    "shuffle": "MLM + shuffled vokens",
    "reverse": "MLM + reversed vokens",
    "token": "MLM + token ids",
    "visual-only": "vokens only",
}


class ResultsConfig(Config):
    """What is compared with what."""

    supervisions: tuple[Supervision, ...] = ("mlm", "vokens", "random")
    """Kinds of supervision that are compared; the table is in `supervision.py`."""
    seeds: tuple[Seed, ...] = Field((1, 2, 3), min_length=1)
    """Of pre-training; differences are paired by seed."""
    controls: tuple[Supervision, ...] = Field(("shuffle", "token"), json_schema_extra={"hash": False})
    """Pre-trained for notebook 15 with the first seed, and not fine-tuned."""
    squad: bool = False
    """Also the columns of SQuAD v1.1 and v2.0 (EM/F1), and of SWAG (accuracy)."""
    swag: bool = False
    """Also the column of SWAG (accuracy)."""
    probes: bool = True
    """Also the visual-knowledge probes, which only the visual world has."""


@dataclass(frozen=True)
class Score:
    """Mean and sample standard deviation over pre-training seeds, in points; one seed has no deviation (NaN)."""

    mean: float
    std: float = math.nan


@dataclass(frozen=True)
class Row:
    """What one kind of supervision reached."""

    glue: Mapping[str, Score]  # task → score
    mean: Score  # of the tasks
    median: float
    mean_converged: float  # without the diverged runs
    diverged: int
    probes: Mapping[str, Score]
    chance: Mapping[str, float]  # of those probes that have one
    seeds: Mapping[int, Mapping[str, float]]  # pre-training seed → task → points


@dataclass(frozen=True)
class Results:
    """A finished stage `vokenization.results`."""

    rows: Mapping[Supervision, Row]
    differences: Mapping[tuple[str, str], Difference]  # of the mean of GLUE
    verdict: tuple[str, ...]
    diverged: tuple[str, ...]
    page: str  # Markdown

    @property
    def tasks(self) -> list[str]:
        """The columns of the table that are present."""
        return list(next(iter(self.rows.values())).glue)


def read_results(folder: Path) -> Results:
    """The results in the folder of the finished stage."""
    kept = read_kept(folder)
    metrics = kept.metrics
    seeds: dict[str, dict[int, dict[str, float]]] = {}
    for key, tasks in kept.content["rows"].items():
        supervision, _, seed = key.rpartition(".")
        points = {task: 100 * value for task, value in tasks.items()}
        seeds.setdefault(supervision, {})[int(seed)] = points
    pairs = comparisons(list(seeds), SUBJECT, 0)
    return Results(
        {s: _row(metrics, s, found) for s, found in seeds.items()},
        {(a, b): Difference.read(metrics, f"difference.{a}_minus_{b}") for a, b in pairs},
        kept.verdict,
        tuple(kept.content["diverged"]),
        kept.page,
    )


def _row(metrics: Mapping[str, float], supervision: str, seeds: Mapping[int, Mapping[str, float]]) -> Row:
    glue, probes = f"glue.{supervision}", f"probes.{supervision}."
    keys = {task: f"{glue}.{task.lower().replace('-', '_')}" for task in COLUMNS}
    asked = {name.removeprefix(probes): value for name, value in metrics.items() if name.startswith(probes)}
    return Row(
        glue={task: Score(metrics[k], metrics[f"{k}_std"]) for task, k in keys.items() if k in metrics},
        mean=Score(metrics[f"{glue}.mean"], metrics[f"{glue}.std"]),
        median=metrics[f"{glue}.median"],
        mean_converged=metrics[f"{glue}.mean_converged"],
        diverged=int(metrics[f"{glue}.diverged"]),
        probes={n: Score(v, asked[f"{n}_std"]) for n, v in asked.items() if f"{n}_std" in asked},
        chance={n.removesuffix("_chance"): v for n, v in asked.items() if n.endswith("_chance")},
        seeds=seeds,
    )


def inputs(config: ResultsConfig) -> Mapping[str, Request]:
    stages = ["glue", *(name for name in ("squad", "swag", "probes") if getattr(config, name))]
    return {
        f"{stage}.{supervision}.{seed}": Request(
            f"vokenization.{stage}", {"supervision": supervision, "seed": seed}
        )
        for stage in stages
        for supervision in config.supervisions
        for seed in config.seeds
    }


def run(context: StageContext) -> dict[str, float]:
    """Collect, average, compare; writes `results.json` and `results.md`.

    Metrics, in points (× 100): `glue.<supervision>.<task>` and `.mean`, `.std`, `.median`, `.mean_converged`;
    `glue.<supervision>.diverged` (a count); `squad.<supervision>.v1_em` …, `swag.<supervision>.accuracy` and `…_std`,
    `….diverged`; `reading.<supervision>.average`, of the paper's seven columns; `probes.<supervision>.<probe>` and
    `…_std`; and `difference.<a>_minus_<b>.{mean,low,high}` of GLUE, `difference_<probes, squad, swag>.…` of the others.
    """
    config: ResultsConfig = context.config
    glue = {
        (s, seed): read_runs(context.inputs[f"glue.{s}.{seed}"])
        for s in config.supervisions
        for seed in config.seeds
    }
    probes = {}
    if config.probes:
        for key in glue:
            file = context.inputs[f"probes.{key[0]}.{key[1]}"] / "probes.json"
            probes[key] = json.loads(file.read_text())["metrics"]

    metrics: dict[str, float] = {}
    for s in config.supervisions:
        runs = [glue[s, seed] for seed in config.seeds]
        for task in COLUMNS:
            values = [100 * run["tasks"][task] for run in runs if task in run["tasks"]]
            if values:
                name = task.lower().replace("-", "_")
                metrics[f"glue.{s}.{name}"], metrics[f"glue.{s}.{name}_std"] = spread(values)
        means = [100 * run["summary"]["mean"] for run in runs]
        metrics[f"glue.{s}.mean"], metrics[f"glue.{s}.std"] = spread(means)
        metrics[f"glue.{s}.median"] = float(np.median(means))
        metrics[f"glue.{s}.mean_converged"] = 100 * float(
            np.mean([r["summary"]["mean_converged"] for r in runs])
        )
        metrics[f"glue.{s}.diverged"] = sum(run["summary"]["diverged"] for run in runs)
        for name in probes.get((s, config.seeds[0]), {}):
            values = [100 * probes[s, seed][name] for seed in config.seeds]
            metrics[f"probes.{s}.{name}"], deviation = spread(values)
            if not name.endswith(("chance", "majority")):
                metrics[f"probes.{s}.{name}_std"] = deviation

    reading = read_reading(context)
    metrics |= reading_metrics(config, glue, reading)

    sentences = []
    for a, b in comparisons(config.supervisions, SUBJECT, 0):
        compared = [("difference", "the GLUE mean", {k: v["summary"]["mean"] for k, v in glue.items()})]
        if probes:
            for kind, what in (
                ("linear", "the linear probes"),
                ("calibrated", "the calibrated cloze probes"),
            ):
                compared.append((f"difference_{kind}", what, {k: v[kind] for k, v in probes.items()}))
        compared += reading_values(reading)
        for prefix, what, values in compared:
            found = paired([100 * (values[a, seed] - values[b, seed]) for seed in config.seeds])
            metrics |= named(f"{prefix}.{a}_minus_{b}", found)
            sentences.append(verdict(NAMES[a], NAMES[b], what, found, len(config.seeds)))

    diverged = [
        f"{NAMES[s]}, pre-training seed {seed}: {run['task']} with fine-tuning seed {run['seed']}, {run['diverged']}"
        for (s, seed), found in glue.items()
        for run in found["runs"]
        if run["diverged"]
    ] + [
        f"{NAMES[s]}, pre-training seed {seed}: {stage} with fine-tuning seed {run['seed']}, {run['diverged']}"
        for (stage, s, seed), found in reading.items()
        for run in found["runs"]
        if run["diverged"]
    ]
    text = report(config, glue, probes, metrics, sentences, diverged)
    rows = {f"{s}.{seed}": found["tasks"] for (s, seed), found in glue.items()}
    return publish(context, text, metrics, sentences, diverged=diverged, rows=rows)


def report(
    config: ResultsConfig,
    glue: Mapping[tuple[str, int], dict],
    probes: Mapping[tuple[str, int], Mapping[str, float]],
    metrics: Mapping[str, float],
    sentences: Sequence[str],
    diverged: Sequence[str],
) -> str:
    """The page `results.md`: table with spread, probes, verdict, diverged runs, one row per run."""
    lines = [
        "# Results",
        "",
        f"Development sets, × 100, mean ± standard deviation over {len(config.seeds)} pre-training seeds.",
        "",
    ]
    rows = []
    for s in config.supervisions:
        names = [f"glue.{s}.{task.lower().replace('-', '_')}" for task in COLUMNS]
        mean = with_spread(metrics, f"glue.{s}.mean", f"glue.{s}.std")
        rows.append([NAMES[s], *(with_spread(metrics, name) for name in names), mean])
    lines += table(["model", *COLUMNS, "GLUE"], rows)
    lines += reading_table(config, metrics, NAMES)
    if probes:
        first = next(iter(probes.values()))
        asked = [name for name in first if f"{name}_chance" in first and f"{name}_calibrated" in first]
        lines += [
            "",
            "Visual knowledge that the text never states (cloze; calibrated cloze; linear probe):",
            "",
        ]
        titles = [f"{a}; calibrated; linear" if f"{a}_linear" in first else f"{a}; calibrated" for a in asked]
        rows = []
        for s in config.supervisions:
            cells = []
            for a in asked:
                kinds = [n for n in (a, f"{a}_calibrated", f"{a}_linear") if n in first]
                cells.append("; ".join(with_spread(metrics, f"probes.{s}.{n}") for n in kinds))
            rows.append([NAMES[s], *cells])
        rows.append(["chance", *(f"{100 * first[f'{a}_chance']:.1f}" for a in asked)])
        lines += table(["model", *titles], rows)
    lines += [*shown(sentences), ""]
    lines.append(
        f"Diverged fine-tuning runs: {len(diverged)}." if diverged else "No fine-tuning run diverged."
    )
    lines += [f"* {line}" for line in diverged[:SHOWN]]
    if len(diverged) > SHOWN:
        lines.append(f"* and {len(diverged) - SHOWN} more, in `results.json`")
    if any(metrics[f"glue.{s}.diverged"] for s in config.supervisions):
        both = [
            f"{NAMES[s]} {_or_none(metrics[f'glue.{s}.mean_converged'])} "
            f"(median of all {metrics[f'glue.{s}.median']:.1f})"
            for s in config.supervisions
        ]
        lines += ["", "GLUE without the diverged runs: " + "; ".join(both) + "."]
    lines += ["", "## Every run", "", "```", HEADER]
    for (s, seed), found in glue.items():
        lines += [f"{NAMES[s]}, seed {seed}", result_row(found["tasks"])]
    return "\n".join([*lines, "```", ""])


def _or_none(value: float) -> str:
    return "none" if math.isnan(value) else f"{value:.1f}"


RESULTS = Stage(
    name="vokenization.results",
    config=ResultsConfig,
    run=run,
    inputs=inputs,
    doc="The table of the paper, over seeds, with a verdict.",
)
