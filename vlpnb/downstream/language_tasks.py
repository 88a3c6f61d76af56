"""How well a language model foretells text.

Paper: VaLM (Wang et al. 2023): perplexity of WikiText-103, LAMBADA, and zero-shot classification of reviews, news and
encyclopedia articles by the likeliest label word. Every line is read by itself, after the end of a text. A
stage that asks has `LanguageTasksConfig` for its fields, brings a `Scorer` and held-out text, and calls `run`.

| task | asked | from |
|---|---|---|
| held-out splits | perplexity by token, word, byte | the model's corpus |
| a name in `files` | the same | a file of raw text |
| `lambada` | the last word, all its pieces; and the last piece (VAL-33) | JSON lines {text}, or a passage a line |
| `sentiment` | positive or negative | the validation reviews of SST-2 (stage `glue_data`) |
| `news`, `ontology` | 4 and 14 classes | the CSV of AG News, of DBPedia |

Classes are given raw and calibrated by prompts that say nothing (Zhao et al. 2021), beside the majority. Texts longer
than the model are split; of a classified text the first words are read. `language.json` holds what each line cost and
every answer.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from pydantic import Field, model_validator

from vlpnb.config import Config, Name
from vlpnb.data.description import load_folder
from vlpnb.data.fields import text_field
from vlpnb.data.glue import read_glue
from vlpnb.data.labelled import read_labelled
from vlpnb.data.text_files import lines_of, read_json_lines, require
from vlpnb.downstream.asking import Scorer, Task, answers_of, ask, label_task, results, trivial
from vlpnb.downstream.prompting import PromptSet, load_prompts, render
from vlpnb.errors import UserError
from vlpnb.files import write_json
from vlpnb.metrics.bootstrap import interval
from vlpnb.metrics.language import last_words, passage, perplexities
from vlpnb.stage import Request, StageContext
from vlpnb.text.lines import Rules, read_lines

RESULTS = "language.json"
NOTHING = ("N/A", "none", "")  # texts that say nothing, for calibration
CLASSES = ("news", "ontology")
Classified = Literal["sentiment", "news", "ontology"]


class LanguageTasksConfig(Config):
    """What is asked."""

    splits: tuple[Name, ...] = ()
    """Held-out texts of the model's corpus."""
    folder: str = ""
    """Folder of the texts below, under the data's root; empty: there are none."""
    files: dict[Name, str] = Field(default_factory=dict)
    """Name → a file of raw text below `folder`, one paragraph a line: {wikitext: wikitext-2-raw/wiki.test.raw}."""
    rules: Rules = "none"
    """Which lines of these count (`text/lines.py`)."""
    lambada: str = ""
    """LAMBADA below `folder`: JSON lines {text}, or a passage a line."""
    classify: tuple[Classified, ...] = ()
    """Classifications; "news" and "ontology" need `classes`."""
    classes: dict[Literal["news", "ontology"], str] = Field(default_factory=dict)
    """For "news" the CSV of AG News, for "ontology" of DBPedia, below `folder`."""
    prompts: dict[Name, str] = Field(default_factory=dict)
    """For a classification other prompts: a name or a file ….yaml."""
    most: int | None = Field(None, ge=1)
    """At most so many lines, passages and classified texts of each."""
    words: int = Field(300, ge=1)
    """Of a classified text, at most."""
    bootstrap_seed: int = Field(0, ge=0)
    """Of the intervals."""

    @model_validator(mode="after")
    def _files_have_a_folder(self) -> "LanguageTasksConfig":
        if (self.files or self.lambada or self.classes) and not self.folder:
            raise ValueError(
                "folder: name the folder of `files`, `lambada` and `classes` below the data's root"
            )
        missing = [name for name in self.classify if name in CLASSES and name not in self.classes]
        if missing:
            raise ValueError(f"classes: name the file of '{missing[0]}'")
        if clash := {*self.files} & {*self.splits, "lambada", *self.classify}:
            raise ValueError(f"files: '{min(clash)}' is another task's name")
        return self


def wanted(config: LanguageTasksConfig) -> dict[str, Request]:
    """Where they are asked for, texts of one's own and SST-2."""
    found = {}
    if config.folder:
        found["texts"] = Request("knowledge", {"folder": config.folder})
    if "sentiment" in config.classify:
        found["glue_data"] = Request("glue_data", {"tasks": ("SST-2",)})
    return found


