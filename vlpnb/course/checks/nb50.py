"""Checks of notebook 50, cross-view pre-training: identity targets, hard negatives, patches of a box, masked places."""

import math
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vlpnb.course.checks import Wrong, compare, passed

CLOSE = 0.11  # shares of 300 draws differ from their weights by less
Unit = Float[Tensor, "B E"]
Ids = Int[Tensor, " B"]


def _units(count: int, width: int, seed: int) -> Tensor:
    made = torch.randn(count, width, generator=torch.Generator().manual_seed(seed))
    return made / made.norm(dim=1, keepdim=True)


def check_identity_targets(function: Callable[[Unit, Unit, Ids, Ids, float], float]) -> None:
    """Exercise 50.1: `function(pictures, texts, picture_ids, text_ids, tau)` is the loss with identities."""
    cases = (
        ("two captions of picture 1", [3, 1, 2, 1, 5], [1, 3, 1, 5, 2]),
        ("all different, in another order", [4, 1, 2, 3], [2, 4, 3, 1]),
    )
    for what, picture_ids, text_ids in cases:
        ids_v, ids_t = torch.tensor(picture_ids), torch.tensor(text_ids)
        v, u, tau = _units(len(ids_v), 6, 50), _units(len(ids_t), 6, 51), 0.2

        def loss(
            same: Tensor,
            temperature: float,
            share: bool = True,
            sides: str = "both",
            products: Tensor = v @ u.T,
        ) -> float:
            table = products / temperature
            halves = []
            for scores, mass in ((table, same), (table.T, same.T)):
                targets = mass / mass.sum(1, keepdim=True).clamp(min=1e-9) if share else mass
                halves.append(-(targets * scores.log_softmax(1)).sum(1).mean())
            one = {"rows": halves[0], "columns": halves[1], "sum": halves[0] + halves[1]}
            return float(one.get(sides, (halves[0] + halves[1]) / 2))

        same = (ids_v[:, None] == ids_t[None]).float()
        right = loss(same, tau)
        slips = {
            "only the diagonal counts here. Which text belongs to which picture is said by the identities.": loss(
                torch.eye(len(ids_v)), tau
            ),
            "targets of a row must add up to 1: two captions of one picture get one half each.": loss(
                same, tau, share=False
            ),
            "this asks one direction alone: pictures for texts. Ask texts for pictures, too, and take the mean.": loss(
                same, tau, sides="rows"
            ),
            "this asks one direction alone: texts for pictures. Ask pictures for texts, too, and take the mean.": loss(
                same, tau, sides="columns"
            ),
            "both directions are added; take half of the sum.": loss(same, tau, sides="sum"),
            "identities of pictures are compared with those of pictures: a column is a *text*.": loss(
                (ids_v[:, None] == ids_v[None]).float(), tau
            ),
            "identities of texts are compared with those of texts: a row is a *picture*.": loss(
                (ids_t[:, None] == ids_t[None]).float(), tau
            ),
            "the temperature is missing: scores are inner products over τ.": loss(same, 1.0),
            "scores are multiplied by τ; divide.": loss(same, 1 / tau),
        }
        slips = {text: value for text, value in slips.items() if abs(value - right) > 1e-4}
        found = function(v.clone(), u.clone(), ids_v, ids_t, tau)
        if isinstance(found, Tensor) and found.numel() == len(ids_v):
            raise Wrong(f"the loss, {what}: one number is wanted, the mean over rows.")
        compare(f"the loss, {what}", found, right, slips)
    passed("a second caption of the same picture is no longer a wrong answer.")


def _weights(v: Tensor, u: Tensor, ids: Tensor, tau: float) -> tuple[Tensor, Tensor]:
    """Weights of pictures for each text, and of texts for each picture."""
    same = ids[:, None] == ids[None]
    table = v @ u.T / tau
    return tuple((scores.softmax(1) + 1e-5).masked_fill(same, 0) for scores in (table.T, table))


def _shares(draws: Tensor, count: int) -> Tensor:
    """How often each column was drawn, for every row: (B, B)."""
    return torch.stack([torch.bincount(row, minlength=count) for row in draws.T]) / len(draws)


