"""The encyclopedia of the visual world: English text of any length, a pure function of (seed, index).

It looks like `wiki.train.raw` of WikiText: spaces around punctuation, " = Title = " headings, one paragraph
a line. An article tells a story about a few things and what is known of a kind apart from its looks:
category, where it is found, what it does. Two promises make visual knowledge testable:

* It never states a canonical attribute. Colours are said of free kinds and of small unseen things (a coin, a
  spoon); shapes, materials and comparisons of size only of those small things.
* Colours, shapes, materials and comparisons are drawn independently of the canonical kinds around them, so
  words that occur together tell nothing. Pairs of `HELD_OUT` never occur.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from vlpnb.errors import UserError
from vlpnb.world.languages.english import NOUNS, PATTERNS, RELATIONS, SETTINGS, SIZES, third_person
from vlpnb.world.languages.english import article as a_or_an
from vlpnb.world.scene import COLOURS, KINDS, MATERIALS, SHAPES, free_colours
from vlpnb.world.scene import SETTINGS as SETTING_NAMES

CORPUS_SPLITS = ("train", "valid", "test")

# Of every kind: where it is found, and what it does or what is done to it (verb, the rest). None of it can
# be seen in a picture, and none of it tells colour, shape, material or order of size.
FACTS: dict[str, tuple[tuple[str, ...], tuple[tuple[str, str], ...]]] = {
    "strawberry": (("in the garden", "at the market"), (("ripen", "in summer"), ("taste", "sweet"))),
    "butterfly": (("in the garden", "near the forest"), (("visit", "flowers"), ("sleep", "under leaves"))),
    "plum": (("at the market", "in the orchard"), (("ripen", "in autumn"), ("taste", "sweet"))),
    "mouse": (("in the cellar", "near the farm"), (("squeak", "at cats"), ("eat", "seeds"))),
    "potato": (("in the kitchen", "at the market"), (("grow", "under the ground"), ("go", "into soup"))),
    "frog": (("near the pond", "in the forest"), (("croak", "in spring"), ("eat", "insects"))),
    "banana": (("at the market", "in the kitchen"), (("grow", "in warm countries"), ("taste", "sweet"))),
    "carrot": (("in the garden", "in the kitchen"), (("grow", "under the ground"), ("taste", "fresh"))),
    "tulip": (("in the garden", "at the market"), (("bloom", "in spring"), ("need", "water"))),
    "eggplant": (("at the market", "in the kitchen"), (("need", "a warm summer"), ("go", "into soup"))),
    "ball": (("in the yard", "at school"), (("bounce", "well"), ("belong", "to children"))),
    "fish": (("in the river", "at the harbor"), (("swim", "all day"), ("eat", "insects"))),
    "bottle": (("in the kitchen", "in the cellar"), (("hold", "juice"), ("break", "when they fall"))),
    "vase": (("in the shop", "in the museum"), (("hold", "flowers"), ("cost", "a lot of money"))),
    "bucket": (("in the cellar", "at the farm"), (("hold", "water"), ("help", "the farmer"))),
    "drum": (("at school", "in the theater"), (("make", "loud music"), ("lead", "the band"))),
    "box": (("in the shop", "in the cellar"), (("hold", "old letters"), ("arrive", "by mail"))),
    "crow": (("in the forest", "near the farm"), (("call", "in the morning"), ("eat", "seeds"))),
    "lamp": (("in the shop", "in the museum"), (("help", "people read"), ("need", "power"))),
    "cactus": (("in the desert", "in the shop"), (("need", "little water"), ("grow", "slowly"))),
    "fox": (("in the forest", "near the farm"), (("hunt", "at dawn"), ("bark", "in winter"))),
    "mirror": (("in the shop", "in the theater"), (("show", "your face"), ("break", "when they fall"))),
    "kite": (("in the park", "in the shop"), (("fly", "in the wind"), ("belong", "to children"))),
    "guitar": (("in the theater", "at school"), (("make", "soft music"), ("have", "many strings"))),
    "snake": (("in the desert", "in the forest"), (("hiss", "at strangers"), ("sleep", "in winter"))),
    "swan": (("near the pond", "in the park"), (("swim", "all morning"), ("guard", "their nests"))),
    "robot": (("in the factory", "in the museum"), (("follow", "orders"), ("need", "power"))),
    "pig": (("at the farm", "at the market"), (("grunt", "before dinner"), ("love", "mud"))),
    "sunflower": (("in the garden", "near the farm"), (("turn", "to the sun"), ("give", "oil"))),
    "bench": (("in the park", "at the station"), (("give", "rest to walkers"), ("wait", "for visitors"))),
    "shelf": (("in the library", "in the shop"), (("hold", "many books"), ("gather", "dust"))),
    "piano": (("in the theater", "at school"), (("make", "soft music"), ("have", "many keys"))),
    "bear": (("in the forest", "near the river"), (("sleep", "in winter"), ("love", "honey"))),
    "sofa": (("in the shop", "in the theater"), (("give", "rest to visitors"), ("gather", "dust"))),
    "tent": (("in the park", "near the forest"), (("protect", "people from rain"), ("need", "ropes"))),
    "igloo": (
        ("in cold countries", "in the north"),
        (("protect", "people from wind"), ("melt", "in spring")),
    ),
    "car": (("in the street", "in the garage"), (("need", "fuel"), ("honk", "in traffic"))),
    "boat": (("at the harbor", "near the river"), (("carry", "goods"), ("cross", "the river"))),
    "elephant": (
        ("in warm countries", "near the river"),
        (("remember", "places"), ("drink", "a lot of water")),
    ),
    "house": (("in the village", "in the street"), (("protect", "people from rain"), ("need", "repairs"))),
    "barn": (("at the farm", "in the village"), (("hold", "hay"), ("shelter", "cows"))),
    "balloon": (("in the park", "in the north"), (("rise", "with hot air"), ("carry", "visitors"))),
    "tower": (("in the village", "at the harbor"), (("guard", "the coast"), ("attract", "visitors"))),
    "rocket": (("in the museum", "in the desert"), (("need", "fuel"), ("travel", "to the moon"))),
    "castle": (("near the river", "in the north"), (("attract", "visitors"), ("belong", "to kings"))),
}
# Small things that no picture shows: of them anything is said, at random.
UNSEEN = ("coin", "key", "spoon", "cup", "plate", "button", "card", "bell", "pin", "tile", "token", "charm")
PEOPLE = (
    ("Anna", "she"), ("Tom", "he"), ("Maria", "she"), ("Ben", "he"), ("Lucy", "she"), ("Sam", "he"),
    ("Emma", "she"), ("Paul", "he"), ("Nina", "she"), ("Leo", "he"), ("Clara", "she"), ("Max", "he"),
)  # fmt: skip
TIMES = ("yesterday", "today", "last week", "in the morning", "after lunch", "on Monday", "on Sunday")
ACTIVITIES = (
    "read a story", "write a letter", "ask a question", "wait for the bus", "go home", "sing a song",
    "cook dinner", "call a friend", "learn the rules", "tell the truth", "drink some tea", "count the days",
    "take a walk",
)  # fmt: skip
FEELINGS = ("happy", "tired", "sad", "proud", "late", "ready", "hungry", "afraid", "busy", "sure")


@dataclass(frozen=True)
class _Thing:
    """A thing of a story and its words: what stays the same through the story."""

    kind: str
    word: str
    plural: str
    colour: str | None  # None for canonical kinds
    pattern: str | None
    size: str


def article(seed: int, index: int) -> list[str]:
    """The lines of article number `index`: heading and paragraphs between blank lines, as in wiki.train.raw.

    Raises UserError for a negative index.
    """
    if index < 0:
        raise UserError(f"Article index {index} is negative; articles are numbered from 0.")
    return _Article(random.Random(f"{seed}/article/{index}")).lines()


def corpus_lines(seed: int, split: str, n_tokens: int) -> Iterator[str]:
    """Lines of articles, without line ends, until `n_tokens` words are reached; one article is in memory.

    Splits take turns in the article numbers, so they share no article. Raises UserError for an unknown split.
    """
    if split not in CORPUS_SPLITS:
        raise UserError(f"Unknown corpus split {split!r}; expected one of {', '.join(CORPUS_SPLITS)}.")
    index, written = CORPUS_SPLITS.index(split), 0
    while written < n_tokens:
        for line in article(seed, index):
            yield line
            written += len(line.split())
        index += len(CORPUS_SPLITS)


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _of_one(rest: str) -> str:
    """What follows the verb of a fact, said of one thing rather than of many."""
    return rest.replace("they fall", "it falls").replace("their nests", "its nest")


class _Article:
    """One article while it is written: its people, its things and its random numbers."""

    def __init__(self, rng: random.Random):
        self.rng = rng
        (self.name, self.he), (self.friend, _) = rng.sample(PEOPLE, 2)
        self.setting = rng.choice(SETTING_NAMES)
        self.things = [self.thing(kind) for kind in rng.sample(_KIND_NAMES, rng.randint(2, 4))]
        self.subject = self.things[0]

    def lines(self) -> list[str]:
        """Heading, then two to four paragraphs; each mixes stories, facts and other sentences."""
        rng, subject = self.rng, self.subject
        title = rng.choice(
            (
                _capital(subject.plural),
                f"The {_capital(subject.word)}",
                f"{self.name} and the {_capital(subject.word)}",
                f"{_capital(subject.plural)} and {_capital(self.things[1].plural)}",
            )
        )
        lines = [" ", f" = {title} = ", " "]
        for number in range(rng.randint(2, 4)):
            if number == 1 and rng.random() < 0.5:
                lines += [
                    " ",
                    f" = = {rng.choice(('Story', 'Facts', 'History', 'Today', 'People'))} = = ",
                    " ",
                ]
            kinds = rng.choices(_SENTENCE_KINDS, _SENTENCE_WEIGHTS, k=rng.randint(4, 7))
            written = dict.fromkeys(rng.choice(kind)(self) for kind in kinds)  # no sentence twice
            lines.append(f" {' '.join(_capital(text) for text in written)} ")
        return lines

    # -- words -----------------------------------------------------------------------------------------------

    def thing(self, kind: str) -> _Thing:
        rng = self.rng
        words = NOUNS[kind]
        word, plural = words[0] if len(words) == 1 or rng.random() < 0.6 else rng.choice(words)
        free = KINDS[kind].colour is None
        colour = rng.choice(_FREE_COLOURS[kind]) if free else None
        pattern = rng.choice(_PATTERN_WORDS) if free and rng.random() < 0.6 else None
        return _Thing(kind, word, plural, colour, pattern, rng.choice(_SIZE_WORDS))

    def described(self, thing: _Thing, opening: str = "") -> str:
        """A noun phrase: "a small red striped car", or with the opening given: "the red car"."""
        random_ = self.rng.random
        words = []
        if random_() < 0.2:
            words.append(thing.size)
        if thing.colour and random_() < 0.75:
            words.append(thing.colour)
        if thing.pattern and random_() < 0.55:
            words.append(thing.pattern)
        words.append(thing.word)
        return " ".join([opening or a_or_an(words[0]), *words])

    def any_thing(self) -> _Thing:
        return self.rng.choice(self.things)

    def two_things(self) -> list[_Thing]:
        return self.rng.sample(self.things, 2)

    def coloured_thing(self) -> _Thing:
        """A thing of a free kind: one of the story, or a passing one when the story has none."""
        free = [thing for thing in self.things if thing.colour]
        return self.rng.choice(free) if free else self.thing(self.rng.choice(_FREE_NAMES))

    def place(self) -> str:
        return self.rng.choice(SETTINGS[self.setting])

    # -- stories: what could be seen -------------------------------------------------------------------------

    def saw(self) -> str:
        verb = self.rng.choice(("saw", "found", "noticed", "passed", "drew", "photographed"))
        return f"{self.name} {verb} {self.described(self.any_thing())} {self.place()} ."

    def there(self) -> str:
        one, other = (self.described(thing) for thing in self.two_things())
        return self.rng.choice(
            (
                f"there was {one} and {other} {self.place()} .",
                f"{self.place()} , there was {one} .",
                f"you can see {one} and {other} .",
                f"next to {one} there was {other} .",
            )
        )

    def related(self) -> str:
        one, other = self.two_things()
        relation = self.rng.choice(_RELATION_WORDS)
        if self.rng.random() < 0.5:
            return f"the {one.word} was {relation} {self.described(other, 'the')} ."
        return f"{self.described(one)} is {relation} {self.described(other)} {self.place()} ."

    def coloured(self) -> str:
        thing = self.coloured_thing()
        both = f"{thing.colour} and {thing.pattern}" if thing.pattern else thing.colour
        return self.rng.choice(
            (
                f"the {thing.word} is {thing.colour} .",
                f"the {thing.word} was {both} .",
                f"the color of the {thing.word} is {thing.colour} .",
                f"it is {a_or_an(thing.colour)} {thing.colour} {thing.word} .",
                f"{self.name} saw {a_or_an(thing.colour)} {thing.colour} {thing.word} .",
                f"the {thing.plural} are {thing.colour} .",
                f"{self.friend} painted the {thing.word} , so now it is {thing.colour} .",
            )
        )

    def sized(self) -> str:
        thing = self.any_thing()
        return self.rng.choice(
            (
                f"the {thing.word} looked {thing.size} .",
                f"it was a {thing.size} {thing.word} , {self.name} said .",
            )
        )

    def two_of_one(self) -> str:
        kind = self.rng.choice(_FREE_NAMES)
        thing = self.thing(kind)
        one, other = self.rng.sample(_FREE_COLOURS[kind], 2)
        number = self.rng.choice(("two", "three", "four"))
        return self.rng.choice(
            (
                f"{self.name} saw two {thing.plural} , {a_or_an(one)} {one} one "
                f"and {a_or_an(other)} {other} one .",
                f"the {one} {thing.word} was near the {other} {thing.word} {self.place()} .",
                f"there are {number} {thing.plural} {self.place()} .",
                f"{number} {one} {thing.plural} were {self.place()} .",
                f"{self.friend} wanted the {one} {thing.word} and not the {other} {thing.word} .",
            )
        )

    def liked(self) -> str:
        one, other = self.two_things()
        return self.rng.choice(
            (
                f"{self.name} liked {self.described(one, 'the')} , but {self.friend} liked "
                f"{self.described(other, 'the')} .",
                f"{self.friend} stood by {self.described(one, 'the')} and looked at the {other.word} .",
                f"when {self.name} came , {self.described(one, 'the')} was gone .",
                f"{self.he} lost {self.described(one, 'the')} and never found it again .",
                f"nobody saw {self.described(one, 'the')} behind the {other.word} .",
            )
        )

    # -- facts: what cannot be seen --------------------------------------------------------------------------

    def fact(self) -> str:
        thing = self.subject if self.rng.random() < 0.5 else self.any_thing()
        places, actions = FACTS[thing.kind]
        verb, rest = self.rng.choice(actions)
        place = self.rng.choice(places)
        one, many, category = thing.word, thing.plural, KINDS[thing.kind].category
        member, members = NOUNS[category][0]
        an, does = a_or_an(one), f"{third_person(verb)} {_of_one(rest)}"
        return self.rng.choice(
            (
                f"{an} {one} is {a_or_an(member)} {member} .",
                f"the {one} is {a_or_an(member)} {member} that people find {place} .",
                f"the {one} is one of the {members} that people find {place} .",
                f"the {one} {does} .",
                f"{an} {one} {does} , and people know this well .",
                f"if you go there , you may find {an} {one} {place} .",
                f"{self.name} knows that the {one} {does} .",
                f"does {an} {one} {verb} {_of_one(rest)} ? Yes , it does .",
                f"it is said that {an} {one} {does} when nobody is near .",
                f"{self.friend} heard about {an} {one} {place} .",
                f"{many} are {members} .",
                f"most {many} {verb} {rest} .",
                f"people often find {many} {place} .",
                f"{self.name} knows that {many} {verb} {rest} .",
                f"like many other {members} , {many} {verb} {rest} .",
                f"do {many} {verb} {rest} ? Yes , they do .",
                f"there are many {many} {place} .",
            )
        )

    # -- small things that no picture shows ------------------------------------------------------------------

    def unseen(self) -> str:
        rng = self.rng
        one, other = rng.sample(UNSEEN, 2)
        shape, material, colour = rng.choice(SHAPES), rng.choice(MATERIALS), rng.choice(_COLOUR_NAMES)
        than = rng.choice(("bigger", "smaller"))
        return rng.choice(
            (
                f"the {one} is {shape} .",
                f"the {one} has a {shape} shape .",
                f"{self.name} had a {shape} {one} .",
                f"the {one} is made of {material} .",
                f"people make the {one} out of {material} .",
                f"this {one} is {than} than that {other} .",
                f"the {one} is {than} than the {other} .",
                f"{self.friend} had {a_or_an(colour)} {colour} {one} and a {shape} {other} .",
            )
        )

    # -- other sentences -------------------------------------------------------------------------------------

    def other(self) -> str:
        rng = self.rng
        activity, feeling = rng.choice(ACTIVITIES), rng.choice(FEELINGS)
        return rng.choice(
            (
                f"{self.name} wanted to {activity} , but {self.he} was {feeling} .",
                f"after that , {self.name} and {self.friend} had to {activity} .",
                f"{rng.choice(TIMES)} , {self.friend} was {feeling} because nobody came .",
                f'" can you {activity} ? " asked {self.friend} .',
                f"they did not {activity} {rng.choice(TIMES)} .",
                f"why was {self.name} {feeling} ? {self.he} did not say .",
                f"{self.friend} said that {self.he} should {activity} .",
                f"if they are not {feeling} , they will {activity} .",
                "this was not the first time , and it would not be the last .",
            )
        )


_KIND_NAMES = tuple(KINDS)
_FREE_NAMES = tuple(name for name, kind in KINDS.items() if kind.colour is None)
_FREE_COLOURS = {name: tuple(free_colours(name)) for name in _FREE_NAMES}
_COLOUR_NAMES = tuple(COLOURS)
_PATTERN_WORDS = tuple(word for name, words in PATTERNS.items() if name != "plain" for word in words)
_SIZE_WORDS = tuple(word for words in SIZES.values() for word in words)
_RELATION_WORDS = (*(word for words in RELATIONS.values() for word in words), "next to", "beside", "near")
_Writer = Callable[[_Article], str]
_SENTENCE_KINDS: tuple[tuple[_Writer, ...], ...] = (
    (_Article.saw, _Article.there, _Article.related, _Article.liked),
    (_Article.coloured, _Article.two_of_one, _Article.sized),
    (_Article.fact,),
    (_Article.unseen,),
    (_Article.other,),
)
_SENTENCE_WEIGHTS = (40, 22, 22, 8, 8)
