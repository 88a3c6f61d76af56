"""Checks of notebook 52, IGLUE: the score of an answer, two denominators, consistency, cleaned text."""

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vlpnb.course.checks import Wrong, compare, passed


def check_answer_score(
    function: Callable[[Float[Tensor, "A T V"], Int[Tensor, "A T"], int], Float[Tensor, " A"]],
) -> None:
    """Exercise 52.1: `function(log_probs, ids, pad)` are the log-probabilities of A answers `<s> a </s>`."""
    A, T, V, pad = 4, 5, 9, 1
    ids = torch.tensor([[0, 5, 2, pad, pad], [0, 6, 7, 2, pad], [0, 4, 8, 5, 2], [0, 8, 2, pad, pad]])
    log_probs = (2 * torch.randn(A, T, V, generator=torch.Generator().manual_seed(52))).log_softmax(-1)
    each = log_probs[:, :-1].gather(2, ids[:, 1:, None])[..., 0]  # (A, T − 1): of ids[:, 1:]
    real = (ids[:, 1:] != pad).float()
    end = (ids[:, 1:] == 2).float()
    right = (each * real).sum(1)
    shifted = log_probs.gather(2, ids[..., None])[..., 0]  # each place is asked for its own word
    slips = {
        "the first piece counts twice. Its probability chose the candidates, and it is in the sum already.": right
        + each[:, 0],
        "the end, </s>, is left out: “red” would be as likely as any answer that begins with it.": (
            each * (real - end)
        ).sum(1),
        "padding is counted; only the answer and its </s> are.": each.sum(1),
        "this is the mean over pieces; the answer's probability is a product, so its log a sum.": right
        / real.sum(1),
        "these are losses; the best answer has the highest log-probability: leave the sign.": -right,
        "place t predicts the piece at t + 1; here it is asked for its own.": (
            shifted * (ids != pad).float()
        ).sum(1),
        "only the first piece is scored.": each[:, 0],
        "these are probabilities; logs are wanted.": right.exp(),
    }
    found = function(log_probs.clone(), ids.clone(), pad)
    if isinstance(found, Tensor) and found.ndim == 0:
        raise Wrong("the scores: one number an answer is wanted, not one for all.")
    compare("the scores", found, right, slips)
    passed("the sum over the pieces and the end, each once: answers of any length can be compared.")


def check_xvnli(function: Callable[[Sequence[str], Sequence[str]], tuple[float, float]]) -> None:
    """Exercise 52.2: `function(said, gold)` is (accuracy over labelled rows, accuracy over all rows)."""
    names = ("contradiction", "entailment", "neutral")
    gold = [*(names[i % 3] for i in range(20)), "-", "-", "-", "-", "-"]
    said = [
        *(names[i % 3] if i % 4 else names[(i + 1) % 3] for i in range(20)),
        *(names[i % 3] for i in range(5)),
    ]
    hits = sum(a == b for a, b in zip(said, gold, strict=True))
    labelled = sum(g != "-" for g in gold)
    right = (hits / labelled, hits / len(gold))
    slips = {
        "rows without a label, `-`, cannot be right; they are counted as right here.": (
            hits / labelled,
            (hits + len(gold) - labelled) / len(gold),
        ),
        "the first is over labelled rows alone: 1,150 of 1,164 in XVNLI. Both are over all rows here.": (
            right[1],
            right[1],
        ),
        "the second is over *all* rows, `-` counted as wrong: 1,164 in XVNLI.": (right[0], right[0]),
        "the two have changed places: labelled rows first.": right[::-1],
        "these are counts; divide.": (hits, hits),
        "these are in percent; shares are wanted.": (100 * right[0], 100 * right[1]),
    }
    found = function(list(said), list(gold))
    if found is None or found is ...:
        compare("the accuracies", found, 0)
    if not isinstance(found, tuple | list) or len(found) != 2:
        raise Wrong(f"the accuracies: expected two numbers, found {type(found).__name__}.")
    compare("the accuracies", tuple(found), right, slips)
    passed("the same answers, and 1.2 % between two papers: say which denominator it is.")


Rows = Sequence[Mapping[str, Any]]


