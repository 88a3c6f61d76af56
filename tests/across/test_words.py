"""Stage `across.words`: what is right, raw and calibrated; states; pictures; and what is written is read back."""

import numpy as np
import pytest

from tests.tiny_lm import context
from vlpnb.across import words
from vlpnb.across.words import WORDS, WordsConfig, ask, open_words

CANDIDATES = ["yellow", "green"]
YELLOW = ("banana", "lemon", "swan", "chick", "corn", "sun")
GREEN = ("frog", "cactus", "pea", "leek", "lime", "lizard")
KINDS = dict.fromkeys(YELLOW, "yellow") | dict.fromkeys(GREEN, "green")
ITEMS = [
    {"prompt": f"{prompt} {kind} is [MASK] .", "answer": colour, "candidates": CANDIDATES, "kind": kind}
    for prompt in ("the", "a")
    for kind, colour in KINDS.items()
]


class Fake:
    """Likes yellow everywhere, and knows a little; with a picture it knows all."""

    def __init__(self, knows=0.3, whole=1, pictures=()):
        self.knows, self.whole, self.pictures = knows, whole, pictures

    def scores(self, items):
        rows = [[self.knows * (c == item["answer"]) + (c == "yellow") for c in CANDIDATES] for item in items]
        return np.array(rows, float) - 5

    def vectors(self, items):
        return {kind: np.array([float(colour == "yellow")] * 4) for kind, colour in KINDS.items()}

    def pieces(self, word):
        return self.whole

    def beside(self, pictures):
        return Fake(2, self.whole, pictures)


def test_calibration_takes_off_what_a_word_gets_anyway():
    found = ask(Fake(), ITEMS, 6, None)
    assert np.mean(found.raw) == 0.5  # always yellow
    assert np.mean(found.calibrated) == 1
    assert found.kinds == (*KINDS, *KINDS)
    assert (found.chance, found.majority, found.whole) == (0.5, 0.5, 1)
    assert found.linear == dict.fromkeys(found.linear, 1.0)
    assert found.linear_chance == 0.5


def test_a_model_without_the_words_is_said_to_have_none():
    assert ask(Fake(whole=3), ITEMS, 2, None).whole == 0


def test_comparisons_have_no_states():
    items = [{**item, "other": "car"} for item in ITEMS]
    found = ask(Fake(), items, 2, None)
    assert found.linear == {}
    assert np.isnan(found.linear_chance)


def test_beside_pictures_every_kind_sees_its_own_and_those_without_are_left_out():
    shown = {kind: [f"{kind}.png"] for kind in KINDS if kind != "pea"}
    found = ask(Fake(), ITEMS, 2, shown)
    assert "pea" not in found.kinds
    assert all(found.raw)
    assert found.linear == {}


def test_the_stage_writes_what_is_read_back(tmp_path, monkeypatch):
    (tmp_path / "lists").mkdir()
    lines = [str(item).replace("'", '"') for item in ITEMS]
    (tmp_path / "lists" / "colour.jsonl").write_text("\n".join(lines) + "\n")
    monkeypatch.setattr(words, "open_reader", lambda *arguments: Fake())
    monkeypatch.setattr(
        words, "load_folder", lambda folder, name: type("Data", (), {"folder": tmp_path / "lists"})
    )
    folders = {"model": tmp_path, "knowledge": tmp_path}
    metrics = WORDS.run(context(WordsConfig(splits=3), tmp_path / "out", folders))
    assert metrics == {
        "colour": 0.5, "colour_calibrated": 1.0, "colour_chance": 0.5, "colour_majority": 0.5, "colour_whole": 1.0,
        "colour_linear": 1.0, "colour_linear_chance": 0.5,
    }  # fmt: skip
    again = open_words(tmp_path / "out")["colour"]
    assert again == ask(Fake(), ITEMS, 3, None)


@pytest.mark.parametrize(
    ("model", "regions"), [("vokens", False), ("lxmert", True), ("valm", False), ("cclm", False)]
)
def test_pictures_are_asked_for_where_they_are_read(model, regions):
    plain = WORDS.inputs(WordsConfig(model=model))
    assert plain.keys() == {"model", "knowledge"}
    seen = WORDS.inputs(WordsConfig(model=model, setting="pictures"))
    assert ("regions" in seen) == regions
    assert WORDS.inputs(WordsConfig(model=model, trained_with=3))["model"].overrides["seed"] == 3
