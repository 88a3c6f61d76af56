"""Tasks about two sentences that say the same, nearly the same, or answer each other: MRPC, QQP, STS-B, QNLI."""

import random

from vlpnb.world.corpus import FACTS, PEOPLE
from vlpnb.world.glue.example import Example, Group, mixed
from vlpnb.world.glue.facts import edits, free_kind, random_fact, two_things
from vlpnb.world.languages import english
from vlpnb.world.phrases import RELATIONS, SETTING_PHRASES, VISIBLE_PATTERNS, capital, count_noun, plural
from vlpnb.world.scene import KINDS, SETTINGS, free_colours


def mrpc(rng: random.Random, fold: int) -> Group:
    """Two facts one element apart, each in two wordings."""
    fact = random_fact(rng)
    other = next(e for e in edits(fact, rng) if e.atoms() != fact.atoms())
    w, v = rng.sample(range(16), 2)
    return mixed((fact.sentence(w), fact.sentence(v)), (other.sentence(w), other.sentence(v)), "1", "0")


def qqp(rng: random.Random, fold: int) -> Group:
    """Two questions one element apart, each in two wordings."""
    one, two = two_things(rng, 0.6)
    where, elsewhere = (SETTING_PHRASES[s] for s in rng.sample(SETTINGS, 2))
    x, y, many = one.phrase(), two.phrase(), plural(one.noun)
    name, friend = (person[0] for person in rng.sample(PEOPLE, 2))
    pairs = (
        ((f"How many {many} are there {where}?", f"What is the number of {many} {where}?"),
         (f"How many {many} are there {elsewhere}?", f"What is the number of {many} {elsewhere}?")),
        ((f"What is next to the {x}?", f"Which thing is beside the {x}?"),
         (f"What is next to the {y}?", f"Which thing is beside the {y}?")),
        ((f"Who found the {x} {where}?", f"By whom was the {x} found {where}?"),
         (f"Who found the {y} {where}?", f"By whom was the {y} found {where}?")),
        ((f"Did {name} see the {x} before the {y}?", f"Was the {x} seen by {name} earlier than the {y}?"),
         (f"Did {name} see the {y} before the {x}?", f"Was the {y} seen by {name} earlier than the {x}?")),
        ((f"Did {name} give {friend} the {x}?", f"Did {friend} get the {x} from {name}?"),
         (f"Did {friend} give {name} the {x}?", f"Did {name} get the {x} from {friend}?")),
        ((f"Is the {x} above the {y}?", f"Is the {y} below the {x}?"),
         (f"Is the {y} above the {x}?", f"Is the {x} below the {y}?")),
    )  # fmt: skip
    return mixed(*rng.choice(pairs), "1", "0")


def stsb(rng: random.Random, fold: int) -> Group:
    """Two descriptions some edits apart; the score is five times the weighted overlap of their elements."""
    fact = random_fact(rng)
    other = fact
    for _ in range(rng.randrange(6)):
        other = next(edits(other, rng))
    if rng.random() < 0.1:
        other = random_fact(rng)
    mine, theirs = fact.atoms(), other.atoms()
    shared = sum(weight for atom, weight in mine.items() if atom in theirs)
    score = 5 * shared / sum((mine | theirs).values())
    return [Example(fact.sentence(rng.randrange(16)), other.sentence(rng.randrange(16)), f"{score:.3f}")]


def qnli(rng: random.Random, fold: int) -> Group:
    """Two questions and two sentences of which each answers one."""
    if rng.random() < 0.3:
        kind = rng.choice(tuple(FACTS))
        (places, habits), noun = FACTS[kind], plural(kind)
        verb, rest = rng.choice(habits)
        where = (f"Where does one find {noun}?", f"{capital(noun)} are found {rng.choice(places)}.")
        what = (f"What do {noun} do?", f"{capital(noun)} {verb} {rest}.")
        return mixed(where, what, "entailment", "not_entailment")
    one = free_kind(rng)
    two = free_kind(rng, KINDS[one].category)
    noun, other = (rng.choice((k, count_noun(KINDS[k].category))) for k in (one, two))
    shared = [c for c in free_colours(one) if c in free_colours(two)]
    colour, pattern = rng.choice(shared), rng.choice(VISIBLE_PATTERNS)
    relation = english.RELATIONS[rng.choice(RELATIONS)][0]
    sentences = [
        f"The {x} {one} is {relation} the {y} {two}." for x, y in ((colour, pattern), (pattern, colour))
    ]
    if rng.random() < 0.5:
        questions = [f"What colour is the {noun}?", f"What colour is the {other}?"]
    else:
        questions = [f"What colour is the {noun}?", f"Which pattern does the {noun} have?"]
    return mixed((questions[0], sentences[0]), (questions[1], sentences[1]), "entailment", "not_entailment")
