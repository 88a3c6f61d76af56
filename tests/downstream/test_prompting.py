"""Prompts: rendered to the letter as recorded, from files whose hash is known, and never with a place left over."""

import hashlib
import json

import pytest

from vlpnb.data.commonsense import read_colours, read_sizes
from vlpnb.downstream.prompting import FOLDER, load_prompts, places_of, render, rendered
from vlpnb.errors import UserError


def sha256(prompts: list[str]) -> str:
    return hashlib.sha256("\n".join(prompts).encode()).hexdigest()


@pytest.fixture(scope="module")
def recorded(shared_data):
    """Prompts as another renderer made them of the published lists."""
    path = shared_data.parent / "golden" / "valm" / "prompts.json"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    return json.loads(path.read_text())


@pytest.mark.parametrize("name", ["memory_colors", "color_terms"])
def test_colour_prompts_are_those_recorded(shared_data, recorded, name):
    about = recorded[name]
    items = [{"d": i.descriptor, "x": i.thing} for i in read_colours(shared_data / about["file"])]
    prompts = rendered(load_prompts("colour"), items)
    assert len(prompts) == about["prompts"]
    assert sha256(prompts) == about["sha256_of_prompts_joined_by_newline"]
    for number, example in about["examples"].items():
        assert prompts[int(number)] == example["prompt"]
    if (left := about["sha256_with_placeholder_left_in"]) is not None:
        items = [{**item, "d": "[DESCRIPTOR]"} for item in items]
        assert sha256(rendered(load_prompts("colour"), items)) == left


def test_size_prompts_are_those_recorded_in_both_orders(shared_data, recorded):
    about = recorded["relative_size"]
    pairs = read_sizes(shared_data / about["file"])
    bigger_first = [{"a": pair.bigger, "b": pair.smaller} for pair in pairs]
    smaller_first = [{"a": pair.smaller, "b": pair.bigger} for pair in pairs]
    prompts = load_prompts("size")
    assert sha256(rendered(prompts, bigger_first)) == about["default"]["sha256_bigger_first"]
    assert sha256(rendered(prompts, smaller_first)) == about["default"]["sha256_smaller_first"]
    original = rendered(load_prompts("size_original"), bigger_first)
    assert sha256(original) == about["compat"]["sha256_of_prompts_joined_by_newline"]


def test_an_empty_descriptor_goes_with_its_space_alone():
    assert render("The color of {d} {x} is", {"d": "", "x": "grass"}) == "The color of grass is"
    assert render("{d} {x} usually has", {"d": "", "x": "grass"}) == "grass usually has"
    assert render("{x} {d}", {"d": "", "x": "grass"}) == "grass"
    assert render("{d} {x} is", {"d": "a ", "x": " sunflower"}) == "a sunflower is"


def test_no_published_prompt_set_keeps_a_place_or_doubles_a_space():
    words = dict.fromkeys(("d", "x", "y", "z", "a", "b", "one", "many", "other", "text"), "thing")
    for path in FOLDER.glob("*.yaml"):
        prompts = load_prompts(path.stem)
        for fields in (words, {**words, "d": ""}):
            for template in (*prompts.templates, *prompts.answers):
                text = render(template, fields)
                assert "  " not in text
                assert text == text.strip()
                assert not set(text) & set("{}[]<>")


def test_a_place_without_a_word_for_it_is_an_error():
    with pytest.raises(UserError, match=r"nothing is said for \{d\}, so that the place would be left"):
        render("The color of {d} {x} is", {"x": "grass"})


@pytest.mark.parametrize(
    "template", ["The color of [DESCRIPTOR] {x} is", "The color of {x is", "<item> is", "{0} is", "the } is"]
)
def test_a_template_whose_place_is_none_is_an_error(template, tmp_path):
    with pytest.raises(UserError, match=r"place is written \{name\}"):
        places_of(template)
    path = tmp_path / "mine.yaml"
    path.write_text(json.dumps({"templates": [template]}))
    with pytest.raises(UserError, match=r"mine\.yaml: templates"):
        load_prompts(str(path))


def test_words_that_look_like_a_place_are_left_alone():
    assert render("Review: {text} Sentiment:", {"text": "{odd} [SIC]"}) == "Review: {odd} [SIC] Sentiment:"


def test_a_prompt_file_of_ones_own_takes_the_place_of_a_published_one(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("templates: ['{x} is']\nanswers: [red, blue]\n")
    found = load_prompts(str(path))
    assert (found.name, found.templates, found.answers) == ("mine", ("{x} is",), ("red", "blue"))
    assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    for text, message in (
        ("templates: []\n", "is empty"),
        ("[", "no YAML"),
        ("templates: [3]", "expected text"),
    ):
        path.write_text(text)
        with pytest.raises(UserError, match=message):
            load_prompts(str(path))
    with pytest.raises(
        UserError, match=r"there are no prompts 'color', nor such a file.*did you mean 'colour'"
    ):
        load_prompts("color")
