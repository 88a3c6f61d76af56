"""VQA's official spelling of answers: punctuation, numbers, articles and contractions (Antol et al. 2015, appendix).

Both the evaluation and the choice of a model's answers go through it, so it follows the official program where that is
peculiar: a mark is cut out if any of its kind stands beside a blank, or if a digit, a comma and a digit follow each
other anywhere; elsewhere it becomes a blank. A full stop goes unless a digit follows.
"""

import re
from itertools import product

MARKS = ';/[]"{}()=+\\_-><@`,?!'
THOUSANDS = re.compile(r"\d,\d")
FULL_STOP = re.compile(r"\.(?!\d)")
ARTICLES = frozenset({"a", "an", "the"})
COUNTED = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
NUMBERS = {word: str(n) for n, word in enumerate(COUNTED)} | {"none": "0"}


def _contractions() -> dict[str, str]:
    """A contraction with one apostrophe left out → the whole one."""
    endings = {
        "n't": "ai are ca could did does do had has have is might must need ought sha should was were wo would",
        "'d": "he how it someone something there they where who you",
        "'d've": "he it she somebody someone something there they we who you",
        "'ll": "how it somebody someone something they what who why you",
        "'re": "there they what why you",
        "'s": "he how somebody someone that there what when where who why",
        "'ve": "could might must not should they we what where who would you",
        "n't've": "could had might should would",
    }
    whole = [start + end for end, starts in endings.items() for start in starts.split()]
    whole += ["ma'am", "o'clock", "'twas", "y'all", "y'all'll", "y'all'd've", "'ow's'at"]
    short = {}
    for word in whole:
        parts = word.split("'")
        for kept in product((True, False), repeat=len(parts) - 1):
            if kept.count(False) == 1:
                short["".join(p + "'" * k for p, k in zip(parts, (*kept, False), strict=True))] = word
    return short


CONTRACTIONS = _contractions() | {"somebody'd": "somebodyd"}  # the latter is the official program's slip


def normalise(text: str) -> str:
    """An answer as the official evaluation compares it."""
    text = without_marks(text)
    words = [NUMBERS.get(word, word) for word in text.lower().split()]
    return " ".join(CONTRACTIONS.get(word, word) for word in words if word not in ARTICLES)


def without_marks(text: str) -> str:
    """The text without punctuation; apostrophes and colons stay."""
    thousands = THOUSANDS.search(text) is not None
    result = text
    for mark in MARKS:
        beside_a_blank = f"{mark} " in text or f" {mark}" in text
        result = result.replace(mark, "" if beside_a_blank or thousands else " ")
    return FULL_STOP.sub("", result)


def stripped(text: str) -> str:
    """The text with line ends and tabs as blanks, and none at its ends."""
    return text.replace("\n", " ").replace("\t", " ").strip()
