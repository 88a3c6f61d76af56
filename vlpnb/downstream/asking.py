"""Questions to a language model that is asked for the likeliest of a few answers, and what its scores amount to.

Paper: VaLM (Wang et al. 2023), section 4: prompts, and the answer with the highest probability as the next word; an
answer of several pieces has the mean log-probability of its pieces. A score is the mean over all prompts of all things;
its interval is over the *things*. Beside every model stand predictors that look at nothing.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float

from vlpnb.downstream.prompting import PromptSet, render
from vlpnb.errors import UserError
from vlpnb.metrics.bootstrap import interval
from vlpnb.metrics.choices import accuracy, always, calibrated, chosen, macro_accuracy, majority

NAME = re.compile(r"\{\w+\}")  # an answer that is one of the things asked about


@runtime_checkable
class Scorer(Protocol):
    """What the tasks need of a model with its pictures."""

    def __call__(
        self,
        prompts: Sequence[str],
        answers: Sequence[str] | Sequence[Sequence[str]],
        pictures: Sequence[Sequence[str]] | None = None,
    ) -> Float[np.ndarray, "P A"]:
        """Mean log-probability of the pieces of each answer after each prompt.

        Args:
            answers: the same for all prompts, or each prompt's own, equally many.
            pictures: ids of the pictures that each prompt shall be shown, where the model is asked with "oracle".
        """
        ...

    def nats(self, texts: Sequence[str]) -> list[Float[np.ndarray, " _"]]:
        """What every token of each text costs, its end last; texts longer than the model are split, not left out."""
        ...

    def follows(self, texts: Sequence[str], words: Sequence[str]) -> list[list[bool]]:
        """Of each word, whether each of its pieces is the likeliest after the text and the pieces before it."""
        ...


@dataclass(frozen=True)
class Question:
    """A prompt, its answers, and which of them is right. `item`: what it is about; answers about one stand together."""

    prompt: str
    answers: tuple[str, ...]
    right: int
    item: str
    template: int
    order: str = ""
    things: tuple[str, ...] = ()
    """What pictures of the item show, where that is not the item itself: the two things of a comparison."""

    @property
    def about(self) -> tuple[str, ...]:
        """What its pictures are to show."""
        return self.things or (self.item,)

    @property
    def label(self) -> str:
        """The right answer."""
        return self.answers[self.right]


@dataclass(frozen=True)
class Task:
    """Questions with equally many answers each. `prompts` says which file they are from."""

    name: str
    questions: tuple[Question, ...]
    prompts: PromptSet
    pictured: Mapping[tuple[str, ...], tuple[str, ...]] | None = None
    """For "oracle": what a question is about (`Question.about`) → ids of pictures that show it."""


def label_task(
    name: str, prompts: PromptSet, items: Sequence[Mapping[str, str]], labels: Sequence[str] = ()
) -> Task:
    """A thing's attribute: items have the prompt's places, `item` and `answer`.

    Args:
        labels: what there is to choose from; else the answers of the items, in the alphabet's order.
    Raises:
        UserError: an answer that is no label; a place without a word for it.
    """
    answers = tuple(labels or sorted({item["answer"] for item in items}))
    questions = []
    for number, template in enumerate(prompts.templates):
        for item in items:
            if item["answer"] not in answers:
                raise UserError(
                    f"{name}: the answer {item['answer']!r} of {item['item']!r} is none of {', '.join(answers)}."
                )
            right = answers.index(item["answer"])
            questions.append(Question(render(template, item), answers, right, item["item"], number))
    return Task(name, tuple(questions), prompts)


def choice_task(name: str, prompts: PromptSet, items: Sequence[Mapping[str, str]]) -> Task:
    """A choice whose answers the prompt file spells with places, such as "{a}" and "{b}".

    Items have the prompt's places, `item`, `right` (the number of the right answer), and perhaps `order`, and `things`
    on a line each.
    """
    if len(prompts.answers) < 2:
        raise UserError(
            f"{name}: prompts '{prompts.name}' have {len(prompts.answers)} answers; expected two or more."
        )
    questions = [
        Question(
            render(template, item), tuple(render(answer, item) for answer in prompts.answers), int(item["right"]),
            item["item"], number, item.get("order", ""), tuple(filter(None, item.get("things", "").split("\n"))),
        )
        for number, template in enumerate(prompts.templates)
        for item in items
    ]  # fmt: skip
    return Task(name, tuple(questions), prompts)


def ask(scorer: Scorer, task: Task, oracle: bool = False) -> Float[np.ndarray, "P A"]:
    """The scores of a task's answers, in the order of its questions; `oracle`: each is shown its item's pictures.

    Raises:
        UserError: `oracle`, and it is not known what pictures show.
    """
    questions = task.questions
    same = len({q.answers for q in questions}) == 1
    answers = questions[0].answers if same else [q.answers for q in questions]
    if not oracle:
        return scorer([q.prompt for q in questions], answers)
    if task.pictured is None:
        raise UserError(f"{task.name}: no picture is known to show its things; ask without `oracle`.")
    shown = [task.pictured.get(q.about, ()) for q in questions]
    return scorer([q.prompt for q in questions], answers, shown)


def results(
    task: Task, scores: Float[np.ndarray, "P A"], prior: Float[np.ndarray, "Q A"] | None = None, seed: int = 0
) -> dict[str, float]:
    """Fractions of one, all from one set of scores.

    `accuracy` and `calibrated`, each with `_low`, `_high` (95 %, over items) and `_macro` (mean over labels);
    `best_template`, `worst_template`; of choices in two orders also the accuracy of each order, and of answers yes and
    no also `yes_rate`.
    """
    labels = [q.label for q in task.questions]
    items = [q.item for q in task.questions]
    found: dict[str, float] = {}
    for kind, values in (("accuracy", scores), ("calibrated", without_liking(task, scores, prior))):
        right = right_answers(task, values)
        found[kind] = accuracy(right)
        found[f"{kind}_low"], found[f"{kind}_high"] = interval(right, items, seed=seed)
        found[f"{kind}_macro"] = macro_accuracy(right, labels)
        for order in sorted({q.order for q in task.questions} - {""}):
            of = np.array([q.order == order for q in task.questions])
            found[f"{kind}_{order}"] = accuracy(right[of])
        if task.questions[0].answers == ("yes", "no"):
            found["yes_rate" if kind == "accuracy" else "calibrated_yes_rate"] = accuracy(chosen(values) == 0)
        if kind == "accuracy":
            by = [
                right[[q.template == n for q in task.questions]] for n in range(len(task.prompts.templates))
            ]
            means = [accuracy(each) for each in by]
            found |= {"best_template": max(means), "worst_template": min(means)}
    return found


def without_liking(
    task: Task, scores: Float[np.ndarray, "P A"], prior: Float[np.ndarray, "Q A"] | None = None
) -> Float[np.ndarray, "P A"]:
    """Scores less what the model gives each answer anyway; where answers are names of things, less each name's mean."""
    if prior is not None or not task.prompts.answers or not all(map(NAME.fullmatch, task.prompts.answers)):
        return calibrated(scores, prior)
    means: dict[str, list[float]] = {}
    for question, row in zip(task.questions, scores, strict=True):
        for answer, value in zip(question.answers, row.tolist(), strict=True):
            means.setdefault(answer, []).append(value)
    liked = {answer: np.nanmean(values) for answer, values in means.items()}
    return scores - np.array([[liked[answer] for answer in q.answers] for q in task.questions])


