"""From ten answers of people to the soft targets on which VQA models are trained.

Antol et al. (2015, section 3) score an answer by min(n / 3, 1), n of the other nine people giving it, on average over
the ten people who can be left out. Someone who gave it leaves n - 1 behind, anyone else n, so with n of ten the mean is

    (n · min((n - 1) / 3, 1) + (10 - n) · min(n / 3, 1)) / 10  =  0, 0.3, 0.6, 0.9, 1, 1 …

for n = 0, 1, 2, 3, 4, 5 …: the targets of Teney et al. (2018), and after them of LXMERT, are the metric itself.
"""

from collections import Counter
from collections.abc import Sequence

PEOPLE = 10
ENOUGH = 3  # people who agree with an answer make it right


def soft_score(count: int, people: int = PEOPLE) -> float:
    """The score of an answer that `count` of the people gave."""
    if people < 2:
        return float(count > 0)  # nobody to leave out
    with_one_left_out = count * min(count - 1, ENOUGH) + (people - count) * min(count, ENOUGH)
    return with_one_left_out / (ENOUGH * people)


def soft_targets(answers: Sequence[str]) -> dict[str, float]:
    """Answer → score of all that people said, compared as they wrote it, in the order in which it first occurs."""
    return {answer: soft_score(n, len(answers)) for answer, n in Counter(answers).items()}
