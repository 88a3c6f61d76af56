"""Checks of notebook 21, VQA and GQA: soft scores, answers' normal form, the rows of a new head, and consistency."""

from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from vlpnb.course.checks import Wrong, compare, passed
from vlpnb.data.lxmert import normalise_answer

Score = Callable[[Sequence[str], str], float]
Consistency = Callable[[Mapping[str, bool], Mapping[str, Sequence[str]]], float]


def check_soft_score(function: Score) -> None:
    """Exercise 21.1: `function(ten answers, answer)` is the mean of min(n / 3, 1) over the ten leave-one-outs."""
    others = ("a net", "mesh", "fence", "rope", "string", "web", "wire", "cloth", "thread", "grid")
    for n in (2, 1, 3, 4, 7, 0, 10):
        answers = ["net"] * n + list(others[n:])
        right = (n * min((n - 1) / 3, 1) + (10 - n) * min(n / 3, 1)) / 10
        slips = {
            "this is the share of the ten people; three others who say it are enough.": n / 10,
            "this is min(n / 3, 1) over all ten; leave each person out once, and average.": min(n / 3, 1),
            "you left out only people who gave this answer; leave out each of the ten.": min(
                max(n - 1, 0) / 3, 1
            ),
            "you summed over the ten; take the mean.": 10 * right,
            "a share above 1 counts as 1: the minimum is missing.": 0.3 * n,
        }
        slips = {text: value for text, value in slips.items() if abs(value - right) > 1e-6}
        compare(f"the score of an answer that {n} of ten people gave", function(answers, "net"), right, slips)
    passed("0.3, 0.6, 0.9 and 1 are nothing else than three who agree, with each person left out once.")


# raw answer, its normal form, what a slip makes of it → why
_FORMS: tuple[tuple[str, dict[str, str]], ...] = (
    ("Yes.", {"yes.": "one full stop at the end goes.", "Yes": "answers are lower-cased."}),
    ("the cat", {"the cat": "a leading article goes."}),
    ("a a cat", {"cat": "each article is removed at most once."}),
    ("the a cat", {"cat": "the articles go in the order a, an, the: after `the` nothing is looked for."}),
    ("a the cat", {"the cat": "after `a`, `an` and `the` are still looked for."}),
    ("two", {"two": "the words one to ten become digits."}),
    ("two cats", {"2 cats": "only a whole answer becomes a number, not a word inside one."}),
    ("grey", {"grey": "grey is spelt gray."}),
    ("a grey", {"grey": "articles go first, then whole answers are replaced."}),
    ("grey cat", {"gray cat": "only a whole answer is replaced, not a word inside one."}),
    ("St. Louis.", {"st louis": "only a full stop at the end goes."}),
    ("wait..", {"wait": "one full stop goes, not all of them."}),
    ("another", {"nother": "an article is a word of its own: ask for `an ` with its blank."}),
    ("", {}),
)


def check_normaliser(function: Callable[[str], str]) -> None:
    """Exercise 21.2: `function(answer)` is the form in which the answer table is asked for it."""
    for raw, slips in _FORMS:
        found, right = function(raw), normalise_answer(raw)
        if found is None or found is ...:
            compare("the normal form", found, right)
        if found in slips and found != right:
            raise Wrong(f"{raw!r} became {found!r}, expected {right!r}: {slips[found]}")
        if found != right:
            raise Wrong(f"{raw!r} became {found!r}, expected {right!r}.")
    passed("odd, but it is the form that the published answer heads were trained with.")