def check_consistency(function: Callable[[Rows], float]) -> None:
    """Exercise 52.3: `function(rows)` is the share of captions with all their pairs right."""
    rows = [
        {"caption": caption, "concept": concept, "right": right}
        for caption, concept, marks in (
            ("two red pots", "pot", (1, 1, 1, 1)),
            ("a pot on a fire", "pot", (1, 1, 1, 0)),
            ("one boat is blue", "boat", (1, 1, 1, 1)),
            ("no boat has a sail", "boat", (1, 1)),
            ("both show a drum", "drum", (0, 1, 1, 0)),
        )
        for right in map(bool, marks)
    ]
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(3)).tolist()
    rows = [rows[i] for i in order]  # pairs of a caption are not neighbours
    marks_of: dict[str, list[bool]] = defaultdict(list)
    marks_of_concept: dict[str, list[bool]] = defaultdict(list)
    for row in rows:
        marks_of[row["caption"]].append(row["right"])
        marks_of_concept[row["concept"]].append(row["right"])

    def share(groups: Mapping[str, list[bool]], one) -> float:
        return sum(one(marks) for marks in groups.values()) / len(groups)

    right = share(marks_of, all)
    runs: list[list[bool]] = []
    for i, row in enumerate(rows):
        if i and rows[i - 1]["caption"] == row["caption"]:
            runs[-1].append(row["right"])
        else:
            runs.append([row["right"]])
    slips = {
        "this is accuracy, over rows; consistency asks whether *all* pairs of a caption are right.": sum(
            row["right"] for row in rows
        )
        / len(rows),
        "this is the mean of each caption's accuracy; all or nothing.": share(
            marks_of, lambda m: sum(m) / len(m)
        ),
        "pairs are grouped by concept; a concept has many captions. Group by caption.": share(
            marks_of_concept, all
        ),
        "one wrong pair is forgiven; none is.": share(marks_of, lambda m: sum(m) >= len(m) - 1),
        "one right pair is enough here; all must be.": share(marks_of, any),
        "a caption's rows need not be neighbours: collect them from the whole list.": sum(map(all, runs))
        / len(runs),
        "divide by the number of captions, not of rows.": sum(map(all, marks_of.values())) / len(rows),
        "captions with fewer than four pairs count, too.": share(
            {c: m for c, m in marks_of.items() if len(m) == 4}, all
        ),
    }
    compare("the consistency", function([dict(row) for row in rows]), right, slips)
    passed("whoever always says true is half right and never consistent.")


MARKS = ",.'!?\"()*#:;~"


def _cleaned(text: str, most: int, slip: str = "") -> str:
    """`cclm_v1`, or what a slip makes of it."""
    if slip == "cased":
        low = text
    elif slip == "folded":
        low = text.casefold()
    elif slip == "turkish":
        low = text.replace("I", "ı").replace("İ", "i").lower()
    else:
        low = text.lower()
    marks = MARKS if slip == "dashes" else MARKS + "-/"
    for mark in marks:
        low = low.replace(mark, "" if slip == "joined" else " ")
    if slip == "split":
        words = low.split()
    else:
        low = low if slip == "runs" else re.sub(r"\s{2,}", " ", low)
        words = low.strip("\n " if slip != "stripped" else None).split(" ")
    if slip == "characters":
        return (
            "".join(words if len(words) > 1 else words[0])[:most]
            if len(words) == 1
            else " ".join(words[:most])
        )
    return " ".join(words if slip == "all" else words[:most])


def check_cleaning(function: Callable[[str, int], str]) -> None:
    """Exercise 52.4: `function(text, most)` cleans a text as CCLM does, and refuses what becomes empty."""
    cases = (
        ("A dog, a cat; and A BIRD!", 40),
        ("an ice-cream/cone (red)", 40),
        ("İstanbul'da IŞIK", 40),
        ("Straße am See", 40),
        ("one two three four five", 3),
        ("一辆红色的汽车停在一棵大树旁边", 5),
        ("两只　小狗", 40),
        ("a\u00a0b c", 2),
    )
    for text, most in cases:
        right = _cleaned(text, most)
        slips = {
            "letters are made small.": _cleaned(text, most, "cased"),
            "`casefold` does more than `lower`: it makes ss of ß.": _cleaned(text, most, "folded"),
            "this lower-cases I and İ as Turkish does; CCLM lower-cases all languages alike (and is wrong there).": (
                _cleaned(text, most, "turkish")
            ),
            "a mark becomes a *space*; without one, two words become one.": _cleaned(text, most, "joined"),
            "`-` and `/` become spaces, too.": _cleaned(text, most, "dashes"),
            "runs of white space become one space.": _cleaned(text, most, "runs"),
            "a *single* no-break or ideographic space stays, and separates no words: `split()` takes it for a space. "
            "Use `split(' ')`.": _cleaned(text, most, "split"),
            f"only the first {most} words are kept.": _cleaned(text, most, "all"),
            "Chinese has no spaces, so it is one word and is not cut; here it is cut by characters.": _cleaned(
                text, most, "characters"
            ),
        }
        slips = {told: value for told, value in slips.items() if value != right}
        compare(f"{text!r}, at most {most} words", function(text, most), right, slips)
    try:
        left = function("?! ...", 40)
    except ValueError:
        passed("what a model reads is part of the model: its cleaning has a name and a version.")
        return
    raise Wrong(
        f"'?! ...': nothing is left but {left!r}, and the model reads it without a word. Raise a ValueError."
    )
