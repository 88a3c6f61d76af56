"""The optional columns of the results table: SQuAD v1.1 and v2.0 (EM/F1) and SWAG (accuracy)."""

import json
import math
from collections.abc import Mapping, Sequence

import numpy as np

from vlpnb.config import Config
from vlpnb.downstream.comparison import spread
from vlpnb.downstream.results import table
from vlpnb.downstream.squad import summarise as summarise_squad
from vlpnb.stage import StageContext

READING = {
    "SQuAD 1.1": ("squad", "v1", ("em", "f1")),
    "SQuAD 2.0": ("squad", "v2", ("em", "f1")),
    "SWAG": ("swag", "", ("accuracy",)),
}  # column: stage, prefix and names of its metrics
Reading = Mapping[tuple[str, str, int], dict]  # (stage, supervision, pre-training seed): its runs and values


def read_reading(context: StageContext) -> dict[tuple[str, str, int], dict]:
    """The finished `squad` and `swag` stages that the configuration asks for."""
    config = context.config
    return {
        (stage, s, seed): _reading(context, stage, s, seed)
        for stage in ("squad", "swag")
        if getattr(config, stage)
        for s in config.supervisions
        for seed in config.seeds
    }


def reading_values(reading: Reading) -> list[tuple[str, str, dict[tuple[str, int], float]]]:
    """What is compared between models: (prefix of the metric, its name in a sentence, value of each model)."""
    found = []
    for title, (stage, prefix, names) in READING.items():
        name = f"{prefix}_{names[-1]}" if prefix else names[-1]
        values = {
            key[1:]: v["values"][name]
            for key, v in reading.items()
            if key[0] == stage and name in v["values"]
        }
        if values:
            what = f"{title} F1" if prefix else title
            found.append((f"difference_{stage}_{prefix}".rstrip("_"), what, values))
    return found


def _reading(context: StageContext, stage: str, supervision: str, seed: int) -> dict:
    """The runs of one `squad` or `swag` stage and the medians over them, fractions of one."""
    runs = json.loads((context.inputs[f"{stage}.{supervision}.{seed}"] / f"{stage}.json").read_text())
    if stage == "swag":
        return {"runs": runs, "values": {"accuracy": float(np.median([run["value"] for run in runs]))}}
    values = {name: value for name, value in summarise_squad(runs).items() if name.endswith(("_em", "_f1"))}
    return {"runs": runs, "values": values}


def reading_metrics(
    config: Config,
    glue: Mapping[tuple[str, int], dict],
    reading: Reading,
) -> dict[str, float]:
    """Means and deviations of SQuAD and SWAG, and with both the mean of the paper's seven columns."""
    metrics: dict[str, float] = {}
    for s in config.supervisions:
        for stage in ("squad", "swag"):
            found = [reading[stage, s, seed] for seed in config.seeds if (stage, s, seed) in reading]
            for name in found[0]["values"] if found else ():
                values = [100 * each["values"][name] for each in found]
                metrics[f"{stage}.{s}.{name}"], metrics[f"{stage}.{s}.{name}_std"] = spread(values)
            if found:
                metrics[f"{stage}.{s}.diverged"] = sum(
                    bool(run["diverged"]) for f in found for run in f["runs"]
                )
        averages = [_seven(glue[s, seed]["tasks"], reading, s, seed) for seed in config.seeds]
        if not any(math.isnan(value) for value in averages):
            metrics[f"reading.{s}.average"], metrics[f"reading.{s}.average_std"] = spread(averages)
    return metrics


def _seven(tasks: Mapping[str, float], reading: Mapping, supervision: str, seed: int) -> float:
    """100 × the mean of SST-2, QNLI, QQP, MNLI, SQuAD 1.1 and 2.0 (mean of EM and F1 each) and SWAG; NaN if one lacks.

    QQP is the mean of accuracy and F1, as in the results table.
    """
    values = [tasks.get(name, math.nan) for name in ("SST-2", "QNLI", "QQP", "MNLI")]
    for stage, prefix, names in READING.values():
        found = reading.get((stage, supervision, seed), {"values": {}})["values"]
        keys = [f"{prefix}_{name}" if prefix else name for name in names]
        values.append(float(np.mean([found.get(key, math.nan) for key in keys])))
    return 100 * float(np.mean(values))


def reading_table(config: Config, metrics: Mapping[str, float], models: Mapping[str, str]) -> list[str]:
    """Lines of the table of SQuAD and SWAG; none when neither was asked for."""
    several = len(config.seeds) > 1
    columns = {title: column for title, column in READING.items() if getattr(config, column[0])}
    if not columns:
        return []

    def cell(stage: str, s: str, names: Sequence[str]) -> str:
        found = [f"{stage}.{s}.{name}" for name in names if f"{stage}.{s}.{name}" in metrics]
        mean = "/".join(f"{metrics[name]:.1f}" for name in found)
        deviation = "/".join(f"{metrics[name + '_std']:.1f}" for name in found)
        return f"{mean} ± {deviation}" if several and found else mean

    average = any(f"reading.{s}.average" in metrics for s in config.supervisions)
    titles = [*columns, *(["average of the paper's seven columns"] if average else [])]
    rows = []
    for s in config.supervisions:
        cells = [
            cell(stage, s, [f"{prefix}_{name}" if prefix else name for name in names])
            for stage, prefix, names in columns.values()
        ]
        rows.append([models[s], *cells, *([cell("reading", s, ["average"])] if average else [])])
    heading = "Reading (SQuAD: EM/F1, v2.0 at the best threshold; SWAG: accuracy):"
    return ["", heading, "", *table(["model", *titles], rows)]
