"""Reading comprehension about the visual world: SQuAD from its encyclopedia, SWAG from its stories (English).

**SQuAD.** A paragraph of an article (one of its own: the text corpora never reach these) is told what three people
met: who, what, where and when. A question takes two of these facts of one event and asks for another one; its answer
is a span of the paragraph. In v2.0 every second question takes its two facts from *different* events: all its words
are in the paragraph, answers of the right kind are too, and it has none.

    Anna saw a red car near the river on Monday . On Sunday , Ben found a small tent in the park .
    When did Anna see the car? on Monday     When did Anna see the tent? –     Where did Ben find the tent? in the park

Nothing but reading helps: which person met which thing, where, when and in which order is drawn independently, the
questions come in groups that ask alike about two events, and those without an answer are the same groups crossed
over. So the form of a question says nothing, neither about its answer nor about there being one.

**SWAG.** Four stories and four endings, each ending right once (a Latin group), so that endings alone, or their
positions, say nothing. What decides is memory (who has what), sense (what one does when hungry), what the text corpus
says of a kind, or its colour, which only pictures show; of the kinds of one colour train and dev ask different ones.
"""

import csv
import io
import json
import random
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from vlpnb.errors import UserError
from vlpnb.world.corpus import FACTS, PEOPLE, article
from vlpnb.world.languages.english import NOUNS, third_person
from vlpnb.world.phrases import VISIBLE_PATTERNS, a, capital
from vlpnb.world.scene import CANONICAL_KINDS, COLOURS, FREE_KINDS, KINDS, SIZES, free_colours

FIRST_ARTICLE = 1_000_000_000  # the corpora would need some 10¹¹ words to come here
SPLITS = ("train", "dev")
SQUAD_FILES = tuple(f"{split}-v{version}.json" for version in ("1.1", "2.0") for split in SPLITS)
SWAG_FILES = ("train.csv", "val.csv")
VERBS = (("see", "saw"), ("find", "found"), ("notice", "noticed"), ("pass", "passed"), ("draw", "drew"))
PLACES = (
    "in the park", "near the river", "at the market", "at the station", "in the village", "near the school",
    "behind the library", "on the beach", "at the harbor", "in the garden", "near the bridge", "by the lake",
)  # fmt: skip
TIMES = (
    "yesterday", "last week", "in the morning", "after lunch", "on Monday", "on Sunday", "in the evening",
    "before dinner", "on Friday",
)  # fmt: skip
KINDS_OF_QUESTIONS = ("who", "what", "where", "when", "color")


@dataclass(frozen=True)
class Event:
    """Somebody met something somewhere at some time."""

    name: str
    verb: tuple[str, str]  # infinitive, past
    thing: str  # the noun
    phrase: str  # the noun phrase with its article
    colour: str | None
    place: str
    time: str

    def sentence(self, form: int) -> str:
        """One of four wordings, spaced like the corpus."""
        said = f"{self.name} {self.verb[1]} {self.phrase}"
        return (
            f"{said} {self.place} {self.time} .",
            f"{capital(self.time)} , {said} {self.place} .",
            f"{capital(self.place)} , {said} {self.time} .",
            f"{capital(self.time)} {self.place} , {said} .",
        )[form]


@dataclass(frozen=True)
class Asked:
    """A question and a span of the passage: its answer, or where it has none, something that looks like one."""

    text: str
    span: str
    start: int  # the span's first character
    answerable: bool


@dataclass(frozen=True)
class Paragraph:
    """A passage and questions about it, as many with an answer as without."""

    context: str
    asked: tuple[Asked, ...]


def question(kind: str, one: Event, two: Event) -> str:
    """A question of one of `KINDS_OF_QUESTIONS` that takes one fact from each event (the same event: answerable)."""
    infinitive, past = one.verb
    return {
        "who": f"Who {past} the {one.thing} {two.place}?",
        "what": f"What did {one.name} {infinitive} {two.place}?",
        "where": f"Where did {one.name} {infinitive} the {two.thing}?",
        "when": f"When did {one.name} {infinitive} the {two.thing}?",
        "color": f"What color was the {two.thing} that {one.name} {past}?",
    }[kind]


