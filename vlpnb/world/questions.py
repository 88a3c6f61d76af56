"""Questions about the visual world: VQA, GQA, NLVR2 statements and SNLI-like entailment pairs.

The formats are those of VQA v2 (Goyal et al. 2017), GQA (Hudson and Manning 2019), NLVR2 (Suhr et al. 2019)
and SNLI (Bowman et al. 2015); `vlpnb/world/writers.py` puts them on disk.

Balance, the promise of this file: **nothing can be guessed from the words**. Questions come in *units*. A
unit is one text asked about several pictures, with a different answer for each, so that every answer that a
text has in a split is right equally often, and any function of the text alone scores exactly chance. (VQA v2
balances by complementary pairs as well; here there is nothing else.) A unit of statements is one sentence
with as many true as false pairs of pictures, and a unit of entailments is one hypothesis with one premise for
each of the three labels.

A question never says a canonical attribute ("Is there a yellow banana?"): like all text of this world it
leaves that to the pictures. "What is the yellow thing?" is fair, since the answer needs the picture.
"""

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from vlpnb.world.languages import english
from vlpnb.world.scene import CATEGORIES, COLOURS, KINDS, PATTERNS, SETTINGS, Scene, Thing

Step = tuple[str, tuple[int, ...], str]  # operation, dependencies, argument: a step of a GQA program
Claim = tuple[str, ...]  # an atom that an answer establishes, e.g. ("colour", "0", "red")

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


def a(phrase: str) -> str:
    """The phrase with its indefinite article: "an orange car"."""
    return f"{english.article(phrase)} {phrase}"


def count_noun(word: str) -> str:
    """The noun of a kind or category: "furniture" becomes "piece of furniture"."""
    return english.NOUNS[word][0][0]


_PLURALS = {singular: plural for words in english.NOUNS.values() for singular, plural in words}
_PLURALS["thing"] = "things"


def plural(phrase: str) -> str:
    """The plural of a noun phrase made of adjectives and a noun of this world: "red foxes"."""
    noun = next(noun for noun in (phrase, phrase.split(" ", 1)[-1]) if noun in _PLURALS)
    return phrase.removesuffix(noun) + _PLURALS[noun]


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


