"""Notebook 01: overlap of boxes, association of words, and the best blind answers."""

import math

from tests.course.slips import Exercise
from vlpnb.course.checks import nb01


def box_iou(a, b, slip=""):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if slip != "negative":
        width, height = max(width, 0.0), max(height, 0.0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    inside = width * height
    return inside / {"sum": sum(areas), "smaller": min(areas)}.get(slip, sum(areas) - inside)


def association(lines, word, candidates, slip=""):
    found = [set(line.lower().split()) for line in lines]
    if slip == "substring":
        found = [line.lower() for line in lines]
    if slip == "case":
        found = [set(line.split()) for line in lines]

    def count(*wanted):
        return sum(all(w in words for w in wanted) for words in found)

    together = [count(word, c) for c in candidates]
    if slip == "counts":
        return together
    return [
        math.log((n + 1) * (len(lines) + 1) / ((count(word) + 1) * (count(c) + 1)))
        for n, c in zip(together, candidates, strict=True)
    ]


def blind(questions, slip=""):
    by_text = {}
    for text, answer in questions:
        by_text.setdefault(text, []).append(answer)
    if slip == "prior":
        by_text = {"": [answer for _, answer in questions]}
    if slip == "guess":
        return sum(1 / len(set(by_text[text])) for text, _ in questions) / len(questions)
    best = [max(answers.count(a) for a in answers) for answers in by_text.values()]
    if slip == "texts":
        return sum(n / len(a) for n, a in zip(best, by_text.values(), strict=True)) / len(best)
    return sum(best) / (1 if slip == "counts" else len(questions))


EXERCISES = (
    Exercise(
        nb01.check_box_iou,
        box_iou,
        {"negative": "cut both at 0", "sum": "counted twice", "smaller": "smaller area"},
    ),
    Exercise(
        nb01.check_association,
        association,
        {"counts": "counts of lines", "substring": "inside 'carrot'", "case": "lower-case"},
        wrong=((lambda lines, word, candidates: candidates[0], "one number per candidate"),),
    ),
    Exercise(
        nb01.check_blind,
        blind,
        {
            "prior": "each text differently",
            "texts": "over questions",
            "counts": "divide by the number",
            "guess": "at random",
        },
    ),
)