def reply(kind: str, event: Event) -> str:
    """What the event answers to a question of this kind."""
    return {
        "who": event.name, "what": event.phrase, "where": event.place, "when": event.time,
        "color": event.colour or "",
    }[kind]  # fmt: skip


def paragraphs(seed: int, index: int) -> tuple[str, list[Paragraph]]:
    """Title and paragraphs of reading article `index`: a pure function. UserError for a negative index."""
    if index < 0:
        raise UserError(f"Reading article {index} is negative; articles are numbered from 0.")
    rng = random.Random(f"{seed}/reading/{index}")
    lines = [line.strip() for line in article(seed, FIRST_ARTICLE + index)]
    title = next(line.strip("= ") for line in lines if line.startswith("="))
    return title, [_paragraph(rng, line) for line in lines if line and not line.startswith("=")]


def _paragraph(rng: random.Random, text: str) -> Paragraph:
    """The line with three events between its sentences; they share no person, thing, place or time with it."""
    said = set(text.lower().replace('"', " ").split())
    names = rng.sample([name for name, _ in PEOPLE if name.lower() not in said], 3)
    free = [kind for kind in KINDS if not any(form in said for forms in NOUNS[kind] for form in forms)]
    coloured = rng.random() < 0.5  # of all three or of none, so that only the events can be confused
    things = rng.sample([kind for kind in free if kind in FREE_KINDS or not coloured], 3)
    colours = _distinct_colours(rng, things) if coloured else [None] * 3
    places = rng.sample([place for place in PLACES if place not in text.lower()], 3)
    times = rng.sample([time for time in TIMES if time.lower() not in text.lower()], 3)
    verb = rng.choice(VERBS)
    events = []
    for name, thing, colour, place, time in zip(names, things, colours, places, times, strict=True):
        words = [rng.choice(SIZES)] if rng.random() < 0.4 else []
        words += [colour] if colour else []
        words += [rng.choice(VISIBLE_PATTERNS)] if thing in FREE_KINDS and rng.random() < 0.3 else []
        events.append(Event(name, verb, thing, a(" ".join([*words, thing])), colour, place, time))
    sentences = _sentences(text)
    told = [event.sentence(rng.randrange(4)) for event in events]
    for sentence in told:  # each at a place of its own draw, so that no order is likelier than another
        sentences.insert(rng.randint(0, len(sentences)), sentence)
    context = " ".join(sentences)
    asked = []
    for kind in rng.sample([kind for kind in KINDS_OF_QUESTIONS if coloured or kind != "color"], 2):
        i, j = rng.sample(range(3), 2)
        for first, second in ((i, i), (j, j), (i, j), (j, i)):
            span, start = _find(reply(kind, events[second]), told[second], context)
            said = question(kind, events[first], events[second])
            asked.append(Asked(said, span, start, first == second))
    return Paragraph(context, tuple(asked))


def _find(text: str, sentence: str, context: str) -> tuple[str, int]:
    """The text as its sentence spells it (with a capital where it opens it) and its place in the context."""
    found = re.search(rf"(?<!\w){re.escape(text)}(?!\w)", sentence, re.IGNORECASE)
    return found[0], context.index(sentence) + found.start()


def _distinct_colours(rng: random.Random, things: list[str]) -> list[str]:
    found: list[str] = []
    for thing in things:
        found.append(rng.choice([colour for colour in free_colours(thing) if colour not in found]))
    return found


def _sentences(text: str) -> list[str]:
    """The sentences of a line; a question stays with the sentence after it, which answers it."""
    found, words = [], []
    for word in text.split():
        words.append(word)
        if word == ".":
            found.append(" ".join(words))
            words = []
    return [*found, " ".join(words)] if words else found


