"""Checks of notebook 01, the visual world: overlap of boxes, what counting the text can tell, and blind answers."""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence

import torch
from torchvision.ops import box_iou

from vlpnb.course.checks import Wrong, compare, passed

Box = tuple[float, float, float, float]

# (what is tested, box, box); sides (left, top, right, bottom) relative to the picture
_PAIRS: tuple[tuple[str, Box, Box], ...] = (
    ("two boxes that overlap", (0.1, 0.2, 0.5, 0.8), (0.3, 0.4, 0.9, 0.7)),
    ("a box inside another", (0.0, 0.0, 1.0, 0.5), (0.2, 0.1, 0.4, 0.4)),
    ("equal boxes", (0.2, 0.2, 0.7, 0.6), (0.2, 0.2, 0.7, 0.6)),
    ("boxes apart in x only", (0.0, 0.0, 0.3, 1.0), (0.6, 0.2, 0.9, 0.9)),
    ("boxes apart in x and in y", (0.0, 0.0, 0.3, 0.3), (0.6, 0.5, 0.9, 0.9)),
)


def _iou_slips(a: Box, b: Box) -> dict[str, float]:
    """What typical mistakes in intersection over union give."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    inside = max(width, 0.0) * max(height, 0.0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return {
        "boxes that are apart have a negative width or height; cut both at 0 before you multiply.": (
            width * height / (sum(areas) - width * height)
        ),
        "the intersection is counted twice below the line: the union is area + area − intersection.": (
            inside / sum(areas)
        ),
        "you divided by the smaller area; divide by the area of the union.": inside / min(areas),
        "you divided by the first area; divide by the area of the union.": inside / areas[0],
        "this is the intersection; divide it by the area of the union.": inside,
        "a box is (left, top, right, bottom), not (left, top, width, height).": _as_sizes(a, b),
    }


def _as_sizes(a: Box, b: Box) -> float:
    width = max(min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0]), 0.0)
    height = max(min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1]), 0.0)
    return width * height / (a[2] * a[3] + b[2] * b[3] - width * height)


def check_box_iou(function: Callable[[Box, Box], float]) -> None:
    """Exercise 01.1: `function(a, b)` is the intersection over the union of two boxes."""
    for what, a, b in _PAIRS:
        expected = box_iou(torch.tensor([a]), torch.tensor([b])).item()
        compare(f"the IoU of {what}", function(a, b), expected, _iou_slips(a, b))
    passed("equal to torchvision.ops.box_iou, also where boxes are apart.")


# Frequent "red" beside every noun, "blue" rarer and mostly beside the kite; "car" hides in "carrot".
_LINES = (
    "The kite was red .",
    "A red kite is near a blue kite .",
    "The blue kite flies , and a blue kite falls .",
    "A carrot lies beside a red box .",
    "A carrot lies beside a red coin .",
    "The red box is old .",
    "Red sails are near the boat .",
    "The car is near a green box .",
    "Nothing happened .",
)


def _associations(lines: Sequence[str], word: str, candidates: Sequence[str], slip: str = "") -> list[float]:
    found = [line.split() if slip == "case" else line.lower().split() for line in lines]
    texts = [line.lower() for line in lines]
    found = texts if slip == "substring" else found

    def count(*wanted: str) -> int:
        if slip == "repeats":
            return sum(min(words.count(w) for w in wanted) for words in found)
        return sum(all(w in words for w in wanted) for words in found)

    values = []
    for candidate in candidates:
        together, alone = count(word, candidate), (count(word), count(candidate))
        if slip == "counts":
            values.append(float(together))
        elif slip == "conditional":
            values.append(math.log((together + 1) / (alone[0] + 1)))
        elif slip == "no smoothing":
            ratio = together * len(lines) / max(alone[0] * alone[1], 1)
            values.append(math.log(ratio) if ratio else -math.inf)
        else:
            values.append(math.log((together + 1) * (len(lines) + 1) / ((alone[0] + 1) * (alone[1] + 1))))
    return values


_ASSOCIATION_SLIPS = {
    "you count a line once per occurrence; a line counts once, however often a word is in it.": "repeats",
    "'car' was found inside 'carrot'. Compare words: line.lower().split().": "substring",
    "'Red' and 'red' are one word: lower-case the line first.": "case",
    "these are counts of lines; a frequent colour wins beside every noun. Divide by both words' counts.": "counts",
    "divide by the candidate's own count, too: otherwise frequent colours win.": "conditional",
    "the add-one smoothing is missing; a pair that never occurs gives log 0.": "no smoothing",
}


def check_association(function: Callable[[Sequence[str], str, Sequence[str]], Sequence[float]]) -> None:
    """Exercise 01.2: smoothed pointwise mutual information of a word with each candidate, line by line."""
    for word in ("kite", "car"):
        candidates = ("red", "blue", "green", "pink")
        got = function(_LINES, word, candidates)
        if isinstance(got, str):
            raise Wrong(f"the association of {word!r}: return one number per candidate, not the best one.")
        expected = _associations(_LINES, word, candidates)
        slips = {text: _associations(_LINES, word, candidates, s) for text, s in _ASSOCIATION_SLIPS.items()}
        compare(f"the association of {word!r} with {', '.join(candidates)}", got, expected, slips)
    passed("each line counts once, frequent colours have no advantage, and unseen pairs stay finite.")


def _blind(questions: Sequence[tuple[str, str]], slip: str = "") -> float:
    by_text: dict[str, Counter] = defaultdict(Counter)
    for text, answer in questions:
        by_text[text][answer] += 1
    if slip == "prior":
        return max(Counter(answer for _, answer in questions).values()) / len(questions)
    if slip == "texts":
        return sum(max(c.values()) / c.total() for c in by_text.values()) / len(by_text)
    if slip == "uniform":
        return sum(c.total() / len(c) for c in by_text.values()) / len(questions)
    right = sum(max(c.values()) for c in by_text.values())
    return float(right) if slip == "counts" else right / len(questions)


_BLIND_SLIPS = {
    "one answer for all questions is not the best: a reader of the text may answer each text differently.": "prior",
    "you averaged over texts; the share is over questions, and a text that is asked more often weighs more.": "texts",
    "this reader picks one of a text's answers at random; the best one gives the most frequent.": "uniform",
    "this is the number of right answers; divide by the number of questions.": "counts",
}


def check_blind(function: Callable[[Sequence[tuple[str, str]]], float]) -> None:
    """Exercise 01.3: the best accuracy of a reader of the questions' texts alone (Goyal et al. 2017)."""
    biased = [("is there a sheep ?", a) for a in ("yes", "yes", "yes", "no")]
    biased += [("what colour is the car ?", a) for a in ("red", "blue", "red")] + [("is it night ?", "no")]
    balanced = [(text, a) for text in ("is it a cat ?", "is it a dog ?") for a in ("yes", "no")]
    for what, questions in (("biased questions", biased), ("balanced questions", balanced)):
        expected = _blind(questions)
        slips = {text: _blind(questions, slip) for text, slip in _BLIND_SLIPS.items()}
        slips = {text: slip for text, slip in slips.items() if not math.isclose(slip, expected)}
        compare(f"the accuracy on {what}", function(list(questions)), expected, slips)
    passed("where every text has each answer equally often, words alone are worth nothing.")
