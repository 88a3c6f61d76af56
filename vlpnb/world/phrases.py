"""English phrases about the things of a scene, shared by the questions and the GLUE-shaped suite.

A canonical attribute is never said of its kind (no "yellow banana"): like all text of this world, a phrase
leaves that to the pictures.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from vlpnb.world.languages import english
from vlpnb.world.languages.sentence_plan import Phrase
from vlpnb.world.scene import COLOURS, KINDS, PATTERNS, Thing

RELATIONS = ("left of", "right of", "above", "below")
OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
RELATION_PHRASES = {
    "left of": "to the left of",
    "right of": "to the right of",
    "above": "above",
    "below": "below",
}
SETTING_PHRASES = {"field": "in a field", "room": "in a room", "night": "at night", "beach": "on a beach"}
VISIBLE_PATTERNS = tuple(pattern for pattern in PATTERNS if pattern != "plain")
NOUN_PLURALS = {singular: plural for words in english.NOUNS.values() for singular, plural in words}
NOUN_PLURALS["thing"] = "things"


def a(phrase: str) -> str:
    """The phrase with its indefinite article: "an orange car"."""
    return f"{english.article(phrase)} {phrase}"


def count_noun(word: str) -> str:
    """The noun of a kind or category: "furniture" becomes "piece of furniture"."""
    return english.NOUNS[word][0][0]


def plural(phrase: str) -> str:
    """The plural of a noun phrase made of adjectives and a noun of this world: "red foxes"."""
    noun = next(noun for noun in (phrase, phrase.split(" ", 1)[-1]) if noun in NOUN_PLURALS)
    return phrase.removesuffix(noun) + NOUN_PLURALS[noun]


def capital(text: str) -> str:
    """The text with a capital first letter, the rest untouched."""
    return text[:1].upper() + text[1:]


def descriptions(thing: Thing) -> list[str]:
    """Noun phrases without article that are true of the thing; a canonical colour never joins its kind."""
    kind = KINDS[thing.kind]
    said = [kind.name, count_noun(kind.category), "thing", f"{thing.colour} thing"]
    if kind.colour is None:
        said.append(f"{thing.colour} {kind.name}")
    if thing.pattern != "plain":
        said += [f"{thing.pattern} {kind.name}", f"{thing.pattern} thing"]
    return said


def planned(*described: str) -> tuple[Phrase, ...]:
    """Phrases of `descriptions` as other languages need them: "red car" is a car that is red.

    Empty where one is about a mere "thing", which only English says here.
    """
    found = tuple(phrase for text in described if (phrase := _planned(text)) is not None)
    return found if len(found) == len(described) else ()


@lru_cache(maxsize=4096)
def _planned(text: str) -> Phrase | None:
    look, _, noun = text.partition(" ")
    if look in COLOURS and noun in _KIND_OF:
        return Phrase(_KIND_OF[noun], colour=look)
    if look in PATTERNS and noun in _KIND_OF:
        return Phrase(_KIND_OF[noun], pattern=look)
    return Phrase(_KIND_OF[text]) if text in _KIND_OF else None


_KIND_OF = {count_noun(name): name for name in english.NOUNS}


@dataclass(frozen=True)
class Mention:
    """A thing as a sentence mentions it: attributes that are None are left unsaid."""

    noun: str
    colour: str | None = None
    pattern: str | None = None
    size: str | None = None

    def phrase(self) -> str:
        """Without article, adjectives in English order: "big red striped car"."""
        return " ".join(w for w in (self.size, self.colour, self.pattern, self.noun) if w)


def mention(thing: Thing, said: Iterable[str]) -> Mention:
    """The thing with the attributes in `said` (colour, pattern, size); a canonical colour stays unsaid."""
    kind = KINDS[thing.kind]
    said = set(said)
    return Mention(
        kind.name,
        thing.colour if "colour" in said and kind.colour is None else None,
        thing.pattern if "pattern" in said and thing.pattern != "plain" else None,
        thing.size if "size" in said else None,
    )
