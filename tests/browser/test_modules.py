"""The views' ES modules on a blank page with a fake model: pointer, touch, keys, themes, what they send."""

import itertools

import numpy as np
import pytest

from tests.browser import toys
from vlpnb.widgets.region_explorer import RegionExplorer
from vlpnb.widgets.voken_explorer import VokenExplorer

pytestmark = pytest.mark.browser

CONTRAST = """
(node) => {
  // relative luminance and contrast ratio of WCAG 2.2
  const rgb = (colour) => {
    const drawing = document.createElement("canvas").getContext("2d");
    drawing.fillStyle = colour;
    drawing.fillRect(0, 0, 1, 1);
    return [...drawing.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const light = (colour) => rgb(colour)
    .map((c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  let behind = node;
  while (getComputedStyle(behind).backgroundColor === "rgba(0, 0, 0, 0)") behind = behind.parentElement;
  const colours = [getComputedStyle(node).color, getComputedStyle(behind).backgroundColor];
  const pair = colours.map(light).sort((a, b) => a - b);
  return (pair[1] + 0.05) / (pair[0] + 0.05);
}
"""
BACKGROUND = "(node) => getComputedStyle(node).backgroundColor"


def test_vokens_follow_pointer_and_keys_in_two_columns(show):
    page = show(toys.vokens())
    tokens, columns = page.locator(".vlpnb-token"), page.locator(".vlpnb-model")
    assert tokens.nth(0).is_disabled()
    assert [c.locator("p").inner_text() for c in columns.all()] == ["in context", "alone"]
    tokens.filter(has_text="gold").hover()
    assert toys.state(page, "selected") == 4
    assert toys.alts(columns.nth(0))[0] == "a gold disc"
    assert toys.alts(columns.nth(1))[-1] == "a gold disc", "the other model ranks it last"
    assert columns.nth(0).locator(".shared").count() == 4

    page.mouse.move(900, 650)
    page.keyboard.press("Tab")
    walked = []
    for key in ("ArrowRight", "ArrowDown", "ArrowRight", "ArrowLeft", "Home", "End"):
        page.keyboard.press(key)
        walked.append(toys.state(page, "selected"))
    assert walked == [5, 6, 1, 6, 1, 6], "round the row, past the token that has no voken"
    assert page.locator(".vlpnb-token[tabindex='0']").count() == 1
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement === document.body")


def test_context_is_shaded_by_its_contribution(show):
    page = show(toys.vokens())
    tokens = page.locator(".vlpnb-token")
    assert "against" in tokens.nth(0).get_attribute("class"), "a negative contribution has the other colour"
    assert "weighed" not in tokens.nth(1).get_attribute("class"), "the selected token is not its own context"
    strong, weak = (tokens.nth(i).evaluate("(n) => +n.style.getPropertyValue('--weight')") for i in (6, 3))
    assert strong == 1 > weak


def test_eight_pictures_share_one_row_where_they_fit_at_88_pixels(show):
    tokens, ids, scores = toys.retrieve("a red disc", k=8)
    page = show(VokenExplorer(tokens, ids, scores, toys.disc))
    boxes = "(all) => all.map((n) => n.getBoundingClientRect()).map((b) => [b.y, b.width])"
    for width, rows, expected in ((1000, 1, 104), (880, 1, 97), (600, 2, 88)):
        page.set_viewport_size({"width": width, "height": 700})
        found = page.locator(".vlpnb-voken").evaluate_all(boxes)
        assert len({y for y, _ in found}) == rows, width
        assert found[0][1] == pytest.approx(expected, abs=2)


def test_an_empty_sentence_says_so(show):
    page = show(VokenExplorer([], np.zeros((0, 3), int), np.zeros((0, 3)), toys.disc))
    assert page.locator(".vlpnb").inner_text() == "no tokens: the sentence is empty"


def test_a_finger_selects_a_token(show):
    page = show(toys.vokens(), has_touch=True)
    page.locator(".vlpnb-token").nth(3).tap()
    assert toys.state(page, "selected") == 3
    assert page.evaluate("model.saved.length") == 1, "one tap is one message"


