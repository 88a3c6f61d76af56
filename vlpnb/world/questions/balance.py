"""A question, and how questions are drawn so that their words give nothing away (see the package)."""

import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from vlpnb.world.languages.sentence_plan import QuestionPlan
from vlpnb.world.scene import Scene

Step = tuple[str, tuple[int, ...], str]  # operation, dependencies, argument: a step of a GQA program
Claim = tuple[str, ...]  # an atom that an answer establishes, e.g. ("colour", "0", "red")


@dataclass(frozen=True)
class Question:
    """A question about one picture and its answer."""

    image_id: str
    text: str
    answer: str
    answer_type: str  # "yes/no", "number" or "other"
    family: str  # the template it comes from, e.g. "is the"; VQA's question_type
    full_answer: str = ""  # GQA: the answer as a sentence
    program: tuple[Step, ...] = ()  # GQA: the functional program
    types: tuple[str, str] = ("query", "attr")  # GQA: structural and semantic type
    mentions: tuple[tuple[str, int], ...] = ()  # GQA: (phrase of the question, index of the thing it names)
    claims: frozenset[Claim] = frozenset()  # GQA: what the answer establishes; decides entailment
    min_answers: int = 2  # a text needs this many different answers to be asked at all
    plan: QuestionPlan | None = None  # for its translations; None where only English can say it


def yes(truth: bool) -> str:
    """The answer to a yes/no question."""
    return "yes" if truth else "no"


def balanced(candidates: Iterable[Question], rng: random.Random, wanted: int) -> list[Question]:
    """About `wanted` candidates or fewer, in whole units: each text with each of its answers equally often.

    For each text the answers kept, and how often each is asked, maximise the number of questions (at most
    four per answer, so that common texts do not crowd out rare ones). Units are drawn in turn from the
    families, by type of answer in the proportions of VQA v2 (38 % yes/no, 12 % number, 50 % other), as far as
    there are enough.
    """
    by_text: dict[str, dict[str, list[Question]]] = defaultdict(lambda: defaultdict(list))
    seen: set[tuple[str, str]] = set()
    for question in candidates:
        if (question.image_id, question.text) not in seen:
            seen.add((question.image_id, question.text))
            by_text[question.text][question.answer].append(question)

    units: dict[str, dict[str, list[list[Question]]]] = defaultdict(lambda: defaultdict(list))
    for text in sorted(by_text):
        answers = sorted(by_text[text].items(), key=lambda item: (-len(item[1]), item[0]))
        example = answers[0][1][0]
        plans = [
            (n * min(4, len(answers[n - 1][1])), n) for n in range(example.min_answers, len(answers) + 1)
        ]
        if not plans:
            continue
        total, n = max(plans)
        drawn = [rng.sample(questions, total // n) for _, questions in answers[:n]]
        units[example.answer_type][example.family] += [list(unit) for unit in zip(*drawn, strict=True)]

    chosen: list[Question] = []
    shares = {t: share for t, share in (("number", 0.12), ("other", 0.5), ("yes/no", 0.38)) if units[t]}
    for answer_type, share in shares.items():
        families = [rng.sample(found, len(found)) for _, found in sorted(units[answer_type].items())]
        budget = round(wanted * share / sum(shares.values()))
        while budget > 0 and any(families):
            for family in families:
                if family and budget > 0:
                    unit = family.pop()
                    budget -= len(unit)
                    chosen += unit
    return chosen


def asked(
    scenes: Sequence[Scene],
    name: str,
    wanted: int,
    candidates: Callable[[Scene, random.Random], list[Question]],
) -> list[Question]:
    """About `wanted` of all scenes' `candidates`, balanced, sorted by picture; `name` seeds every draw."""
    order = {scene.image_id: i for i, scene in enumerate(scenes)}
    pool = (q for scene in scenes for q in candidates(scene, random.Random(f"{name}-{scene.image_id}")))
    chosen = balanced(pool, random.Random(name), wanted)
    return sorted(chosen, key=lambda q: (order[q.image_id], q.text))