def run(
    context: StageContext, scorer: Scorer, held_out: Mapping[str, Sequence[str]], about: Mapping[str, Any]
) -> dict[str, float]:
    """Ask; writes `language.json`. Metrics: `<text>_perplexity`, `…_low`, `…_high`, `…_word_perplexity` and the others
    of `metrics.language.perplexities`; `lambada_word`, `lambada_piece`; of classifications those of `asking.results`.

    Args:
        held_out: the lines of each of the config's `splits` that there are.
        about: what `language.json` says of the model, such as its setting.
    """
    config: LanguageTasksConfig = context.config
    texts = {name: list(lines[: config.most]) for name, lines in held_out.items()}
    folder = load_folder(context.inputs["texts"], "knowledge").folder if config.folder else Path()
    for name, place in config.files.items():
        texts[name] = [line.strip() for line in read_lines(folder / place, config.rules)][: config.most]
    metrics: dict[str, float] = {}
    kept: dict[str, Any] = {**about, "texts": {}, "classified": {}}
    for name, lines in texts.items():
        found, costs = foretold(scorer, lines, config.bootstrap_seed)
        kept["texts"][name] = {
            "metrics": found,
            "nats": [float(c.sum()) for c in costs],
            "tokens": [len(c) for c in costs],
        }
        metrics |= {f"{name}_{key}": value for key, value in found.items()}
        context.log(
            f"{name}: perplexity {found['perplexity']:.2f} [{found['perplexity_low']:.2f}, "
            f"{found['perplexity_high']:.2f}] by token, {found['word_perplexity']:.2f} by word, "
            f"{found['bits_per_byte']:.3f} bits per byte, {len(lines):,} lines"
        )
    if config.lambada:
        found = lambada(scorer, read_passages(folder / config.lambada)[: config.most], config.bootstrap_seed)
        kept["lambada"] = found
        metrics |= {f"lambada_{key}": value for key, value in found.items()}
        context.log(
            f"lambada: {found['word']:.3f} of the last words, {found['piece']:.3f} of their last pieces"
        )
    for task in classifications(config, folder, context.inputs.get("glue_data")):
        kept["classified"][task.name] = said = classified(scorer, task, config.bootstrap_seed)
        found = said["metrics"]
        metrics |= {f"{task.name}_{key}": value for key, value in found.items()}
        shown = ", ".join(f"{key} {found[key]:.3f}" for key in ("accuracy", "calibrated", "majority"))
        context.log(f"{task.name}: {shown}")
    if not metrics:
        raise UserError(f"{context.name}: nothing is asked; name `splits`, `files`, `lambada` or `classify`.")
    write_json(context.folder / RESULTS, kept)
    return metrics


def foretold(
    scorer: Scorer, lines: Sequence[str], seed: int = 0
) -> tuple[dict[str, float], list[Float[np.ndarray, " _"]]]:
    """`metrics.language.perplexities` of some lines, the interval of the first over lines, and what each token cost."""
    costs = scorer.nats(lines)
    found = perplexities(costs, lines)
    low, high = interval(
        np.concatenate(costs), np.repeat(np.arange(len(costs)), [len(c) for c in costs]).tolist(), seed=seed
    )
    return {**found, "perplexity_low": float(np.exp(low)), "perplexity_high": float(np.exp(high))}, costs


def read_passages(path: Path) -> list[str]:
    """LAMBADA's passages: JSON lines {text}, or plain text with one a line."""
    holds = "passages of LAMBADA"
    if Path(path).name.endswith((".jsonl", ".json")):
        return [text_field(item, "text", f"{path}:{number}") for number, item in read_json_lines(path, holds)]
    return [line.text for line in lines_of(path, holds) if line.text.strip()]


def lambada(scorer: Scorer, texts: Sequence[str], seed: int = 0) -> dict[str, float]:
    """`word` with its interval, `piece`, `pieces_of_a_word`; and `perplexity` of the whole passages."""
    cut = [passage(text) for text in texts]
    follows = scorer.follows([one.text for one in cut], [one.word for one in cut])
    low, high = interval([float(all(pieces)) for pieces in follows], range(len(follows)), seed=seed)
    whole, _ = foretold(scorer, [f"{one.text} {one.word}" for one in cut], seed)
    return {**last_words(follows), "word_low": low, "word_high": high, "perplexity": whole["perplexity"]}


def classifications(config: LanguageTasksConfig, folder: Path, glue: Path | None) -> list[Task]:
    """The configured classifications. UserError where a file is missing or prompts have another number of answers."""
    made = []
    for name in config.classify:
        asked = load_prompts(config.prompts.get(name, name))
        if name == "sentiment":
            reviews = read_glue(load_folder(glue, "glue_data").folder, "SST-2", "valid")
            rows = list(zip(reviews.sentence1, reviews.labels, strict=True))
        else:
            path = require(folder / config.classes[name], f"the texts of '{name}'")
            rows = [(row.text, row.label) for row in read_labelled(path, len(asked.answers))]
        made.append(_classified(name, asked, rows[: config.most], config.words))
    return made


def classified(scorer: Scorer, task: Task, seed: int = 0) -> dict[str, Any]:
    """All answers to a classification, its metrics, those of predictors that read nothing, and its prompts' hash."""
    scores = ask(scorer, task)
    empty = [render(template, {"text": text}) for template in task.prompts.templates for text in NOTHING]
    prior = scorer(empty, task.prompts.answers)
    return {
        "prompts": {"name": task.prompts.name, "sha256": task.prompts.sha256},
        "metrics": {**results(task, scores, prior, seed), **trivial(task)},
        "answers": answers_of(task, scores, prior),
    }


def _classified(name: str, asked: PromptSet, rows: Sequence[tuple[str, int]], words: int) -> Task:
    top = max((label for _, label in rows), default=0)
    if top >= len(asked.answers):
        raise UserError(
            f"{name}: the texts have {top + 1} classes, the prompts '{asked.name}' {len(asked.answers)} answers."
        )
    items = [
        {"text": " ".join(text.split()[:words]), "item": str(number), "answer": asked.answers[label]}
        for number, (text, label) in enumerate(rows)
    ]
    return label_task(name, asked, items, asked.answers)