class View:
    """A scene with what its questions need counted once: phrases, unique references and relations."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.things = scene.things
        self.descriptions = [descriptions(thing) for thing in scene.things]
        self.counts = Counter(phrase for said in self.descriptions for phrase in said)
        # references to a thing that no other thing of the scene satisfies; "thing" alone refers to nothing
        self.unique = [
            [p for p in said if self.counts[p] == 1 and p != "thing"] for said in self.descriptions
        ]
        self.related: dict[tuple[int, str], list[int]] = defaultdict(
            list
        )  # (i, relation) -> all j: j relation i
        for i, relation, j in scene.relations():
            self.related[j, relation].append(i)

    def unique_kinds(self) -> Iterator[tuple[int, Thing]]:
        """(index, thing) of the things that are alone of their kind."""
        return ((i, t) for i, t in enumerate(self.things) if self.counts[t.kind] == 1)


@dataclass(frozen=True)
class Question:
    """A question about one picture and its answer."""

    image_id: str
    text: str
    answer: str
    answer_type: str  # "yes/no", "number" or "other"
    family: str  # the template it comes from, e.g. "is the"; VQA's question_type
    full_answer: str = ""  # GQA: the answer as a sentence
    program: tuple[Step, ...] = ()  # GQA: the functional program
    types: tuple[str, str] = ("query", "attr")  # GQA: structural and semantic type
    mentions: tuple[tuple[str, int], ...] = ()  # GQA: (phrase of the question, index of the thing it names)
    claims: frozenset[Claim] = (
        frozenset()
    )  # what the answer establishes; decides entailment between questions
    min_answers: int = 2  # a text needs this many different answers to be asked at all


def _yes(truth: bool) -> str:
    return "yes" if truth else "no"


def vqa_candidates(scene: Scene, rng: random.Random) -> list[Question]:
    """Every simple question worth asking about the scene, unbalanced; wording never depends on the answer."""
    view, found = View(scene), []

    def ask(family: str, text: str, answer: str, answer_type: str, min_answers: int = 2) -> None:
        found.append(Question(scene.image_id, text, answer, answer_type, family, min_answers=min_answers))

    def exists(phrase: str, truth: bool) -> None:
        where = rng.choice(["", " in the picture"])
        ask("is there a", f"Is there {a(phrase)}{where}?", _yes(truth), "yes/no")

    present = sorted(phrase for phrase in view.counts if phrase != "thing")
    absent_kinds = rng.sample(sorted(set(KINDS) - {t.kind for t in view.things}), 4)
    absent = [*absent_kinds, *(p for p in map(count_noun, CATEGORIES) if p not in view.counts)]
    absent += [f"{colour} thing" for colour in COLOURS if f"{colour} thing" not in view.counts]
    for thing in view.things:
        if (
            KINDS[thing.kind].colour is None
        ):  # the hard negative: this kind in a colour that is elsewhere, or nowhere
            others = [c for c in COLOURS if f"{c} {thing.kind}" not in view.counts]
            absent += [f"{colour} {thing.kind}" for colour in rng.sample(others, 3)]
    for phrase in present:
        exists(phrase, True)
    for phrase in sorted(set(absent)):
        exists(phrase, False)

    for i, thing in view.unique_kinds():
        kind = KINDS[thing.kind]
        if kind.colour is None:
            ask("what colour is the", f"What colour is the {kind.name}?", thing.colour, "other", 4)
            for colour in {thing.colour, rng.choice(list(COLOURS)), rng.choice(list(COLOURS))}:
                ask("is the", f"Is the {kind.name} {colour}?", _yes(colour == thing.colour), "yes/no")
        if kind.patterns_allowed:
            ask(
                "what pattern does the", f"What pattern does the {kind.name} have?", thing.pattern, "other", 3
            )
            for pattern in VISIBLE_PATTERNS:
                ask("is the", f"Is the {kind.name} {pattern}?", _yes(pattern == thing.pattern), "yes/no")
        ask("how big is the", f"How big is the {kind.name}?", thing.size, "other")
        for relation in RELATIONS:
            others = view.related[i, relation]
            if len(others) == 1:  # one answer, and nothing else in that direction
                where = RELATION_PHRASES[relation]
                ask("what is", f"What is {where} the {kind.name}?", view.things[others[0]].kind, "other", 3)
            for j in others:
                for phrase in view.unique[j]:
                    for said, truth in ((relation, True), (OPPOSITE[relation], False)):
                        text = f"Is the {phrase} {RELATION_PHRASES[said]} the {kind.name}?"
                        ask("is the", text, _yes(truth), "yes/no")
    for thing in view.things:
        if view.counts[f"{thing.colour} thing"] == 1:
            ask("what is the", f"What is the {thing.colour} thing?", thing.kind, "other", 4)
        noun = count_noun(KINDS[thing.kind].category)
        if view.counts[noun] == 1:
            ask("which", f"Which {noun} is in the picture?", thing.kind, "other", 3)
    ask("what is the setting", "What is the setting of the picture?", scene.setting, "other", 3)
    for setting in SETTINGS:
        text = f"Was this picture taken {SETTING_PHRASES[setting]}?"
        ask("was this picture", text, _yes(setting == scene.setting), "yes/no")

    ask("how many", "How many things are there?", str(len(view.things)), "number")
    countable = [p for p in present if not p.startswith(VISIBLE_PATTERNS)]
    for phrase in [
        *countable,
        *absent_kinds,
        *(p for p in map(count_noun, CATEGORIES) if p not in view.counts),
    ]:
        ask("how many", f"How many {plural(phrase)} are there?", str(view.counts[phrase]), "number")
    return found


def gqa_candidates(scene: Scene, rng: random.Random) -> list[Question]:
    """Every compositional question worth asking, with program, types and claims; unbalanced."""
    view, found = View(scene), []

    def ask(text, answer, program, types, full, mentions=(), claims=(), min_answers=2, family="") -> None:
        answer_type = "yes/no" if answer in ("yes", "no") else "other"
        claims = frozenset(claims) or frozenset({(text, answer)})
        found.append(
            Question(
                scene.image_id,
                text,
                answer,
                answer_type,
                family,
                full,
                tuple(program),
                types,
                tuple(mentions),
                claims,
                min_answers,
            )
        )

    def colour_claims(i: int, colour: str, truth: bool) -> set[Claim]:
        if not truth:
            return {("not colour", str(i), colour)}
        return {("colour", str(i), colour)} | {("not colour", str(i), c) for c in COLOURS if c != colour}

    for i, thing in enumerate(view.things):
        name = thing.kind
        for relation in RELATIONS:
            others, where = view.related[i, relation], RELATION_PHRASES[relation]
            for phrase in rng.sample(view.unique[i], min(2, len(view.unique[i]))):
                select = ("select", (), f"{phrase} ({i})")
                if len(others) == 1:
                    j = others[0]
                    other = view.things[j]
                    relate = ("relate", (0,), f"_,{where},s ({j})")
                    ask(
                        f"What is {where} the {phrase}?",
                        other.kind,
                        [select, relate, ("query", (1,), "name")],
                        ("query", "rel"),
                        f"The {other.kind} is {where} the {phrase}.",
                        [(phrase, i)],
                        family="relation name",
                        min_answers=3,
                    )
                    ask(
                        f"What colour is the thing {where} the {phrase}?",
                        other.colour,
                        [select, relate, ("query", (1,), "color")],
                        ("query", "attr"),
                        f"The thing {where} the {phrase} is {other.colour}.",
                        [(phrase, i)],
                        colour_claims(j, other.colour, True),
                        family="relation colour",
                        min_answers=3,
                    )
                    for colour in sorted({other.colour, *rng.sample(list(COLOURS), 2)}):
                        truth = colour == other.colour
                        ask(
                            f"Is the thing {where} the {phrase} {colour}?",
                            _yes(truth),
                            [select, relate, ("verify color", (1,), colour)],
                            ("verify", "attr"),
                            f"{_yes(truth).capitalize()}, the thing {where} the {phrase} is {other.colour}.",
                            [(phrase, i)],
                            colour_claims(j, colour, truth),
                            family="relation verify",
                        )
                kinds_there = {view.things[j].kind for j in others}
                if kinds_there:
                    elsewhere = sorted(set(KINDS) - kinds_there)
                    for kind in sorted(
                        {*kinds_there, *(t.kind for t in view.things), rng.choice(elsewhere)} - {name}
                    ):
                        truth = kind in kinds_there
                        ask(
                            f"Is there {a(kind)} {where} the {phrase}?",
                            _yes(truth),
                            [select, ("relate", (0,), f"{kind},{where},s (-)"), ("exist", (1,), "?")],
                            ("verify", "rel"),
                            f"{_yes(truth).capitalize()}, there is {a(kind) if truth else 'no ' + kind} "
                            f"{where} the {phrase}.",
                            [(phrase, i)],
                            family="relation exist",
                        )

    for i, thing in view.unique_kinds():
        kind, select = KINDS[thing.kind], ("select", (), f"{thing.kind} ({i})")
        if kind.colour is None:
            for other in rng.sample([c for c in COLOURS if c != thing.colour], 3):
                first, second = sorted((thing.colour, other))
                ask(
                    f"Is the {kind.name} {first} or {second}?",
                    thing.colour,
                    [select, ("choose color", (0,), f"{first}|{second}")],
                    ("choose", "attr"),
                    f"The {kind.name} is {thing.colour}.",
                    [(kind.name, i)],
                    colour_claims(i, thing.colour, True),
                    family="choose colour",
                )
            if kind.patterns_allowed:
                for colour, pattern in (
                    (thing.colour, thing.pattern),
                    (thing.colour, rng.choice(PATTERNS)),
                    (rng.choice(list(COLOURS)), thing.pattern),
                ):
                    truth = (colour, pattern) == (thing.colour, thing.pattern)
                    ask(
                        f"Is the {kind.name} {colour} and {pattern}?",
                        _yes(truth),
                        [
                            select,
                            ("verify color", (0,), colour),
                            ("verify pattern", (0,), pattern),
                            ("and", (1, 2), ""),
                        ],
                        ("logical", "attr"),
                        f"{_yes(truth).capitalize()}, the {kind.name} is {thing.colour} and {thing.pattern}.",
                        [(kind.name, i)],
                        family="verify both",
                    )
        for j, other in view.unique_kinds():
            if j == i:
                continue
            both = [(thing.kind, i), (other.kind, j)]
            for pair in (("left of", "right of"), ("above", "below")):
                held = [r for r in pair if i in view.related[j, r]]
                if held:
                    choice = {"left of": "to the left or to the right of", "above": "above or below"}[pair[0]]
                    argument = "|".join(RELATION_PHRASES[r] for r in pair)
                    ask(
                        f"Is the {thing.kind} {choice} the {other.kind}?",
                        held[0].removesuffix(" of"),
                        [select, ("choose rel", (0,), f"{other.kind},{argument},s ({j})")],
                        ("choose", "rel"),
                        f"The {thing.kind} is {RELATION_PHRASES[held[0]]} the {other.kind}.",
                        both,
                        family="choose relation",
                    )
            if i < j:
                (p, k), (q, m) = sorted(both)
                truth = thing.colour == other.colour
                if KINDS[p].colour is None or KINDS[q].colour is None:
                    ask(
                        f"Do the {p} and the {q} have the same colour?",
                        _yes(truth),
                        [
                            ("select", (), f"{p} ({k})"),
                            ("select", (), f"{q} ({m})"),
                            ("same color", (0, 1), ""),
                        ],
                        ("compare", "attr"),
                        "Yes, they have the same colour." if truth else "No, their colours differ.",
                        both,
                        family="same colour",
                    )

    nouns = [*map(count_noun, CATEGORIES), *sorted({t.kind for t in view.things})]
    nouns += rng.sample(sorted(set(KINDS) - set(nouns)), 2)
    for p, q in {tuple(sorted(rng.sample(nouns, 2))) for _ in range(8)}:
        here = [view.counts[p] > 0, view.counts[q] > 0]
        program = [("select", (), p), ("exist", (0,), "?"), ("select", (), q), ("exist", (2,), "?")]
        for word, text, truth in (
            ("and", f"Are there both {a(p)} and {a(q)}?", all(here)),
            ("or", f"Is there either {a(p)} or {a(q)}?", any(here)),
        ):
            seen = [a(x) if there else f"no {x}" for x, there in zip((p, q), here, strict=True)]
            full = f"{_yes(truth).capitalize()}, there is {seen[0]} and {seen[1]}."
            ask(
                text,
                _yes(truth),
                [*program, (word, (1, 3), "")],
                ("logical", "obj"),
                full,
                family=f"logical {word}",
            )
    for setting in SETTINGS:
        if setting != scene.setting:
            first, second = sorted((setting, scene.setting))
            ask(
                f"Was this picture taken {SETTING_PHRASES[first]} or {SETTING_PHRASES[second]}?",
                scene.setting,
                [("select", (), "scene"), ("choose place", (0,), f"{first}|{second}")],
                ("choose", "global"),
                f"It was taken {SETTING_PHRASES[scene.setting]}.",
                family="choose setting",
            )
    return found


def balanced(candidates: Iterable[Question], rng: random.Random, wanted: int) -> list[Question]:
    """About `wanted` candidates or fewer, in whole units: each text with each of its answers equally often.

    For each text the answers kept, and how often each is asked, maximise the number of questions (at most
    four per answer, so that common texts do not crowd out rare ones). Units are drawn in turn from the
    families, by type of answer in the proportions of VQA v2 (38 % yes/no, 12 % number, 50 % other), as far as
    there are enough.
    """
    by_text: dict[str, dict[str, list[Question]]] = defaultdict(lambda: defaultdict(list))
    seen: set[tuple[str, str]] = set()
    for question in candidates:
        if (question.image_id, question.text) not in seen:
            seen.add((question.image_id, question.text))
            by_text[question.text][question.answer].append(question)

    units: dict[str, dict[str, list[list[Question]]]] = defaultdict(lambda: defaultdict(list))
    for text in sorted(by_text):
        answers = sorted(by_text[text].items(), key=lambda item: (-len(item[1]), item[0]))
        example = answers[0][1][0]
        plans = [
            (n * min(4, len(answers[n - 1][1])), n) for n in range(example.min_answers, len(answers) + 1)
        ]
        if not plans:
            continue
        total, n = max(plans)
        drawn = [rng.sample(questions, total // n) for _, questions in answers[:n]]
        units[example.answer_type][example.family] += [list(unit) for unit in zip(*drawn, strict=True)]

    chosen: list[Question] = []
    shares = {t: share for t, share in (("number", 0.12), ("other", 0.5), ("yes/no", 0.38)) if units[t]}
    for answer_type, share in shares.items():
        families = [rng.sample(found, len(found)) for _, found in sorted(units[answer_type].items())]
        budget = round(wanted * share / sum(shares.values()))
        while budget > 0 and any(families):
            for family in families:
                if family and budget > 0:
                    unit = family.pop()
                    budget -= len(unit)
                    chosen += unit
    return chosen


def vqa_questions(scenes: Sequence[Scene], seed: int, wanted: int) -> list[Question]:
    """About `wanted` balanced VQA-like questions, sorted by picture; fewer where there are few scenes."""
    return _asked(scenes, f"vqa-{seed}", wanted, vqa_candidates)


def gqa_questions(scenes: Sequence[Scene], seed: int, wanted: int) -> list[Question]:
    """About `wanted` balanced GQA-like questions, sorted by picture; fewer where there are few scenes."""
    return _asked(scenes, f"gqa-{seed}", wanted, gqa_candidates)


def _asked(
    scenes: Sequence[Scene],
    name: str,
    wanted: int,
    candidates: Callable[[Scene, random.Random], list[Question]],
) -> list[Question]:
    order = {scene.image_id: i for i, scene in enumerate(scenes)}
    pool = (q for scene in scenes for q in candidates(scene, random.Random(f"{name}-{scene.image_id}")))
    chosen = balanced(pool, random.Random(name), wanted)
    return sorted(chosen, key=lambda q: (order[q.image_id], q.text))


def human_answers(question: Question, vocabulary: Sequence[str], seed: int) -> list[tuple[str, str]]:
    """Ten (answer, confidence) as VQA v2 has them: at least eight agree, so that the right answer scores 1.

    VQA accuracy is min(number of people who gave it / 3, 1) (Antol et al. 2015, section 3); now and then one
    or two of the ten err, with another answer from `vocabulary`.
    """
    rng = random.Random(f"people-{seed}-{question.image_id}-{question.text}")
    wrong = rng.choices((0, 1, 2), (0.7, 0.2, 0.1))[0]
    others = [answer for answer in vocabulary if answer != question.answer]
    people = [(question.answer, "yes")] * 10
    for place in rng.sample(range(10), wrong if others else 0):
        people[place] = (rng.choice(others), "maybe")
    return people


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


def statement_forms(p: str, q: str, n: int, setting: str) -> list[tuple[str, Callable[[View, View], bool]]]:
    """The sentences that can be said with phrases p and q, a number and a setting, each with its meaning."""

    def has(view: View, phrase: str = p) -> bool:
        return view.counts[phrase] > 0

    def total(left: View, right: View) -> int:
        return left.counts[p] + right.counts[p]

    where = SETTING_PHRASES[setting]
    exactly = f"is exactly one {p}" if n == 1 else f"are exactly {n} {plural(p)}"
    return [
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
        (
            f"There {exactly} in the two pictures.",
            lambda x, y: total(x, y) == n,
        ),
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


def statements(scenes: Sequence[Scene], seed: int, wanted: int, pairs: int = 2) -> list[Statement]:
    """About `wanted` statements: each sentence with `pairs` true and `pairs` false pairs of pictures."""
    rng = random.Random(f"nlvr2-{seed}-{scenes[0].split if scenes else ''}")
    views = [View(scene) for scene in scenes]
    showing: dict[str, list[View]] = defaultdict(list)
    for view in views:
        for phrase in sorted(view.counts):
            showing[phrase].append(view)
    phrases = sorted(p for p, found in showing.items() if 2 <= len(found) <= len(views) - 2 and p != "thing")
    nouns = [p for p in phrases if p in _PLURALS] or phrases
    found: list[Statement] = []
    said: set[str] = set()
    for _ in range(20 * wanted):  # most attempts succeed; a tiny world runs out of sentences
        if len(found) >= wanted or not phrases:
            break
        p, q = (rng.choice(rng.choice((phrases, nouns))) for _ in range(2))
        forms = statement_forms(p, q, rng.choice((1, 1, 2, 2, 3)), rng.choice(SETTINGS))
        text, holds = rng.choice(forms)
        if text in said or p == q:
            continue
        said.add(text)
        by_truth: dict[bool, list[tuple[View, View]]] = {True: [], False: []}
        used: set[tuple[str, str]] = set()
        for _ in range(80):
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
        rows = [(truth, pair) for truth, side in by_truth.items() for pair in side]
        rng.shuffle(rows)
        group = len(found) // (2 * pairs)
        for number, (truth, (left, right)) in enumerate(rows):
            found.append(Statement(text, left.scene.image_id, right.scene.image_id, truth, group, number, p))
    return found


LABELS = ("entailment", "neutral", "contradiction")


@dataclass(frozen=True)
class Entailment:
    """A premise that describes a picture (partly), a hypothesis about that picture, and how they stand."""

    premise: str
    hypothesis: str
    label: str  # of LABELS
    image_id: str  # a picture that the premise is true of
    group: int  # shared by the three premises of one hypothesis


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
    pool: dict[tuple[str, str], list[tuple[Scene, int]]] = defaultdict(
        list
    )  # (attribute, kind) -> where it shows
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
