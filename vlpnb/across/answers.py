"""What finished stages of the five systems said, as rows of numbers that can be compared pair by pair.

A `Said` has a value for each thing that was asked (an item, a kind, a picture, a question) and what it is about: the
group with which it is drawn when an interval is made. Of two with the same groups the difference is paired.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vlpnb.across.pictures import open_found
from vlpnb.across.words import Asked, open_words
from vlpnb.data.asked_data import load_questions
from vlpnb.data.description import load_captions
from vlpnb.data.submissions import official_id
from vlpnb.data.text_files import read_json_lines
from vlpnb.downstream.results import Judged
from vlpnb.files import read_back
from vlpnb.metrics.captions import evaluate, shuffled
from vlpnb.metrics.vqa import answered, vqa_accuracy

AT = 10  # of the recall in other languages


@dataclass(frozen=True)
class Said:
    """Values of one seed or more; `chance` is what somebody gets who knows nothing, NaN where nobody can say."""

    judged: Judged
    chance: float = math.nan

    @property
    def groups(self) -> tuple[str, ...]:
        """What each value is about."""
        return tuple(self.judged.groups)

    @property
    def seeds(self) -> int:
        """S."""
        return len(self.judged.right)


def joined(seeds: Sequence[Said]) -> Said:
    """The same questions with several seeds."""
    right = np.concatenate([one.judged.right for one in seeds])
    return Said(Judged(right, seeds[0].groups), seeds[0].chance)


def _one(values: Sequence[float], groups: Sequence[str], chance: float = math.nan) -> Said:
    return Said(Judged(np.asarray(values, np.float64)[None], tuple(groups)), chance)


def words_of(folder: Path, seen: bool = False) -> dict[str, Said]:
    """What a stage `across.words` says: `<attribute>` in words, calibrated, and `<attribute>_states`; `seen_…` beside
    pictures.

    In words only where the model has one of the words: what is spelt in pieces that no text put together is no answer.
    """
    found = {}
    for name, asked in open_words(folder).items():
        prefix = "seen_" if seen else ""
        if asked.whole:
            found[f"{prefix}{name}"] = _one(asked.calibrated, asked.kinds, asked.chance)
        if asked.linear:
            found[f"{prefix}{name}_states"] = _states(asked)
    return found


def _states(asked: Asked) -> Said:
    kinds = sorted(asked.linear)
    return _one([asked.linear[kind] for kind in kinds], kinds, asked.linear_chance)


def found_of(folder: Path) -> dict[str, Said]:
    """What a stage `across.pictures` found: `caption` and `picture`, hits at rank 1, and `word`, average precisions."""
    found = open_found(folder)
    chance = 1 / len(found.pictures)
    said = {
        "caption": _one([rank == 1 for rank in found.of_caption], found.pictures, chance),
        "picture": _one([rank == 1 for rank in found.of_picture], found.pictures, chance),
    }
    if found.words:
        by_chance = float(np.mean([*found.chance.values()]))
        said["word"] = _one([*found.words.values()], [*found.words], by_chance)
    return said


def questions_of(folder: Path, questions: Path, split: str = "test") -> Said:
    """VQA accuracy of each question of a split, of a finished `lxmert.vqa` or `vlp.vqa`, with each of its seeds."""
    asked = load_questions(questions).read("vqa", split)
    seeds = []
    for file in _of_seeds(folder, f"predictions_{split}.json"):
        said = {row["question_id"]: row["answer"] for row in read_back(file)}
        pairs = answered(said, [question for question in asked if question.question_id in said])
        scores = [
            vqa_accuracy(answer, q.human) if q.human else q.targets.get(answer, 0.0) for q, answer in pairs
        ]
        seeds.append(_one(scores, [q.image_id for q, _ in pairs]))
    return joined(seeds)


def languages_asked(folder: Path) -> Said:
    """English xGQA: whether each answer of a finished `cclm.xgqa` was right."""
    seeds = []
    for file in _of_seeds(folder, "predictions_en.jsonl"):
        rows = [row for _, row in read_json_lines(file, "predictions")]
        seeds.append(_one([bool(row["right"]) for row in rows], [row["group"] for row in rows]))
    return joined(seeds)


def captions_of(folder: Path, captions: Path, split: str = "test") -> dict[str, Said]:
    """CIDEr of each caption of a finished `vlp.captioning`, and of `shuffled` ones: each picture has another's."""
    data = load_captions(captions)
    images = {str(official_id(image)): image for image in data.annotated(split)}
    own, others = [], []
    for file in _of_seeds(folder, f"captions_{split}.json"):
        said = {str(row["image_id"]): row["caption"] for row in read_back(file)}
        references = {name: images[name].sentences for name in said}
        groups = [images[name].image_id for name in said]
        for kept, captioned in ((own, said), (others, shuffled(said))):
            each = evaluate(captioned, references).each
            kept.append(_one([each[name]["cider"] for name in said], groups))
    return {"caption": joined(own), "shuffled": joined(others)}


def translations_of(folder: Path) -> dict[str, Said]:
    """Hits at rank 10 of the sentences of each language, and of `others`, all but English, of `cclm.retrieval`."""
    runs = read_back(Path(folder) / "retrieval.json")
    found: dict[str, list[Said]] = {}
    for run in runs:
        by_language = {language: about for language, about in run["ranks"].items() if "_" not in language}
        for language, about in by_language.items():
            found.setdefault(language, []).append(_hits([(language, about)]))
        others = [(language, about) for language, about in by_language.items() if language != "en"]
        if others:
            found.setdefault("others", []).append(_hits(others))
    return {name: joined(seeds) for name, seeds in found.items()}


def _hits(languages: Sequence[tuple[str, Mapping[str, Any]]]) -> Said:
    values = [rank <= AT for _, about in languages for rank in about["near"]]
    groups = [str(owner) for _, about in languages for owner in about["owner"]]
    return _one(values, groups, min(1.0, AT / len(set(groups))))


def _of_seeds(folder: Path, name: str) -> list[Path]:
    return sorted(Path(folder).glob(f"seed-*/{name}"))
