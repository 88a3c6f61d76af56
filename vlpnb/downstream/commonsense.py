"""What a language model says of the looks of things, beside predictors that look at nothing.

Paper: VaLM (Wang et al. 2023), tables of object colour, shape and size: zero-shot, the likeliest answer. A model may be
asked with pictures that are known to show the thing ("oracle"): the upper bound, and the proof that it is the picture
that is read. A stage that asks has `CommonsenseConfig` for its fields, brings a `Scorer`, and calls `run`.

Differs from VaLM's release: see `object_tasks.py`. Beside every score stands what predictors get that look at nothing;
intervals are over things; `calibrated` takes off what a model likes to say anyway (VAL-34).

`commonsense.json` holds every answer (`read_answers`), the metrics of each task, and the prompts' hashes.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from pydantic import Field

from vlpnb.config import Config, Name
from vlpnb.data.description import SPLITS, CaptionData, load_captions, load_folder
from vlpnb.downstream.asking import Question, Scorer, Task, answers_of, ask, results, trivial
from vlpnb.downstream.object_tasks import load_task, with_pictures
from vlpnb.errors import UserError
from vlpnb.files import read_back, write_json
from vlpnb.stage import Request, StageContext
from vlpnb.world.writers import load_scenes

ANSWERS = "commonsense.json"


class OriginalCommonsense(Config):
    """What the released code does otherwise."""

    placeholder_left: bool = False
    """Prompts of ColorTerms keep "[DESCRIPTOR]" (VAL-32)."""
    one_order: bool = False
    """Sizes are asked bigger first alone, in four prompts (VAL-31)."""


class CommonsenseConfig(Config):
    """What is asked. Defaults: the paper's tasks."""

    tasks: tuple[Name, ...] = ("memory_colour", "colour_terms", "shape", "relative_size")
    """Keys of `downstream.object_tasks.LISTS`."""
    prompts: dict[Name, str] = Field(default_factory=dict)
    """For a task other prompts: a name or a file ….yaml."""
    files: dict[Name, str] = Field(default_factory=dict)
    """For a task another list, below the folder of the stage `knowledge`."""
    shown: tuple[Name, ...] = ("train",)
    """With "oracle": splits or sets of the stage `captions` among whose pictures some show the thing."""
    shown_at_most: int = Field(8, ge=1)
    """With "oracle": pictures of a thing, the ones that show least else first."""
    bootstrap_seed: int = Field(0, ge=0)
    """Of the intervals."""
    original: OriginalCommonsense = OriginalCommonsense()
    """What the released code does otherwise."""


def wanted(config: CommonsenseConfig, oracle: bool) -> dict[str, Request]:
    """The lists, and with "oracle" the captions."""
    found = {"knowledge": Request("knowledge")}
    if oracle:
        found["captions"] = Request("captions", {"sets": None} if {*config.shown} <= {*SPLITS} else {})
    return found


def load_tasks(config: CommonsenseConfig, folder: Path) -> list[Task]:
    """The configured tasks, from a folder of lists. UserError where prompts or files name none of them."""
    for name in (*config.prompts, *config.files):
        if name not in config.tasks:
            raise UserError(f"commonsense: '{name}' is none of the tasks {', '.join(config.tasks)}.")
    return [
        load_task(
            name, folder, prompts=config.prompts.get(name, ""), file=config.files.get(name, ""),
            placeholder_left=config.original.placeholder_left, one_order=config.original.one_order,
        )
        for name in config.tasks
    ]  # fmt: skip


def pictures_by_kind(captions: CaptionData, splits: Sequence[str]) -> dict[str, list[str]]:
    """Kind of the visual world → ids of pictures with it, those with the fewest other things first."""
    scenes = load_scenes(captions.scenes)
    found: dict[str, list[tuple[int, str]]] = {}
    for split in splits:
        for image in captions.annotated(split):
            things = scenes[image.image_id].things if image.image_id in scenes else ()
            for kind in {thing.kind for thing in things}:
                found.setdefault(kind, []).append((len(things), image.image_id))
    return {kind: [name for _, name in sorted(rows, key=lambda row: row[0])] for kind, rows in found.items()}


def pictures_by_word(
    captions: CaptionData, splits: Sequence[str], words: Sequence[str]
) -> dict[str, list[str]]:
    """Word (or two) → ids of pictures whose captions name it, singular or plural, the ones that most do so first."""
    longest_first = sorted({word.lower() for word in words}, key=len, reverse=True)
    pattern = re.compile(rf"\b({'|'.join(map(re.escape, longest_first))})(?:e?s)?\b")
    found: dict[str, list[tuple[int, str]]] = {}
    for split in splits:
        for image in captions.annotated(split):
            counts: Counter[str] = Counter()
            for sentence in image.sentences:
                counts.update(set(pattern.findall(sentence.lower())))
            for word, count in counts.items():
                found.setdefault(word, []).append((-count, image.image_id))
    return {word: [name for _, name in sorted(rows, key=lambda row: row[0])] for word, rows in found.items()}