def squad_content(seed: int, version: str, split: str, questions: int) -> dict:
    """The JSON of one file: whole articles until there are at least `questions` questions.

    Splits take turns in the article numbers. v2.0 has v1.1's articles, half as many, each with as many questions
    without an answer as with one. Raises UserError for an unknown split.
    """
    if split not in SPLITS:
        raise UserError(f"Unknown reading split {split!r}; expected one of {', '.join(SPLITS)}.")
    data, count, index = [], 0, SPLITS.index(split)
    while count < questions:
        title, found = _read(seed, index)
        rows = []
        for number, paragraph in enumerate(found):
            asked = [q for q in paragraph.asked if q.answerable or version == "2.0"]
            order = random.Random(f"{seed}/order/{index}/{number}").sample(range(len(asked)), len(asked))
            qas = [_qa(asked[i], f"{index}-{number}-{i}", version) for i in order]
            rows.append({"context": paragraph.context, "qas": qas})
            count += len(qas)
        data.append({"title": title, "paragraphs": rows})
        index += len(SPLITS)
    return {"version": "1.1" if version == "1.1" else "v2.0", "data": data}


_read = lru_cache(maxsize=4096)(paragraphs)


def _qa(asked: Asked, name: str, version: str) -> dict:
    span = [{"text": asked.span, "answer_start": asked.start}]
    row = {"id": f"world-{name}", "question": asked.text, "answers": span if asked.answerable else []}
    if version == "2.0":
        row["is_impossible"] = not asked.answerable
        if not asked.answerable:
            row["plausible_answers"] = span
    return row


# SWAG


@dataclass(frozen=True)
class Story:
    """A sentence, the beginning of the next, and how it goes on."""

    first: str
    second: str
    ending: str


# A feeling or a need, and what one then does.
_SENSE = (
    ("hungry", "cooked dinner ."), ("thirsty", "drank some tea ."), ("tired", "went to bed ."),
    ("cold", "put on a coat ."), ("late", "ran to the bus ."), ("bored", "read a story ."),
    ("lonely", "called a friend ."), ("dirty", "took a bath ."), ("wet", "looked for a towel ."),
    ("ill", "saw a doctor ."), ("lost", "asked for the way ."), ("hot", "opened a window ."),
)  # fmt: skip
_HANDLED = ("lost", "sold", "hid", "cleaned", "painted")
_COLOURED = {colour: [kind for kind in CANONICAL_KINDS if KINDS[kind].colour == colour] for colour in COLOURS}


def _memory(rng: random.Random, fold: int) -> list[Story]:
    """Four people have four things; one of them does something with his or hers."""
    people = rng.sample(PEOPLE, 4)
    things = [f"the {thing}" for thing in rng.sample(list(KINDS), 4)]
    had = list(zip(people, things, strict=True))
    verb = rng.choice(_HANDLED)
    stories = []
    for (name, _), thing in had:
        told = [f"{other} had {theirs}" for (other, _), theirs in rng.sample(had, 4)]
        first = f"{' , '.join(told[:3])} and {told[3]} ."
        stories.append(Story(capital(first), f"Then {name}", f"{verb} {thing} ."))
    return stories


def _sense(rng: random.Random, fold: int) -> list[Story]:
    """What somebody does who feels so."""
    stories = []
    for feeling, does in rng.sample(_SENSE, 4):
        name, he = rng.choice(PEOPLE)
        phrase = f"{a(rng.choice(SIZES))} {rng.choice(list(KINDS))}"
        first = f"{name} saw {phrase} {rng.choice(PLACES)} , but {he} was {feeling} ."
        stories.append(Story(first, f"So {he}", does))
    return stories


