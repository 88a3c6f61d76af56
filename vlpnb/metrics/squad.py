"""Exact match and F1 of SQuAD, and the null threshold of v2.0 (Rajpurkar et al. 2016, section 5; 2018, section 6).

Answers are compared as the official evaluation does: lower case, without punctuation, without the articles
a, an and the, and with single spaces. A question with several reference answers counts the best of them; a
question without an answer has the one reference "".
"""

import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalise(text: str) -> str:
    """The words of an answer that count."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split())


def exact_match(prediction: str, reference: str) -> float:
    """1 when both say the same after normalisation, else 0."""
    return float(normalise(prediction) == normalise(reference))


def f1(prediction: str, reference: str) -> float:
    """Harmonic mean of precision and recall over the bags of words; 1 when both are empty, 0 when one is."""
    ours, theirs = normalise(prediction).split(), normalise(reference).split()
    if not ours or not theirs:
        return float(ours == theirs)
    shared = sum((Counter(ours) & Counter(theirs)).values())
    return 2 * shared / (len(ours) + len(theirs))


def question_scores(prediction: str, references: Sequence[str]) -> tuple[float, float]:
    """(EM, F1) of one question, each the best over its references.

    References that normalisation empties ("the") are left out; without any left the question has no answer.
    """
    kept = [text for text in references if normalise(text)] or [""]
    return (
        max(exact_match(prediction, text) for text in kept),
        max(f1(prediction, text) for text in kept),
    )


def best_threshold(
    gains: Sequence[float], answerable: Sequence[bool], null_odds: Sequence[float]
) -> tuple[float, float]:
    """(mean score, threshold) of the threshold t that is best when a question is answered where its odds ≤ t.

    Args:
        gains: a question's score if its best span is given (EM or F1 of an answerable question; of one without
            an answer, 0).
        answerable: whether it has an answer; one without scores 1 when it is left unanswered.
        null_odds: score of "no answer" minus that of the best span.

    As in the official script, the search begins with no question answered (its threshold is 0 if nothing is
    better). Questions of equal odds are answered together, which the script leaves to the order of the sort.
    """
    order = sorted(range(len(gains)), key=lambda i: null_odds[i])
    total = float(sum(not has for has in answerable))
    best, threshold = total, 0.0
    for place, i in enumerate(order):
        total += gains[i] if answerable[i] else -1.0
        tied = place + 1 < len(order) and null_odds[order[place + 1]] == null_odds[i]
        if not tied and total > best:
            best, threshold = total, float(null_odds[i])
    return best / len(gains), threshold


def squad_scores(
    spans: Sequence[str],
    references: Sequence[Sequence[str]],
    null_odds: Sequence[float] | None = None,
) -> dict[str, float]:
    """Metrics of a development set, fractions of one.

    Args:
        spans: the best non-empty answer of every question. references: its answers, none for a question that
            has no answer.
        null_odds: as in `best_threshold`; None (v1.1) answers every question.

    Returns:
        `em` and `f1`; with `null_odds` these are at the best threshold of each, as v2.0 results are published,
        with `em_threshold`, `f1_threshold`, `em_zero` and `f1_zero` (at threshold 0), and `f1_answerable`,
        `f1_unanswerable` (at the threshold of F1; NaN where there is no such question).
    """
    pairs = [question_scores(span, texts) for span, texts in zip(spans, references, strict=True)]
    if null_odds is None:
        return {name: _mean([pair[i] for pair in pairs]) for i, name in enumerate(("em", "f1"))}
    answerable = [any(normalise(text) for text in texts) for texts in references]
    result: dict[str, float] = {}
    for i, name in enumerate(("em", "f1")):
        gains = [pair[i] for pair in pairs]
        result[name], result[f"{name}_threshold"] = best_threshold(gains, answerable, null_odds)
    for i, name in enumerate(("em", "f1")):
        gains = [pair[i] for pair in pairs]
        result[f"{name}_zero"] = _mean(_at(0.0, gains, answerable, null_odds))
    at_best = _at(result["f1_threshold"], [pair[1] for pair in pairs], answerable, null_odds)
    for name, wanted in (("f1_answerable", True), ("f1_unanswerable", False)):
        result[name] = _mean([v for v, has in zip(at_best, answerable, strict=True) if has == wanted])
    return result


def predictions(spans: Mapping[str, str], null_odds: Mapping[str, float], threshold: float) -> dict[str, str]:
    """Question id → its answer, "" where the odds exceed the threshold: the official prediction file."""
    return {name: "" if null_odds[name] > threshold else span for name, span in spans.items()}


def _at(
    threshold: float, gains: Sequence[float], answerable: Sequence[bool], odds: Sequence[float]
) -> list[float]:
    """The score of every question when those with odds ≤ threshold are answered."""
    return [
        (gain if has else 0.0) if odd <= threshold else float(not has)
        for gain, has, odd in zip(gains, answerable, odds, strict=True)
    ]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else float("nan")
