"""Checks of notebook 40, retrieval: where a query's text begins, recall@K, search by cosine, a text's own pictures."""

from collections.abc import Callable, Collection, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vlpnb.course.checks import Wrong, compare, passed

Rows = Int[Tensor, "Q K"]


def _starts(ids: Sequence[int], closing: Collection[int], longest: int, slip: str = "") -> list[int]:
    """For every position the place where its chunk begins, or what a slip makes of it."""
    begins = [0]
    for t in range(1, len(ids)):
        closed = ids[t] in closing if slip == "before" else ids[t - 1] in closing
        full = slip != "endless" and t - begins[-1] >= longest + (slip == "one more") - (slip == "one less")
        begins.append(t if (closed and slip != "deaf") or full else begins[-1])
    return begins


def _ahead(ids: Sequence[int], closing: Collection[int], longest: int) -> list[int]:
    """The rule that looks ahead: a rest that is not longer than a chunk may be is never cut."""
    begins: list[int] = []
    while len(begins) < len(ids):
        start, rest = len(begins), ids[len(begins) :]
        end = next((k + 1 for k, word in enumerate(rest[:longest]) if word in closing), longest)
        begins += [start] * (len(rest) if len(rest) <= longest else end)
    return begins


def check_chunk_starts(function: Callable[[Sequence[int], Collection[int], int], Sequence[int]]) -> None:
    """Exercise 40.1: `function(ids, closing, longest)` says for each position where the text of its query begins."""
    dot, comma = 7, 8
    texts = [
        [3, 4, 5, dot, 3, 4, dot, 5],
        [3, 4, dot, 5, 6, 3, 4],
        [3, dot, dot, 4, comma, 5],
        [3, 4, 5, 6, 3, 4, 5, 6, 3, dot, 4],
        [dot, 3],
        [4],
    ]
    for ids in texts:
        for closing, longest in (({dot}, 5), ({dot, comma}, 75), ({dot}, 4)):
            right = _starts(ids, closing, longest)
            slips = {
                "a separator belongs to the chunk that it closes; here it opens the next one.": _starts(
                    ids, closing, longest, "before"
                ),
                "nothing but the length closes a chunk here; look at the previous token.": _starts(
                    ids, closing, longest, "deaf"
                ),
                f"a chunk has at most {longest} tokens.": _starts(ids, closing, longest, "endless"),
                f"a chunk has {longest} tokens before it is closed, not one more.": _starts(
                    ids, closing, longest, "one more"
                ),
                f"a chunk has {longest} tokens before it is closed, not one less.": _starts(
                    ids, closing, longest, "one less"
                ),
                "this looks ahead: whether a chunk is closed depends here on how much text is still to come.": _ahead(
                    ids, closing, longest
                ),
                "the answer is a place in the text, not a chunk's number.": [
                    sorted(set(right)).index(start) for start in right
                ],
                "the answer is where the chunk begins, not how many tokens stand before the position.": [
                    t - start for t, start in enumerate(right)
                ],
            }
            slips = {text: value for text, value in slips.items() if value != right}
            found = function(list(ids), set(closing), longest)
            compare(f"the beginnings in {ids}, closed by {sorted(closing)}", found, right, slips)
            for cut in range(1, len(ids)):
                if list(function(list(ids[:cut]), set(closing), longest)) != right[:cut]:
                    said = f"the beginnings in {ids[:cut]} and in {ids} disagree"
                    raise Wrong(f"{said}: where a chunk begins may depend on the past alone.")
    passed("cut the text anywhere: the beginnings before the cut stay what they were, so nothing leaks.")


def check_recall(function: Callable[[Rows, Rows], float]) -> None:
    """Exercise 40.2: `function(found, exact)` is the share of the truly nearest rows that an index has found."""
    cases = (
        ("all found, in another order", [[3, 1, 2]], [[1, 2, 3]]),
        ("half of them", [[1, 9, 2, 8], [4, 5, 0, 7]], [[1, 2, 3, 4], [5, 6, 7, 8]]),
        ("a search that ran dry", [[1, 2, 9, -1], [5, -1, -1, -1]], [[1, 2, 3, 4], [5, 6, 7, 8]]),
        ("a store of three pictures, K = 4", [[0, 1, -1, -1], [2, 0, 1, -1]], [[0, 1, 2, -1], [2, 0, 1, -1]]),
    )
    for what, found, exact in cases:
        pairs = list(zip(found, exact, strict=True))
        hits = [len((set(f) & set(e)) - {-1}) for f, e in pairs]
        there = [sum(row >= 0 for row in e) for e in exact]
        returned = [sum(row >= 0 for row in f) for f in found]
        K, total = len(exact[0]), sum(there)
        in_place = sum(a == b >= 0 for f, e in pairs for a, b in zip(f, e, strict=True))
        with_gaps = sum(sum(row in e for row in f) for f, e in pairs)
        right = sum(hits) / total
        slips = {
            "−1 is a place that could not be filled. It is no picture, and finding it is no hit.": with_gaps
            / (K * len(pairs)),
            "−1 is no picture: it is counted as a hit here.": with_gaps / total,
            "divide by the pictures that could be found, not by K: −1 in `exact` is none.": sum(hits)
            / (K * len(pairs)),
            "the order among the K does not matter; a picture found at another place is found.": in_place
            / total,
            "this is the share of queries with any hit; count all the hits.": sum(h > 0 for h in hits)
            / len(hits),
            "this divides by what was returned (precision); recall asks how much of `exact` was found.": sum(
                hits
            )
            / sum(returned),
            "divide by all that could be found.": sum(hits),
        }
        slips = {text: value for text, value in slips.items() if abs(value - right) > 1e-6}
        answer = function(torch.tensor(found), torch.tensor(exact))
        compare(f"recall@{K}, {what}", answer, right, slips)
    passed("without this number beside it, a result says nothing about the index that it came from.")


