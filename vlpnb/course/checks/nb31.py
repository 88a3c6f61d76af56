"""Checks of notebook 31, captioning: a beam's step, CIDEr of one n, the SCST loss, blocked repetitions."""

import math
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from itertools import pairwise

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vlpnb.course.checks import Wrong, compare, passed

Words = Sequence[str]
BeamStep = Callable[
    [Float[Tensor, " K"], Float[Tensor, "K V"], Bool[Tensor, " K"]],
    tuple[Int[Tensor, " K"], Float[Tensor, " K"], Int[Tensor, " K"]],
]


def _best(scores: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """(words, totals, parents) of the k best of (K, V)."""
    totals, index = scores.flatten().topk(k)
    return index % scores.shape[1], totals, index // scores.shape[1]


def check_beam_step(function: BeamStep) -> None:
    """Exercise 31.1: `function(totals [K], scores [K V], finished [K])` is (words, totals, parents), each (K)."""
    totals = torch.tensor([-1.0, -1.3, -0.4])
    scores = torch.tensor([[3.0, 2.6, 0.1, -1.0, 0.5], [0.2, 1.9, 4.4, 0.3, 0.0], [0.5, 3.0, 2.0, 2.5, 0.0]])
    for finished in (torch.tensor([False, False, False]), torch.tensor([False, False, True])):
        found = function(totals.clone(), scores.clone(), finished.clone())
        if found is None or found is ...:
            compare("the step", found, 0)
        if not isinstance(found, tuple | list) or len(found) != 3:
            raise Wrong(f"the step: expected (words, totals, parents), found {type(found).__name__}.")
        log_probs = scores.log_softmax(-1)
        barred = torch.where(finished, -10_000.0, 0.0)[:, None]
        right = _best(totals[:, None] + log_probs + barred, 3)
        each = (totals[:, None] + log_probs + barred).max(1)
        own = each.values.sort(descending=True)
        variants = {
            "log-probabilities, not probabilities, are added up.": _best(
                totals[:, None] + scores.softmax(-1) + barred, 3
            ),
            "scores are no log-probabilities yet: `log_softmax` over the words.": _best(
                totals[:, None] + scores + barred, 3
            ),
            "the beams' totals are forgotten; a new total is the old one and the word's log-probability.": _best(
                log_probs + barred, 3
            ),
            "the softmax is over the words of a beam, the last axis; this is over the beams.": _best(
                totals[:, None] + scores.log_softmax(0) + barred, 3
            ),
            "a finished beam goes on here; nothing may follow [SEP].": _best(totals[:, None] + log_probs, 3),
            "one word for each beam; the best three of *all* continuations are wanted.": (
                each.indices[own.indices],
                own.values,
                own.indices,
            ),
        }
        for i, what in enumerate(("the words", "the totals", "the parents")):
            slips = {text: one[i] for text, one in variants.items() if not torch.equal(one[i], right[i])}
            if what == "the words":
                slips["the order is words, totals, parents; totals came first."] = right[1]
            if what == "the parents":
                index = (totals[:, None] + log_probs + barred).flatten().topk(3).indices
                slips |= {
                    "a parent is the index divided by V; this is its remainder.": index % scores.shape[1],
                    "a parent is the index divided by V, not by K.": index // 3,
                    "this is the index among K · V; whole-divide it by V.": index,
                    "a parent is a whole number: divide by `//`, not by `/`.": index / scores.shape[1],
                }
            compare(f"{what} after a step of three beams", torch.as_tensor(found[i]), right[i], slips)
    passed("three totals, three words and where each comes from: that is all a beam search remembers.")


def _grams(words: Words, n: int) -> Counter:
    return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))


def _cider(
    hypothesis: Words,
    references: Sequence[Words],
    corpus: Sequence[Sequence[Words]],
    n: int,
    slip: str = "",
) -> float:
    """CIDEr of one n in pycocoevalcap's form, or what a slip makes of it."""
    of_pictures = [[set(_grams(words, n)) for words in picture] for picture in corpus]
    df = Counter(g for picture in of_pictures for g in set().union(*picture))
    if slip == "references":
        df = Counter(g for picture in of_pictures for words in picture for g in words)

    def vector(words: Words) -> dict[tuple, float]:
        weight = 1.0 if slip == "no idf" else None
        return {
            g: many * (weight or math.log(len(corpus)) - math.log(max(1, df[g])))
            for g, many in _grams(words, n).items()
        }

    def norm(v: dict[tuple, float]) -> float:
        return math.sqrt(sum(x * x for x in v.values()))

    h, sims = vector(hypothesis), []
    for reference in references:
        r = vector(reference)
        shared = sum((h[g] if slip == "no clip" else min(h[g], r[g])) * r[g] for g in h if g in r)
        below = norm(r) ** 2 if slip == "one norm" else norm(h) * norm(r)
        if slip == "cosine over counts":
            below = 1.0
        gap = len(hypothesis) - len(reference)
        penalty = {"no penalty": 1.0, "sharp": math.exp(-(gap**2) / 2)}.get(slip, math.exp(-(gap**2) / 72))
        sims.append(shared / below * penalty if below else 0.0)
    if slip == "best":
        return 10 * max(sims)
    return (1 if slip == "no ten" else 10) * sum(sims) / len(sims)


