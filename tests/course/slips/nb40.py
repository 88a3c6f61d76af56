"""Notebook 40: where a query's text begins, recall@K, search by cosine, a text's own pictures."""

import torch

from tests.course.slips import Exercise
from vlpnb.course.checks import nb40


def chunk_starts(ids, closing, longest, slip=""):
    if slip == "ahead":
        found = []
        while len(found) < len(ids):
            rest = ids[len(found) :]
            cut = [k for k, word in enumerate(rest) if word in closing and k < longest]
            size = len(rest) if len(rest) <= longest else (cut[0] + 1 if cut else longest)
            found += [len(found)] * size
        return found
    found, start, number = [], 0, 0
    most = {"endless": 10**6, "more": longest + 1, "less": longest - 1}.get(slip, longest)
    for t, word in enumerate(ids):
        closed = {"opens": word in closing, "deaf": False}.get(slip, t > 0 and ids[t - 1] in closing)
        if t > 0 and (closed or t - start >= most):
            start, number = t, number + 1
        found.append({"number": number, "behind": t - start}.get(slip, start))
    return found


def recall(found, exact, slip=""):
    hits = 0
    for f, e in zip(found.tolist(), exact.tolist(), strict=True):
        if slip == "place":
            hits += sum(a == b and a >= 0 for a, b in zip(f, e, strict=True))
        elif slip in ("gaps", "gaps too"):
            hits += sum(row in e for row in f)
        else:
            shared = len((set(f) & set(e)) - {-1})
            hits += min(shared, 1) if slip == "any" else shared
    if slip == "sum":
        return float(hits)
    below = {
        "K": exact.numel(),
        "gaps": exact.numel(),
        "any": len(exact),
        "precision": int((found >= 0).sum()),
    }
    return hits / below.get(slip, int((exact >= 0).sum()))


def search(queries, pictures, k, slip=""):
    unit_q, unit_p = (x / x.norm(dim=1, keepdim=True) for x in (queries, pictures))
    table = {
        "queries": unit_q @ pictures.T,
        "pictures": queries @ unit_p.T,
        "raw": queries @ pictures.T,
        "distance": -torch.cdist(queries, pictures),
        "farthest": -(unit_q @ unit_p.T),
        "sums": queries @ pictures.T / queries.sum(1)[:, None] / pictures.sum(1),
    }.get(slip, unit_q @ unit_p.T)
    best = table.topk(k)
    if slip == "distances":
        return best.indices, torch.cdist(unit_q, unit_p).gather(1, best.indices)
    return (best.values, best.indices) if slip == "swapped" else (best.indices, best.values)


def without_own(nearest, own, k, slip=""):
    left = [row for row in nearest if (row in own) == (slip == "own")]
    if slip == "late":
        return [row for row in nearest[:k] if row not in own]
    if slip == "holes":
        return [-1 if row in own else row for row in nearest[:k]]
    if slip == "late holes":
        kept = [row for row in nearest[:k] if row not in own]
        return kept + [-1] * (k - len(kept))
    if slip == "nothing":
        return nearest[:k]
    chosen = left if slip == "all" else left[:k]
    chosen = sorted(chosen) if slip == "sorted" else chosen
    return chosen if slip == "short" else chosen + [-1] * (k - len(chosen))


EXERCISES = (
    Exercise(
        nb40.check_chunk_starts,
        chunk_starts,
        {
            "ahead": "looks ahead",
            "opens": "opens the next",
            "deaf": "nothing but the length",
            "endless": "at most 5",
            "more": "not one more",
            "less": "not one less",
            "number": "not a chunk's number",
            "behind": "not how many tokens",
        },
        wrong=(
            (
                lambda ids, closing, longest: chunk_starts(ids, closing if len(ids) > 4 else (), longest),
                "the past alone",
            ),
        ),
    ),
    Exercise(
        nb40.check_recall,
        recall,
        {
            "gaps": "could not be filled",
            "gaps too": "counted as a hit",
            "K": "not by K",
            "place": "order among the K",
            "any": "share of queries",
            "precision": "precision",
            "sum": "divide by all",
        },
    ),
    Exercise(
        nb40.check_search,
        search,
        {
            "queries": "only the queries",
            "pictures": "only the pictures",
            "raw": "raw vectors favour",
            "distance": "smallest distance",
            "farthest": "farthest",
            "sums": "root of the sum",
            "distances": "these are distances",
            "swapped": "changed places",
        },
        wrong=((lambda q, p, k: (q @ p.T).argmax(1), "expected .rows, scores"),),
    ),
    Exercise(
        nb40.check_without_own,
        without_own,
        {
            "late": "first and take k then",
            "holes": "hole is left where",
            "late holes": "next best moves up",
            "own": "must .not. come back",
            "all": "take k",
            "short": "places that cannot be filled",
            "sorted": "sorted by row",
            "nothing": "nothing is left out",
        },
    ),
)
