"""SQuAD: fine-tune a pre-trained model on SQuAD v1.1 and v2.0.

The paper reports EM and F1 on both with BERT's settings; its code holds neither, so this follows BERT (Devlin et
al. 2019, sections 4.2 and 4.3): every window of a passage points at the start and the end of the answer, or at its
first token. The best span over the windows of a question is its answer. For v2.0 "no answer" scores as the first
token does, in the window where that is lowest; the threshold on its odds is the best on the development set, as
the official script finds it. `predictions.json` and `null_odds.json` are files which that script reads.

Differs from BERT's code: a fast tokenizer gives the characters of every token, so that an answer is cut out of the
passage itself; padding never takes part in the softmax.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor, nn

from vlpnb.data.description import load_folder
from vlpnb.data.squad import SquadQuestion, Version, read_squad
from vlpnb.downstream import finetuning
from vlpnb.downstream.finetuning import FineTuningConfig, Job
from vlpnb.files import write_text
from vlpnb.metrics.squad import predictions, squad_scores
from vlpnb.nn.checkpoints import load_encoder, save_hf
from vlpnb.nn.heads import SpanHead
from vlpnb.stage import StageContext
from vlpnb.text.tokenizers import PAIRED, load_tokenizer
from vlpnb.text.windows import QuestionWindows, best_spans

EMPTY = -1e4  # score of a question none of whose windows holds an allowed span


class SquadConfig(FineTuningConfig):
    """How to fine-tune. Defaults: BERT's, as in the paper. Examples are questions."""

    versions: tuple[Version, ...] = ("1.1", "2.0")
    """Versions of the data set."""
    lr: float = Field(5e-5, gt=0)
    """Peak learning rate."""
    batch: int = Field(32, ge=1)
    """Windows per update."""
    max_length: int = Field(384, ge=24)
    """Tokens of a window, with question and special tokens."""
    stride: int = Field(128, ge=1)
    """Tokens from the start of a window to that of the next."""
    max_question: int = Field(64, ge=1)
    """Tokens of a question; longer ones are cut."""
    max_answer: int = Field(30, ge=1)
    """Tokens of an answer that is given."""
    n_best: int = Field(20, ge=1)
    """Starts, ends and spans that are kept per window."""


class QuestionAnswerer(nn.Module):
    """An encoder and a span head, with their loss."""

    def __init__(self, encoder: nn.Module, head: SpanHead):
        super().__init__()
        self.encoder, self.head = encoder, head

    def hidden(
        self, ids: Int[Tensor, "B T"], mask: Bool[Tensor, "B T"], types: Int[Tensor, "B T"]
    ) -> Float[Tensor, "B T D"]:
        types = types if self.encoder.config.type_vocab > 1 else None
        return self.encoder(ids, mask, types).last

    def forward(
        self, ids: Tensor, mask: Tensor, types: Tensor, starts: Tensor, ends: Tensor
    ) -> dict[str, Float[Tensor, ""]]:
        """Cross-entropy of start and end, averaged over the two and summed over the batch."""
        return {"span": self.head.loss(self.hidden(ids, mask, types), mask, starts, ends)}


def make_windows(
    questions: Sequence[SquadQuestion], tokenizer, config: SquadConfig, limit: int | None
) -> QuestionWindows:
    """Windows of the first `limit` questions; labels are of each question's first answer."""
    chosen = questions[:limit]
    spans = [(q.answers[0][1], q.answers[0][1] + len(q.answers[0][0])) if q.answers else None for q in chosen]
    return QuestionWindows(
        [q.question.strip() for q in chosen], [q.context for q in chosen], spans, tokenizer,
        config.max_length, config.stride, config.max_question,
    )  # fmt: skip


@dataclass(frozen=True)
class Answer:
    """The n-best spans of one question as (score, text), best first, and the score of "no answer"."""

    spans: tuple[tuple[float, str], ...]
    null: float

    @property
    def text(self) -> str:
        return self.spans[0][1] if self.spans else ""

    @property
    def null_odds(self) -> float:
        """How much better "no answer" scores than the best span."""
        return self.null - (self.spans[0][0] if self.spans else EMPTY)


@torch.no_grad()
def answer(
    model: QuestionAnswerer, data: QuestionWindows, config: SquadConfig, device: str, rows_at_once: int = 64
) -> list[Answer]:
    """The answer to every question, in order; windows go from short to long."""
    model.eval()
    starts: list[np.ndarray] = [np.zeros(0)] * len(data)
    ends = list(starts)
    for rows, batch in finetuning.batches_by_length(data, rows_at_once, device):
        scores = model.head(model.hidden(batch["ids"], batch["mask"], batch["types"]), batch["mask"])
        start, end = (np.nan_to_num(each.float().cpu().numpy()) for each in scores)
        for i, row in enumerate(rows):
            starts[row], ends[row] = start[i, : data.lengths[row]], end[i, : data.lengths[row]]
    return [decode(data, question, starts, ends, config) for question in range(len(data.questions))]