def _fact(rng: random.Random, fold: int) -> list[Story]:
    """What the text corpus says that a thing does; the four kinds share no habit."""
    while True:
        kinds = rng.sample(list(FACTS), 4)
        habits = [set(FACTS[kind][1]) for kind in kinds]
        if len(set().union(*habits)) == sum(map(len, habits)):
            break
    stories = []
    for kind in kinds:
        verb, rest = rng.choice(FACTS[kind][1])
        rest = rest.replace("they fall", "it falls").replace("their nests", "its nest")
        (name, he), (friend, _) = rng.sample(PEOPLE, 2)
        first = f"{name} met {friend} {rng.choice(PLACES)} , and {he} talked about {a(kind)} ."
        stories.append(Story(first, "It is a thing that", f"{third_person(verb)} {rest} ."))
    return stories


def _looks(rng: random.Random, fold: int) -> list[Story]:
    """The canonical colour of a kind, which no text states; `fold` 0 or 1 of the kinds of each colour."""
    colours = rng.sample([colour for colour, kinds in _COLOURED.items() if len(kinds) > 1], 4)
    stories = []
    for colour in colours:
        name = rng.choice(PEOPLE)[0]
        first = f"{name} painted the door to look like {a(_COLOURED[colour][fold])} ."
        stories.append(Story(first, "Now the door is", f"{colour} ."))
    return stories


_STORIES: tuple[tuple[Callable[[random.Random, int], list[Story]], int], ...] = (
    (_memory, 3), (_sense, 2), (_fact, 3), (_looks, 2),
)  # fmt: skip


def swag_groups(seed: int, split: str, size: int) -> Iterator[tuple[str, list[tuple[Story, list[str], int]]]]:
    """Groups of four (story, endings, label), at least `size` examples, with the name of their kind.

    Each group shows one set of four endings four times; each is right once and each position is right once. A
    pure function; no story is in two splits.
    """
    if split not in SPLITS:
        raise UserError(f"Unknown reading split {split!r}; expected one of {', '.join(SPLITS)}.")
    rng = random.Random(f"{seed}/swag/{split}")
    makers, weights = zip(*_STORIES, strict=True)
    fold = SPLITS.index(split)
    for _ in range(0, size, 4):
        [make] = rng.choices(makers, weights)
        stories = make(rng, fold)
        while any(zlib.crc32(story.first.encode()) % 2 != fold for story in stories):
            stories = make(rng, fold)
        labels = rng.sample(range(4), 4)
        rows = []
        for i, story in enumerate(stories):
            others = [other.ending for j, other in enumerate(stories) if j != i]
            rng.shuffle(others)
            others.insert(labels[i], story.ending)
            rows.append((story, others, labels[i]))
        yield make.__name__.strip("_"), rows


def swag_content(seed: int, split: str, size: int) -> str:
    """The CSV of one split, in the columns of the distribution."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    endings = [f"ending{i}" for i in range(4)]
    writer.writerow(
        ["", "video-id", "fold-ind", "startphrase", "sent1", "sent2", "gold-source", *endings, "label"]
    )
    rows = [(kind, row) for kind, group in swag_groups(seed, split, size) for row in group]
    random.Random(f"{seed}/swag/{split}/order").shuffle(rows)
    for number, (kind, (story, shown, label)) in enumerate(rows):
        start = f"{story.first} {story.second}"
        about = (number, f"world_{kind}", number, start, story.first, story.second, "gold")
        writer.writerow([*about, *shown, label])
    return out.getvalue()


def reading_files(
    seed: int, squad: dict[str, int], swag: dict[str, int]
) -> Iterator[tuple[str, Callable[[], list[str]]]]:
    """(file name, function that gives its content) of every file; `squad`, `swag`: examples per split."""
    for version in ("1.1", "2.0"):
        for split in SPLITS:
            yield (
                f"squad/{split}-v{version}.json",
                lambda v=version, s=split: [
                    json.dumps(squad_content(seed, v, s, squad[s]), ensure_ascii=False),
                    "\n",
                ],
            )
    for split, name in zip(SPLITS, SWAG_FILES, strict=True):
        yield f"swag/{name}", lambda s=split: [swag_content(seed, s, swag[s])]