def check_cider(
    function: Callable[[Words, Sequence[Words], Sequence[Sequence[Words]], int], float],
) -> None:
    """Exercise 31.2: `function(caption, references, references of all pictures, n)` is CIDEr of n-grams of one n."""
    said = (
        (
            "a red car near a red house",
            "a car and a house in the snow",
            "a red car stands near a house",
            "a red car",
        ),
        ("a dog runs in the snow", "a brown dog in the snow", "a dog", "a dog plays in the snow"),
        ("a red boat on the sea", "a boat", "a red boat on the water", "the sea and a red boat"),
        ("a blue car near a tree", "a car stands near a tree", "a blue car in a field", "a car"),
    )
    corpus = [[caption.split() for caption in picture] for picture in said]
    hypothesis = ["a", "red", "car", "near", "a", "red", "car", "in", "the", "snow"]
    slips = {
        "rare n-grams weigh more: each count is multiplied by ln N − ln df.": "no idf",
        "a repeated n-gram counts at most as often as in the reference: min(h, r) · r.": "no clip",
        "divide by the lengths of both vectors.": "one norm",
        "the sum is not divided by the lengths of the vectors.": "cosine over counts",
        "df counts the pictures that have the n-gram in any reference, not the references.": "references",
        "the penalty of another length is missing: exp(−Δ² / 72).": "no penalty",
        "the penalty is exp(−Δ² / (2 · 6²)).": "sharp",
        "average over the references; this takes the best.": "best",
        "the factor 10 is missing.": "no ten",
    }
    for n in (1, 2):
        right = _cider(hypothesis, corpus[0], corpus, n)
        known = {text: _cider(hypothesis, corpus[0], corpus, n, slip) for text, slip in slips.items()}
        known = {text: value for text, value in known.items() if abs(value - right) > 1e-3}
        found = function(hypothesis, corpus[0], corpus, n)
        compare(f"CIDEr of words in groups of {n}", found, right, known, tol=1e-5)
    alone = function(corpus[1][0], corpus[1], corpus[1:2], 1)
    compare("CIDEr over a single picture, where ln N − ln df is 0", alone, 0.0)
    passed("what every picture's captions say weighs nothing; over one picture that is all they say.")


def check_scst_loss(
    function: Callable[
        [Float[Tensor, "B T"], Int[Tensor, "B T"], Float[Tensor, " B"], Float[Tensor, " B"], int], Tensor
    ],
) -> None:
    """Exercise 31.3: `function(log_probs, words, reward, baseline, end)` is the loss of self-critical training."""
    generator = torch.Generator().manual_seed(31)
    end = 2
    words = torch.tensor([[5, 7, end, 9, 4], [6, end, 8, end, 3], [4, 5, 6, 7, 8]])
    start = -3 * torch.rand(3, 5, generator=generator)
    reward, baseline = torch.tensor([0.9, 0.1, 0.6]), torch.tensor([0.5, 0.4, 0.2])
    given = start.clone().requires_grad_(), reward.clone().requires_grad_()
    loss = function(given[0], words.clone(), given[1], baseline.clone(), end)
    if isinstance(loss, float | int):
        raise Wrong("the loss: found a plain number; keep it a tensor, so that it has a gradient.")
    ended = (words == end).long().cumsum(1)
    until = (ended - (words == end).long()) == 0  # up to and including the first end
    faithful = until | torch.cat([torch.zeros(3, 1, dtype=torch.bool), until[:, :-1]], 1)

    def value(mask: Tensor, gain: Tensor, count: float | None = None) -> Tensor:
        return -(mask * gain[:, None] * start).sum() / (mask.sum() if count is None else count)

    gain = reward - baseline
    right = value(until, gain)
    slips = {
        "the sign: what was rewarded must become *more* probable, and the loss goes down.": -right,
        "the baseline is missing: only what beats it should become more probable.": value(until, reward),
        "what was drawn after [SEP] is no part of the caption, and gets no gradient.": value(
            torch.ones(3, 5, dtype=torch.bool), gain
        ),
        "[SEP] itself counts: stopping is a choice, too.": value(until & (words != end), gain),
        "one word past [SEP] gets gradient here, as in the original code (VLP-13).": value(faithful, gain),
        "average over the words that count, not over B · T.": value(until, gain, 15),
        "average over the words that count, not over the captions.": value(until, gain, 3),
        "average over all words that count; this takes the mean of each caption first.": -(
            (until * gain[:, None] * start).sum(1) / until.sum(1)
        ).mean(),
        "sum the log-probabilities, not the probabilities.": -(until * gain[:, None] * start.exp()).sum()
        / until.sum(),
        "reward and baseline have changed places.": value(until, baseline - reward),
    }
    compare("the loss", loss, right, slips)
    if loss.requires_grad:
        loss.backward()
    if given[0].grad is None:
        raise Wrong("the log-probabilities have no gradient here; only the reward is to be detached.")
    if given[1].grad is not None and given[1].grad.abs().max() > 0:
        raise Wrong("the reward has a gradient here; it is a number that someone gives (`detach`).")
    passed("a caption that beats what the model would have said anyway becomes more probable, word by word.")


