"""`vlpnb report`: every metric of a run, beside the paper's figure where there is one.

The JSON form is an object whose `metrics` is a flat map from dotted names to numbers.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from vlpnb.stage import StageResult

# Figures of Tan & Bansal (2020) as our specification has them, with how sure it is of each (section 14).
# BERT 12L/768H on Wikipedia; only the first four were confirmed by a second source.
PAPER: dict[str, tuple[float, str]] = {
    "results.glue.mlm.SST-2": (0.893, "BERT-base"),
    "results.glue.mlm.QNLI": (0.879, "BERT-base"),
    "results.glue.mlm.QQP": (0.832, "BERT-base"),
    "results.glue.mlm.MNLI": (0.794, "BERT-base"),
    "results.glue.vokens.SST-2": (0.922, "BERT-base + voken-cls, unverified"),
    "results.glue.vokens.QNLI": (0.886, "BERT-base + voken-cls, unverified"),
    "results.glue.vokens.QQP": (0.886, "BERT-base + voken-cls, unverified"),
    "results.glue.vokens.MNLI": (0.826, "BERT-base + voken-cls, unverified"),
}


@dataclass(frozen=True)
class Row:
    """One metric of the report."""

    name: str
    value: float
    paper: float | None
    note: str


def rows(metrics: Mapping[str, float]) -> list[Row]:
    """The run's metrics in their order, each with the paper's figure and its setting where there is one."""
    return [Row(name, value, *PAPER.get(name, (None, ""))) for name, value in metrics.items()]


def as_json(run: str, profile: str, metrics: Mapping[str, float], results: Iterable[StageResult]) -> dict:
    """The report as one JSON object; numbers that are not finite become null."""
    return {
        "run": run,
        "profile": profile,
        "metrics": {name: value if math.isfinite(value) else None for name, value in metrics.items()},
        "paper": {
            name: {"value": PAPER[name][0], "note": PAPER[name][1]} for name in metrics if name in PAPER
        },
        "stages": [
            {
                "stage": result.name,
                "variant": result.label,
                "folder": result.folder.name,
                "seconds": round(result.seconds, 2),
                "device": result.manifest.get("device"),
            }
            for result in results
        ],
    }
