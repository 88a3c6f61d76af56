"""Checks of notebook 01: the solutions pass, stubs and typical mistakes are named."""

import math

import pytest

from vlpnb.course.checks import Wrong, nb01


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


def test_right_answers_pass(capsys):
    nb01.check_box_iou(box_iou)
    nb01.check_association(association)
    assert capsys.readouterr().out.count("Correct") == 2


def test_stubs_fail():
    with pytest.raises(Wrong, match="nothing came back yet"):
        nb01.check_box_iou(lambda a, b: ...)
    with pytest.raises(Wrong, match="nothing came back yet"):
        nb01.check_association(lambda lines, word, candidates: None)


@pytest.mark.parametrize(
    ("slip", "message"),
    [("negative", "cut both at 0"), ("sum", "counted twice"), ("smaller", "smaller area")],
)
def test_wrong_overlaps_are_named(slip, message):
    with pytest.raises(Wrong, match=message):
        nb01.check_box_iou(lambda a, b: box_iou(a, b, slip))


@pytest.mark.parametrize(
    ("slip", "message"),
    [("counts", "counts of lines"), ("substring", "inside 'carrot'"), ("case", "lower-case")],
)
def test_wrong_associations_are_named(slip, message):
    with pytest.raises(Wrong, match=message):
        nb01.check_association(lambda *args: association(*args, slip))


def test_the_best_colour_alone_is_not_an_answer():
    with pytest.raises(Wrong, match="one number per candidate"):
        nb01.check_association(lambda lines, word, candidates: candidates[0])


def blind(questions, slip=""):
    by_text = {}
    for text, answer in questions:
        by_text.setdefault(text, []).append(answer)
    if slip == "prior":
        by_text = {"": [answer for _, answer in questions]}
    best = [max(answers.count(a) for a in answers) for answers in by_text.values()]
    if slip == "texts":
        return sum(n / len(a) for n, a in zip(best, by_text.values(), strict=True)) / len(best)
    return sum(best) / (1 if slip == "counts" else len(questions))


def test_blind_accuracy(capsys):
    nb01.check_blind(blind)
    assert "Correct" in capsys.readouterr().out
    with pytest.raises(Wrong, match="nothing came back yet"):
        nb01.check_blind(lambda questions: ...)


@pytest.mark.parametrize(
    ("slip", "message"),
    [("prior", "each text differently"), ("texts", "over questions"), ("counts", "divide by the number")],
)
def test_wrong_blind_accuracies_are_named(slip, message):
    with pytest.raises(Wrong, match=message):
        nb01.check_blind(lambda questions: blind(questions, slip))


def test_guessing_among_a_texts_answers_is_named():
    def guess(questions):
        answers = {text: {a for t, a in questions if t == text} for text, _ in questions}
        return sum(1 / len(answers[text]) for text, _ in questions) / len(questions)

    with pytest.raises(Wrong, match="at random"):
        nb01.check_blind(guess)
