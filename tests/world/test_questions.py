"""Questions about the world: true answers, exact balance, and nothing to guess from the words."""

import random
import re
from collections import Counter, defaultdict

import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from vlpnb.world.phrases import plural
from vlpnb.world.questions import (
    LABELS,
    STATEMENT_KINDS,
    CountedScene,
    balanced,
    entailments,
    gqa_candidates,
    gqa_questions,
    human_answers,
    premise,
    statement_forms,
    statements,
    vqa_questions,
)
from vlpnb.world.scene import CANONICAL_KINDS, COLOURS, FREE_KINDS, KINDS, SETTINGS, make_scene

N_TRAIN, N_VALID = 1000, 250  # "the same colour?" needs two pictures of the same two kinds


@pytest.fixture(scope="module")
def scenes():
    return {
        split: [make_scene(0, split, i) for i in range(n)]
        for split, n in (("train", N_TRAIN), ("valid", N_VALID))
    }


@pytest.fixture(scope="module")
def asked(scenes):
    makers = {"vqa": vqa_questions, "gqa": gqa_questions}
    return {
        (kind, split): maker(scenes[split], 0, 3 * len(scenes[split]))
        for kind, maker in makers.items()
        for split in scenes
    }


def blind_accuracy(train: list[tuple[str, str]], test: list[tuple[str, str]]) -> float:
    """Accuracy of logistic regression on words and pairs of words of (text, answer) rows."""
    words = CountVectorizer(ngram_range=(1, 2), binary=True, token_pattern=r"\w+")
    model = LogisticRegression(max_iter=300)
    model.fit(words.fit_transform(text for text, _ in train), [answer for _, answer in train])
    return model.score(words.transform(text for text, _ in test), [answer for _, answer in test])


@pytest.mark.parametrize("kind", ["vqa", "gqa"])
@pytest.mark.parametrize("split", ["train", "valid"])
def test_every_text_has_its_answers_equally_often(asked, kind, split):
    answers = defaultdict(Counter)
    for question in asked[kind, split]:
        answers[question.text][question.answer] += 1
    assert len(asked[kind, split]) > N_VALID
    for text, counts in answers.items():
        assert len(counts) > 1, text
        assert len(set(counts.values())) == 1, (text, counts)


@pytest.mark.parametrize("kind", ["vqa", "gqa"])
def test_words_alone_are_at_chance_for_yes_no(asked, kind):
    rows = {
        split: [(q.text, q.answer) for q in asked[kind, split] if q.answer_type == "yes/no"]
        for split in ("train", "valid")
    }
    assert len(rows["valid"]) > 100
    # exactly one half: each text has both answers, and the baseline says one of them
    assert blind_accuracy(rows["train"], rows["valid"]) == 0.5


def test_words_alone_are_at_chance_for_open_questions(asked):
    """A text with A answers gives at most 1/A to whoever knows everything but the picture."""
    for question_set in asked.values():
        answers = defaultdict(set)
        for question in question_set:
            answers[question.text].add(question.answer)
        colours = [q for q in question_set if q.family in ("what colour is the", "relation colour")]
        assert colours
        assert sum(1 / len(answers[q.text]) for q in colours) / len(colours) <= 0.4


def test_all_three_types_of_answers_and_many_families(asked):
    questions = asked["vqa", "train"]
    assert {q.answer_type for q in questions} == {"yes/no", "number", "other"}
    assert len({q.family for q in questions}) >= 9
    compositional = asked["gqa", "train"]
    assert {q.types[0] for q in compositional} == {"verify", "query", "choose", "logical", "compare"}
    assert {q.types[1] for q in compositional} >= {"attr", "rel", "obj", "global"}


def test_answers_are_true(asked, scenes):
    """An independent reading of the questions' words against the scenes."""
    by_id = {scene.image_id: scene for found in scenes.values() for scene in found}
    checked = Counter()
    for question in [q for found in asked.values() for q in found]:
        scene = by_id[question.image_id]
        text = question.text
        if match := re.fullmatch(r"What colour is the (\w+)\?", text):
            truth = {t.colour for t in scene.things if t.kind == match[1]}
            assert truth == {question.answer}
        elif match := re.fullmatch(r"Is there an? (\w+) (\w+)( in the picture)?\?", text):
            colour, kind = match[1], match[2]
            if colour not in COLOURS:
                continue
            there = any(t.colour == colour and kind in (t.kind, "thing") for t in scene.things)
            assert question.answer == ("yes" if there else "no")
        elif match := re.fullmatch(r"Is the (\w+) (to the left of|above) the (\w+)\?", text):
            places = defaultdict(list)
            for t in scene.things:
                for name in (t.kind, KINDS[t.kind].category):
                    places[name].append((t.x, t.y))
            if not (match[1] in places and match[3] in places):
                continue
            (one,), (other,) = places[match[1]], places[match[3]]
            axis = 0 if "left" in match[2] else 1
            assert question.answer == ("yes" if one[axis] < other[axis] else "no")
        elif text == "How many things are there?":
            assert question.answer == str(len(scene.things))
        elif match := re.fullmatch(r"Is the (\w+) (\w+) or (\w+)\?", text):
            assert question.answer in (match[2], match[3])
            assert question.answer in {t.colour for t in scene.things if t.kind == match[1]}
        else:
            continue
        checked[question.family] += 1
    assert checked.total() > 500
    assert len(checked) >= 5


