"""Notebook 41: the joint softmax, hidden pictures, the absorbed form, the merge, the cache."""

import math

import torch

from tests.course.slips import Exercise
from vlpnb.course.checks import nb41


def fusion(q, k, v, image_k, image_v, slip=""):
    T, _, d = image_k.shape
    if slip == "swapped":
        image_k, image_v = image_v, image_k
    scale = {"bare": 1.0, "d": 1 / d}.get(slip, d**-0.5)
    late = {"strict": 0, "future": T}.get(slip, 1)
    words = (q @ k.T * scale).masked_fill(torch.ones(T, T, dtype=torch.bool).triu(late), -math.inf)
    pictures = torch.einsum("td,skd->tsk", q, image_k) * scale  # (T, T, K)
    seen = {"all": torch.ones(T, T), "past": torch.ones(T, T).tril()}.get(slip, torch.eye(T))
    pictures = pictures.masked_fill(seen[:, :, None] == 0, -math.inf).flatten(1)
    if slip in ("two", "mean"):
        out = words.softmax(-1) @ v + pictures.softmax(-1) @ image_v.flatten(0, 1)
        return out / 2 if slip == "mean" else out
    if slip == "words":
        return words.softmax(-1) @ v
    if slip == "pictures":
        return pictures.softmax(-1) @ image_v.flatten(0, 1)
    weights = torch.cat([words, pictures], 1).softmax(-1)
    return weights[:, :T] @ v + weights[:, T:] @ image_v.flatten(0, 1)


def hiding(text, image, hidden, slip=""):
    if slip == "shown":
        hidden = torch.zeros_like(hidden)
    if slip == "turned":
        hidden = ~hidden
    if slip == "all":
        hidden = hidden.any(1, keepdim=True).expand_as(hidden)
    if slip == "after":
        weights = torch.cat([text, image], 1).softmax(-1)
        weights[:, text.shape[1] :][hidden] = 0
        return weights
    image = image * ~hidden if slip == "zero" else image.masked_fill(hidden, -math.inf)
    if slip in ("two", "nan"):
        pictures = image.softmax(-1)
        return torch.cat([text.softmax(-1), pictures.nan_to_num() if slip == "two" else pictures], 1)
    return torch.cat([text, image], 1).softmax(-1)


def absorbed(q, g, W, b, slip=""):
    if slip == "projected":
        return torch.einsum("td,tkd->tk", q, g @ W + b)
    carried = q @ W.T  # (T, E)
    if slip == "first":
        return carried @ g[0].T + (q @ b)[:, None]
    scores = torch.einsum("te,tke->tk", carried, g)
    bias = q @ b
    added = {"none": 0.0, "b": b.sum(), "mean": bias.mean(), "K": g.shape[1] * bias[:, None]}
    return scores + added.get(slip, bias[:, None])


def merge(text, text_lse, image, image_lse, slip=""):
    if slip == "exp":
        a, b = text_lse.exp(), image_lse.exp()
        return (a[:, None] * text + b[:, None] * image) / (a + b)[:, None]
    if slip == "hidden":
        image_lse = torch.where(image_lse.isinf(), math.nan, image_lse)
    weight = {
        "half": torch.full_like(text_lse, 0.5),
        "swapped": (image_lse - text_lse).sigmoid(),
        "ratio": text_lse / (text_lse + image_lse),
        "largest": (text_lse > image_lse).float(),
    }.get(slip, (text_lse - image_lse).sigmoid())[:, None]
    if slip == "added":
        return text + image
    return weight * text + (1 if slip == "one" else 1 - weight) * image


class First:
    """Keeps the pictures of the first step, as a cache would that holds all keys."""

    pictures = None


def cached_step(q, k, v, image_k, image_v, cache, slip=""):
    keys, values = cache if cache else (k[None][:0], v[None][:0])
    if slip == "forgotten":
        keys, values = keys[:0], values[:0]
    if slip == "first":
        First.pictures = (image_k, image_v) if cache is None else First.pictures
        image_k, image_v = First.pictures
    new_keys, new_values = torch.cat([keys, k[None]]), torch.cat([values, v[None]])
    if slip == "itself":
        seen_k, seen_v = torch.cat([keys, image_k]), torch.cat([values, image_v])
    elif slip == "words":
        seen_k, seen_v = new_keys, new_values
    else:
        seen_k, seen_v = torch.cat([new_keys, image_k]), torch.cat([new_values, image_v])
    weights = (seen_k @ q * (1 if slip == "bare" else len(q) ** -0.5)).softmax(0)
    out = weights @ seen_v
    if slip == "old":
        return out, (seen_k, seen_v)
    if slip == "grows":
        padding = torch.full_like(k, 0)[None]
        return fixed(q, new_keys, new_values, image_k, image_v), (
            torch.cat([new_keys, padding]),
            torch.cat([new_values, padding]),
        )
    return (out[None] if slip == "row" else out), (new_keys, new_values)


def fixed(q, keys, values, image_k, image_v):
    """Attention that skips keys of zeros."""
    real = keys.abs().sum(1) > 0
    k, v = torch.cat([keys[real], image_k]), torch.cat([values[real], image_v])
    return (k @ q * len(q) ** -0.5).softmax(0) @ v


EXERCISES = (
    Exercise(
        nb41.check_fusion,
        fusion,
        {
            "two": "take .one.",
            "mean": "mean of two",
            "all": "of .all. positions",
            "past": "of earlier positions",
            "future": "later words",
            "strict": "not j < t",
            "bare": "scale is missing",
            "d": "not 1/d",
            "words": "pictures are left out",
            "pictures": "words are left out",
            "swapped": "keys and values",
        },
    ),
    Exercise(
        nb41.check_hiding,
        hiding,
        {
            "zero": "score like any other",
            "after": "no longer adds up",
            "turned": "True where",
            "shown": "nothing is hidden",
            "two": "softmax of its own",
            "nan": "not numbers",
            "all": "all are here",
        },
    ),
    Exercise(
        nb41.check_absorbed,
        absorbed,
        {
            "none": "bias is missing",
            "b": "b alone",
            "mean": "mean over q",
            "K": "added K times",
            "first": "first position are taken",
            "projected": "every picture was projected",
        },
    ),
    Exercise(
        nb41.check_merge,
        merge,
        {
            "half": "count the same",
            "swapped": "changed places",
            "one": "left of 1",
            "added": "only added up",
            "ratio": "are logarithms",
            "largest": "maximum of the two",
            "exp": "Take the difference first",
            "hidden": "all pictures are hidden",
        },
    ),
    Exercise(
        nb41.check_cached_step,
        cached_step,
        {
            "old": "keeps old pictures",
            "itself": "own word is missing",
            "forgotten": "nothing is remembered",
            "first": "stay for good",
            "words": "pictures are left out",
            "bare": "scale is missing",
            "row": "expected shape",
            "grows": "one a word",
        },
        wrong=((lambda q, *rest: q, "expected .output, cache"),),
    ),
)
