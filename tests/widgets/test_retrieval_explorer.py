"""The retrieval explorer's round trip: a sentence is set, pictures or an error come back; its static fallback."""

import numpy as np
import pytest
from PIL import Image

from vlpnb.errors import UserError
from vlpnb.widgets.retrieval_explorer import RetrievalExplorer

NAMES = ["sea", "grass", "sand"]


def retrieve(sentence):
    if sentence == "crash":
        raise ZeroDivisionError("no pictures")
    tokens = sentence.split()
    ids = np.array([[len(t) % 3, (len(t) + 1) % 3] for t in tokens])
    return tokens, ids, np.full(ids.shape, 0.5)


@pytest.fixture
def opened():
    return []


@pytest.fixture
def explorer(opened):
    def picture(voken):
        opened.append(voken)
        return Image.new("RGB", (20, 20), "blue")

    return RetrievalExplorer(retrieve, picture, NAMES, "ab cde", title="search")


def test_a_new_sentence_is_answered_with_its_tokens_and_their_pictures(explorer):
    explorer.sentence = "abcd"
    assert explorer.answered == "abcd"
    assert explorer.tokens == [
        {"text": "abcd", "vokens": [{"id": "1", "score": 0.5}, {"id": "2", "score": 0.5}]}
    ]
    assert {v: p["alt"] for v, p in explorer.pictures.items()} == {"1": "grass", "2": "sand"}
    assert explorer.error == ""


def test_a_picture_is_opened_once(explorer, opened):
    explorer.sentence = "ab cde f"
    assert sorted(opened) == [0, 1, 2]


@pytest.mark.parametrize(
    ("sentence", "message"),
    [(" ", "empty"), ("x" * 401, "401 characters; at most 400"), ("crash", "ZeroDivisionError: no pictures")],
)
def test_an_error_is_shown_and_the_last_answer_stays(explorer, sentence, message):
    explorer.sentence = sentence
    assert message in explorer.error
    assert explorer.answered == sentence, "the view knows that its request was dealt with"
    assert [token["text"] for token in explorer.tokens] == ["ab", "cde"]
    assert "search: ab cde" in explorer.to_html(), "the fallback's heading is the sentence of its table"
    explorer.sentence = "abcd"
    assert explorer.error == ""


def test_the_fallback_is_the_first_sentences_table(explorer):
    bundle, _ = explorer._repr_mimebundle_()
    assert bundle["text/html"].count("<img ") == 4
    assert bundle["text/html"].count('alt="sand"') == 1
    assert "cde  sea (0.50), grass (0.50)" in bundle["text/plain"]
    assert "application/vnd.jupyter.widget-view+json" in bundle


def test_a_first_sentence_that_cannot_be_answered_is_an_error_at_once():
    with pytest.raises(UserError, match="the sentence is empty"):
        RetrievalExplorer(retrieve, [])
    with pytest.raises(UserError, match="no picture"):
        RetrievalExplorer(retrieve, [], NAMES, "abc")


def test_pictures_that_are_no_vokens_are_called_what_they_are():
    view = RetrievalExplorer(retrieve, [Image.new("RGB", (20, 20))] * 3, NAMES, "ab cde", noun="picture")
    assert "picture 2</th>" in view.to_html()
    assert "voken" not in view.to_html()


EXAMPLES = {"en": "a red disc", "zh": "一个红色的球", "xx": "qwerty"}


@pytest.fixture
def languages(opened):
    def search(sentence):
        place = list(EXAMPLES.values()).index(sentence) if sentence in EXAMPLES.values() else 0
        return ["by vectors", "read closely"], np.array([[place, 2], [2, place]]), np.full((2, 2), 0.5)

    pictures = [Image.new("RGB", (20, 20))] * 3
    return RetrievalExplorer(search, pictures, NAMES, title="Search", noun="picture", examples=EXAMPLES)


def test_the_first_example_is_shown_where_no_sentence_is_given(languages):
    assert languages.sentence == languages.answered == "a red disc"
    assert [(e["code"], e["name"]) for e in languages.examples] == [
        ("en", "English"),
        ("zh", "中文"),
        ("xx", "xx"),
    ]


def test_the_fallback_has_a_row_of_pictures_for_each_language(languages):
    languages.sentence = "something else"
    text, page = languages.to_text().splitlines(), languages.to_html()
    assert text[0] == "Search"
    assert [line.strip() for line in text[1:]] == [
        "English: a red disc  sea (0.50), sand (0.50)",
        "中文: 一个红色的球  grass (0.50), sand (0.50)",
        "xx: qwerty  sand (0.50), sand (0.50)",
    ]
    assert '<th scope="col">language</th>' in page
    assert "something else" not in page, "the examples' table stays what it was"


def test_an_example_that_cannot_be_answered_is_an_error_at_once():
    with pytest.raises(UserError, match="the sentence is empty"):
        RetrievalExplorer(retrieve, [Image.new("RGB", (20, 20))] * 3, NAMES, "ab", examples={"de": " "})


def test_the_font_travels_where_an_example_is_chinese(languages, explorer):
    assert languages.font.startswith("data:font/ttf;base64,")
    assert explorer.font == ""
