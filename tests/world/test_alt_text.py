"""Texts of the web's kind: true, no richer than captions, in a style of their own."""

import re
from collections.abc import Iterable
from functools import cache

from vlpnb.world.alt_text import alt_text
from vlpnb.world.grammar import caption, plan_caption
from vlpnb.world.languages.english import NOUNS, NUMBERS, PATTERNS, SIZES
from vlpnb.world.scene import COLOURS, KINDS, Scene, make_scene

COUNTS = {word: number for number, word in NUMBERS.items()}
SAID_BY = {word: name for name, words in (PATTERNS | SIZES).items() for word in words}
FORMS = {form: name for name, words in NOUNS.items() for word in words for form in word}


@cache
def scenes() -> list[Scene]:
    return [make_scene(3, "train", i) for i in range(600)]


def mentions(text: str) -> list[tuple[int | None, list[str], str]]:
    """(number, adjectives, kind or category) of all that a text mentions."""
    found, number, adjectives = [], None, []
    for word in re.findall(r"\w+", re.sub(r"pieces? of furniture", "furniture", text.lower())):
        if word in COUNTS:
            number = COUNTS[word]
        elif word in COLOURS or word in SAID_BY:
            adjectives.append(word)
        elif word in FORMS or word == "furniture":
            found.append((number, adjectives, FORMS.get(word, word)))
            number, adjectives = None, []
    return found


def test_they_are_true_of_their_scene():
    for scene in scenes():
        said = mentions(alt_text(scene))
        assert said
        for number, adjectives, name in said:
            things = [t for t in scene.things if name in (t.kind, KINDS[t.kind].category)]
            assert any(
                all(
                    word in (t.colour, t.size) or SAID_BY.get(word) in (t.pattern, t.size)
                    for word in adjectives
                )
                for t in things
            )
            assert number is None or number <= len(things)


def test_no_canonical_colour_is_said():
    for scene in scenes():
        for _, adjectives, name in mentions(alt_text(scene)):
            fitting = [t for t in scene.things if name in (t.kind, KINDS[t.kind].category)]
            if all(KINDS[t.kind].colour is not None for t in fitting):
                assert not set(adjectives) & set(COLOURS)


def test_they_say_no_more_than_captions_do():
    """Of things and of their colours, a text tells at most as large a share as a caption that lists them."""

    def shares(texts: Iterable[tuple[Scene, str]]) -> tuple[float, float]:
        said = [(scene, mentions(text)) for scene, text in texts]
        things = sum(number or 1 for _, found in said for number, _, _ in found)
        colours = sum(bool(set(adjectives) & set(COLOURS)) for _, found in said for _, adjectives, _ in found)
        return things / sum(len(s.things) for s, _ in said), colours / sum(len(found) for _, found in said)

    ours = shares((scene, alt_text(scene)) for scene in scenes())
    listing = ("bare", "there", "see", "picture", "front")
    theirs = shares(
        (scene, caption(scene, "en", v))
        for scene in scenes() for v in range(5) if plan_caption(scene, v).form in listing
    )  # fmt: skip
    assert 0.5 < ours[0] < theirs[0] + 0.02
    assert 0.3 < ours[1] < theirs[1] + 0.02


def test_their_style_is_not_that_of_captions():
    texts = [alt_text(scene) for scene in scenes()]
    sentences = [caption(scene, "en", variant) for scene in scenes() for variant in range(5)]
    assert all(text == text.lower() and not text.endswith(".") and "  " not in text for text in texts)
    verbs = {"is", "are", "there", "see", "shows", "the", "a", "an"}
    assert not verbs & {word for text in texts for word in text.split()}
    assert sum(bool(verbs & set(sentence.lower().split())) for sentence in sentences) > 0.9 * len(sentences)
    plain = {sentence.lower().rstrip(".") for sentence in sentences}
    assert sum(text in plain for text in texts) < 0.05 * len(texts)
    assert len(set(texts)) > 0.8 * len(texts)