def check_search(
    function: Callable[[Float[Tensor, "Q E"], Float[Tensor, "N E"], int], tuple[Rows, Float[Tensor, "Q K"]]],
) -> None:
    """Exercise 40.3: `function(queries, pictures, k)` is (rows, scores) of the k nearest by cosine, best first."""
    generator = torch.Generator().manual_seed(40)
    queries = torch.randn(5, 6, generator=generator) * torch.tensor([[0.5], [3.0], [1.0], [8.0], [0.1]])
    pictures = torch.randn(40, 6, generator=generator) * (
        0.2 + 4 * torch.rand(40, 1, generator=generator) ** 3
    )
    k = 4

    def unit(x: Tensor) -> Tensor:
        return x / x.norm(dim=-1, keepdim=True)

    found = function(queries.clone(), pictures.clone(), k)
    if found is None or found is ...:
        compare("the search", found, 0)
    if not isinstance(found, tuple | list) or len(found) != 2:
        raise Wrong(f"the search: expected (rows, scores), found {type(found).__name__}.")
    cosine = unit(queries) @ unit(pictures).T
    tables = {
        "only the queries are of length 1 here: long pictures win whatever they show. Both sides must be.": unit(
            queries
        )
        @ pictures.T,
        "only the pictures are of length 1 here: the order is right, but a score is no cosine yet.": queries
        @ unit(pictures).T,
        "inner products of raw vectors favour long pictures; divide both sides by their lengths.": queries
        @ pictures.T,
        "this is the smallest distance of raw vectors; it has the cosine's order for unit vectors only.": -(
            torch.cdist(queries, pictures)
        ),
        "the *largest* cosine is the nearest; these are the farthest.": -cosine,
        "the sum of all entries is not a vector's length: take the root of the sum of squares.": (
            queries / queries.sum(-1, keepdim=True)
        )
        @ (pictures / pictures.sum(-1, keepdim=True)).T,
    }
    right = cosine.topk(k)
    rows, scores = torch.as_tensor(found[0]), torch.as_tensor(found[1])
    if rows.is_floating_point() and not scores.is_floating_point():
        raise Wrong("the search: rows and scores have changed places; rows come first.")
    reached = {text: table.topk(k) for text, table in tables.items()}
    for text, one in reached.items():  # of two slips with the same order the scores tell which it is
        both = torch.equal(rows, one.indices) and scores.shape == one.values.shape
        if both and torch.allclose(scores.float(), one.values, atol=1e-4, rtol=1e-4):
            raise Wrong(f"the search: {text}")
    others = {text: one.indices for text, one in reached.items()}
    slips = {text: other for text, other in others.items() if not torch.equal(other, right.indices)}
    compare("the rows", rows, right.indices, slips)
    slips = {text: one.values for text, one in reached.items()}
    slips["these are distances; a cosine is 1 − distance² / 2 of unit vectors."] = (
        2 - 2 * right.values
    ).sqrt()
    compare("the scores", scores, right.values, slips)
    passed("one metric on both sides, said in the store's description: that is all there is to check later.")


def check_without_own(
    function: Callable[[Sequence[int], Collection[int], int], Sequence[int]],
) -> None:
    """Exercise 40.4: `function(nearest, own, k)` are the k nearest rows that are not a text's own pictures."""
    cases = (
        ([5, 9, 2, 7, 1, 4], {9}, 3),
        ([5, 9, 2, 7, 1, 4], {5, 2}, 3),
        ([5, 9, 2, 7], set(), 2),
        ([3, 8, 6, 1], {1}, 2),
        ([3, 8], {3}, 2),
    )
    for nearest, own, k in cases:
        left = [row for row in nearest if row not in own]
        right = left[:k] + [-1] * (k - len(left))
        late = [row for row in nearest[:k] if row not in own]
        slips = {
            "leave the own pictures out first and take k then: here fewer than k are left.": (
                late if late != left[:k] else right
            ),
            "the next best moves up; a hole is left here instead.": late + [-1] * (k - len(late)),
            "a hole is left where an own picture was.": [-1 if row in own else row for row in nearest[:k]],
            "the own pictures are what must *not* come back.": ([r for r in nearest if r in own] + [-1] * k)[
                :k
            ],
            "take k of them.": left if len(left) > k else right,
            "places that cannot be filled are −1, so that every answer has k places.": left[:k],
            "the nearest comes first; these are sorted by row.": sorted(left[:k]) + [-1] * (k - len(left)),
            "nothing is left out here.": nearest[:k],
        }
        slips = {text: value for text, value in slips.items() if value != right}
        found = function(list(nearest), set(own), k)
        if isinstance(found, list | tuple) and len(found) != k:
            for text, value in slips.items():
                if list(found) == value:
                    raise Wrong(f"{k} of {nearest} without {sorted(own)}: {text}")
        compare(f"{k} of {nearest} without {sorted(own) or 'any'}", found, right, slips)
    passed("a caption that retrieves its own picture is told the answer; now it is not.")
