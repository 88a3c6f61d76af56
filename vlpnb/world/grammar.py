"""Captions of a scene in English, German, French, Indonesian and Chinese, realised from the scene graph.

`plan_caption` decides what is said, once for all languages; `vlpnb/world/languages/` holds the words and the
agreement of each language. A caption is true of its scene, but leaves things out as people do. It never
states a canonical attribute: no colour of a kind that always has it, and no shape, material or order of size,
because people do not say what everybody knows (the reporting bias that the visual world is built on).
"""

import random
from collections.abc import Iterator
from types import ModuleType

from vlpnb.errors import UserError
from vlpnb.world.languages import chinese, english, french, german, indonesian
from vlpnb.world.languages.sentence_plan import Phrase, SentencePlan
from vlpnb.world.scene import KINDS, Scene, Thing

LANGUAGES: dict[str, ModuleType] = {
    "en": english,
    "de": german,
    "fr": french,
    "id": indonesian,
    "zh": chinese,
}

# How often something that can be said is said.
SAY_COLOUR = 0.8  # of a free kind
SAY_PATTERN = 0.7  # when there is one; SAY_PLAIN otherwise
SAY_PLAIN = 0.05
SAY_SIZE = 0.3
SAY_SETTING = 0.5
SAY_CATEGORY = 0.12  # "a red vehicle" in place of "a red car", "two vehicles" in place of "two cars"
SAY_ALL = 0.65  # all of three or more groups of things rather than some


def caption(scene: Scene, language: str, variant: int) -> str:
    """A sentence about the scene, equal in every process; those of one variant are translations.

    Raises UserError for an unknown language or a negative variant.
    """
    if language not in LANGUAGES:
        raise UserError(f"Unknown language {language!r} of captions; expected one of {', '.join(LANGUAGES)}.")
    return LANGUAGES[language].realise(plan_caption(scene, variant))


def plan_caption(scene: Scene, variant: int) -> SentencePlan:
    """What caption number `variant` of a scene says; neighbouring variants take different forms."""
    if variant < 0:
        raise UserError(f"Caption variant {variant} is negative; variants are numbered from 0.")
    identity = f"{scene.image_id}/{scene.content}"
    forms = sorted(set(_possible_forms(scene)))
    random.Random(identity).shuffle(forms)
    rng = random.Random(f"{identity}/{variant}")
    form = forms[variant % len(forms)]
    setting = scene.setting if form == "front" or rng.random() < SAY_SETTING else None
    relation, colours = None, ()
    if form == "relation":
        i, relation, j = rng.choice(_sayable_relations(scene))
        phrases = tuple(phrase_of([scene.things[k]], rng) for k in (i, j))
    elif form == "beside":
        first, second = rng.sample(grouped(scene), 2)
        phrases = (phrase_of(first[:1], rng), phrase_of(second[:1], rng))
    elif form == "predicate":
        phrases = (_predicate_phrase(rng.choice(_predicate_subjects(scene)), rng),)
        setting = setting if setting != "night" and rng.random() < 0.5 else None
    elif form == "contrast":
        pair = rng.choice(_contrast_pairs(scene))
        phrases = (Phrase(pair[0].kind, 2, synonym=rng.randrange(12)),)
        colours = (pair[0].colour, pair[1].colour)
    else:
        groups = grouped(scene)
        rng.shuffle(groups)
        if len(groups) > 2 and rng.random() > SAY_ALL:
            groups = groups[: rng.randint(1, len(groups) - 1)]
        phrases = tuple(phrase_of(group, rng) for group in groups)
    return SentencePlan(form, phrases, setting, relation, colours, rng.randrange(60))


def _possible_forms(scene: Scene) -> Iterator[str]:
    yield from ("bare", "there", "see", "picture", "front")
    if _sayable_relations(scene):
        yield "relation"
    if len(grouped(scene)) > 1:
        yield "beside"
    if _predicate_subjects(scene):
        yield "predicate"
    if _contrast_pairs(scene):
        yield "contrast"


def grouped(scene: Scene) -> list[list[Thing]]:
    """The things of a scene by kind."""
    groups: dict[str, list[Thing]] = {}
    for thing in scene.things:
        groups.setdefault(thing.kind, []).append(thing)
    return list(groups.values())


def _sayable_relations(scene: Scene) -> list[tuple[int, str, int]]:
    """Relations between things of different kinds."""
    return [(i, r, j) for i, r, j in scene.relations() if scene.things[i].kind != scene.things[j].kind]


def _predicate_subjects(scene: Scene) -> list[Thing]:
    """Things that "the …" picks out: the only ones of their kind."""
    return [group[0] for group in grouped(scene) if len(group) == 1]


def _contrast_pairs(scene: Scene) -> list[list[Thing]]:
    """Pairs of one free kind in two colours, with nothing else of that kind."""
    return [
        group
        for group in grouped(scene)
        if len(group) == 2 and KINDS[group[0].kind].colour is None and group[0].colour != group[1].colour
    ]


def _shared(values: set[str]) -> str | None:
    """The only value, or None when there are several."""
    return next(iter(values)) if len(values) == 1 else None


def phrase_of(things: list[Thing], rng: random.Random) -> Phrase:
    """Some or all of what the things have in common, colour of free kinds most often."""
    kind = KINDS[things[0].kind]
    colour = _shared({thing.colour for thing in things}) if kind.colour is None else None
    pattern = _shared({thing.pattern for thing in things}) if kind.patterns_allowed else None
    size = _shared({thing.size for thing in things})
    # Every draw is made, whether it is used or not: what is said of one attribute does not shift the others.
    say_colour, say_pattern, say_size, say_category = (rng.random() for _ in range(4))
    return Phrase(
        kind=kind.category if say_category < SAY_CATEGORY else kind.name,
        count=len(things),
        colour=colour if say_colour < SAY_COLOUR else None,
        pattern=pattern if say_pattern < (SAY_PLAIN if pattern == "plain" else SAY_PATTERN) else None,
        size=size if say_size < SAY_SIZE else None,
        synonym=rng.choice((0, 0, 0, 1, 2, 3)),  # the usual word more often than not
    )


def _predicate_phrase(thing: Thing, rng: random.Random) -> Phrase:
    """A phrase about one thing that says at least one attribute of it."""
    kind = KINDS[thing.kind]
    if kind.colour is not None:
        return Phrase(thing.kind, size=thing.size, synonym=rng.randrange(2))
    pattern = thing.pattern if thing.pattern != "plain" and rng.random() < 0.5 else None
    colour = thing.colour if pattern is None or rng.random() < 0.7 else None
    size = thing.size if rng.random() < 0.15 else None
    return Phrase(thing.kind, 1, colour, pattern, size, rng.randrange(2))
