"""GLUE: fine-tune a pre-trained model on the tasks of GLUE.

Paper: Vokenization (Tan & Bansal 2020), section 4.2. The pooler and the output layer are new, everything is trained
for three epochs, and the last weights are scored on the development set. Each task with each of the fine-tuning seeds
is a job of `finetuning.run_jobs`.

Differs from the original: several fine-tuning seeds; batches padded to their own longest example and made of
similar lengths (the original padded all to 126), unless `by_length` is false; sentences compared in place of the first
token, if `head` says so; and runs that diverged are detected. At the published rate of
1e-4 that is common: an independent group lost 2 of 5 MNLI runs.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from vlpnb.data.description import load_folder
from vlpnb.data.glue import GLUE_TASKS, GlueExamples, GlueTask, glue_task, read_glue
from vlpnb.downstream import finetuning
from vlpnb.downstream.finetuning import FineTuningConfig, Job
from vlpnb.errors import UserError
from vlpnb.files import write_text
from vlpnb.metrics.glue import classification, regression
from vlpnb.nn.checkpoints import load_classifier, save_hf
from vlpnb.stage import StageContext
from vlpnb.text.tokenizers import PAIRED, load_tokenizer

FINE_TUNED = tuple(
    name for name in GLUE_TASKS if name != "MNLI-MM"
)  # MNLI's second development set has no training
COLUMNS = (
    "RTE",
    "MRPC",
    "STS-B",
    "CoLA",
    "SST-2",
    "QNLI",
    "QQP",
    "MNLI",
    "MNLI-MM",
)  # of the table
HEADER = "".join(f"{name:>8}" for name in (*COLUMNS, "GLUE"))  # of the original's table


class GlueConfig(FineTuningConfig):
    """How to fine-tune. Defaults: the paper's."""

    tasks: tuple[str, ...] = FINE_TUNED
    """Tasks by the benchmark's names; MNLI brings MNLI-MM with it."""
    lr: float = Field(1e-4, gt=0)
    """Peak learning rate."""
    batch: int = Field(32, ge=1)
    """Examples per update."""
    max_length: int = Field(126, ge=8)
    """Tokens of an example, with special tokens."""
    head: Literal["first", "compared"] = "first"
    """What the new layers read: the first token's state, or the sentences compared (`ComparingHead`), for small models
    whose pre-training never taught the first token to speak for the others.
    """

    @model_validator(mode="after")
    def _transformers_can_load_it(self) -> "GlueConfig":
        if self.keep_models and self.head != "first":
            raise ValueError(
                "transformers' classifiers read the first token; with keep_models set head to 'first'"
            )
        return self

    @field_validator("tasks")
    @classmethod
    def _known(cls, tasks: tuple[str, ...]) -> tuple[str, ...]:
        try:
            names = [glue_task(task).name for task in tasks]
        except UserError as error:
            raise ValueError(str(error)) from None
        if "MNLI-MM" in names:
            raise ValueError("MNLI-MM is scored with MNLI; name MNLI")
        return tuple(name for name in FINE_TUNED if name in names)


class ComparingHead(nn.Module):
    """Sentences compared, as in the baselines of GLUE itself (Wang et al. 2019) and in InferSent (Conneau et al. 2017).

    Of each sentence the largest value of every feature over its tokens, u and v; of a pair [u; v; |u − v|; u ∗ v]; then
    Linear, tanh, Dropout, Linear. Unlike theirs the sentences of a pair were read together, so that tokens have seen
    the other sentence.
    """

    def __init__(self, hidden: int, labels: int, dropout: float, pair: bool):
        super().__init__()
        self.pair = pair
        self.layers = nn.Sequential(
            nn.Linear(4 * hidden if pair else hidden, hidden),
            nn.Tanh(),
            nn.Dropout(dropout),
            nn.Linear(hidden, labels),
        )

    def forward(
        self, hidden: Float[Tensor, "B T D"], mask: Bool[Tensor, "B T"], types: Int[Tensor, "B T"]
    ) -> Float[Tensor, "B C"]:
        """Class scores; `types` is 1 at the tokens of the second sentence."""

        def largest(kept: Bool[Tensor, "B T"]) -> Float[Tensor, "B D"]:
            return hidden.masked_fill(~kept[..., None], torch.finfo(hidden.dtype).min).amax(1)

        u = largest(mask & (types == 0))
        if not self.pair:
            return self.layers(u)
        v = largest(mask & (types == 1))
        return self.layers(torch.cat([u, v, (u - v).abs(), u * v], dim=-1))


