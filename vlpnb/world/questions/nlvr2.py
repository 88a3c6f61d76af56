"""Statements about two pictures, true of some pairs and false of as many, as in NLVR2 (Suhr et al. 2019)."""

import random
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from vlpnb.world.languages.sentence_plan import StatementPlan
from vlpnb.world.phrases import NOUN_PLURALS, SETTING_PHRASES, a, planned, plural
from vlpnb.world.questions.counted_scene import CountedScene
from vlpnb.world.scene import SETTINGS, Scene


@dataclass(frozen=True)
class Statement:
    """A sentence about a left and a right picture, and its truth; the pairs of one sentence share `group`."""

    text: str
    left: str  # image ids
    right: str
    truth: bool
    group: int
    pair: int  # number of the pair within its group
    subject: str  # the phrase it is about; NLVR2's "synset"
    plan: StatementPlan | None = None  # for its translations; None where only English can say it


@dataclass(frozen=True)
class StatementForm:
    """A sentence that can be said of two pictures, what it means, and the name of its kind (`STATEMENT_KINDS`)."""

    kind: str
    text: str
    holds: Callable[[CountedScene, CountedScene], bool]


STATEMENT_KINDS = (
    "both", "one", "neither", "some", "left", "right", "one each", "left and right", "count", "more", "setting left",
    "setting both", "setting and", "more things", "total",
)  # fmt: skip
"""From what one picture shows, over both, to counting across them; `statement_forms` gives them in this order."""


def statement_forms(p: str, q: str, n: int, setting: str) -> list[StatementForm]:
    """The sentences that can be said with phrases p and q, a number and a setting, one of each kind."""

    def has(view: CountedScene, phrase: str = p) -> bool:
        return view.counts[phrase] > 0

    def total(left: CountedScene, right: CountedScene) -> int:
        return left.counts[p] + right.counts[p]

    where = SETTING_PHRASES[setting]
    exactly = f"is exactly one {p}" if n == 1 else f"are exactly {n} {plural(p)}"
    said = [
        (f"Both pictures show {a(p)}.", lambda x, y: has(x) and has(y)),
        (f"Exactly one of the pictures shows {a(p)}.", lambda x, y: has(x) != has(y)),
        (f"Neither picture shows {a(p)}.", lambda x, y: not has(x) and not has(y)),
        (f"At least one of the pictures shows {a(p)}.", lambda x, y: has(x) or has(y)),
        (f"There is {a(p)} in the left picture.", lambda x, y: has(x)),
        (f"There is {a(p)} in the right picture.", lambda x, y: has(y)),
        (
            f"One picture shows {a(p)} and the other shows {a(q)}.",
            lambda x, y: (has(x) and has(y, q)) or (has(y) and has(x, q)),
        ),
        (
            f"The left picture shows {a(p)} and the right picture shows {a(q)}.",
            lambda x, y: has(x) and has(y, q),
        ),
        (f"There {exactly} in the two pictures.", lambda x, y: total(x, y) == n),
        (
            f"The left picture shows more {plural(p)} than the right one.",
            lambda x, y: x.counts[p] > y.counts[p],
        ),
        (
            f"Only the left picture was taken {where}.",
            lambda x, y: x.scene.setting == setting != y.scene.setting,
        ),
        (f"Both pictures were taken {where}.", lambda x, y: x.scene.setting == setting == y.scene.setting),
        (
            f"The right picture was taken {where} and shows {a(p)}.",
            lambda x, y: y.scene.setting == setting and has(y),
        ),
        (
            "There are more things in the left picture than in the right one.",
            lambda x, y: len(x.things) > len(y.things),
        ),
        (
            f"The two pictures show {2 + n} things in all.",
            lambda x, y: len(x.things) + len(y.things) == 2 + n,
        ),
    ]
    return [StatementForm(kind, *form) for kind, form in zip(STATEMENT_KINDS, said, strict=True)]


def statements(
    scenes: Sequence[Scene],
    seed: int,
    wanted: int,
    pairs: int = 2,
    kinds: Collection[str] = (),
    about: Collection[str] = (),
) -> list[Statement]:
    """About `wanted` statements: each sentence with `pairs` true and `pairs` false pairs of pictures.

    `kinds` (of `STATEMENT_KINDS`) and `about` (two phrases at least, such as "fox") leave easier or fewer sentences;
    empty: all.
    """
    rng = random.Random(f"nlvr2-{seed}-{scenes[0].split if scenes else ''}")
    views = [CountedScene(scene) for scene in scenes]
    showing: dict[str, list[CountedScene]] = defaultdict(list)
    for view in views:
        for phrase in sorted(view.counts):
            showing[phrase].append(view)
    phrases = sorted(p for p, found in showing.items() if 2 <= len(found) <= len(views) - 2 and p != "thing")
    phrases = [p for p in phrases if not about or p in about]
    nouns = [p for p in phrases if p in NOUN_PLURALS] or phrases
    found: list[Statement] = []
    said: set[str] = set()
    for _ in range(20 * wanted):  # most attempts succeed; a tiny world runs out of sentences
        if len(found) >= wanted or not phrases:
            break
        p, q = (rng.choice(rng.choice((phrases, nouns))) for _ in range(2))
        n, setting = rng.choice((1, 1, 2, 2, 3)), rng.choice(SETTINGS)
        forms = statement_forms(p, q, n, setting)
        form = rng.choice([form for form in forms if not kinds or form.kind in kinds])
        text, holds = form.text, form.holds
        if text in said or p == q:
            continue
        said.add(text)
        by_truth: dict[bool, list[tuple[CountedScene, CountedScene]]] = {True: [], False: []}
        used: set[tuple[str, str]] = set()
        for _ in range(40 * pairs):
            pools = [rng.choice((showing[p], showing[p], showing[q], views)) for _ in "lr"]
            left, right = rng.choice(pools[0]), rng.choice(pools[1])
            ids = (left.scene.image_id, right.scene.image_id)
            side = by_truth[holds(left, right)]
            if len(side) < pairs and ids[0] != ids[1] and ids not in used:
                used.add(ids)
                side.append((left, right))
            if len(by_truth[True]) == len(by_truth[False]) == pairs:
                break
        else:
            continue
        plan = _plan(form.kind, p, q, n, setting)
        rows = [(truth, pair) for truth, side in by_truth.items() for pair in side]
        rng.shuffle(rows)
        group = len(found) // (2 * pairs)
        for number, (truth, (left, right)) in enumerate(rows):
            found.append(
                Statement(text, left.scene.image_id, right.scene.image_id, truth, group, number, p, plan)
            )
    return found


def _plan(kind: str, p: str, q: str, n: int, setting: str) -> StatementPlan | None:
    """The plan of a sentence of `statement_forms`: what its kind says of two phrases, a number and a setting."""
    described = () if kind in _WITHOUT_PHRASE else (p, q) if kind in ("one each", "left and right") else (p,)
    phrases = planned(*described)
    if len(phrases) != len(described):
        return None
    number = {"count": n, "total": 2 + n}.get(kind, 0)
    return StatementPlan(kind, phrases, number, setting if kind.startswith("setting") else None)


_WITHOUT_PHRASE = ("setting left", "setting both", "more things", "total")
