"""A GLUE-shaped suite about the visual world: nine tasks in the layout of the distributed TSV files.

The columns are those of GLUE (Wang et al. 2019), so that `vlpnb.data.glue` reads these files and the real ones
alike. What each task asks here: CoLA, whether a sentence is grammatical; SST-2, whether it is fond of its thing;
MRPC and QQP, whether two sentences or questions say the same; STS-B, how much two descriptions share; MNLI and
RTE, whether a premise supports a hypothesis; QNLI, whether a sentence answers a question; WNLI, whom a pronoun
means.

Balance: examples are drawn in *groups*. In the tasks about pairs a group holds each sentence of its second column
equally often with every label (STS-B apart), so the second sentence alone says nothing; in MRPC, QQP, QNLI and
WNLI the same is true of the first. Groups never straddle train, dev and test.

A minority of MNLI (genre "knowledge") needs a canonical colour ("The only thing here is a banana. / It is
yellow."), which the corpus never states. Of the two kinds of a colour one is asked for in train and the other in
dev and test, so that fine-tuning cannot teach what is tested.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from vlpnb.world.corpus import FACTS, PEOPLE
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

TASKS = ("CoLA", "SST-2", "MRPC", "STS-B", "QQP", "MNLI", "QNLI", "RTE", "WNLI")
KNOWLEDGE_SHARE = 0.15  # of MNLI's groups
_SEEN = ("saw", "found", "noticed", "passed")
_COLOURED = {colour: [k for k in CANONICAL_KINDS if KINDS[k].colour == colour] for colour in COLOURS}


@dataclass(frozen=True)
class Example:
    """One example: its sentences, its label as the files spell it, and for MNLI its genre."""

    first: str
    second: str = ""
    label: str = ""
    genre: str = ""


Group = list[Example]


# What sentences mention


def _mention(rng: random.Random, kind: str | None = None, said: float = 0.5) -> Mention:
    """A thing with some attributes said; a canonical kind gets neither colour nor pattern."""
    kind = kind or rng.choice(tuple(KINDS))
    size = rng.choice(SIZES) if rng.random() < said / 2 else None
    if KINDS[kind].colour is not None:
        return Mention(kind, size=size)
    colour = rng.choice(free_colours(kind)) if rng.random() < said else None
    pattern = rng.choice(VISIBLE_PATTERNS) if rng.random() < said else None
    return Mention(kind, colour, pattern, size)


def _two(rng: random.Random, said: float = 0.5) -> tuple[Mention, Mention]:
    """Two things of different categories."""
    first = _mention(rng, said=said)
    others = [k for k in KINDS if KINDS[k].category != KINDS[first.noun].category]
    return first, _mention(rng, rng.choice(others), said)


def _free(rng: random.Random, not_category: str = "") -> str:
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
        x, y = (a(" ".join((*_adjectives(m), _word(m.noun, wording)))) for m in (one, two))
        rel = english.RELATIONS[relation][wording // 2 % 2]
        where = SETTING_PHRASES[self.setting]
        forms = (
            f"{capital(x)} is {rel} {y} {where}.",
            f"{capital(where)}, {x} is {rel} {y}.",
            f"There is {x} {rel} {y} {where}.",
            f"The picture shows {x} {rel} {y} {where}.",
        )
        return forms[wording // 4 % 4]


def _adjectives(m: Mention) -> tuple[str, ...]:
    return tuple(m.phrase().split()[:-1])


def _word(kind: str, wording: int) -> str:
    """A synonym of the kind, where it has one."""
    words = english.NOUNS[kind]
    return words[wording % len(words)][0]


def _fact(rng: random.Random, said: float = 0.6) -> Fact:
    one, two = _two(rng, said)
    return Fact(one, rng.choice(RELATIONS), two, rng.choice(SETTINGS))


def _edits(fact: Fact, rng: random.Random) -> Iterator[Fact]:
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
                yield replace(fact, **{side: _mention(rng, rng.choice(others), 0.6)})


# Single sentences


def _cola(rng: random.Random, fold: int) -> Group:
    """A grammatical sentence, and another one with one flaw."""
    good = _plain_sentence(rng)
    while (bad := _flawed(_plain_sentence(rng), rng)) is None:
        pass
    return [Example(_join(good), label="1"), Example(_join(bad), label="0")]


def _join(words: list[str]) -> str:
    return capital(" ".join(words)).replace(" ,", ",") + "."


def _plain_sentence(rng: random.Random) -> list[str]:
    one, two = _two(rng, 0.8)
    where, name = SETTING_PHRASES[rng.choice(SETTINGS)], rng.choice(PEOPLE)[0]
    relation = english.RELATIONS[rng.choice(RELATIONS)][0]
    number = rng.choice(("two", "three", "four"))
    some = " ".join((number, *_adjectives(one), plural(one.noun)))
    verb = rng.choice(_SEEN)
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
        "missing verb": [i for i, w in enumerate(words) if w in verbs or w in _SEEN],
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


_FOND = ("lovely", "wonderful", "beautiful", "charming", "great", "excellent", "delightful")
_UNFOND = ("ugly", "terrible", "awful", "dull", "poor", "boring", "dreadful")


def _sst2(rng: random.Random, fold: int) -> Group:
    """A fond and an unfond sentence; negation and contrast turn many words round."""
    group = []
    for fond in (True, False):
        thing, name = _mention(rng).phrase(), rng.choice(PEOPLE)[0].lower()
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


# Pairs that say the same, or nearly


def _latin(first: tuple[str, str], second: tuple[str, str], yes: str, no: str) -> Group:
    """Two pairs that belong together, and the two that mix them: no sentence alone tells anything."""
    (x, x2), (y, y2) = first, second
    return [Example(x, x2, yes), Example(x, y2, no), Example(y, y2, yes), Example(y, x2, no)]


def _mrpc(rng: random.Random, fold: int) -> Group:
    """Two facts one element apart, each in two wordings."""
    fact = _fact(rng)
    other = next(e for e in _edits(fact, rng) if e.atoms() != fact.atoms())
    w, v = rng.sample(range(16), 2)
    return _latin((fact.sentence(w), fact.sentence(v)), (other.sentence(w), other.sentence(v)), "1", "0")


def _qqp(rng: random.Random, fold: int) -> Group:
    """Two questions one element apart, each in two wordings."""
    one, two = _two(rng, 0.6)
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
    return _latin(*rng.choice(pairs), "1", "0")


def _stsb(rng: random.Random, fold: int) -> Group:
    """Two descriptions some edits apart; the score is five times the weighted overlap of their elements."""
    fact = _fact(rng)
    other = fact
    for _ in range(rng.randrange(6)):
        other = next(_edits(other, rng))
    if rng.random() < 0.1:
        other = _fact(rng)
    mine, theirs = fact.atoms(), other.atoms()
    shared = sum(weight for atom, weight in mine.items() if atom in theirs)
    score = 5 * shared / sum((mine | theirs).values())
    return [Example(fact.sentence(rng.randrange(16)), other.sentence(rng.randrange(16)), f"{score:.3f}")]


def _qnli(rng: random.Random, fold: int) -> Group:
    """Two questions and two sentences of which each answers one."""
    if rng.random() < 0.3:
        kind = rng.choice(tuple(FACTS))
        (places, habits), noun = FACTS[kind], plural(kind)
        verb, rest = rng.choice(habits)
        where = (f"Where does one find {noun}?", f"{capital(noun)} are found {rng.choice(places)}.")
        what = (f"What do {noun} do?", f"{capital(noun)} {verb} {rest}.")
        return _latin(where, what, "entailment", "not_entailment")
    one = _free(rng)
    two = _free(rng, KINDS[one].category)
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
    return _latin((questions[0], sentences[0]), (questions[1], sentences[1]), "entailment", "not_entailment")


# Entailment


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
        "story": f"{name} {rng.choice(_SEEN)} {both}{where}.",
        "letter": f"Dear {friend}, you will not believe that we found {both}{where}. Yours, {name}.",
        "report": f"According to {name}, {both} could be seen{where} on Sunday.",
    }[genre]


def _triple(rng: random.Random, genres: tuple[str, ...]) -> Group:
    """One hypothesis with a premise for each label."""
    about = rng.choice(("colour", "pattern", "size", "place", "relation"))
    kind = _free(rng)
    noun = rng.choice((kind, count_noun(KINDS[kind].category)))
    second = _free(rng, KINDS[kind].category)
    if about == "place":
        values = [SETTING_PHRASES[s] for s in rng.sample(SETTINGS, 2)]
    elif about == "relation":
        relation = rng.choice(RELATIONS)
        values = [relation, OPPOSITE[relation]]
    else:
        domain = {"colour": free_colours(kind), "pattern": VISIBLE_PATTERNS, "size": SIZES}[about]
        values = rng.sample(list(domain), 2)
    value = values[0]
    hypothesis = {
        "relation": f"The {noun} is {english.RELATIONS[value][0] if about == 'relation' else ''} the {second}.",
    }.get(about, f"The {noun} is {value}.")  # fmt: skip
    group = []
    for label, stated in zip(LABELS, (value, None, values[1]), strict=True):
        one, two = _mention(rng, kind, 0.4), _mention(rng, second, 0.4)
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


def _mnli(rng: random.Random, fold: int) -> Group:
    return _knowledge(rng, fold) if rng.random() < KNOWLEDGE_SHARE else _triple(rng, ("picture", "story"))


def _mnli_mismatched(rng: random.Random, fold: int) -> Group:
    """Genres that training never shows."""
    return _triple(rng, ("letter", "report"))


def _rte(rng: random.Random, fold: int) -> Group:
    """Two premises for one hypothesis, with a sentence before that has nothing to do with it."""
    yes, *others = _triple(rng, ("picture", "story"))
    group = []
    for example, label in ((yes, "entailment"), (rng.choice(others), "not_entailment")):
        kind = rng.choice(tuple(FACTS))
        verb, rest = rng.choice(FACTS[kind][1])
        opening = f"{capital(plural(kind))} {verb} {rest}."
        group.append(Example(f"{opening} {example.first}", example.second, label))
    return group


def _wnli(rng: random.Random, fold: int) -> Group:
    """A sentence whose last words decide whom its pronoun means; both orders of the two, both endings."""
    pronoun = rng.choice(("he", "she"))
    people = rng.sample([name for name, said in PEOPLE if said == pronoun], 2)
    things = [f"the {m.phrase()}" for m in _two(rng)]
    thing = _mention(rng).phrase()
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


# Splits and files

_GROUPS: dict[str, Callable[[random.Random, int], Group]] = {
    "CoLA": _cola, "SST-2": _sst2, "MRPC": _mrpc, "STS-B": _stsb, "QQP": _qqp, "MNLI": _mnli,
    "MNLI-MM": _mnli_mismatched, "QNLI": _qnli, "RTE": _rte, "WNLI": _wnli,
}  # fmt: skip


def glue_examples(task: str, seed: int, sizes: dict[str, int]) -> dict[str, list[Example]]:
    """Examples of each split in `sizes` (split → how many, met by whole groups), no example in two splits.

    `task` is one of `TASKS` or "MNLI-MM". Splits named "train" take one half of the canonical kinds, others the
    other half. Equal in every process.
    """
    seen: set[tuple[str, str]] = set()
    result = {}
    for split, size in sizes.items():
        rng = random.Random(f"glue-{seed}-{task}-{split}")
        groups: list[Group] = []
        count = tries = 0
        while count < size and tries < 40 * size:  # ends where a task runs out of different sentences
            tries += 1
            group = _GROUPS[task](rng, 0 if split == "train" else 1)
            keys = {(example.first, example.second) for example in group}
            if len(keys) == len(group) and not keys & seen:
                seen |= keys
                groups.append(group)
                count += len(group)
        result[split] = rng.sample(examples := [e for group in groups for e in group], len(examples))
    return result


def glue_files(task: str, seed: int, train: int, dev: int, test: int) -> Iterator[tuple[str, str]]:
    """(file name, content) of each file of a task, in the distributed layout; test files carry no labels."""
    splits = glue_examples(task, seed, {"train": train, "dev": dev, "test": test})
    if task != "MNLI":
        for split, examples in splits.items():
            yield f"{split}.tsv", _tsv(task, split, examples)
        return
    other = glue_examples("MNLI-MM", seed, {"dev": dev, "test": test})
    yield "train.tsv", _tsv(task, "train", splits["train"])
    for split in ("dev", "test"):
        yield f"{split}_matched.tsv", _tsv(task, split, splits[split])
        yield f"{split}_mismatched.tsv", _tsv(task, split, other[split])


_HEADERS = {
    "SST-2": "sentence label", "MRPC": "\ufeffQuality,#1 ID,#2 ID,#1 String,#2 String",
    "STS-B": "index genre filename year old_index source1 source2 sentence1 sentence2 score",
    "QQP": "id qid1 qid2 question1 question2 is_duplicate", "QNLI": "index question sentence label",
    "MNLI": "index promptID pairID genre sentence1_binary_parse sentence2_binary_parse sentence1_parse "
            "sentence2_parse sentence1 sentence2 label1 gold_label",
    "RTE": "index sentence1 sentence2 label", "WNLI": "index sentence1 sentence2 label",
}  # fmt: skip
_TEST_HEADERS = {
    "CoLA": "index sentence", "SST-2": "index sentence", "MRPC": "index,#1 ID,#2 ID,#1 String,#2 String",
    "STS-B": _HEADERS["STS-B"].removesuffix(" score"), "QQP": "id question1 question2",
    "QNLI": "index question sentence", "MNLI": _HEADERS["MNLI"].removesuffix(" label1 gold_label"),
    "RTE": "index sentence1 sentence2", "WNLI": "index sentence1 sentence2",
}  # fmt: skip


def _tsv(task: str, split: str, examples: list[Example]) -> str:
    """The file of one split, each task in its own columns."""
    labelled = split != "test"
    header = (_HEADERS if labelled else _TEST_HEADERS).get(task)
    lines = []
    if header:
        lines.append("\t".join(header.split("," if "," in header else " ")))
    for i, example in enumerate(examples):
        first, second, label = example.first, example.second, example.label
        if task == "CoLA":
            row = ("world", label, "*" if label == "0" else "", first) if labelled else (i, first)
        elif task == "SST-2":
            row = (first, label) if labelled else (i, first)
        elif task == "MRPC":
            row = (label if labelled else i, 2 * i, 2 * i + 1, first, second)
        elif task == "QQP":
            row = (i, 2 * i, 2 * i + 1, first, second, label) if labelled else (i, first, second)
        elif task == "STS-B":
            row = (i, "main-captions", "world", "2026", f"{i:04d}", "none", "none", first, second)
        elif task == "MNLI":
            parses = (f"( {first} )", f"( {second} )", f"(ROOT {first})", f"(ROOT {second})")
            row = (i, i, f"{i}{label[0]}" if labelled else i, example.genre, *parses, first, second)
            row += (label,) if labelled else ()
        else:
            row = (i, first, second)
        if labelled and task not in ("CoLA", "SST-2", "MRPC", "QQP"):
            row += (label,)
        lines.append("\t".join(map(str, row)))
    return "\n".join(lines) + "\n"