class SentenceClassifier(nn.Module):
    """An encoder and a head for classification (or one-output regression), with its loss."""

    def __init__(self, encoder: nn.Module, head: nn.Module, regression: bool):
        super().__init__()
        self.encoder, self.head, self.regression = encoder, head, regression

    def logits(
        self, ids: Int[Tensor, "B T"], mask: Bool[Tensor, "B T"], types: Int[Tensor, "B T"]
    ) -> Float[Tensor, "B C"]:
        """Class scores, or the one regressed score."""
        known = types if self.encoder.config.type_vocab > 1 else None
        hidden = self.encoder(ids, mask, known).last
        return self.head(hidden, mask, types) if isinstance(self.head, ComparingHead) else self.head(hidden)

    def forward(
        self, ids: Tensor, mask: Tensor, types: Tensor, labels: Tensor
    ) -> dict[str, Float[Tensor, ""]]:
        """Cross-entropy or squared error, summed over the batch."""
        logits = self.logits(ids, mask, types).float()
        if self.regression:
            return {"task": F.mse_loss(logits[:, 0], labels, reduction="sum")}
        return {"task": F.cross_entropy(logits, labels, reduction="sum")}


class Encoded:
    """Examples as token ids, padded batch by batch."""

    def __init__(self, examples: GlueExamples, tokenizer, max_length: int, limit: int | None):
        pair = [examples.sentence1[:limit]]
        if examples.sentence2 is not None:
            pair.append(examples.sentence2[:limit])
        made = tokenizer(*pair, truncation=True, max_length=max_length, return_token_type_ids=True)
        self.ids, self.types = made["input_ids"], made["token_type_ids"]
        self.lengths = np.array([len(row) for row in self.ids])
        kind = torch.float32 if examples.task.regression else torch.int64
        self.labels = torch.tensor(examples.labels[:limit], dtype=kind)
        self.pad = tokenizer.pad_token_id

    def __len__(self) -> int:
        return len(self.ids)

    def batch(self, rows: Sequence[int] | np.ndarray) -> dict[str, Tensor]:
        """ids, mask, types [B T] and labels [B] of some examples."""
        longest = int(self.lengths[rows].max())
        ids, types = np.full((len(rows), longest), self.pad), np.zeros((len(rows), longest), np.int64)
        for i, row in enumerate(rows):
            ids[i, : self.lengths[row]], types[i, : self.lengths[row]] = self.ids[row], self.types[row]
        mask = np.arange(longest)[None] < self.lengths[rows][:, None]
        arrays = {"ids": ids, "mask": mask, "types": types}
        return {name: torch.from_numpy(array) for name, array in arrays.items()} | {
            "labels": self.labels[rows]
        }


@torch.no_grad()
def predict(model: SentenceClassifier, data: Encoded, device: str, rows_at_once: int = 128) -> np.ndarray:
    """Predicted class or score of every example, [N], in order; batches go from short to long."""
    model.eval()
    found = np.zeros(len(data), dtype=np.float64 if model.regression else np.int64)
    for rows, batch in finetuning.batches_by_length(data, rows_at_once, device):
        logits = model.logits(batch["ids"], batch["mask"], batch["types"]).float()
        found[rows] = (logits[:, 0] if model.regression else logits.argmax(1)).cpu().numpy()
    return found


def score(task: GlueTask, predictions: np.ndarray, labels: Sequence) -> dict[str, float]:
    """The task's own metrics, the reported one first; fractions of one."""
    values = (regression if task.regression else classification)(predictions.tolist(), list(labels))
    return {name: values[name] for name in task.metrics}


def majority(task: GlueTask, labels: Sequence) -> float:
    """The reported metric of the best constant answer."""
    if task.regression:
        return 0.0
    if task.metrics[0] == "matthews":
        return 0.0
    constants = (np.full(len(labels), value) for value in np.unique(np.asarray(labels)))
    return max(score(task, constant, labels)[task.metrics[0]] for constant in constants)


def divergence(task: GlueTask, predictions: np.ndarray, labels: Sequence, losses: Sequence[float]) -> str:
    """Why a run counts as diverged, in words ("" when it does not): `finetuning.divergence` with GLUE's metrics."""
    constant = np.ptp(predictions) < 1e-3
    value = 0.0 if constant else score(task, predictions, labels)[task.metrics[0]]
    return finetuning.divergence(constant, losses, value, majority(task, labels))


