"""Notebook 50: identity targets, hard negatives, patches of a box, masked places."""

import math

import torch

from tests.course.slips import Exercise
from vlpnb.course.checks import nb50


def identity_targets(pictures, texts, picture_ids, text_ids, tau, slip=""):
    if slip == "pictures":
        text_ids = picture_ids
    if slip == "texts":
        picture_ids = text_ids
    same = (picture_ids[:, None] == text_ids).float()
    if slip == "diagonal":
        same = torch.eye(len(pictures))
    scores = pictures @ texts.T * {"bare": 1.0, "times": tau}.get(slip, 1 / tau)

    def direction(scores, same):
        targets = same if slip == "mass" else same / same.sum(1, keepdim=True)
        return -(targets * scores.log_softmax(1)).sum(1)

    rows, columns = direction(scores, same), direction(scores.T, same.T)
    if slip == "each":
        return (rows + columns) / 2
    one = {"rows": rows.mean(), "columns": columns.mean(), "sum": rows.mean() + columns.mean()}
    return one.get(slip, (rows.mean() + columns.mean()) / 2)


def hard_negatives(pictures, texts, ids, tau, generator, slip=""):
    table = pictures @ texts.T / (1.0 if slip == "bare" else tau)
    same = ids[:, None] == ids
    if slip == "own":
        same = torch.zeros_like(same)
    if slip == "diagonal":
        same = torch.eye(len(ids), dtype=torch.bool)

    def draw(scores):
        late = slip == "late"
        weights = scores.softmax(1)
        weights = weights.masked_fill(same, 0) + 1e-5 if late else (weights + 1e-5).masked_fill(same, 0)
        if slip == "flat":
            weights = (weights > 0).float()
        if slip == "hardest":
            return weights.argmax(1)
        if slip == "squared":
            weights = weights.square()
        return torch.multinomial(weights, 2 if slip == "two" else 1, generator=generator).squeeze(1)

    found = draw(table.T), draw(table)
    return found[::-1] if slip == "exchanged" else found[0] if slip == "one" else found


def box_patches(box, size, patch, slip=""):
    n = size // patch
    x, y, w, h = (box[1], box[0], box[3], box[2]) if slip == "exchanged" else box

    def cells(start, length):
        first = min(int(start // patch), n - 1)
        end = (length if slip == "corner" else start + length) / patch
        last = {"inclusive": math.floor(end) + 1, "floor": math.floor(end)}.get(slip, math.ceil(end))
        return range(first, min(last if slip == "thin" else max(last, first + 1), n))

    columns, rows = cells(x, w), cells(y, h)
    seen = [[row in rows and column in columns for column in range(n)] for row in range(n)]
    if slip == "turned":
        seen = [list(column) for column in zip(*seen, strict=True)]
    flat = [cell for line in seen for cell in line]
    return flat if slip == "front" else [slip != "hidden", *flat]


def masked_places(length, most, dice, slip=""):
    counted = length - 2 if slip == "words" else length
    n = round(0.4 * counted)
    n = max(1, n) if slip == "many" else min(most, max(1, n))
    starts = list(range(0 if slip == "start" else 1, length - 1 if slip == "end" else length))
    dice.shuffle(starts)
    places = []
    for start in starts:
        if len(places) >= n:
            break
        span = {"single": 0.0, "always": 1.0}.get(slip, 0.2)
        size = dice.choice((2, 3)) if dice.random() < span else 1
        end = start + size if slip == "past" else min(start + size, length)
        end = min(end, length - 1) if slip == "end" else end
        places += [place for place in range(start, end) if slip == "twice" or place not in places]
    return places if slip in ("more", "twice") else dice.sample(places, min(n, len(places)))


EXERCISES = (
    Exercise(
        nb50.check_identity_targets,
        identity_targets,
        {
            "diagonal": "only the diagonal",
            "mass": "one half each",
            "rows": "pictures for texts",
            "columns": "texts for pictures",
            "sum": "half of the sum",
            "pictures": "a column is a .text",
            "texts": "a row is a .picture",
            "bare": "temperature is missing",
            "times": "multiplied by",
            "each": "one number is wanted",
        },
    ),
    Exercise(
        nb50.check_hard_negatives,
        hard_negatives,
        {
            "own": "of the very pair is drawn; its weight",
            "diagonal": "Not only the diagonal",
            "exchanged": "have changed places",
            "hardest": "always the same ones",
            "late": "after the zeroing",
            "flat": "drawn alike",
            "bare": "temperature is missing",
            "squared": "shares over",
            "two": "on both sides is wanted",
            "one": "expected .pictures, texts",
        },
    ),
    Exercise(
        nb50.check_patches_of_a_box,
        box_patches,
        {
            "exchanged": "x counts columns",
            "corner": "not the other corner",
            "inclusive": "does not reach the next",
            "floor": "round the end up",
            "thin": "still has one cell",
            "hidden": "always visible",
            "front": "in front of the patches",
            "turned": "row by row",
        },
    ),
    Exercise(
        nb50.check_masked_places,
        masked_places,
        {
            "words": "counted over .all. tokens",
            "many": "at most 12",
            "start": "<s> is hidden",
            "end": "is never hidden",
            "past": "past the end",
            "more": "keep a random",
            "twice": "named twice",
            "single": "only by chance",
            "always": "nearly all",
        },
    ),
)
