"""What a language model knows of the looks of things that its text never states.

Not in the Vokenization paper, whose claim they make testable: on the visual world some kinds have a colour, shape,
material and size that every picture shows and no sentence says. Two questions to a frozen model:

* **Cloze** (after Norlund et al. 2021 and Zhang et al. 2022): which candidate is likeliest at "[MASK]" in "the banana
  is [MASK] ."? Candidates are balanced, so chance is 1 / candidates and the majority answer does no better. A model
  that prefers one colour everywhere is at chance; the `calibrated` score therefore subtracts a candidate's mean
  log-probability over all items of the attribute.
* **Linear probe**: can the attribute be read off the hidden state of the kind's word? A linear classifier is trained on
  half of the kinds and tested on the others, so it must have found what kinds of one colour have in common.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor

from vlpnb.config import Config
from vlpnb.data.description import load_folder
from vlpnb.data.fields import as_text, list_field, text_field
from vlpnb.data.text_files import read_json_lines
from vlpnb.errors import UserError
from vlpnb.files import write_text
from vlpnb.nn.language_model import load_masked_lm
from vlpnb.stage import StageContext
from vlpnb.text.tokenizers import MASKED, load_tokenizer


class ProbesConfig(Config):
    """How the probes are trained."""

    splits: int = Field(50, ge=1)
    """Random halves of the kinds in the linear probe."""


def read_probes(folder: Path) -> dict[str, list[dict]]:
    """Attribute → its items {prompt, answer, candidates, kind}, from `<attribute>.jsonl`."""
    files = sorted(Path(folder).glob("*.jsonl"))
    if not files:
        raise UserError(f"{folder} holds no .jsonl file; expected one list of cloze items per attribute")
    found = {}
    for file in files:
        found[file.stem] = []
        for number, item in read_json_lines(file, "cloze items {prompt, answer, candidates, kind}"):
            where = f"{file}:{number}"
            prompt, answer, _ = (text_field(item, name, where) for name in ("prompt", "answer", "kind"))
            candidates = [as_text(c, f"{where}.candidates") for c in list_field(item, "candidates", where)]
            if prompt.count("[MASK]") != 1 or answer not in candidates:
                raise UserError(
                    f"{where}: expected a prompt with one [MASK] and the answer among the candidates, found "
                    f"{prompt[:60]!r} and {answer!r} of {', '.join(candidates)[:60]}"
                )
            found[file.stem].append(item)
    return found


@runtime_checkable
class GuessesWords(Protocol):
    """What is asked of a model that guesses masked words, such as `nn.language_model.MaskedLM`."""

    def states(self, ids: Int[Tensor, "B T"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B T D"]:
        """The last hidden states of texts with their special tokens; `mask` is False at padding."""
        ...

    def word_scores(self, hidden: Float[Tensor, "N D"]) -> Float[Tensor, "N V"]:
        """A score for every word of the vocabulary, from such states."""
        ...


@torch.no_grad()
def candidate_scores(
    model: GuessesWords, tokenizer, items: Sequence[dict], device: str, rows_at_once: int = 256
) -> np.ndarray:
    """Mean log-probability of each candidate's pieces at the mask, [items, candidates] (NaN where there are fewer).

    A candidate of n pieces is asked for with n masks in a row.
    """
    queries, places = [], []
    for i, item in enumerate(items):
        before, after = item["prompt"].split("[MASK]")
        for j, candidate in enumerate(item["candidates"]):
            # a space before: byte-level pieces inside a sentence begin with one
            pieces = tokenizer(f" {candidate}", add_special_tokens=False)["input_ids"]
            text = before + " ".join([tokenizer.mask_token] * len(pieces)) + after
            queries.append((text, pieces))
            places.append((i, j))
    unique = list(dict.fromkeys(text for text, _ in queries))
    rows = dict(zip(unique, tokenizer(unique)["input_ids"], strict=True))
    probabilities = {}
    for start in range(0, len(unique), rows_at_once):
        texts = unique[start : start + rows_at_once]
        longest = max(len(rows[text]) for text in texts)
        padded = [rows[text] + [tokenizer.pad_token_id] * (longest - len(rows[text])) for text in texts]
        ids = torch.tensor(padded, device=device)
        hidden = model.states(ids, ids != tokenizer.pad_token_id)
        masked = ids == tokenizer.mask_token_id
        logs = model.word_scores(hidden[masked]).float().log_softmax(-1).cpu()
        for text, part in zip(texts, logs.split(masked.sum(1).tolist()), strict=True):
            probabilities[text] = part
    scores = np.full((len(items), max(len(item["candidates"]) for item in items)), np.nan)
    for (i, j), (text, pieces) in zip(places, queries, strict=True):
        scores[i, j] = probabilities[text][range(len(pieces)), pieces].mean().item()
    return scores


def cloze_accuracy(items: Sequence[dict], scores: np.ndarray) -> float:
    """The share of items whose answer has the highest score."""
    best = np.nanargmax(scores, axis=1)
    return float(
        np.mean([item["candidates"][j] == item["answer"] for item, j in zip(items, best, strict=True)])
    )


@torch.no_grad()
def kind_vectors(model: GuessesWords, tokenizer, items: Sequence[dict], device: str) -> dict[str, np.ndarray]:
    """Kind → its mean hidden state over the prompts: the pieces of its word, in context, last layer. [D] each."""
    sums: dict[str, list[np.ndarray]] = {}
    for item in items:
        text = item["prompt"].replace("[MASK]", tokenizer.mask_token)
        start = text.find(item["kind"])
        if start < 0:  # the prompt uses an irregular plural or a synonym
            continue
        made = tokenizer(text, return_offsets_mapping=True)
        spans = made["offset_mapping"]
        end = start + len(item["kind"])
        pieces = [i for i, (a, b) in enumerate(spans) if a < end and b > start and b > a]
        ids = torch.tensor([made["input_ids"]], device=device)
        hidden = model.states(ids, torch.ones_like(ids, dtype=torch.bool))[0]
        sums.setdefault(item["kind"], []).append(hidden[pieces].mean(0).float().cpu().numpy())
    return {kind: np.mean(vectors, axis=0) for kind, vectors in sums.items()}


def probed_kinds(
    vectors: Mapping[str, np.ndarray], labels: Mapping[str, str], splits: int
) -> dict[str, list[bool]]:
    """Kind → whether its label was read off its vector, each time that a linear classifier was trained without it.

    A classifier is trained on one half of the kinds and tested on the other, for each of `splits` random stratified
    halves. Labels of fewer than two kinds are left out. Empty where one label remains.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedShuffleSplit

    counts = Counter(labels[kind] for kind in vectors)
    kinds = [kind for kind in vectors if counts[labels[kind]] > 1]
    classes = sorted({labels[kind] for kind in kinds})
    if len(classes) < 2:
        return {}
    x = np.stack([vectors[kind] for kind in kinds])
    y = np.array([classes.index(labels[kind]) for kind in kinds])
    halves = StratifiedShuffleSplit(splits, train_size=0.5, test_size=0.5, random_state=0)
    right: dict[str, list[bool]] = {}
    for train, test in halves.split(x, y):
        centre, scale = x[train].mean(0), x[train].std(0) + 1e-6
        probe = LogisticRegression(C=1.0, max_iter=500).fit((x[train] - centre) / scale, y[train])
        for i, hit in zip(test, probe.predict((x[test] - centre) / scale) == y[test], strict=True):
            right.setdefault(kinds[i], []).append(bool(hit))
    return right