@pytest.mark.parametrize("name", ["vokens", "retrieval", "attention", "regions", "embedding", "stepper"])
def test_readable_in_both_themes_and_lab_decides_over_the_system(show, name):
    page = show(getattr(toys, name)(), color_scheme="dark")
    root = page.locator(".vlpnb")
    readable = page.locator(
        ".vlpnb p:not(:empty), .vlpnb button:not(:disabled):not(.vlpnb-box), .vlpnb input, .vlpnb select, "
        ".vlpnb label, .vlpnb li, .vlpnb-maps > span"
    )
    for lab, background in (
        (None, "rgb(22, 22, 22)"),
        ("true", "rgb(255, 255, 255)"),
        ("false", "rgb(22, 22, 22)"),
    ):
        if lab:
            page.evaluate("(lab) => { document.body.dataset.jpThemeLight = lab; }", lab)
        assert root.evaluate(BACKGROUND) == background
        for node in readable.all():
            assert node.evaluate(CONTRAST) >= 4.5, (lab, node.inner_text())


def test_sentences_are_sent_one_at_a_time_when_typing_rests(show):
    widget = toys.retrieval()
    page = show(widget)

    def answer():
        widget.sentence = toys.state(page, "sentence")
        names = ("tokens", "pictures", "selected", "error", "answered")
        page.evaluate("(changes) => model.answer(changes)", {name: getattr(widget, name) for name in names})

    def write(text):  # letter by letter inside the page: how fast the test's machine is does not matter
        box.evaluate(
            """(box, text) => [...text].forEach((letter) => {
                 box.value += letter;
                 box.dispatchEvent(new InputEvent("input", { bubbles: true }));
               })""",
            text,
        )

    box = page.get_by_label("Sentence")
    box.evaluate("(box) => { box.focus(); box.value = ''; }")
    write("blue sea")
    page.wait_for_function("model.saved.length > 0")
    assert [saved["sentence"] for saved in page.evaluate("model.saved")] == ["blue sea"], "debounced"
    assert "asking" in page.get_by_role("status").inner_text()
    write(" green")
    page.wait_for_timeout(400)
    assert page.evaluate("model.saved.length") == 1, "one request at a time"
    answer()
    assert page.locator(".vlpnb-token").all_inner_texts() == ["blue", "sea"]
    assert toys.state(page, "sentence") == "blue sea green", "what was typed meanwhile is asked next"
    assert box.input_value() == "blue sea green"
    answer()
    assert toys.alts(page.locator(".vlpnb-token"))[0] == "a blue disc"
    assert page.get_by_role("status").inner_text() == ""

    box.fill("boom")
    box.press("Enter")  # no wait
    answer()
    assert page.get_by_role("alert").inner_text() == "RuntimeError: the matcher fell over"
    assert page.locator(".vlpnb-token").all_inner_texts() == ["blue", "sea", "green"]
    box.fill("red")
    box.press("Enter")
    answer()
    assert page.get_by_role("alert").count() == 0
    box.press("ArrowDown")
    assert page.evaluate("document.activeElement.textContent") == "red"


def test_a_sentence_set_in_python_reaches_the_box(show):
    page = show(toys.retrieval())
    page.evaluate("model.answer({ sentence: 'teal', answered: 'teal' })")
    assert page.get_by_label("Sentence").input_value() == "teal"


def test_a_button_for_each_language_asks_its_example_in_letters_that_are_there(show):
    widget = toys.many_languages()
    page = show(widget)
    buttons = page.get_by_role("group", name="an example in").get_by_role("button")
    buttons.first.wait_for()  # until the font is there
    assert buttons.all_inner_texts() == ["English", "Deutsch", "中文"]
    box = page.get_by_label("Sentence")
    assert box.input_value() == "a red disc"
    buttons.nth(2).click()
    assert box.input_value() == toys.state(page, "sentence") == "一个蓝色的球"
    assert box.get_attribute("lang") == "zh"
    widget.sentence = toys.state(page, "sentence")
    names = ("tokens", "pictures", "selected", "error", "answered")
    page.evaluate("(changes) => model.answer(changes)", {name: getattr(widget, name) for name in names})
    assert toys.alts(page.locator(".vlpnb-strip"))[0] == "a blue disc"
    assert page.evaluate("document.fonts.check('16px \"vlpnb Han\"', '蓝')"), (
        "the shipped font is used if need be"
    )
    box.fill("蓝")
    box.press("Enter")
    assert toys.state(page, "sentence") == "蓝", "the example can be changed"