def check_load_answers(
    function: Callable[
        [Float[Tensor, "A D"], Float[Tensor, " A"], Sequence[str], Sequence[str]],
        tuple[Float[Tensor, "Q D"], Float[Tensor, " Q"]],
    ],
) -> None:
    """Exercise 21.3: `function(weight, bias, table's answers, labels)` is the new last layer's weight and bias."""
    draw = torch.Generator().manual_seed(21)
    answers = ["2", "black", "cat", "gray", "no", "yes"]
    labels = ["", "yes", "grey", "the cat", "visilab", "two", "no"]
    weight, bias = torch.randn(6, 3, generator=draw), torch.randn(6, generator=draw)
    rows = [answers.index(n) if (n := normalise_answer(label)) in answers else None for label in labels]
    right_weight = torch.stack([weight[row] if row is not None else torch.zeros(3) for row in rows])
    right_bias = torch.stack([bias[row] if row is not None else torch.zeros(()) for row in rows])
    found = function(weight.clone(), bias.clone(), list(answers), list(labels))
    if found is None or found is ...:
        compare("the new layer", found, right_weight)
    if not isinstance(found, tuple | list) or len(found) != 2:
        raise Wrong(f"expected a pair (weight, bias), found {type(found).__name__}.")
    exact = [answers.index(label) if label in answers else None for label in labels]
    verbatim = torch.stack([weight[row] if row is not None else torch.zeros(3) for row in exact])
    known = torch.tensor([row is not None for row in rows])
    if _alike(found[0], right_weight) and torch.equal(found[0][known], right_weight[known]):
        compare(
            "the weight of labels that the table lacks",
            found[0][~known].abs().max() > 0,
            False,
            {"their rows are zero, not drawn at random.": True},
        )
    slips = {
        "row i of the table went to label i; look each label up in the table.": weight[torch.arange(7) % 6],
        "labels are looked up in their normal form: grey is the table's gray.": verbatim,
    }
    compare("the weight", found[0], right_weight, slips)
    compare(
        "the bias",
        found[1],
        right_bias,
        {
            "the bias stayed at zero; copy it with its row.": torch.zeros(7),
            "an answer outside the table has bias 0, as its weights.": torch.where(
                known, right_bias, found[1]
            ),
        },
    )
    passed("a label that pre-training knew starts with what it knew; the others start at an even 0.5.")


def _alike(found: object, right: Tensor) -> bool:
    return isinstance(found, Tensor) and found.shape == right.shape


def check_consistency(function: Consistency) -> None:
    """Exercise 21.4: `function(question → right?, question → questions that it entails)` is GQA's consistency."""
    right = {"q1": True, "q2": False, "q3": True, "q4": True, "q5": False, "q6": True}
    entailed = {
        "q1": ["q2", "q3", "q4", "q6"],
        "q2": ["q3", "q4"],
        "q3": ["q5"],
        "q4": [],
        "q5": ["q1"],
        "q6": ["q4"],
    }

    def share(questions: Sequence[str]) -> float:
        return sum(right[q] for q in questions) / len(questions)

    asked = [q for q in entailed if right[q] and entailed[q]]
    every = [q for q in entailed if entailed[q]]
    pooled = [e for q in asked for e in entailed[q]]
    expected = sum(share(entailed[q]) for q in asked) / len(asked)
    kept = [q for q in entailed if right[q]]
    slips = {
        "only questions that were answered correctly are followed up.": (
            sum(share(entailed[q]) for q in every) / len(every)
        ),
        "you pooled all entailed questions; average within each question first.": share(pooled),
        "a question that entails nothing is left out; it does not count as 1.": (
            sum(share(entailed[q]) if entailed[q] else 1.0 for q in kept) / len(kept)
        ),
        "a question that entails nothing is left out; it does not count as 0.": (
            sum(share(entailed[q]) if entailed[q] else 0.0 for q in kept) / len(kept)
        ),
        "a question is not among those that it entails.": (
            sum(share([q, *entailed[q]]) for q in asked) / len(asked)
        ),
        "this asks for all entailed questions to be right; take their share.": (
            sum(share(entailed[q]) == 1 for q in asked) / len(asked)
        ),
    }
    compare("the consistency of six questions", function(dict(right), dict(entailed)), expected, slips)
    passed("consistency asks whether a model that was right stays right when asked what follows.")
