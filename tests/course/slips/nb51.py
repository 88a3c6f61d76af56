"""Notebook 51: recall with several captions, cached fusion, averages over languages, re-ranking."""

import math

import torch

from tests.course.slips import Exercise
from vlpnb.course.checks import nb51


def recall(scores, captions_of, k, slip=""):
    if slip == "turned":
        owner = sorted((c, i) for i, own in enumerate(captions_of) for c in own)
        hits = [i in scores[:, c].topk(k).indices.tolist() for c, i in owner]
        return sum(hits) / len(hits)
    shares = []
    for row, own in zip(scores, captions_of, strict=True):
        best = row.topk(min(k + (slip == "late"), len(row)), largest=slip != "lowest").indices.tolist()
        hits = [caption in best for caption in own]
        shares.append(
            {"first": hits[0], "mean": sum(hits) / len(hits), "all": all(hits)}.get(slip, any(hits))
        )
    return sum(shares) / (1 if slip == "counts" else len(shares))


def cached_fusion(layers, captions, picture, visible, slip=""):
    x = captions
    for number, layer in enumerate(layers):
        kept = layers[0] if slip == "one cache" else layer
        memory = picture.expand(len(captions), *picture.shape) if slip == "each" else picture
        keys = memory @ kept["key"]
        values = keys if slip == "keys" else memory @ kept["value"]
        query = (captions if slip == "queries" and number else x) @ layer["query"]
        scores = query @ keys.transpose(-1, -2) / (1 if slip == "scale" else math.sqrt(x.shape[-1]))
        if slip != "mask":
            scores = scores.masked_fill(~visible, -math.inf)
        mixed = scores.softmax(-1) @ values
        x = mixed if slip == "alone" else x + mixed
    return x


def average(scores, direction, slip=""):
    other = {"ir": "tr", "tr": "ir"}[direction]
    if slip == "english":
        return scores["en"][direction]
    kept = [row for lang, row in scores.items() if lang != "en" or slip in ("included", "micro all")]
    if slip in ("micro", "micro all"):
        return sum(r[direction] * r["queries"] for r in kept) / sum(r["queries"] for r in kept)
    if slip == "both":
        return sum(r["ir"] + r["tr"] for r in kept) / len(kept) / 2
    total = sum(r[other if slip == "other" else direction] for r in kept)
    return total / {"divided": len(scores), "sum": 1}.get(slip, len(kept))


def reranking(similar, match, k, slip=""):
    rows, columns = similar.shape

    def best(table):
        return [set(row.topk(min(k, len(row))).indices.tolist()) for row in table]

    captions, pictures = best(similar), best(similar.T)
    first = {(i, c) for i in range(rows) for c in captions[i]}
    second = {(i, c) for c in range(columns) for i in pictures[c]}
    if slip == "one list":
        second = first
    if slip == "union":
        first = second = first | second
    if slip == "all":
        first = second = {(i, c) for i in range(rows) for c in range(columns)}
    known = {pair: match(*pair) for pair in first | second}
    if slip == "twice":
        known = {pair: match(*pair) for pair in second} | {pair: match(*pair) for pair in first}
    tables = []
    for chosen in (first, second):
        fill = 0.0 if slip == "zero" else -100.0
        table = similar.clone() if slip == "similar" else torch.full((rows, columns), fill)
        for i, c in chosen:
            table[i, c] = known[i, c]
        tables.append(table)
    if slip == "exchanged":
        tables.reverse()
    if slip == "transposed":
        tables[1] = tables[1].T
    return tables[0] if slip == "one" else tuple(tables)


EXERCISES = (
    Exercise(
        nb51.check_recall,
        recall,
        {
            "first": "only the first caption",
            "mean": "mean over captions",
            "all": ".all. captions",
            "late": "counted as a hit",
            "turned": "other direction",
            "lowest": "lowest scores",
            "counts": "divide by the number",
        },
    ),
    Exercise(
        nb51.check_cached_fusion,
        cached_fusion,
        {
            "queries": "first layer's queries",
            "mask": "mask belongs",
            "one cache": "used in all layers",
            "keys": "in place of values",
            "alone": ".adds. what it reads",
            "scale": "scale is missing",
            "each": "projected 3 times",
        },
    ),
    Exercise(
        nb51.check_average,
        average,
        {
            "included": "it was trained on",
            "micro": "Every .language. counts",
            "micro all": "and English is included",
            "other": "other direction",
            "both": "both directions",
            "divided": "English is none of them",
            "sum": "this is the sum",
            "english": "English alone",
        },
    ),
    Exercise(
        nb51.check_reranking,
        reranking,
        {
            "one list": "one list of candidates",
            "union": "union of both",
            "exchanged": "changed places",
            "similar": "keeps its similarity",
            "all": "all pairs are scored",
            "zero": "is 0 here",
            "twice": "is scored once",
            "transposed": "turn the second one back",
            "one": "expected two tables",
        },
    ),
)
