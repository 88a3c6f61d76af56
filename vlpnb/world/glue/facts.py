"""What the sentences of the suite mention: things, their places, and facts that differ in one element."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

from vlpnb.world.languages import english
from vlpnb.world.phrases import OPPOSITE, RELATIONS, SETTING_PHRASES, VISIBLE_PATTERNS, Mention, a, capital
from vlpnb.world.scene import FREE_KINDS, KINDS, SETTINGS, SIZES, free_colours

SEEN = ("saw", "found", "noticed", "passed")  # verbs of sentences about what somebody saw


def random_mention(rng: random.Random, kind: str | None = None, said: float = 0.5) -> Mention:
    """A thing with some attributes said; a canonical kind gets neither colour nor pattern."""
    kind = kind or rng.choice(tuple(KINDS))
    size = rng.choice(SIZES) if rng.random() < said / 2 else None
    if KINDS[kind].colour is not None:
        return Mention(kind, size=size)
    colour = rng.choice(free_colours(kind)) if rng.random() < said else None
    pattern = rng.choice(VISIBLE_PATTERNS) if rng.random() < said else None
    return Mention(kind, colour, pattern, size)


def two_things(rng: random.Random, said: float = 0.5) -> tuple[Mention, Mention]:
    """Two things of different categories."""
    first = random_mention(rng, said=said)
    others = [k for k in KINDS if KINDS[k].category != KINDS[first.noun].category]
    return first, random_mention(rng, rng.choice(others), said)


def free_kind(rng: random.Random, not_category: str = "") -> str:
    """A kind without a canonical colour, of another category than `not_category`."""
    return rng.choice([k for k in FREE_KINDS if KINDS[k].category != not_category])


@dataclass(frozen=True)
class Fact:
    """What a sentence of MRPC or STS-B says: a thing, where another thing is from it, and the setting."""

    one: Mention
    relation: str
    two: Mention
    setting: str

    def atoms(self) -> dict[tuple[str, ...], float]:
        """Its elements of meaning with their weights, equal for equal meanings."""
        found = {("setting", self.setting): 1.0}
        for m in (self.one, self.two):
            found |= {("category", KINDS[m.noun].category): 1.0, ("kind", m.noun): 2.0}
            for value in (m.colour, m.pattern, m.size):
                if value:
                    found["attribute", m.noun, value] = 1.0
        x, relation, y = self.one.noun, self.relation, self.two.noun
        if relation in ("right of", "below"):
            x, relation, y = y, OPPOSITE[relation], x
        found["relation", x, relation, y] = 1.0
        return found

    def sentence(self, wording: int) -> str:
        """One of many wordings: both directions of the relation, synonyms, order of the parts."""
        one, relation, two = self.one, self.relation, self.two
        if wording % 2:
            one, relation, two = two, OPPOSITE[relation], one
        x, y = (a(" ".join((*adjectives(m), _word(m.noun, wording)))) for m in (one, two))
        rel = english.RELATIONS[relation][wording // 2 % 2]
        where = SETTING_PHRASES[self.setting]
        forms = (
            f"{capital(x)} is {rel} {y} {where}.",
            f"{capital(where)}, {x} is {rel} {y}.",
            f"There is {x} {rel} {y} {where}.",
            f"The picture shows {x} {rel} {y} {where}.",
        )
        return forms[wording // 4 % 4]


def adjectives(m: Mention) -> tuple[str, ...]:
    """What the mention says of its thing, in English order."""
    return tuple(m.phrase().split()[:-1])


def _word(kind: str, wording: int) -> str:
    """A synonym of the kind, where it has one."""
    words = english.NOUNS[kind]
    return words[wording % len(words)][0]


def random_fact(rng: random.Random, said: float = 0.6) -> Fact:
    """Two things of different categories, somewhere."""
    one, two = two_things(rng, said)
    return Fact(one, rng.choice(RELATIONS), two, rng.choice(SETTINGS))


def edits(fact: Fact, rng: random.Random) -> Iterator[Fact]:
    """Facts that differ in one element each, without end: a role, a place, an attribute, a kind."""
    while True:
        which = rng.randrange(5)
        if which == 0:
            yield replace(fact, relation=OPPOSITE[fact.relation])
        elif which == 1:
            yield replace(fact, setting=rng.choice([s for s in SETTINGS if s != fact.setting]))
        elif which == 2:
            turned = rng.choice([r for r in RELATIONS if r not in (fact.relation, OPPOSITE[fact.relation])])
            yield replace(fact, relation=turned)
        else:
            side = rng.choice(("one", "two"))
            thing: Mention = getattr(fact, side)
            if thing.colour and rng.random() < 0.7:
                others = [c for c in free_colours(thing.noun) if c != thing.colour]
                yield replace(fact, **{side: replace(thing, colour=rng.choice(others))})
            elif thing.pattern and rng.random() < 0.7:
                others = [p for p in VISIBLE_PATTERNS if p != thing.pattern]
                yield replace(fact, **{side: replace(thing, pattern=rng.choice(others))})
            else:
                kept = fact.two if side == "one" else fact.one
                others = [k for k in KINDS if KINDS[k].category != KINDS[kept.noun].category]
                yield replace(fact, **{side: random_mention(rng, rng.choice(others), 0.6)})