def linear_probe(
    vectors: Mapping[str, np.ndarray], labels: Mapping[str, str], splits: int
) -> tuple[float, float]:
    """(accuracy, chance) of reading a kind's label off its vector (`probed_kinds`). NaN if no two labels remain."""
    right = probed_kinds(vectors, labels, splits)
    if not right:
        return float("nan"), float("nan")
    most = Counter(labels[kind] for kind in vectors)
    kept = {label: count for label, count in most.items() if count > 1}
    return float(np.mean(np.concatenate([*right.values()]))), max(kept.values()) / sum(kept.values())


def run(context: StageContext, source: Path) -> dict[str, float]:
    """Ask the model in the folder `source` both questions of every attribute.

    Writes `probes.json` with every item's scores.

    Metrics per attribute, fractions of one: `<attribute>`, `<attribute>_calibrated`, `…_chance`, `…_majority`,
    `<attribute>_linear`, `…_linear_chance`; and the means `cloze`, `calibrated`, `linear` over the attributes.
    """
    config: ProbesConfig = context.config
    data = load_folder(context.inputs["knowledge"], "knowledge")
    model, tokenizer = load_masked_lm(source).to(context.device), load_tokenizer(source, MASKED)
    metrics: dict[str, float] = {}
    details = {}
    means: dict[str, list[float]] = {"cloze": [], "calibrated": [], "linear": []}
    for attribute, items in read_probes(data.folder).items():
        scores = candidate_scores(model, tokenizer, items, context.device)
        calibrated = scores - np.nanmean(scores, axis=0)
        answers = Counter(item["answer"] for item in items)
        metrics[attribute] = cloze_accuracy(items, scores)
        metrics[f"{attribute}_calibrated"] = cloze_accuracy(items, calibrated)
        metrics[f"{attribute}_chance"] = float(np.mean([1 / len(item["candidates"]) for item in items]))
        metrics[f"{attribute}_majority"] = max(answers.values()) / len(items)
        means["cloze"].append(metrics[attribute])
        means["calibrated"].append(metrics[f"{attribute}_calibrated"])
        if not any("other" in item for item in items):  # a comparison is no property of one kind
            labels = {item["kind"]: item["answer"] for item in items}
            vectors = kind_vectors(model, tokenizer, items, context.device)
            accuracy, chance = linear_probe(vectors, labels, config.splits)
            metrics |= {f"{attribute}_linear": accuracy, f"{attribute}_linear_chance": chance}
            means["linear"].append(accuracy)
        details[attribute] = [
            {**item, "scores": [None if np.isnan(value) else round(value, 4) for value in row.tolist()]}
            for item, row in zip(items, scores, strict=True)
        ]
    metrics |= {name: float(np.mean(values)) if values else float("nan") for name, values in means.items()}
    write_text(context.folder / "probes.json", json.dumps({"metrics": metrics, "items": details}))
    return metrics
