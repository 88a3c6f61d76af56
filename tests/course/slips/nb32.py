"""Notebook 32: the target of a question, an answer's normal form, loss and choice of answers."""

import re

from torch.nn import functional as F

from tests.course.slips import Exercise
from vlpnb.course.checks import nb32

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
DIGITS = {word: str(i) for i, word in enumerate(NUMBERS)} | {"none": "0"}


def target(ten, listed, slip=""):
    scores = []
    for i, answer in enumerate(listed):
        c = ten.count(answer)
        if i == 0:
            c = sum(said not in listed for said in ten) if slip == "unknown" else 0
        score = {
            "share": c / 10,
            "third": min(1, c / 3),
            "best": float(c == 4),
            "uncut": 0.3 * c,
            "any": float(c > 0),
        }.get(slip, min(1, 0.3 * c))
        scores.append(score)
    if slip == "sum":
        return [score / max(sum(scores), 1) for score in scores]
    return scores[1:] if slip == "short" else scores


def normal_form(text, slip=""):
    if slip == "strip" and "\n" in text:
        return text
    if slip != "strip":
        text = text.replace("\n", " ").replace("\t", " ").strip()
    marks = r'[;/\[\]"{}()=+\\_\-><@`,?!]' + ("|'" if slip == "apostrophe" else "")
    original = text
    for mark in set(re.findall(marks, original)) if slip != "marks" else ():
        near = f"{mark} " in original or f" {mark}" in original
        near = near or (bool(re.search(r"\d,\d", original)) and slip != "comma")
        near = {"space": False, "delete": True}.get(slip, near)
        text = text.replace(mark, "" if near else " ")
    if slip != "stops":
        text = text.replace(".", "") if slip == "decimal" else re.sub(r"\.(?!\d)", "", text)
    text = text if slip == "case" else text.lower()
    if slip == "articles inside":
        return re.sub(r"\ban?|\bthe ", "", text).strip()
    words = text.split(" ") if slip == "space" else text.split()
    if slip == "first article" and words[0] in ("a", "an", "the"):
        words = words[1:]
    elif slip != "first article":
        words = [word for word in words if word not in ("a", "an", "the")]
    if slip == "number inside":
        return " ".join(words).replace("one", "1")
    if slip != "numbers":
        words = [DIGITS.get(word, word) for word in words]
    return " ".join(words)


def answers(scores, targets, slip=""):
    each = F.binary_cross_entropy_with_logits(scores, targets, reduction="none")
    if slip == "twice":
        each = F.binary_cross_entropy_with_logits(scores.sigmoid(), targets, reduction="none")
    if slip == "softmax":
        each = -targets * scores.log_softmax(-1)
    if slip == "positive":
        each = -targets * F.logsigmoid(scores)
    if slip == "round":
        each = F.binary_cross_entropy_with_logits(scores, targets.round(), reduction="none")
    loss = {"mean": each.mean(), "sum": each.sum()}.get(slip, each.sum(1).mean())
    best = scores[:, 1:].argmax(1) + 1
    best = {"unknown": scores.argmax(1), "shifted": best - 1, "targets": targets.argmax(1)}.get(slip, best)
    return loss, best


EXERCISES = (
    Exercise(
        nb32.check_target,
        target,
        {
            "share": "share of the ten",
            "third": "not 1/3",
            "unknown": "unknown answer scores 0",
            "best": "best answer alone",
            "sum": "need not sum",
            "uncut": "not more",
            "any": "how many gave it",
            "short": "entry 0",
        },
    ),
    Exercise(
        nb32.check_normaliser,
        normal_form,
        {
            "case": "lower-cased",
            "numbers": "number words become digits",
            "number inside": "expected '2 dogs'|whole word",
            "first article": "all articles go",
            "marks": "punctuation goes",
            "delete": "becomes a blank",
            "space": "removed, not replaced|expected",
            "comma": "between digits",
            "decimal": "before a digit stays",
            "stops": "no digit follows",
            "apostrophe": "apostrophe",
            "strip": "both ends",
        },
    ),
    Exercise(
        nb32.check_answers,
        answers,
        {
            "mean": "averages over the answers",
            "sum": "sums over the questions",
            "softmax": "compete",
            "twice": "taken twice",
            "positive": "nobody gave",
            "round": "not rounded",
            "unknown": "<unk>",
            "shifted": "add 1",
            "targets": "from the scores",
        },
        wrong=((lambda scores, targets: answers(scores, targets)[0], "expected .loss, answers"),),
        also_right=(lambda s, t: (answers(s, t)[0], answers(s, t)[1].tolist()),),
    ),
)