def check_hard_negatives(
    function: Callable[[Unit, Unit, Ids, float, torch.Generator], tuple[Ids, Ids]],
) -> None:
    """Exercise 50.2: `function(pictures, texts, ids, tau, generator)` draws pictures for texts, texts for pictures."""
    ids, tau, times = torch.tensor([1, 2, 2, 3, 4]), 0.4, 300
    B = len(ids)
    v, u = _units(B, 4, 52), _units(B, 4, 53)
    generator = torch.Generator().manual_seed(5)
    first = function(v.clone(), u.clone(), ids.clone(), tau, generator)
    if first is None or first is ...:
        compare("the draw", first, 0)
    if not isinstance(first, tuple | list) or len(first) != 2:
        raise Wrong(f"the draw: expected (pictures, texts), found {type(first).__name__}.")
    if any(torch.as_tensor(side).shape != (B,) for side in first):
        found = [tuple(torch.as_tensor(side).shape) for side in first]
        raise Wrong(f"the draw: one row number for each of {B} pairs on both sides is wanted, found {found}.")
    draws = [function(v, u, ids, tau, generator) for _ in range(times)]
    shares = [_shares(torch.stack([torch.as_tensor(d[s]) for d in draws]), B) for s in range(2)]
    others = ("a picture", "a text")
    for share, other in zip(shares, others, strict=True):
        if bool((share.diagonal() > 0.01).any()):
            raise Wrong(f"the draw: {other} of the very pair is drawn; its weight must be 0.")
        if float(share[1, 2] + share[2, 1]) > 0.01:
            raise Wrong(
                f"the draw: {other} with the same identity is drawn (pairs 1 and 2 belong together). Not only the "
                "diagonal must be 0."
            )
        if bool((share.amax(1) == 1).all()):
            raise Wrong(
                "the draw: always the same ones. The hardest is often a right one that nobody wrote down; draw."
            )
    pictures, texts = (w / w.sum(1, keepdim=True) for w in _weights(v, u, ids, tau))
    flat = (pictures > 0).float()
    flat = flat / flat.sum(1, keepdim=True)

    def far(wanted: tuple[Tensor, Tensor]) -> float:
        return max(
            float((share - want).abs().sum(1).max() / 2) for share, want in zip(shares, wanted, strict=True)
        )

    slips = {
        "the two directions have changed places: a *picture* is drawn for each text, from the text's own row.": (
            texts,
            pictures,
        ),
        "all others are drawn alike; those that look right should come more often.": (flat, flat),
        "the temperature is missing: weights are a softmax of scores over τ.": tuple(
            w / w.sum(1, keepdim=True) for w in _weights(v, u, ids, 1.0)
        ),
    }
    if far((pictures, texts)) > CLOSE:
        for text, wanted in slips.items():
            if far(wanted) < CLOSE:
                raise Wrong(f"the draw: {text}")
        raise Wrong(
            f"the draw: shares over {times} draws differ from the weights' by up to {far((pictures, texts)):.2f}."
        )
    sure = torch.eye(4)  # every pair is certain of itself: all other weights are about 1e-5
    many = [function(sure, sure, torch.arange(4), 0.01, generator) for _ in range(30)]
    if any(bool((torch.as_tensor(side) == torch.arange(4)).any()) for draw in many for side in draw):
        raise Wrong(
            "the draw: where a model is certain, the very pair is drawn: 1e-5 is added after the zeroing. Add it to "
            "the softmax first."
        )
    passed("wrong pairs that look right, and no right one among them.")


Box = tuple[float, float, float, float]