def test_no_text_states_a_canonical_colour(asked, scenes):
    stated = {f"{KINDS[name].colour} {name}" for name in CANONICAL_KINDS}
    texts = [q.text for found in asked.values() for q in found]
    texts += [s.text for s in statements(scenes["train"], 0, 400)]
    texts += [t for e in entailments(scenes["train"], 0, 300) for t in (e.premise, e.hypothesis)]
    for text in texts:
        assert not any(phrase in text for phrase in stated), text
        about = re.match(r"(?:Is the|The) (\w+)(?: is)? (\w+)[.?]$", text)
        assert not (about and about[1] in CANONICAL_KINDS and about[2] in COLOURS), text


def test_gqa_entailment_follows_from_claims():
    scene = next(
        s
        for s in (make_scene(0, "train", i) for i in range(500))
        if len(s.things) == 2 and s.things[0].kind in FREE_KINDS and s.things[0].kind != s.things[1].kind
    )
    found = gqa_candidates(scene, random.Random(0))
    queries = [q for q in found if q.family == "relation colour"]
    verified = [q for q in found if q.family == "relation verify"]
    implied = [v for q in queries for v in verified if v.claims <= q.claims]
    assert implied
    assert all(not q.claims <= v.claims for q in queries for v in verified if v.answer == "no")


def test_statements_are_true_as_often_as_false_and_mean_what_they_say(scenes):
    views = {s.image_id: CountedScene(s) for s in scenes["valid"]}
    found = statements(scenes["valid"], 0, 400)
    assert len(found) >= 390
    per_group = defaultdict(Counter)
    for s in found:
        per_group[s.text][s.truth] += 1
        if s.text.startswith("Both pictures show"):
            thing = s.text.removeprefix("Both pictures show ").removesuffix(".").split(" ", 1)[1]
            assert s.truth == all(views[i].counts[thing] > 0 for i in (s.left, s.right))
        if s.text.startswith("There are more things"):
            assert s.truth == (len(views[s.left].things) > len(views[s.right].things))
    assert all(counts == {True: 2, False: 2} for counts in per_group.values())
    assert len({s.text.split()[0] for s in found}) >= 5


def test_words_alone_are_at_chance_for_statements(scenes):
    rows = {s: [(x.text, str(x.truth)) for x in statements(scenes[s], 0, 600)] for s in scenes}
    assert blind_accuracy(rows["train"], rows["valid"]) == 0.5


def test_statement_forms_are_grammatical():
    forms = statement_forms("orange fox", "piece of furniture", 2, SETTINGS[0])
    assert tuple(form.kind for form in forms) == STATEMENT_KINDS
    for text in (form.text for form in forms):
        assert not re.search(r"\ba [aeiou]|\ban [^aeiou]", text), text
        assert text.endswith(".")


def test_statements_can_be_made_easier(scenes):
    found = statements(
        scenes["train"], 0, 400, pairs=6, kinds=("left", "both"), about=("car", "fox", "animal")
    )
    assert {s.subject for s in found} == {"car", "fox", "animal"}
    assert all(
        re.fullmatch(r"There is .* in the left picture\.|Both pictures show .*\.", s.text) for s in found
    )
    by_text = defaultdict(list)
    for s in found:
        by_text[s.text].append(s)
    assert len(by_text) == 6
    for group in by_text.values():
        assert sum(s.truth for s in group) == 6 == len(group) / 2
        assert len({(s.left, s.right) for s in group}) == 12


def test_entailments_come_in_threes_with_true_premises(scenes):
    found = entailments(scenes["train"], 0, 300)
    by_id = {s.image_id: s for s in scenes["train"]}
    groups = defaultdict(list)
    for e in found:
        groups[e.group].append(e)
        scene = by_id[e.image_id]
        for colour in COLOURS:
            for kind in FREE_KINDS:
                if re.search(rf"\b{colour} (\w+ )?{kind}\b", e.premise):
                    assert any((t.colour, t.kind) == (colour, kind) for t in scene.things), e
    for group in groups.values():
        assert sorted(e.label for e in group) == sorted(LABELS)
        assert len({e.hypothesis for e in group}) == 1
    rows = [(e.hypothesis, e.label) for e in found]
    assert blind_accuracy(rows, rows) == pytest.approx(1 / 3)


def test_premise_says_a_relation_only_when_given():
    first, second = (type("M", (), {"phrase": lambda self, n=n: n})() for n in ("red car", "fox"))
    assert (
        premise(first, second, "left of", "night", 0) == "There is a red car to the left of a fox at night."
    )
    assert premise(first, second, None, None, 1) == "A red car and a fox can be seen."


def test_human_answers_agree_and_are_repeatable(asked):
    errs = 0
    for question in asked["vqa", "valid"][:300]:
        people = human_answers(question, ["yes", "no", "red", "blue"], 0)
        assert people == human_answers(question, ["yes", "no", "red", "blue"], 0)
        assert len(people) == 10
        agree = sum(answer == question.answer for answer, _ in people)
        assert agree >= 8
        errs += agree < 10
    assert errs > 20


def test_nothing_to_balance_is_no_question():
    assert balanced([], random.Random(0), 100) == []
    alone = [make_scene(0, "train", 0)]
    assert vqa_questions(alone, 0, 10) == []  # one picture cannot have two answers to one text
    assert statements(alone, 0, 10) == []
    assert statements([], 0, 10) == []
    assert entailments([], 0, 10) == []


@pytest.mark.parametrize(
    ("one", "many"),
    [
        ("red fox", "red foxes"),
        ("mouse", "mice"),
        ("piece of furniture", "pieces of furniture"),
        ("thing", "things"),
    ],
)
def test_plural(one, many):
    assert plural(one) == many