def check_blocked(function: Callable[[Sequence[Sequence[int]], int], Sequence[set[int]]]) -> None:
    """Exercise 31.4: `function(beams, n)` are the words that may not follow each beam: they would repeat an n-gram."""
    beams = [
        [3, 4, 5, 6, 4, 5],
        [4, 5, 7, 4, 5, 8, 4, 5],
        [9, 9, 9, 9],
        [4, 6, 5, 7, 4],
        [4],
        [6, 5, 4, 5, 9, 4, 5],
    ]

    def blocked(beam: Sequence[int], n: int, tail: int, last: int) -> set[int]:
        """Words that followed the last `tail` words somewhere before place `last`."""
        end = beam[-tail:] if tail else []
        starts = range(max(0, last - tail))
        return {beam[i + tail] for i in starts if list(beam[i : i + tail]) == list(end)}

    for n in (3, 2):
        found = function([list(beam) for beam in beams], n)
        if found is None or found is ...:
            compare("the blocked words", found, 0)
        if not isinstance(found, Sequence) or len(found) != len(beams):
            many = len(found) if isinstance(found, Sequence) else type(found).__name__
            raise Wrong(f"expected a list of {len(beams)}, a set for each beam, found {many}.")
        for mine in found:
            if not isinstance(mine, Collection) or any(isinstance(word, tuple) for word in mine):
                one = "n-grams" if isinstance(mine, Collection) else type(mine).__name__
                raise Wrong(f"a beam's entry is a set of single words that may not come next, found {one}.")
        right = [blocked(beam, n, n - 1, len(beam)) for beam in beams]
        union = {
            following
            for beam in beams
            for other in beams
            for *start, following in (other[i : i + n] for i in range(len(other) - n + 1))
            if list(start) == list(beam[-(n - 1) :])
        }
        for i, (beam, mine, expected) in enumerate(zip(beams, found, right, strict=True)):
            if set(mine) == expected:
                continue
            said = f"beam {beam} with n = {n}: found {sorted(mine)}, expected {sorted(expected)}"
            if set(mine) == blocked(beam, n, n, len(beam)):
                raise Wrong(f"{said}: compare the last n − 1 words; the n-th is the one that is blocked.")
            if set(mine) == set(beam):
                raise Wrong(f"{said}: words may come again; only n-grams may not.")
            if set(mine) == set(beam[-(n - 1) :]) or set(mine) == expected | set(beam[-(n - 1) :]):
                raise Wrong(
                    f"{said}: the last words themselves may come again; what *followed* them may not."
                )
            if set(mine) == {right for left, right in pairwise(beam) if left == beam[-1]}:
                raise Wrong(f"{said}: all of the last n − 1 words must agree, not only the last one.")
            if set(mine) - expected and set(mine) <= union | expected:
                raise Wrong(f"{said}: each beam on its own; other beams block nothing in beam {i}.")
            first = next(
                (w for j, w in enumerate(beam[n - 1 :]) if beam[j : j + n - 1] == beam[1 - n :]), None
            )
            if len(expected) > 1 and set(mine) == {first}:
                raise Wrong(f"{said}: go on after the first place that agrees.")
            raise Wrong(f"{said}.")
    passed("three words in a row are said once a caption; which three is up to the beam.")