def check_patches_of_a_box(function: Callable[[Box, int, int], Sequence[bool]]) -> None:
    """Exercise 50.3: `function(box, size, patch)` says for the mean and every patch whether the box may see it."""
    size, patch = 224, 32
    n = size // patch
    boxes = (
        (0, 0, 33, 1),
        (64, 96, 96, 64),
        (10, 40, 60, 90),
        (100, 30, 1, 150),
        (64, 30, 0, 150),
        (224, 224, 0, 0),
        (0, 0, 224, 224),
        (200, 5, 60, 30),
    )

    def cells(start: float, length: float, slip: str = "") -> range:
        first = min(math.floor(start / patch), n - 1)
        end = start + length if slip != "corner" else length
        last = math.ceil(end / patch)
        if slip == "inclusive":
            last = math.floor(end / patch) + 1
        if slip == "floor":
            last = math.floor(end / patch)
        return range(first, min(max(last, first + (slip != "thin")), n))

    def mask(box: Box, slip: str = "") -> list[bool]:
        x, y, w, h = box if slip != "exchanged" else (box[1], box[0], box[3], box[2])
        columns, rows = cells(x, w, slip), cells(y, h, slip)
        seen = [r in rows and c in columns for r in range(n) for c in range(n)]
        return [slip != "hidden", *seen]

    for box in boxes:
        right = mask(box)
        slips = {
            "x counts columns, y counts rows, and patches go row by row: the two have changed places.": mask(
                box, "exchanged"
            ),
            "the last two numbers are width and height, not the other corner.": mask(box, "corner"),
            "the last cell ends where the box ends: a box that ends on an edge does not reach the next cell.": mask(
                box, "inclusive"
            ),
            "a cell that the box covers in part belongs to it: round the end up.": mask(box, "floor"),
            "a box that is thinner than anything still has one cell.": mask(box, "thin"),
            "the mean, in front, is always visible.": mask(box, "hidden"),
            "the mean stands in front of the patches.": right[1:],
        }
        slips = {text: value for text, value in slips.items() if value != right}
        found = function(box, size, patch)
        if (
            isinstance(found, Sequence)
            and len(found) != len(right)
            and list(map(bool, found)) == slips.get("the mean stands in front of the patches.")
        ):
            raise Wrong(f"the patches of {box}: the mean stands in front of the patches.")
        compare(f"the patches of {box}", found, right, slips)
    passed("a region is a mask, and the picture is looked at once for all of its regions.")


def check_masked_places(function: Callable[[int, int, random.Random], Sequence[int]]) -> None:
    """Exercise 50.4: `function(length, most, dice)` are the places to hide among `<s> w … w </s>`."""
    dice = random.Random(50)
    found = function(12, 12, dice)
    if found is None or found is ...:
        compare("the places", found, 0)
    for length, most in ((12, 12), (40, 12), (4, 12), (3, 12), (7, 20)):
        n = min(most, max(1, round(0.4 * length)))
        what = f"{length} tokens, at most {most}"
        counts: Counter[int] = Counter()
        runs: Counter[int] = Counter()
        for _ in range(400):
            places = list(function(length, most, dice))
            if len(set(places)) < len(places):
                raise Wrong(f"{what}: a place is named twice in {places}.")
            if 0 in places:
                raise Wrong(f"{what}: <s> is hidden. Its state is what stands for the whole text; leave it.")
            if any(place >= length or place < 0 for place in places):
                raise Wrong(f"{what}: {max(places)} is past the end; a span stops at the last token.")
            runs[len(places)] += 1
            counts.update(places)
        _explain_counts(what, runs, n, length, most)
        if length - 1 not in counts:
            raise Wrong(f"{what}: </s> is never hidden; it may be.")
        if length == 12:
            _explain_spans(function, dice, what)
    passed("two of five words, and now and then two or three in a row.")


def _explain_counts(what: str, runs: Mapping[int, int], n: int, length: int, most: int) -> None:
    """Raise what a wrong number of places comes from."""
    if set(runs) == {n}:
        return
    if max(runs) > n and min(runs) <= n:
        raise Wrong(f"{what}: a last span brings more than {n} places; keep a random {n} of them.")
    if max(runs) > most:
        raise Wrong(f"{what}: {max(runs)} places are hidden; at most {most} are.")
    if set(runs) == {min(most, max(1, round(0.4 * (length - 2))))}:
        raise Wrong(
            f"{what}: {max(runs)} places, expected {n}: 40 % is counted over *all* tokens, <s> and </s> too."
        )
    raise Wrong(f"{what}: {sorted(runs)} places, expected {n}.")


def _explain_spans(
    function: Callable[[int, int, random.Random], Sequence[int]], dice: random.Random, what: str
) -> None:
    """Raise where spans are missing, or always there: neighbours are hidden together more often than by chance."""
    together = [
        sum(b - a == 1 for a, b in pairwise(s)) for s in (sorted(function(40, 4, dice)) for _ in range(800))
    ]
    share = sum(together) / len(together)  # of 3 gaps between four places
    if share < 0.42:  # single places alone: about 0.31; with spans: about 0.75
        raise Wrong(
            f"{what}: neighbours are hidden together only by chance; one place in five starts a span of 2 or 3."
        )
    if share > 1.3:
        raise Wrong(f"{what}: nearly all places belong to spans; only one in five starts one.")