def showing(
    tasks: Sequence[Task],
    captions: CaptionData,
    splits: Sequence[str],
    there: Callable[[str], bool],
    most: int,
) -> list[Task]:
    """The tasks, knowing which pictures show their things, of two in turn; `there`: whether the database has one."""
    if captions.scenes is not None:
        known = pictures_by_kind(captions, splits)
    else:
        things = {thing for task in tasks for question in task.questions for thing in _things(question)}
        known = pictures_by_word(captions, splits, sorted(things))

    def shown(question: Question) -> list[str]:
        found = [[n for n in known.get(thing, []) if there(n)] for thing in _things(question)]
        in_turn = (name for names in zip_longest(*found) for name in names if name is not None)
        return list(islice(dict.fromkeys(in_turn), most))

    return [with_pictures(task, shown) for task in tasks]


def _things(question: Question) -> list[str]:
    """What a question's pictures are to show, as captions would have it: without article, in small letters."""
    return [re.sub(r"^(?:an?|the)\s+", "", thing.lower()) for thing in question.about]


def run(context: StageContext, scorer: Scorer, setting: str) -> dict[str, float]:
    """Ask; writes `commonsense.json`. Metrics: `<task>_<metric>` of `asking.results` and of `asking.trivial`.

    Args:
        scorer: with `rows_of` where it can be shown pictures that are named (`scoring.LanguageScorer`).
        setting: with which pictures; "oracle" shows those of the thing.
    """
    config, oracle = context.config, setting == "oracle"
    tasks = load_tasks(config, load_folder(context.inputs["knowledge"], "knowledge").folder)
    if oracle:
        captions = load_captions(context.inputs["captions"])
        tasks = showing(tasks, captions, config.shown, partial(_is_there, scorer), config.shown_at_most)
    found = asked(scorer, tasks, oracle, config.bootstrap_seed, context.log)
    write_json(context.folder / ANSWERS, {"setting": setting, **found})
    metrics = {f"{t}_{n}": v for t, about in found["tasks"].items() for n, v in about["metrics"].items()}
    return metrics | {f"{t}_{n}": v for t, about in found["trivial"].items() for n, v in about.items()}


def _is_there(scorer: Any, name: str) -> bool:
    return scorer.rows_of is None or int(scorer.rows_of([name])[0]) >= 0


def asked(
    scorer: Scorer,
    tasks: Sequence[Task],
    oracle: bool = False,
    seed: int = 0,
    log: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """All answers to all tasks with their metrics, and beside them the trivial predictors, as plain values."""
    found: dict[str, Any] = {"tasks": {}, "trivial": {}}
    for task in tasks:
        scores = ask(scorer, task, oracle)
        metrics, blind = results(task, scores, seed=seed), trivial(task)
        found["tasks"][task.name] = {
            "prompts": {"name": task.prompts.name, "sha256": task.prompts.sha256},
            "metrics": metrics,
            "candidates": _candidates(task),
            "answers": answers_of(task, scores),
        }
        if oracle:
            shown = [bool(names) for names in task.pictured.values()]
            metrics["shown"] = float(np.mean(shown))
        found["trivial"][task.name] = blind
        best = max((name for name in blind if name.startswith("always_")), key=blind.get, default="first")
        log(
            f"{task.name}: {metrics['accuracy']:.3f} [{metrics['accuracy_low']:.3f}, {metrics['accuracy_high']:.3f}], "
            f"calibrated {metrics['calibrated']:.3f} [{metrics['calibrated_low']:.3f}, "
            f"{metrics['calibrated_high']:.3f}]; {best} {blind[best]:.3f}, uniform {blind['uniform']:.3f}"
        )
    return found


def _candidates(task: Task) -> list[str] | None:
    """What all questions can be answered with; None where each has its own."""
    same = {q.answers for q in task.questions}
    return list(same.pop()) if len(same) == 1 else None


@dataclass(frozen=True)
class Answers:
    """What a model said to one task."""

    prompts: tuple[str, ...]
    items: tuple[str, ...]
    candidates: tuple[str, ...] | None
    """None: each prompt has its own."""
    log_probs: Float[np.ndarray, "P A"]
    right: Int[np.ndarray, " P"]
    """Column of the right answer; -1 where each prompt has its own answers."""
    metrics: dict[str, float]
    trivial: dict[str, float]


def read_answers(folder: Path) -> dict[str, Answers]:
    """Task → what the model said, of a finished stage that asked."""
    content = read_back(Path(folder) / ANSWERS)
    found = {}
    for name, about in content["tasks"].items():
        rows, candidates = about["answers"], about["candidates"]
        found[name] = Answers(
            tuple(row["text"] for row in rows), tuple(row["item"] for row in rows),
            None if candidates is None else tuple(candidates),
            np.array([row["scores"] for row in rows], np.float64),
            np.array([-1 if candidates is None else candidates.index(row["answer"]) for row in rows], np.int64),
            about["metrics"], content["trivial"][name],
        )  # fmt: skip
    return found
