"""Tasks about what follows from a sentence: MNLI, RTE and WNLI."""

import random
from dataclasses import replace

from vlpnb.world.corpus import FACTS, PEOPLE
from vlpnb.world.glue.example import Example, Group
from vlpnb.world.glue.facts import SEEN, free_kind, random_mention, two_things
from vlpnb.world.languages import english
from vlpnb.world.phrases import (
    OPPOSITE,
    RELATIONS,
    SETTING_PHRASES,
    VISIBLE_PATTERNS,
    Mention,
    a,
    capital,
    count_noun,
    plural,
)
from vlpnb.world.questions import LABELS
from vlpnb.world.scene import CANONICAL_KINDS, COLOURS, FREE_KINDS, KINDS, SETTINGS, SIZES, free_colours

KNOWLEDGE_SHARE = 0.15  # of MNLI's groups
_COLOURED = {colour: [k for k in CANONICAL_KINDS if KINDS[k].colour == colour] for colour in COLOURS}


def _premise(
    genre: str, one: Mention, two: Mention, relation: str | None, where: str, rng: random.Random
) -> str:
    """A sentence in the manner of a genre that says this and no more."""
    x, y = a(one.phrase()), a(two.phrase())
    both = f"{x} {english.RELATIONS[relation][0]} {y}" if relation else f"{x} and {y}"
    where = f" {where}" if where else ""
    (name, _), (friend, _) = rng.sample(PEOPLE, 2)
    return {
        "picture": f"There is {both}{where}.",
        "story": f"{name} {rng.choice(SEEN)} {both}{where}.",
        "letter": f"Dear {friend}, you will not believe that we found {both}{where}. Yours, {name}.",
        "report": f"According to {name}, {both} could be seen{where} on Sunday.",
    }[genre]


def _triple(rng: random.Random, genres: tuple[str, ...]) -> Group:
    """One hypothesis with a premise for each label."""
    about = rng.choice(("colour", "pattern", "size", "place", "relation"))
    kind = free_kind(rng)
    noun = rng.choice((kind, count_noun(KINDS[kind].category)))
    second = free_kind(rng, KINDS[kind].category)
    if about == "place":
        values = [SETTING_PHRASES[s] for s in rng.sample(SETTINGS, 2)]
    elif about == "relation":
        relation = rng.choice(RELATIONS)
        values = [relation, OPPOSITE[relation]]
    else:
        domain = {"colour": free_colours(kind), "pattern": VISIBLE_PATTERNS, "size": SIZES}[about]
        values = rng.sample(list(domain), 2)
    value = values[0]
    said = f"{english.RELATIONS[value][0]} the {second}" if about == "relation" else value
    hypothesis = f"The {noun} is {said}."
    group = []
    for label, stated in zip(LABELS, (value, None, values[1]), strict=True):
        one, two = random_mention(rng, kind, 0.4), random_mention(rng, second, 0.4)
        where = SETTING_PHRASES[rng.choice(SETTINGS)] if rng.random() < 0.4 else ""
        relation = rng.choice((None, *RELATIONS))
        if about == "place":
            where = stated or ""
        elif about == "relation":
            relation = stated
        else:
            one = replace(one, **{about: stated})
            other = value if rng.random() < 0.5 else values[1]  # a word that belongs to the wrong thing
            if stated is None and (about != "colour" or other in free_colours(second)):
                two = replace(two, **{about: other})
        genre = rng.choice(genres)
        group.append(Example(_premise(genre, one, two, relation, where, rng), hypothesis, label, genre))
    return group


def _knowledge(rng: random.Random, fold: int) -> Group:
    """A hypothesis about a colour; premises name canonical kinds (fold 0 or 1 of each colour) or free ones."""
    colour, other = rng.sample([c for c, kinds in _COLOURED.items() if len(kinds) > 1], 2)
    noun = rng.choice([k for k in FREE_KINDS if colour in free_colours(k) and other in free_colours(k)])
    said = rng.random() < 0.25  # the same with the colour said, so that free kinds are not always neutral
    things = (
        f"{colour} {noun}" if said else _COLOURED[colour][fold],
        noun,
        f"{other} {noun}" if said else _COLOURED[other][fold],
    )
    scene, size = SETTING_PHRASES[rng.choice(SETTINGS)], rng.choice(("", "small ", "big "))
    return [
        Example(
            f"The only thing {scene} is {a(size + thing)}.", f"The thing is {colour}.", label, "knowledge"
        )
        for thing, label in zip(things, LABELS, strict=True)
    ]


def mnli(rng: random.Random, fold: int) -> Group:
    """A triple in the genres of training, now and then about canonical colours."""
    return _knowledge(rng, fold) if rng.random() < KNOWLEDGE_SHARE else _triple(rng, ("picture", "story"))


def mnli_mismatched(rng: random.Random, fold: int) -> Group:
    """Genres that training never shows."""
    return _triple(rng, ("letter", "report"))


def rte(rng: random.Random, fold: int) -> Group:
    """Two premises for one hypothesis, with a sentence before that has nothing to do with it."""
    yes, *others = _triple(rng, ("picture", "story"))
    group = []
    for example, label in ((yes, "entailment"), (rng.choice(others), "not_entailment")):
        kind = rng.choice(tuple(FACTS))
        verb, rest = rng.choice(FACTS[kind][1])
        opening = f"{capital(plural(kind))} {verb} {rest}."
        group.append(Example(f"{opening} {example.first}", example.second, label))
    return group


def wnli(rng: random.Random, fold: int) -> Group:
    """A sentence whose last words decide whom its pronoun means; both orders of the two, both endings."""
    pronoun = rng.choice(("he", "she"))
    people = rng.sample([name for name, said in PEOPLE if said == pronoun], 2)
    things = [f"the {m.phrase()}" for m in two_things(rng)]
    thing = random_mention(rng).phrase()
    # sentence, pronoun, ending that means the first, ending that means the second
    forms = (
        ("{0} cannot be seen behind {1} because {2} {3}.", things, "it", "is too small", "is too big"),
        ("{0} could not carry {1} because {2} {3}.", things, "it", "was too weak", "was too heavy"),
        ("{0} thanked {1} for the " + thing + " because {2} {3}.", people, pronoun, "had got help", "had given help"),
        ("{0} asked {1} about the " + thing + " because {2} {3}.", people, pronoun, "knew nothing", "knew everything"),
        ("{0} could not see the " + thing + " behind {1} because {2} {3}.", people, pronoun,
         "was too short", "was too tall"),
        ("{0} gave {1} the " + thing + " because {2} {3}.", people, pronoun, "was generous", "had asked for it"),
    )  # fmt: skip
    text, pair, said, for_first, for_second = rng.choice(forms)
    group = []
    for x, y in (pair, pair[::-1]):
        for ending, meant in ((for_first, x), (for_second, y)):
            first = capital(text.format(x, y, said, ending))
            group += [Example(first, f"{capital(z)} {ending}.", str(int(z == meant))) for z in (x, y)]
    return group