def test_attention_grid_enlarges_a_map_with_its_values(show):
    widget = toys.attention()
    page = show(widget)
    heading = page.locator(".vlpnb-large p")
    assert page.get_by_role("option", name="layer").count() == 12
    page.get_by_role("option", name="layer 2, head 3").click()
    assert heading.inner_text() == "Layer 2, head 3"

    def values():
        return page.locator(".vlpnb-value").all_inner_texts()

    assert values() == [f"{v:.2f}" for v in widget.maps[1, 2, 0]]
    walked = []
    for key in ("ArrowRight", "ArrowRight", "ArrowDown", "ArrowDown", "ArrowLeft", "ArrowUp"):
        page.keyboard.press(key)
        walked.append((toys.state(page, "layer") + 1, toys.state(page, "head") + 1))
    assert walked == [(2, 4), (2, 4), (3, 4), (3, 4), (3, 3), (2, 3)], "the edges of the grid hold"

    page.keyboard.press("Enter")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    assert toys.state(page, "selected") == 2
    assert values() == [f"{v:.2f}" for v in widget.maps[1, 2, 2]]
    assert "red looks most at" in page.get_by_role("status").inner_text()
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "layer 2, head 3"


def test_attention_lines_meet_their_tokens_and_the_map_can_be_read(show):
    widget = toys.attention()
    page = show(widget)
    column = page.locator(".vlpnb-lines > div").first.bounding_box()
    drawing = page.locator(".vlpnb-lines svg").bounding_box()
    assert abs(drawing["height"] - column["height"]) < 1
    strong = page.locator(".vlpnb-lines line").evaluate_all(
        "(all) => all.filter((l) => +l.getAttribute('stroke-opacity') > 0.2).map((l) => +l.getAttribute('y1'))"
    )
    assert set(strong) == {13}, "only the selected token's lines are strong"
    whole = page.locator(".vlpnb-whole")
    box = whole.bounding_box()
    side = len(widget.tokens)
    whole.click(position={"x": box["width"] * 4.5 / side, "y": box["height"] * 2.5 / side})
    assert toys.state(page, "selected") == 2
    page.mouse.move(box["x"] + box["width"] * 4.6 / side, box["y"] + box["height"] * 2.5 / side)
    assert page.get_by_role("status").inner_text() == f"red → near: {widget.maps[0, 0, 2, 4]:.3f}"


def ranked(page):
    """The list beside the picture: (name, weight) of what is looked at most."""
    lines = page.locator(".vlpnb-ranking li:not(.vlpnb-quiet)").all()
    return [(n.locator(".vlpnb-named").inner_text(), n.locator(".vlpnb-score").inner_text()) for n in lines]


def best(names, weights):
    order = np.argsort(-weights, kind="stable")[:6]
    return [(names[i], f"{weights[i]:.3f}") for i in order]


def test_a_word_lights_its_regions_and_a_region_its_words(show):
    widget = toys.regions()
    page = show(widget)
    words, boxes = page.locator(".vlpnb-token"), page.locator(".vlpnb-box")
    words.nth(5).hover()
    assert (toys.state(page, "word"), toys.state(page, "region")) == (5, -1)
    of_word = widget.from_words[1].mean(0)[5]
    assert ranked(page) == best(widget.labels, of_word)
    shares = boxes.evaluate_all("(all) => all.map((n) => +n.style.getPropertyValue('--share'))")
    assert shares == pytest.approx(of_word / of_word.max())
    told = page.locator(".vlpnb-tag").all_inner_texts()
    assert told[0] == f"{widget.labels[of_word.argmax()]} · {of_word.max():.2f}"

    boxes.nth(2).hover()  # it lies inside a larger one
    assert (toys.state(page, "word"), toys.state(page, "region")) == (-1, 2)
    of_region = widget.from_regions[1].mean(0)[2]
    assert ranked(page) == best(toys.WORDS, of_region)
    assert page.locator(".vlpnb-share").all_inner_texts() == [f"{w:.2f}" for w in of_region]
    assert page.locator("[aria-selected='true']").count() == 1
    assert "Region 3: red disc's middle looks at these words" in page.get_by_role("status").inner_text()


def test_where_all_look_alike_no_region_is_lit_fully(show):
    even = [np.full((1, 2, 5), 0.2)], [np.full((1, 5, 2), 0.5)]
    page = show(RegionExplorer(toys.scene(), toys.BOXES, ["a", "b"], *even))
    shares = page.locator(".vlpnb-box").evaluate_all(
        "(all) => all.map((n) => +n.style.getPropertyValue('--share'))"
    )
    assert shares == pytest.approx([0.5] * 5)