def decode(
    data: QuestionWindows,
    question: int,
    starts: Sequence[np.ndarray],
    ends: Sequence[np.ndarray],
    config: SquadConfig,
) -> Answer:
    """One question's answer from the scores of its windows ([length] each, by row)."""
    found: list[tuple[float, int, int]] = []
    rows = range(data.of_question[question], data.of_question[question + 1])
    offset = data.passage_start(question)
    for row, owned in zip(rows, data.owned(question), strict=True):
        _, first, end, *_ = data.rows[row]
        inside = slice(offset, offset + int(end - first))
        spans = best_spans(starts[row][inside], ends[row][inside], owned, config.n_best, config.max_answer)
        found += [(score, int(first) + a, int(first) + b) for score, a, b in spans]
    texts: dict[str, float] = {}
    for score, a, b in sorted(found, key=lambda item: -item[0]):
        texts.setdefault(data.text(question, a, b), score)
    best = tuple((score, text) for text, score in list(texts.items())[: config.n_best])
    return Answer(best, min(float(starts[row][0] + ends[row][0]) for row in rows))


def fine_tune(
    folder: Path, model_folder: Path, root: Path, version: str, config: SquadConfig, seed: int, device: str
) -> tuple[dict, dict[str, str], dict[str, float]]:
    """Fine-tune on one version with one seed and score it; works in `folder` and resumes there.

    Returns: the result (version, seed, metrics, value: F1, trivial, diverged, loss, updates, windows), and of each
    question its answer ("" for none) and its null odds.
    """
    tokenizer = load_tokenizer(model_folder, PAIRED)

    def make() -> QuestionAnswerer:
        encoder = load_encoder(model_folder)
        return QuestionAnswerer(encoder, SpanHead(encoder.config.hidden))

    data = make_windows(read_squad(root, version, "train"), tokenizer, config, config.max_train)
    trained = finetuning.train(make, data, "span", config, folder, seed, device)
    questions = read_squad(root, version, "valid")[: config.max_valid]
    answers = answer(trained.model, make_windows(questions, tokenizer, config, None), config, device)
    odds = [found.null_odds for found in answers]
    references = [[text for text, _ in question.answers] for question in questions]
    metrics = squad_scores([found.text for found in answers], references, odds if version == "2.0" else None)
    threshold = metrics.get("f1_threshold", float("inf"))
    names = [question.id for question in questions]
    texts = {name: found.text for name, found in zip(names, answers, strict=True)}
    null_odds = dict(zip(names, odds, strict=True))
    given = predictions(texts, null_odds, threshold)
    trivial = sum(question.impossible for question in questions) / len(questions)
    constant = len(questions) > 1 and len(set(given.values())) == 1
    result = {
        "version": version,
        "seed": seed,
        "metrics": metrics,
        "value": metrics["f1"],
        "trivial": trivial,
        "diverged": trained.reason or finetuning.divergence(constant, trained.losses, metrics["f1"], trivial),
        **trained.summary(),
        "windows": len(data),
    }
    if config.keep_models:
        save_hf(folder / "model", trained.model.encoder, span=trained.model.head, tokenizer=tokenizer)
    return result, given, null_odds


def run(context: StageContext, source: Path) -> dict[str, float]:
    """Fine-tune the model in the folder `source` on both versions with every seed.

    Writes `squad.json` and `seed-<n>/v<version>/{predictions,…}.json`.

    Metrics, fractions of one, medians over the seeds: `v1_em`, `v1_f1`, `v2_em`, `v2_f1` (at the best threshold of
    each), `v2_f1_zero` … as `vlpnb.metrics.squad.squad_scores` names them, and the number of `diverged` runs.
    """
    config: SquadConfig = context.config
    root = load_folder(context.inputs["squad_data"], "squad_data").folder
    context.log(f"fine-tuning {source.parent.name}/{source.name} on SQuAD {' and '.join(config.versions)}")

    def job(version: Version, seed: int) -> Job:
        def train(folder: Path, work: Path) -> list[dict]:
            result, given, odds = fine_tune(work, source, root, version, config, seed, context.device)
            write_text(folder / "predictions.json", json.dumps(given, ensure_ascii=False, indent=1))
            write_text(folder / "null_odds.json", json.dumps(odds, indent=1))
            return [result]

        return Job(f"seed-{seed}/v{version}", train)

    jobs = [job(version, seed) for version in config.versions for seed in config.seeds]
    return summarise(finetuning.run_jobs(context, jobs, line, "squad.json"))


def line(result: Mapping) -> str:
    """A result as the log says it."""
    em, f1 = (100 * result["metrics"][name] for name in ("em", "f1"))
    return f"SQuAD {result['version']} seed {result['seed']}: EM {em:6.2f} F1 {f1:6.2f}"


def summarise(results: Sequence[Mapping]) -> dict[str, float]:
    """The stage's metrics from the results of its runs; see `run`."""
    metrics: dict[str, float] = {}
    for version in dict.fromkeys(result["version"] for result in results):
        mine = [result["metrics"] for result in results if result["version"] == version]
        metrics |= {f"v{version[0]}_{name}": float(median(m[name] for m in mine)) for name in mine[0]}
    metrics["diverged"] = float(sum(bool(result["diverged"]) for result in results))
    return metrics