def fine_tune(
    folder: Path, model_folder: Path, root: Path, task: GlueTask, config: GlueConfig, seed: int, device: str
) -> list[dict]:
    """Fine-tune on one task with one seed and score it; MNLI gives two results, matched and mismatched.

    Works in `folder` and resumes there. Each result: task, seed, metrics, value (the reported metric), majority,
    diverged ("" or the reason), loss (of the last updates).
    """
    tokenizer = load_tokenizer(model_folder, PAIRED)

    def make() -> SentenceClassifier:
        encoder, head = load_classifier(model_folder, labels=task.outputs)
        if config.head == "compared":
            if encoder.config.type_vocab < 2:
                raise UserError(
                    f"glue.head: 'compared' tells sentences apart by their types, which {model_folder} lacks; "
                    "expected 'first'"
                )
            head = ComparingHead(
                encoder.config.hidden, task.outputs, head.dropout.p, task.sentence2 is not None
            )
        return SentenceClassifier(encoder, head, task.regression)

    data = Encoded(read_glue(root, task.name, "train"), tokenizer, config.max_length, config.max_train)
    trained = finetuning.train(make, data, "task", config, folder, seed, device)
    model = trained.model
    results = []
    for name in (task.name, "MNLI-MM") if task.name == "MNLI" else (task.name,):
        valid = Encoded(read_glue(root, name, "valid"), tokenizer, config.max_length, config.max_valid)
        spec, labels = GLUE_TASKS[name], valid.labels.tolist()
        predictions = np.nan_to_num(predict(model, valid, device))
        metrics = score(spec, predictions, labels)
        results.append(
            {
                "task": name,
                "seed": seed,
                "metrics": metrics,
                "value": metrics[spec.metrics[0]],
                "majority": majority(spec, labels),
                "diverged": trained.reason or divergence(spec, predictions, labels, trained.losses),
                **trained.summary(),
            }
        )
    if config.keep_models:
        save_hf(folder / "model", model.encoder, classifier=model.head, tokenizer=tokenizer)
    return results


def run(context: StageContext, source: Path) -> dict[str, float]:
    """Fine-tune the model in the folder `source` on every task with every seed.

    Writes `glue.json` and, as the original does, `seed-<n>/<TASK>/eval_results.txt`. Metrics: the reported value of
    each task (`rte`, `sts_b`, `mnli_mm` …; the median over the seeds), `mean` of the table's columns, `mean_converged`
    without the diverged runs, and the number of `diverged` runs. All are fractions of one.
    """
    config: GlueConfig = context.config
    data = load_folder(context.inputs["glue_data"], "glue_data")
    root, tasks = data.folder, [GLUE_TASKS[name] for name in config.tasks if name in data.tasks]
    if not tasks:
        raise UserError(
            f"vokenization.glue.tasks: none of {list(config.tasks)} is in glue_data.tasks: {list(data.tasks)}"
        )
    context.log(f"fine-tuning {source.parent.name}/{source.name} on {', '.join(task.name for task in tasks)}")

    def job(task: GlueTask, seed: int) -> Job:
        def train(folder: Path, work: Path) -> list[dict]:
            found = fine_tune(work, source, root, task, config, seed, context.device)
            for result in found:
                write_eval_results(folder.with_name(result["task"]), result["metrics"])
            return found

        return Job(f"seed-{seed}/{task.name}", train)

    jobs = [job(task, seed) for task in tasks for seed in config.seeds]
    return summarise(finetuning.run_jobs(context, jobs, line, "glue.json"))


def line(result: Mapping) -> str:
    """A result as the log says it."""
    return f"{result['task']:8} seed {result['seed']}: {100 * result['value']:6.2f}"


def write_eval_results(folder: Path, metrics: Mapping[str, float]) -> None:
    """`eval_results.txt` with lines `metric = value`, under the original's names."""
    theirs = {"accuracy": "acc", "spearman": "spearmanr", "matthews": "mcc"}
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"{theirs.get(name, name)} = {value}\n" for name, value in sorted(metrics.items())]
    write_text(folder / "eval_results.txt", "".join(lines))


def summarise(results: Sequence[Mapping]) -> dict[str, float]:
    """The stage's metrics from the results of its runs; see `run`."""
    summary, converged = {}, {}
    for task in dict.fromkeys(result["task"] for result in results):
        mine = [result for result in results if result["task"] == task]
        summary[task] = median(result["value"] for result in mine)
        good = [result["value"] for result in mine if not result["diverged"]]
        if good:
            converged[task] = median(good)
    metrics = {task.lower().replace("-", "_"): value for task, value in summary.items()}
    for name, values in (("mean", summary), ("mean_converged", converged)):
        shown = [values[task] for task in COLUMNS if task in values]
        metrics[name] = float(np.mean(shown)) if shown else float("nan")
    metrics["diverged"] = float(sum(bool(result["diverged"]) for result in results))
    return metrics


def read_runs(folder: Path) -> dict[str, Any]:
    """Of a finished stage its `runs`, the median of each of its `tasks`, and its `summary`."""
    runs = json.loads((folder / "glue.json").read_text())
    tasks = {
        task: float(np.median([run["value"] for run in runs if run["task"] == task]))
        for task in dict.fromkeys(run["task"] for run in runs)
    }
    return {"runs": runs, "tasks": tasks, "summary": summarise(runs)}


def result_row(values: Mapping[str, float]) -> str:
    """One line of the original's table: values × 100, two decimals, width 8, blank where a task is missing; the last
    column is the mean of those present."""
    present = [values[name] for name in COLUMNS if name in values]
    cells = [f"{100 * values[name]:8.2f}" if name in values else " " * 8 for name in COLUMNS]
    mean = f"{100 * sum(present) / len(present):8.2f}" if present else " " * 8
    return "".join(cells) + mean
