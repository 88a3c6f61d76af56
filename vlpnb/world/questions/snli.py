"""Premises and hypotheses about one picture, as in SNLI (Bowman et al. 2015)."""

import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from vlpnb.world.phrases import RELATION_PHRASES, SETTING_PHRASES, Mention, a, capital, count_noun, mention
from vlpnb.world.scene import KINDS, Scene

LABELS = ("entailment", "neutral", "contradiction")


@dataclass(frozen=True)
class Entailment:
    """A premise that describes a picture (partly), a hypothesis about that picture, and how they stand."""

    premise: str
    hypothesis: str
    label: str  # of LABELS
    image_id: str  # a picture that the premise is true of
    group: int  # shared by the three premises of one hypothesis


def premise(
    first: Mention, second: Mention | None, relation: str | None, setting: str | None, form: int
) -> str:
    """One sentence that says this much and no more; `form` picks the wording."""
    where = f" {SETTING_PHRASES[setting]}" if setting else ""
    one = a(first.phrase())
    if second is None:
        return (
            f"There is {one}{where}.",
            f"{capital(one)} can be seen{where}.",
            f"The picture shows {one}{where}.",
        )[form % 3]
    two = a(second.phrase())
    if relation is None:
        return (
            f"There is {one} and {a(second.phrase())}{where}.",
            f"{capital(one)} and {two} can be seen{where}.",
            f"The picture shows {one} and {two}{where}.",
        )[form % 3]
    rel = RELATION_PHRASES[relation]
    return (
        f"There is {one} {rel} {two}{where}.",
        f"{capital(one)} is {rel} {two}{where}.",
        f"The picture shows {one} {rel} {two}{where}.",
    )[form % 3]


def entailments(scenes: Sequence[Scene], seed: int, wanted: int) -> list[Entailment]:
    """About `wanted` pairs in units of three: a hypothesis with, for each label, a premise true of a picture.

    A hypothesis says the colour, pattern, size or setting of a thing, named by its kind or its category. The
    neutral premise leaves exactly that unsaid; the contradicting one says another value. A second thing, of
    another category, may carry the hypothesis's value, so that word overlap alone does not decide.
    """
    rng = random.Random(f"snli-{seed}-{scenes[0].split if scenes else ''}")
    # (attribute, kind) -> the scenes and things that show it
    pool: dict[tuple[str, str], list[tuple[Scene, int]]] = defaultdict(list)
    for scene in scenes:
        categories = Counter(KINDS[t.kind].category for t in scene.things)
        for i, thing in enumerate(scene.things):
            kind = KINDS[thing.kind]
            if categories[kind.category] > 1:
                continue  # "the animal" would be ambiguous
            pool["setting", thing.kind].append((scene, i))
            pool["size", thing.kind].append((scene, i))
            if kind.colour is None:
                pool["colour", thing.kind].append((scene, i))
            if thing.pattern != "plain":
                pool["pattern", thing.kind].append((scene, i))
    by_attribute: dict[str, list[str]] = defaultdict(list)
    for attribute, kind_name in sorted(pool):
        by_attribute[attribute].append(kind_name)

    def value_of(attribute: str, scene: Scene, i: int) -> str:
        return scene.setting if attribute == "setting" else getattr(scene.things[i], attribute)

    def describe(attribute: str, scene: Scene, i: int, tell: bool) -> str:
        free = [name for name in ("colour", "pattern", "size") if name != attribute and rng.random() < 0.4]
        said = [*free, attribute] if tell else free
        others = [j for j in range(len(scene.things)) if j != i]
        second = relation = None
        if others and rng.random() < 0.7:
            j = rng.choice(others)
            second = mention(
                scene.things[j], [n for n in ("colour", "pattern", "size") if rng.random() < 0.6]
            )
            relation = next((r for x, r, y in scene.relations() if (x, y) == (i, j)), None)
        tell_setting = (attribute == "setting" and tell) or (attribute != "setting" and rng.random() < 0.4)
        return premise(
            mention(scene.things[i], said),
            second,
            relation,
            scene.setting if tell_setting else None,
            rng.randrange(3),
        )

    found: list[Entailment] = []
    attributes = sorted(by_attribute)
    for _ in range(20 * wanted):
        if len(found) >= wanted or not attributes:
            break
        attribute = rng.choice(attributes)
        kind_name = rng.choice(by_attribute[attribute])
        places = pool[attribute, kind_name]
        shown, unsaid = rng.choice(places), rng.choice(places)
        value = value_of(attribute, *shown)
        against = [place for place in places if value_of(attribute, *place) != value]
        if not against:
            continue
        noun = rng.choice((kind_name, kind_name, count_noun(KINDS[kind_name].category)))
        hypothesis = f"The {noun} is {SETTING_PHRASES.get(value, value)}."
        group = len(found) // 3
        for label, place, tell in (
            ("entailment", shown, True),
            ("neutral", unsaid, False),
            ("contradiction", rng.choice(against), True),
        ):
            text = describe(attribute, *place, tell)
            found.append(Entailment(text, hypothesis, label, place[0].image_id, group))
    return found
