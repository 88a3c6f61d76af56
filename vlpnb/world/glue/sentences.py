"""Tasks about one sentence: CoLA and SST-2."""

import random

from vlpnb.world.corpus import PEOPLE
from vlpnb.world.glue.example import Example, Group
from vlpnb.world.glue.facts import SEEN, adjectives, random_mention, two_things
from vlpnb.world.languages import english
from vlpnb.world.phrases import RELATIONS, SETTING_PHRASES, VISIBLE_PATTERNS, a, capital, plural
from vlpnb.world.scene import COLOURS, KINDS, SETTINGS, SIZES

_FOND = ("lovely", "wonderful", "beautiful", "charming", "great", "excellent", "delightful")
_UNFOND = ("ugly", "terrible", "awful", "dull", "poor", "boring", "dreadful")


def cola(rng: random.Random, fold: int) -> Group:
    """A grammatical sentence, and another one with one flaw."""
    good = _plain_sentence(rng)
    while (bad := _flawed(_plain_sentence(rng), rng)) is None:
        pass
    return [Example(_join(good), label="1"), Example(_join(bad), label="0")]


def _join(words: list[str]) -> str:
    return capital(" ".join(words)).replace(" ,", ",") + "."


def _plain_sentence(rng: random.Random) -> list[str]:
    one, two = two_things(rng, 0.8)
    where, name = SETTING_PHRASES[rng.choice(SETTINGS)], rng.choice(PEOPLE)[0]
    relation = english.RELATIONS[rng.choice(RELATIONS)][0]
    number = rng.choice(("two", "three", "four"))
    some = " ".join((number, *adjectives(one), plural(one.noun)))
    verb = rng.choice(SEEN)
    forms = (
        f"{a(one.phrase())} is {relation} {a(two.phrase())}",
        f"{some} are {where}",
        f"{name} {verb} {a(one.phrase())} {where}",
        f"there is {a(one.phrase())} {where}",
        f"there are {some} and {a(two.phrase())} {where}",
        f"the {plural(one.noun)} that {name} {verb} are {relation} the {two.noun}",
        f"the {one.phrase()} that {name} {verb} was {where}",
    )
    return rng.choice(forms).split()


def _flawed(words: list[str], rng: random.Random) -> list[str] | None:
    """The sentence with one flaw of agreement, article, order or number, or None if it has no place for it."""
    verbs = {"is": "are", "are": "is", "was": "were"}
    adjectives = {*COLOURS, *VISIBLE_PATTERNS, *SIZES}
    flaw = rng.choice(("agreement", "article", "order", "missing verb", "missing noun", "doubled", "number"))
    places = {
        "agreement": [i for i, w in enumerate(words) if w in verbs],
        "article": [i for i, w in enumerate(words) if w in ("a", "an")],
        "order": [i for i, w in enumerate(words[:-1]) if w in adjectives and words[i + 1] in KINDS],
        "missing verb": [i for i, w in enumerate(words) if w in verbs or w in SEEN],
        "missing noun": [i for i, w in enumerate(words) if w in KINDS],
        "doubled": [i for i, w in enumerate(words) if w in ("a", "an", "the") and words[i + 1] != "left"],
        "number": [
            i
            for i, w in enumerate(words)
            if w in KINDS and "a" in (words[i - 1], words[i - 2]) and w != "fish"
        ],
    }[flaw]
    if not places:
        return None
    i, result = rng.choice(places), list(words)
    if flaw == "agreement":
        result[i] = verbs[words[i]]
    elif flaw == "article":
        result[i] = "an" if words[i] == "a" else "a"
    elif flaw == "order":
        result[i : i + 2] = [words[i + 1], words[i]]
    elif flaw.startswith("missing"):
        del result[i]
    elif flaw == "doubled":
        result.insert(i, rng.choice(("a", "the")))
    else:
        result[i] = plural(words[i])
    return result


def sst2(rng: random.Random, fold: int) -> Group:
    """A fond and an unfond sentence; negation and contrast turn many words round."""
    group = []
    for fond in (True, False):
        thing, name = random_mention(rng).phrase(), rng.choice(PEOPLE)[0].lower()
        good, bad = rng.choice(_FOND), rng.choice(_UNFOND)
        word, other = (good, bad) if fond else (bad, good)
        likes, dislikes = rng.choice((("loves", "hates"), ("enjoys", "dislikes"), ("likes", "cannot stand")))
        very = rng.choice(("", "very ", "really ", "quite "))
        forms = (
            f"the {thing} is {very}{word}",
            f"the {thing} is not {very}{other}",
            f"{name} {likes if fond else dislikes} the {thing}",
            f"{name} was {'happy' if fond else 'sad'} to see {a(thing)}",
            f"the {thing} looked {other} at first , but it is {word}",
            f"what {a(word)} {thing}",
            f"nobody would call this {thing} {other}",
            f"{name} thinks that the {thing} is {very}{word}",
        )
        group.append(Example(f"{rng.choice(forms)} . ", label=str(int(fond))))
    return group
