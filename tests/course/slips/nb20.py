"""Notebook 20: the cross layer, the object loss, wrong pairs, hidden regions."""

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from tests.course.slips import Exercise
from vlpnb.course.checks import nb20
from vlpnb.nn.losses import IGNORE


def cross_layer(layer, text, visual, text_mask, visual_mask, slip=""):
    near = layer.cross(text, visual_mask if slip != "masks" else text_mask, visual)[0]
    source = near if slip == "updated" else layer.text(near, text_mask)[0] if slip == "last" else text
    second = layer.visual.look if slip == "second" else layer.cross
    seen = second(visual, text_mask, source)[0]
    if slip == "no block":
        return layer.text.think(near), layer.visual.think(seen)
    if slip == "one block":
        return layer.text(near, text_mask)[0], layer.text(seen, visual_mask)[0]
    if slip == "not across":
        return layer.text(text, text_mask)[0], layer.visual(seen, visual_mask)[0]
    if slip == "own mask":
        return layer.text(near, visual_mask)[0], layer.visual(seen, visual_mask)[0]
    return layer.text(near, text_mask)[0], layer.visual(seen, visual_mask)[0]


def object_loss(scores, ids, sure, hidden, slip=""):
    each = cross_entropy(scores.flatten(0, 1), ids.flatten(), ignore_index=IGNORE, reduction="none")
    weighed = each if slip == "unweighed" else each * sure.flatten()
    if slip in ("hidden", "hidden alone"):
        weighed = weighed * hidden.flatten()
    count = {"sure": sure.sum(), "labelled": (ids != IGNORE).sum(), "sum": 1, "batch": len(ids)}
    count["hidden alone"] = hidden.sum()
    factor = {"factor": 1.0, "inverse": 0.15}.get(slip, 1 / 0.15)
    return weighed.sum() / count.get(slip, ids.numel()) * factor


def mismatch(rows, pictures, answers, swap, random, slip=""):
    sentences = rows.copy()
    for i in np.flatnonzero(swap):
        if slip == "picture first":
            other = random.choice(np.setdiff1d(np.unique(pictures), pictures[rows[i]]))
            sentences[i] = random.choice(np.flatnonzero(pictures == other))
        elif slip == "next":
            sentences[i] = (rows[i] + 12) % len(pictures)
        elif slip != "own":
            sentences[i] = random.integers(len(pictures))
            while slip != "same picture" and pictures[sentences[i]] == pictures[rows[i]]:
                sentences[i] = random.integers(len(pictures))
    matched = swap if slip == "turned" else ~swap
    told = answers[sentences] if slip == "other answer" else answers[rows]
    return (
        sentences,
        matched.astype(int),
        told if slip in ("answer", "other answer") else np.where(swap, IGNORE, told),
    )


def next_picture(rows, pictures, answers, swap, random):
    """Always the first sentence of the picture after this one."""
    first = np.searchsorted(pictures, (pictures[rows] + 1) % 5)
    return np.where(swap, first, rows), (~swap).astype(int), np.where(swap, IGNORE, answers[rows])


def hide_regions(features, real, dice, others, slip=""):
    rate = 1.0 if slip == "shares" else 0.15
    real = torch.ones_like(real) if slip == "padding" else real
    hidden, zeroed = (dice < 0.15) & real, (dice < 0.8 * rate) & real
    replaced = (dice < (rate if slip == "none stays" else 0.9 * rate)) & real & ~zeroed
    target = features if slip == "in place" else features.clone()
    read = features if slip == "in place" else features.clone()
    read[hidden if slip == "all zero" else zeroed] = 0.0
    if slip != "all zero":
        read[replaced] = others[replaced]
    flags = zeroed | replaced if slip == "flags" else ~hidden if slip == "not" else hidden
    return read, flags, read if slip == "masked target" else target


EXERCISES = (
    Exercise(
        nb20.check_cross_layer,
        cross_layer,
        {
            "updated": "must read the text as it came into the layer",
            "last": "must read the text as it came into the layer.*Even after its block",
            "second": "both directions share",
            "masks": "mask is that of what is looked",
            "no block": "run all of its block",
            "one block": "each stream has its own",
            "not across": "first it looks at the other stream",
            "own mask": "`layer.text` takes its own",
        },
        wrong=((lambda layer, text, *_: text, r"expected 2 values \(text, visual\)"),),
    ),
    Exercise(
        nb20.check_object_loss,
        object_loss,
        {
            "hidden": "the released code counts all of them",
            "hidden alone": "divided by their number",
            "factor": "the factor 1/0.15 is missing",
            "inverse": "multiplied by 0.15",
            "sure": "divided by the sum of the confidences",
            "unweighed": "an unsure label weighs less",
            "labelled": "they count 0, but they count",
            "sum": "this is the sum",
            "batch": "divided by B alone",
        },
    ),
    Exercise(
        nb20.check_mismatch,
        mismatch,
        {
            "same picture": "are about the pair's own picture",
            "own": "still the pair's own",
            "answer": "keeps its answer",
            "other answer": "the answer to the other question",
            "turned": "1 means that the pair belongs together",
            "picture first": "Draw a sentence, not first a picture",
        },
        wrong=(
            (next_picture, "draw from all"),
            (lambda rows, *_: (rows[:3], rows, rows), r"expected shape \(2000,\)"),
            (lambda rows, *_: rows, "expected 3 values"),
        ),
    ),
    Exercise(
        nb20.check_hide_regions,
        hide_regions,
        {
            "all zero": "of ten hidden ones eight are",
            "shares": "shares of the 15 %",
            "padding": "padding is changed",
            "none stays": "here both get another's",
            "flags": "does not know which they are",
            "not": "regions that are \\*not\\* hidden",
            "masked target": "the target is the feature as it was",
            "in place": "do not change the features in place",
        },
    ),
)
