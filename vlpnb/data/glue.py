"""GLUE in the TSV layout of its download script: nine tasks and MNLI mismatched.

Files are tab separated without quoting: MRPC sentences begin with bare quotation marks, which a CSV reader
would join across lines. Columns are found by the header's names, so the 12-column MNLI training file and the
16-column development file are one case. CoLA's train and dev files have no header. Label order follows the
transformers library, so that published fine-tuned models agree.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from vlpnb.data.text_files import lines_of, require
from vlpnb.errors import UserError


@dataclass(frozen=True)
class GlueTask:
    """One task: folder, columns, labels in order (None: a score to regress), metrics (the first is reported)."""

    name: str
    folder: str
    sentence1: str
    sentence2: str | None
    label: str
    labels: tuple[str, ...] | None
    metrics: tuple[str, ...]
    dev: str = "dev.tsv"
    test: str = "test.tsv"
    headless: tuple[str, ...] | None = None  # columns of train and dev where these have no header
    ragged: bool = False  # the distributed file has corrupt short rows, which every published reader drops

    @property
    def regression(self) -> bool:
        return self.labels is None

    @property
    def outputs(self) -> int:
        """Width of the classification head: number of classes, or 1 for a score."""
        return len(self.labels) if self.labels else 1

    def file(self, split: str) -> str:
        """File name of a split: train, valid (alias dev) or test."""
        names = {"train": "train.tsv", "valid": self.dev, "dev": self.dev, "test": self.test}
        if split not in names:
            raise UserError(f"GLUE split '{split}' is unknown; expected train, valid or test.")
        return names[split]


@dataclass(frozen=True)
class GlueExamples:
    """Parallel columns of one split.

    `labels`: class indices, or scores 0–5 for STS-B, or None for unlabelled test files.
    """

    task: GlueTask
    split: str
    sentence1: list[str]
    sentence2: list[str] | None
    labels: list[int] | list[float] | None
    dropped: int = 0  # corrupt short rows of QQP

    def __len__(self) -> int:
        return len(self.sentence1)


_ENTAILS = ("entailment", "not_entailment")
_THREE = ("contradiction", "entailment", "neutral")
_BINARY = ("0", "1")
_COLA = ("source", "label", "original", "sentence")
_PAIR_METRICS = ("acc_and_f1", "accuracy", "f1")

# In the order in which the reference fine-tunes them: small sets first.
GLUE_TASKS: Mapping[str, GlueTask] = MappingProxyType(
    {
        task.name: task
        for task in (
            GlueTask("WNLI", "WNLI", "sentence1", "sentence2", "label", _BINARY, ("accuracy",)),
            GlueTask("RTE", "RTE", "sentence1", "sentence2", "label", _ENTAILS, ("accuracy",)),
            GlueTask("MRPC", "MRPC", "#1 String", "#2 String", "Quality", _BINARY, _PAIR_METRICS),
            GlueTask(
                "STS-B", "STS-B", "sentence1", "sentence2", "score", None, ("corr", "pearson", "spearman")
            ),
            GlueTask("CoLA", "CoLA", "sentence", None, "label", _BINARY, ("matthews",), headless=_COLA),
            GlueTask("SST-2", "SST-2", "sentence", None, "label", _BINARY, ("accuracy",)),
            GlueTask("QNLI", "QNLI", "question", "sentence", "label", _ENTAILS, ("accuracy",)),
            GlueTask(
                "QQP", "QQP", "question1", "question2", "is_duplicate", _BINARY, _PAIR_METRICS, ragged=True
            ),
            GlueTask(
                "MNLI",
                "MNLI",
                "sentence1",
                "sentence2",
                "gold_label",
                _THREE,
                ("accuracy",),
                dev="dev_matched.tsv",
                test="test_matched.tsv",
            ),
            GlueTask(
                "MNLI-MM",
                "MNLI",
                "sentence1",
                "sentence2",
                "gold_label",
                _THREE,
                ("accuracy",),
                dev="dev_mismatched.tsv",
                test="test_mismatched.tsv",
            ),
        )
    }
)


def glue_task(name: str) -> GlueTask:
    """The task of that name, whatever its case; UserError lists the ten names."""
    for task in GLUE_TASKS.values():
        if task.name.lower() == name.lower():
            return task
    raise UserError(f"GLUE task '{name}' is unknown; expected one of {', '.join(GLUE_TASKS)}.")


def read_glue(folder: Path, task: str, split: str) -> GlueExamples:
    """Read one split of one task from `<folder>/<TASK>/<split file>`.

    Raises UserError with file and line for a wrong number of columns, an unknown label or a score outside
    0–5, and with the file's own header for a missing column. Rows keep their order.
    """
    spec = glue_task(task)
    path = require(Path(folder) / spec.folder / spec.file(split), f"the {split} split of GLUE {spec.name}")
    labelled = split != "test"
    rows = lines_of(path, f"GLUE {spec.name}, tab-separated columns")
    if spec.headless and labelled:
        header: tuple[str, ...] = spec.headless
    else:
        first = next(rows, None)
        header = tuple(first.text.split("\t")) if first else ()
    wanted = [spec.sentence1, *([spec.sentence2] if spec.sentence2 else [])]
    at = [_column(path, header, name, spec) for name in wanted]
    label_at = _column(path, header, spec.label, spec) if labelled else None

    columns: list[list[str]] = [[] for _ in wanted]
    labels: list = []
    dropped = 0
    for number, text in rows:
        if not text:
            continue
        cells = text.split("\t")
        if len(cells) != len(header):
            if spec.ragged and len(cells) < len(header):
                dropped += 1
                continue
            raise UserError(
                f"{path}:{number}: {len(cells)} tab-separated columns, "
                f"expected {len(header)} ({', '.join(header)})."
            )
        for column, index in zip(columns, at, strict=True):
            column.append(cells[index].strip())
        if label_at is not None:
            labels.append(_label(spec, cells[label_at].strip(), path, number))
    if not columns[0]:
        raise UserError(f"{path}: no example in the file; expected the {split} split of GLUE {spec.name}.")
    return GlueExamples(
        task=spec,
        split=split,
        sentence1=columns[0],
        sentence2=columns[1] if spec.sentence2 else None,
        labels=labels if labelled else None,
        dropped=dropped,
    )


def _column(path: Path, header: tuple[str, ...], name: str, spec: GlueTask) -> int:
    if name not in header:
        raise UserError(
            f"{path}:1: no column '{name}' in the header; found {', '.join(header) or 'an empty file'}. "
            f"Expected the distributed layout of GLUE {spec.name}."
        )
    return header.index(name)


def _label(spec: GlueTask, text: str, path: Path, number: int) -> int | float:
    if spec.labels is not None:
        if text in spec.labels:
            return spec.labels.index(text)
        raise UserError(f"{path}:{number}: label '{text}', expected one of {', '.join(spec.labels)}.")
    try:
        score = float(text)
    except ValueError:
        score = float("nan")
    if not 0.0 <= score <= 5.0:
        raise UserError(f"{path}:{number}: score '{text}', expected a number from 0 to 5.")
    return score
