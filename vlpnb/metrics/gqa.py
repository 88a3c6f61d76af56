"""The metrics of GQA (Hudson and Manning 2019, section 4.4), as its evaluation program counts them.

Accuracies are fractions of one. Accuracies and the distribution count balanced questions alone.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

from vlpnb.data.asked import AskedQuestion
from vlpnb.data.gqa import GqaChoices
from vlpnb.errors import UserError
from vlpnb.metrics.vqa import answered

COMMON = frozenset({"color", "material", "shape"})  # what fits "what do these have in common?"
OPEN = "query"  # the structural type whose answers are open; all others are binary


def gqa_scores(
    predictions: Mapping[str, str],
    questions: Iterable[AskedQuestion],
    choices: Mapping[str, GqaChoices] | None = None,
) -> dict[str, float]:
    """Metrics of a split.

    Returns:
        `accuracy`; where questions have types `binary`, `open`, `structural.<type>` and `semantic.<type>`;
        `consistency` where a right answer entails another question's; `distribution` (lower is better) where questions
        have groups; `validity` and `plausibility` where their choices are given.

    Raises:
        UserError: a question without a prediction, without its answer, or without its choices.
    """
    pairs = answered(predictions, questions)
    gold = {q.question_id: _gold(q) for q, _ in pairs}
    scores: dict[str, list[float]] = defaultdict(list)
    for question, answer in pairs:
        if not question.balanced:
            continue
        right = float(answer == gold[question.question_id])
        scores["accuracy"].append(right)
        if question.structural:
            scores["open" if question.structural == OPEN else "binary"].append(right)
            scores[f"structural.{question.structural}"].append(right)
        if question.semantic:
            scores[f"semantic.{question.semantic}"].append(right)
        if right and (share := _entailed(question, predictions, gold)) is not None:
            scores["consistency"].append(share)
        if choices is not None:
            for name, fits in zip(
                ("validity", "plausibility"), _fits(question, answer, choices), strict=True
            ):
                scores[name].append(float(fits))
    result = {name: sum(found) / len(found) for name, found in scores.items()}
    counted = [(q.group, gold[q.question_id], answer) for q, answer in pairs if q.balanced and q.group]
    return result | ({"distribution": distribution(counted)} if counted else {})


def distribution(answers: Iterable[tuple[str, str, str]]) -> float:
    """How far the predicted answers are from the right ones, from (group, right answer, predicted answer).

    The chi-square of each group's histograms over the answers that are right in it, averaged by the groups' sizes, and
    divided by 100 as the evaluation does; 0 is best.
    """
    right: dict[str, Counter] = defaultdict(Counter)
    given: dict[str, Counter] = defaultdict(Counter)
    for group, gold, answer in answers:
        right[group][gold] += 1
        given[group][answer] += 1
    total = 0.0
    for group, expected in right.items():
        square = sum((given[group][answer] - n) ** 2 / n for answer, n in expected.items())
        total += square * expected.total()
    return total / sum(expected.total() for expected in right.values()) / 100


def _entailed(
    question: AskedQuestion, predictions: Mapping[str, str], gold: Mapping[str, str]
) -> float | None:
    """The share of right answers to the questions that this one entails; None where it entails no other.

    Those that are not in the split at hand are passed over, where the evaluation would stop.
    """
    others = [name for name in question.entailed if name != question.question_id and name in gold]
    return sum(predictions[name] == gold[name] for name in others) / len(others) if others else None


def _fits(question: AskedQuestion, answer: str, choices: Mapping[str, GqaChoices]) -> tuple[bool, bool]:
    if question.question_id not in choices:
        raise UserError(
            f"question {question.question_id} has no valid and plausible answers in the file of choices"
        )
    choice = choices[question.question_id]
    if "Common" in question.detailed:
        return answer in COMMON, answer in COMMON
    return answer in choice.valid, answer in choice.plausible


def _gold(question: AskedQuestion) -> str:
    if not question.targets:
        raise UserError(
            f"question {question.question_id} has no answer; a split without answers cannot be scored"
        )
    return max(question.targets, key=question.targets.__getitem__)