def test_tags_lie_inside_the_picture_and_not_on_each_other(show):
    boxes = [[0.7, 0.0, 0.9, 0.5], [0.72, 0.02, 0.95, 0.5], [0.71, 0.01, 0.8, 0.9]]
    maps = [np.full((1, 1, 3), 1 / 3)], [np.full((1, 3, 1), 1.0)]
    names = ["a long name of a region"] * 3
    page = show(RegionExplorer(toys.scene(), boxes, ["a"], *maps, names=names))
    for width in (1000, 320):
        page.set_viewport_size({"width": width, "height": 700})
        page.wait_for_timeout(100)
        picture = page.locator(".vlpnb-canvas").bounding_box()
        tags = [tag.bounding_box() for tag in page.locator(".vlpnb-tag").all()]
        assert len(tags) == 3
        for tag in tags:
            assert picture["x"] - 1 <= tag["x"]
            assert tag["x"] + tag["width"] <= picture["x"] + picture["width"] + 1
        heights = sorted(tag["y"] for tag in tags)
        assert all(low - high >= 18 for high, low in itertools.pairwise(heights))


def test_layer_and_head_are_chosen_for_both_directions(show):
    widget = toys.regions()
    page = show(widget)
    page.get_by_label("Layer").select_option("cross layer 1")
    page.get_by_label("Head").select_option("head 3")
    assert (toys.state(page, "layer"), toys.state(page, "head")) == (0, 2)
    assert ranked(page) == best(widget.labels, widget.from_words[0, 2, 2])
    page.locator(".vlpnb-box").nth(4).focus()
    assert ranked(page) == best(toys.WORDS, widget.from_regions[0, 2, 4])
    page.evaluate("model.answer({ layer: 1, head: -1 })")
    assert page.get_by_label("Head").input_value() == "-1", "what Python sets is shown"
    assert ranked(page) == best(toys.WORDS, widget.from_regions[1].mean(0)[4])


def test_words_and_regions_are_walked_by_keys(show):
    page = show(toys.regions())
    page.get_by_label("Head").focus()
    page.keyboard.press("Tab")
    walked = []
    for key in ("ArrowRight", "ArrowLeft", "ArrowLeft", "Home", "ArrowLeft", "End"):
        page.keyboard.press(key)
        walked.append(toys.state(page, "word"))
    assert walked == [3, 2, 1, 0, 8, 8], "round the sentence, from the chosen word"
    page.locator(".vlpnb-box[tabindex='0']").focus()
    page.keyboard.press("ArrowRight")
    assert (toys.state(page, "region"), toys.state(page, "word")) == (1, -1)
    assert page.locator(".vlpnb-box[tabindex='0']").count() == 1
    assert page.locator(".vlpnb-token[tabindex='0']").count() == 1, "Tab still reaches the words"
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement === document.body")


def test_boxes_lie_where_they_belong_on_a_picture_of_any_width(show):
    page = show(toys.regions(), has_touch=True)
    for width in (1000, 320):
        page.set_viewport_size({"width": width, "height": 700})
        picture = page.locator(".vlpnb-canvas img").bounding_box()
        assert picture["x"] + picture["width"] <= width
        assert picture["width"] / picture["height"] == pytest.approx(240 / 160, rel=0.02)
        for box, (left, top, right, bottom) in zip(page.locator(".vlpnb-box").all(), toys.BOXES, strict=True):
            found = box.bounding_box()
            assert found["x"] - picture["x"] == pytest.approx(left * picture["width"], abs=1)
            assert found["y"] - picture["y"] == pytest.approx(top * picture["height"], abs=1)
            assert found["width"] == pytest.approx((right - left) * picture["width"], abs=1)
            assert found["height"] == pytest.approx((bottom - top) * picture["height"], abs=1)
    page.locator(".vlpnb-box").nth(3).tap()
    assert toys.state(page, "region") == 3
    assert page.evaluate("model.saved.length") == 1, "one tap is one message"


@pytest.mark.parametrize("name", ["vokens", "retrieval", "attention", "regions", "embedding", "stepper"])
def test_a_closed_view_listens_no_more(show, name):
    page = show(getattr(toys, name)())
    assert page.evaluate("model.listeners()") > 0
    page.evaluate("leave()")
    assert page.evaluate("model.listeners()") == 0
