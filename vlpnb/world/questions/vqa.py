"""Simple questions with one-word answers, as in VQA v2 (Goyal et al. 2017)."""

import random
from collections.abc import Sequence

from vlpnb.world.languages.sentence_plan import QuestionPlan
from vlpnb.world.phrases import (
    OPPOSITE,
    RELATION_PHRASES,
    RELATIONS,
    SETTING_PHRASES,
    VISIBLE_PATTERNS,
    a,
    count_noun,
    planned,
    plural,
)
from vlpnb.world.questions.balance import Question, asked, yes
from vlpnb.world.questions.counted_scene import CountedScene
from vlpnb.world.scene import CATEGORIES, COLOURS, KINDS, SETTINGS, Scene


def vqa_candidates(scene: Scene, rng: random.Random) -> list[Question]:
    """Every simple question worth asking about the scene, unbalanced; wording never depends on the answer."""
    view, found = CountedScene(scene), []

    def ask(
        family: str,
        text: str,
        answer: str,
        answer_type: str,
        min_answers: int = 2,
        plan: QuestionPlan | None = None,
    ) -> None:
        found.append(
            Question(scene.image_id, text, answer, answer_type, family, min_answers=min_answers, plan=plan)
        )

    def planned_as(form: str, *described: str, values: tuple[str, ...] = (), relation: str | None = None):
        phrases = planned(*described)
        return QuestionPlan(form, phrases, values, relation) if len(phrases) == len(described) else None

    def exists(phrase: str, truth: bool) -> None:
        where = rng.choice(["", " in the picture"])
        plan = planned_as(f"exists{where}", phrase)
        ask("is there a", f"Is there {a(phrase)}{where}?", yes(truth), "yes/no", plan=plan)

    present = sorted(phrase for phrase in view.counts if phrase != "thing")
    absent_kinds = rng.sample(sorted(set(KINDS) - {t.kind for t in view.things}), 4)
    absent_nouns = [noun for noun in map(count_noun, CATEGORIES) if noun not in view.counts]
    absent = absent_kinds + absent_nouns
    absent += [f"{colour} thing" for colour in COLOURS if f"{colour} thing" not in view.counts]
    for thing in view.things:
        if KINDS[thing.kind].colour is None:
            # the hard negative: this kind in a colour that is elsewhere, or nowhere
            others = [c for c in COLOURS if f"{c} {thing.kind}" not in view.counts]
            absent += [f"{colour} {thing.kind}" for colour in rng.sample(others, 3)]
    for phrase in present:
        exists(phrase, True)
    for phrase in sorted(set(absent)):
        exists(phrase, False)

    for i, thing in view.unique_kinds():
        kind = KINDS[thing.kind]
        if kind.colour is None:
            plan = planned_as("colour of", kind.name)
            ask("what colour is the", f"What colour is the {kind.name}?", thing.colour, "other", 4, plan)
            for colour in {thing.colour, rng.choice(list(COLOURS)), rng.choice(list(COLOURS))}:
                plan = planned_as("colour is", kind.name, values=(colour,))
                text = f"Is the {kind.name} {colour}?"
                ask("is the", text, yes(colour == thing.colour), "yes/no", plan=plan)
        if kind.patterns_allowed:
            text = f"What pattern does the {kind.name} have?"
            plan = planned_as("pattern of", kind.name)
            ask("what pattern does the", text, thing.pattern, "other", 3, plan)
            for pattern in VISIBLE_PATTERNS:
                plan = planned_as("pattern is", kind.name, values=(pattern,))
                text = f"Is the {kind.name} {pattern}?"
                ask("is the", text, yes(pattern == thing.pattern), "yes/no", plan=plan)
        ask("how big is the", f"How big is the {kind.name}?", thing.size, "other")
        for relation in RELATIONS:
            others = view.related[i, relation]
            if len(others) == 1:  # one answer, and nothing else in that direction
                where = RELATION_PHRASES[relation]
                text, plan = (
                    f"What is {where} the {kind.name}?",
                    planned_as("neighbour", kind.name, relation=relation),
                )
                ask("what is", text, view.things[others[0]].kind, "other", 3, plan)
            for j in others:
                for phrase in view.unique[j]:
                    for said, truth in ((relation, True), (OPPOSITE[relation], False)):
                        text = f"Is the {phrase} {RELATION_PHRASES[said]} the {kind.name}?"
                        plan = planned_as("relation is", phrase, kind.name, relation=said)
                        ask("is the", text, yes(truth), "yes/no", plan=plan)
    for thing in view.things:
        if view.counts[f"{thing.colour} thing"] == 1:
            ask("what is the", f"What is the {thing.colour} thing?", thing.kind, "other", 4)
        noun = count_noun(KINDS[thing.kind].category)
        if view.counts[noun] == 1:
            ask(
                "which", f"Which {noun} is in the picture?", thing.kind, "other", 3, planned_as("which", noun)
            )
    ask("what is the setting", "What is the setting of the picture?", scene.setting, "other", 3)
    for setting in SETTINGS:
        text = f"Was this picture taken {SETTING_PHRASES[setting]}?"
        plan = QuestionPlan("setting is", values=(setting,))
        ask("was this picture", text, yes(setting == scene.setting), "yes/no", plan=plan)

    ask("how many", "How many things are there?", str(len(view.things)), "number")
    countable = [p for p in present if not p.startswith(VISIBLE_PATTERNS)]
    for phrase in countable + absent_kinds + absent_nouns:
        text, plan = f"How many {plural(phrase)} are there?", planned_as("how many", phrase)
        ask("how many", text, str(view.counts[phrase]), "number", plan=plan)
    return found


def vqa_questions(scenes: Sequence[Scene], seed: int, wanted: int) -> list[Question]:
    """About `wanted` balanced VQA-like questions, sorted by picture; fewer where there are few scenes."""
    return asked(scenes, f"vqa-{seed}", wanted, vqa_candidates)


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
