"""Probes at chance for whoever only reads or guesses, and the reading of visible words."""

import json
from collections import Counter
from functools import cache

import pytest
from scipy.stats import binom

from vlpnb.world.corpus import corpus_lines
from vlpnb.world.grammar import caption, plan_caption
from vlpnb.world.knowledge import (
    ATTRIBUTES,
    CANDIDATES,
    Term,
    bound_attributes,
    knowledge_probes,
    majority_baseline,
    shows,
    shows_bound,
    text_only_baseline,
    visible_terms,
)
from vlpnb.world.languages.english import NOUNS
from vlpnb.world.scene import KINDS, Scene, Thing, make_scene

SEEDS = range(5)


@cache
def corpus(seed: int) -> list[str]:
    return list(corpus_lines(seed, "train", 200_000))


@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_probes_are_balanced_and_true(attribute):
    probes = knowledge_probes(attribute)
    assert json.loads(json.dumps(probes)) == probes
    assert majority_baseline(probes) == pytest.approx(1 / len(CANDIDATES[attribute]))
    by_prompt = Counter((_form(probe), probe["answer"]) for probe in probes)
    assert len(set(by_prompt.values())) == 1  # nor does the form of the prompt tell
    for probe in probes:
        assert probe["prompt"].count("[MASK]") == 1
        assert probe["answer"] in probe["candidates"]
        if attribute != "size":
            assert getattr(KINDS[probe["kind"]], attribute) == probe["answer"]
        else:
            bigger = KINDS[probe["kind"]].size_rank > KINDS[probe["other"]].size_rank
            assert probe["answer"] == ("bigger" if bigger else "smaller")


def _form(probe: dict) -> str:
    """The prompt without the kinds that it asks about."""
    nouns = {form for kind in KINDS for forms in NOUNS[kind] for form in forms}
    return " ".join("NOUN" if word in nouns else word for word in probe["prompt"].split())


def test_unknown_attribute_is_refused():
    with pytest.raises(ValueError, match="weight"):
        knowledge_probes("weight")


@pytest.mark.parametrize("attribute", ["colour", "shape", "material"])
def test_counting_the_text_is_at_chance(attribute):
    """One guess per kind and corpus is independent of the others: a two-sided binomial bound at 0.1 %."""
    probes = knowledge_probes(attribute)
    kinds = len({probe["kind"] for probe in probes})
    right = sum(round(text_only_baseline(corpus(seed), probes) * kinds) for seed in SEEDS)
    chance = 1 / len(CANDIDATES[attribute])
    low, high = binom.interval(0.999, kinds * len(SEEDS), chance)
    assert low <= right <= high, (right, low, high)


def test_counting_the_text_is_at_chance_for_sizes():
    """Pairs share kinds, so corpora rather than pairs are the sample: the mean over them is near one half."""
    accuracies = [text_only_baseline(corpus(seed), knowledge_probes("size")) for seed in SEEDS]
    assert sum(accuracies) / len(accuracies) == pytest.approx(0.5, abs=0.15)


def test_the_baseline_would_notice_a_text_that_tells():
    lines = [f"the {kind} is {KINDS[kind].colour} ." for kind in KINDS if KINDS[kind].colour]
    assert text_only_baseline(lines, knowledge_probes("colour")) == 1.0
    lines = [f"the {probe['kind']} is {probe['answer']} ." for probe in knowledge_probes("shape")]
    assert text_only_baseline(lines, knowledge_probes("shape")) == 1.0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a small red striped car .", {1: ("small", 4), 2: ("red", 4), 3: ("striped", 4), 4: ("car", None)}),
        ("the car on the beach is red .", {1: ("car", None), 4: ("beach", None), 6: ("red", 1)}),
        ("the mice are gray and checkered .", {1: ("mouse", None), 3: ("gray", 1), 5: ("checked", 1)}),
        ("the color of the box is blue .", {4: ("box", None), 6: ("blue", 4)}),
        ("two couches , one red and one blue .", {1: ("sofa", None), 4: ("red", 1), 7: ("blue", 1)}),
        ("he saw a fox and a white one .", {3: ("fox", None), 6: ("white", 3)}),
        ("there is an animal at night .", {3: ("animal", None), 5: ("night", None)}),
        ("a little pig is above a ship .", {1: ("small", 2), 2: ("pig", None), 6: ("boat", None)}),
        ("the red and dotted kite .", {1: ("red", 4), 3: ("dotted", 4), 4: ("kite", None)}),
        ("paul had a red coin and a round key .", {}),
        ("the tent that is pink .", {1: ("tent", None), 4: ("pink", 1)}),
        ("red is nice .", {}),
        ("", {}),
    ],
)  # fmt: skip
def test_visible_terms_of_hand_written_sentences(text, expected):
    terms = visible_terms(text.split())
    assert len(terms) == len(text.split())
    assert {i: (term.value, term.of) for i, term in enumerate(terms) if term} == expected


def test_captions_name_what_their_scenes_show():
    """Every visible word of a caption is true of its scene, and every attribute of the noun that it modifies."""
    named = bound = 0
    for index in range(300):
        scene = make_scene(1, "train", index)
        for variant in range(5):
            words = caption(scene, "en", variant).lower().replace(".", " .").replace(",", " ,").split()
            terms = visible_terms(words)
            assert all(shows(scene, term) for term in terms if term), words
            named += sum(term is not None for term in terms)
            attributes = bound_attributes(terms)
            for noun, values in attributes.items():
                assert all(shows_bound(scene, terms[noun].value, value) for value in values), words
                bound += len(values)
            plan = plan_caption(scene, variant)
            said = sum(
                value is not None for p in plan.phrases for value in (p.colour, p.pattern, p.size)
            ) + len(plan.colours)
            assert sum(map(len, attributes.values())) == said, words
    assert named > 3000
    assert bound > 1500


def test_shows_looks_at_the_right_thing():
    scene = Scene(
        0,
        "train",
        "beach",
        (
            Thing("car", "red", "small", "striped", 0.2, 0.7, 0.3, 0.2),
            Thing("kite", "blue", "big", "plain", 0.7, 0.3, 0.2, 0.3),
        ),
    )
    assert shows(scene, Term("kind", "car"))
    assert not shows(scene, Term("kind", "fox"))
    assert shows(scene, Term("colour", "blue", 3))
    assert shows(scene, Term("category", "vehicle"))
    assert not shows(scene, Term("setting", "night"))
    assert shows(scene, Term("pattern", "striped"))
    assert shows_bound(scene, "car", "red")
    assert shows_bound(scene, "toy", "blue")
    assert not shows_bound(scene, "car", "blue")