def right_answers(task: Task, scores: Float[np.ndarray, "P A"]) -> Bool[np.ndarray, " P"]:
    """Whether the answer with the highest score is the right one."""
    if len(scores) != len(task.questions):
        raise UserError(f"{task.name}: {len(scores):,} rows of scores for {len(task.questions):,} questions.")
    return chosen(scores) == np.array([q.right for q in task.questions])


def trivial(task: Task) -> dict[str, float]:
    """What predictors get that look at nothing: `uniform`, `majority`, its macro accuracy, and `always_<label>`.

    Of choices whose answers are items, which label is right most often is not known; there `first` and `last` answer
    by place.
    """
    found = {"uniform": float(np.mean([1 / len(q.answers) for q in task.questions]))}
    if len({q.answers for q in task.questions}) > 1:
        places = Counter(q.right for q in task.questions)
        last = len(task.questions[0].answers) - 1
        ends = {"first": places[0] / len(task.questions), "last": places[last] / len(task.questions)}
        return {**found, "majority": max(ends.values()), **ends}
    labels = [q.label for q in task.questions]
    label, share = majority(labels)
    found["majority"] = share
    found["majority_macro"] = macro_accuracy([each == label for each in labels], labels)
    return found | {f"always_{name.replace(' ', '_')}": value for name, value in always(labels).items()}


def answers_of(
    task: Task, scores: Float[np.ndarray, "P A"], prior: Float[np.ndarray, "Q A"] | None = None
) -> list[dict[str, Any]]:
    """One record for each question: what it is about, what was said, and whether that was right, raw and calibrated."""
    better = without_liking(task, scores, prior)
    raw, right = chosen(scores), right_answers(task, better)
    return [
        {
            "item": q.item, "prompt": q.template, "text": q.prompt, "answer": q.label, "said": q.answers[said],
            "raw": bool(said == q.right), "calibrated": bool(hit), **({"order": q.order} if q.order else {}),
            "scores": [None if np.isnan(value) else round(float(value), 4) for value in row],
        }
        for q, said, hit, row in zip(task.questions, raw.tolist(), right.tolist(), scores, strict=True)
    ]  # fmt: skip
