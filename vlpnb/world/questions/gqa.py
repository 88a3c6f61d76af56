"""Compositional questions with their programs, as in GQA (Hudson and Manning 2019)."""

import random
from collections.abc import Iterable, Sequence

from vlpnb.world.languages.sentence_plan import QuestionPlan
from vlpnb.world.phrases import RELATION_PHRASES, RELATIONS, SETTING_PHRASES, a, count_noun, planned
from vlpnb.world.questions.balance import Claim, Question, Step, asked, yes
from vlpnb.world.questions.counted_scene import CountedScene
from vlpnb.world.scene import CATEGORIES, COLOURS, KINDS, PATTERNS, SETTINGS, Scene


class _Asker:
    """Collects the questions about one picture."""

    def __init__(self, scene: Scene) -> None:
        self.image_id = scene.image_id
        self.found: list[Question] = []

    def __call__(
        self,
        text: str,
        answer: str,
        program: Sequence[Step],
        types: tuple[str, str],
        full: str,
        mentions: Sequence[tuple[str, int]] = (),
        claims: Iterable[Claim] = (),
        *,
        family: str,
        min_answers: int = 2,
        form: str,
        values: tuple[str, ...] = (),
        relation: str | None = None,
        about: Sequence[str] | None = None,
    ) -> None:
        """Add a question; without `claims` its answer establishes itself and nothing else.

        `form`, `values` and `relation` plan its translations, and the phrases that it mentions or that `about` has.
        """
        described = [phrase for phrase, _ in mentions] if about is None else about
        phrases = planned(*described)
        self.found.append(
            Question(
                self.image_id,
                text,
                answer,
                answer_type="yes/no" if answer in ("yes", "no") else "other",
                family=family,
                full_answer=full,
                program=tuple(program),
                types=types,
                mentions=tuple(mentions),
                claims=frozenset(claims) or frozenset({(text, answer)}),
                min_answers=min_answers,
                plan=QuestionPlan(form, phrases, values, relation)
                if len(phrases) == len(described)
                else None,
            )
        )


def gqa_candidates(scene: Scene, rng: random.Random) -> list[Question]:
    """Every compositional question worth asking, with program, types and claims; unbalanced."""
    view, ask = CountedScene(scene), _Asker(scene)
    for i in range(len(view.things)):
        _ask_neighbours(ask, view, i, rng)
    for i, _ in view.unique_kinds():
        _ask_attributes(ask, view, i, rng)
        _ask_pairs(ask, view, i)
    _ask_logical(ask, view, rng)
    _ask_setting(ask, scene)
    return ask.found


def _colour_claims(i: int, colour: str, truth: bool) -> set[Claim]:
    """What is known once the colour of thing `i` is confirmed, or denied."""
    if not truth:
        return {("not colour", str(i), colour)}
    return {("colour", str(i), colour)} | {("not colour", str(i), c) for c in COLOURS if c != colour}


def _ask_neighbours(ask: _Asker, view: CountedScene, i: int, rng: random.Random) -> None:
    """What lies in each direction of thing `i`, and of which colour."""
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
                    form="neighbour",
                    relation=relation,
                )
                ask(
                    f"What colour is the thing {where} the {phrase}?",
                    other.colour,
                    [select, relate, ("query", (1,), "color")],
                    ("query", "attr"),
                    f"The thing {where} the {phrase} is {other.colour}.",
                    [(phrase, i)],
                    _colour_claims(j, other.colour, True),
                    family="relation colour",
                    min_answers=3,
                    form="neighbour colour",
                    relation=relation,
                )
                for colour in sorted({other.colour, *rng.sample(list(COLOURS), 2)}):
                    truth = colour == other.colour
                    ask(
                        f"Is the thing {where} the {phrase} {colour}?",
                        yes(truth),
                        [select, relate, ("verify color", (1,), colour)],
                        ("verify", "attr"),
                        f"{yes(truth).capitalize()}, the thing {where} the {phrase} is {other.colour}.",
                        [(phrase, i)],
                        _colour_claims(j, colour, truth),
                        family="relation verify",
                        form="neighbour colour is",
                        values=(colour,),
                        relation=relation,
                    )
            kinds_there = {view.things[j].kind for j in others}
            if kinds_there:
                elsewhere = sorted(set(KINDS) - kinds_there)
                for kind in sorted(
                    {*kinds_there, *(t.kind for t in view.things), rng.choice(elsewhere)}
                    - {view.things[i].kind}
                ):
                    truth = kind in kinds_there
                    ask(
                        f"Is there {a(kind)} {where} the {phrase}?",
                        yes(truth),
                        [select, ("relate", (0,), f"{kind},{where},s (-)"), ("exist", (1,), "?")],
                        ("verify", "rel"),
                        f"{yes(truth).capitalize()}, there is {a(kind) if truth else 'no ' + kind} "
                        f"{where} the {phrase}.",
                        [(phrase, i)],
                        family="relation exist",
                        form="neighbour exists",
                        relation=relation,
                        about=(kind, phrase),
                    )


def _ask_attributes(ask: _Asker, view: CountedScene, i: int, rng: random.Random) -> None:
    """Choices and checks of the attributes of thing `i`, which is alone of its kind."""
    thing = view.things[i]
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
                _colour_claims(i, thing.colour, True),
                family="choose colour",
                form="choose colour",
                values=(first, second),
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
                    yes(truth),
                    [
                        select,
                        ("verify color", (0,), colour),
                        ("verify pattern", (0,), pattern),
                        ("and", (1, 2), ""),
                    ],
                    ("logical", "attr"),
                    f"{yes(truth).capitalize()}, the {kind.name} is {thing.colour} and {thing.pattern}.",
                    [(kind.name, i)],
                    family="verify both",
                    form="both attributes",
                    values=(colour, pattern),
                )


def _ask_pairs(ask: _Asker, view: CountedScene, i: int) -> None:
    """Thing `i` beside each other thing that is alone of its kind: their places and colours."""
    thing, select = view.things[i], ("select", (), f"{view.things[i].kind} ({i})")
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
                    form="choose relation",
                    relation=pair[0],
                )
        if i < j:
            (p, k), (q, m) = sorted(both)
            truth = thing.colour == other.colour
            if KINDS[p].colour is None or KINDS[q].colour is None:
                ask(
                    f"Do the {p} and the {q} have the same colour?",
                    yes(truth),
                    [("select", (), f"{p} ({k})"), ("select", (), f"{q} ({m})"), ("same color", (0, 1), "")],
                    ("compare", "attr"),
                    "Yes, they have the same colour." if truth else "No, their colours differ.",
                    both,
                    family="same colour",
                    form="same colour",
                    about=(p, q),
                )


def _ask_logical(ask: _Asker, view: CountedScene, rng: random.Random) -> None:
    """Whether both, or either, of two kinds or categories are there."""
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
            full = f"{yes(truth).capitalize()}, there is {seen[0]} and {seen[1]}."
            ask(
                text,
                yes(truth),
                [*program, (word, (1, 3), "")],
                ("logical", "obj"),
                full,
                family=f"logical {word}",
                form="both there" if word == "and" else "either there",
                about=(p, q),
            )


def _ask_setting(ask: _Asker, scene: Scene) -> None:
    """Which of two settings it is."""
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
                form="choose setting",
                values=(first, second),
            )


def gqa_questions(scenes: Sequence[Scene], seed: int, wanted: int) -> list[Question]:
    """About `wanted` balanced GQA-like questions, sorted by picture; fewer where there are few scenes."""
    return asked(scenes, f"gqa-{seed}", wanted, gqa_candidates)
