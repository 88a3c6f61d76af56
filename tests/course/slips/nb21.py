"""Notebook 21: soft scores, answers' normal form, rows of a new head, and GQA's consistency."""

import re

import torch

from tests.course.slips import Exercise
from vlpnb.course.checks import nb21

NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
WHOLE = {word: str(i) for i, word in enumerate(NUMBERS, 1)} | {"grey": "gray"}


def soft_score(answers, answer, slip=""):
    n = answers.count(answer)
    if slip == "share":
        return n / 10
    if slip == "all":
        return min(n / 3, 1)
    if slip == "own":
        return min(max(n - 1, 0) / 3, 1)
    scores = [min((answers[:i] + answers[i + 1 :]).count(answer) / 3, 1) for i in range(10)]
    if slip == "uncut":
        scores = [(answers[:i] + answers[i + 1 :]).count(answer) / 3 for i in range(10)]
    return sum(scores) if slip == "sum" else sum(scores) / 10


def normalise(text, slip=""):
    if slip != "case":
        text = text.lower()
    if slip == "stops":
        text = text.replace(".", "")
    elif slip == "all stops":
        text = text.rstrip(".").strip()
    elif text.endswith("."):
        text = text[:-1].strip()
    if slip == "repeatedly":
        text = re.sub(r"^((a|an|the) )+", "", text)
    for article in ("the ", "an ", "a ") if slip == "order" else ("a ", "an ", "the "):
        if slip == "prefix":
            article = article.strip()
        if slip != "articles" and text.startswith(article):
            text = text[len(article) :].strip()
            if slip == "one":
                break
    if slip == "inside":
        return " ".join(WHOLE.get(word, word) for word in text.split())
    return WHOLE.get(text, text)


def load_answers(weight, bias, answers, labels, slip=""):
    new_weight, new_bias = torch.zeros(len(labels), weight.shape[1]), torch.zeros(len(labels))
    for i, label in enumerate(labels):
        known = label if slip == "verbatim" else normalise(label)
        if slip == "by index":
            new_weight[i], new_bias[i] = weight[i % len(weight)], bias[i % len(bias)]
        elif known in answers:
            new_weight[i] = weight[answers.index(known)]
            new_bias[i] = 0 if slip == "bias" else bias[answers.index(known)]
        elif slip == "drawn":
            new_weight[i] = 0.02 * torch.randn(weight.shape[1])
        elif slip == "drawn bias":
            new_bias[i] = 0.7
    return new_weight, new_bias


def consistency(right, entailed, slip=""):
    scores, pooled = [], []
    for question, others in entailed.items():
        if not right[question] and slip != "wrong too":
            continue
        if not others:
            scores += {"as one": [1.0], "as zero": [0.0]}.get(slip, [])
            continue
        asked = [right[other] for other in ([question, *others] if slip == "itself" else others)]
        scores.append(float(all(asked)) if slip == "all" else sum(asked) / len(asked))
        pooled += asked
    return sum(pooled) / len(pooled) if slip == "pooled" else sum(scores) / len(scores)


EXERCISES = (
    Exercise(
        nb21.check_soft_score,
        soft_score,
        {
            "share": "share of the ten",
            "all": "leave each person out once",
            "own": "leave out each of the ten",
            "sum": "take the mean",
            "uncut": "minimum is missing",
        },
    ),
    Exercise(
        nb21.check_normaliser,
        normalise,
        {
            "case": "lower-cased",
            "stops": "only a full stop at the end",
            "all stops": "one full stop goes",
            "articles": "a leading article goes",
            "repeatedly": "at most once",
            "order": "the articles go in the order",
            "one": "are still looked for",
            "prefix": "with its blank",
            "inside": "only a whole answer",
        },
        wrong=((lambda text: text.lower(), "full stop"),),
    ),
    Exercise(
        nb21.check_load_answers,
        load_answers,
        {
            "by index": "row i of the table",
            "verbatim": "normal form",
            "drawn": "not drawn at random",
            "bias": "bias stayed at zero",
            "drawn bias": "bias 0",
        },
        wrong=((lambda weight, *rest: weight, "expected a pair"),),
    ),
    Exercise(
        nb21.check_consistency,
        consistency,
        {
            "wrong too": "answered correctly",
            "pooled": "average within each question",
            "as one": "does not count as 1",
            "as zero": "does not count as 0",
            "itself": "not among those",
            "all": "take their share",
        },
    ),
)
