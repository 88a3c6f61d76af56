"""The beam search on a blank page with a fake model: walked by keys, each cell told, its path and regions drawn."""

import pytest

from tests.browser import toys

pytestmark = pytest.mark.browser


def selected(page):
    """The chosen cell's label: what the keyboard and a screen reader meet."""
    return page.locator(".vlpnb-cell[aria-selected='true']").get_attribute("aria-label")


def test_a_search_is_walked_by_keys_step_by_step_and_beam_by_beam(show):
    widget = toys.stepper()
    page = show(widget)
    assert selected(page).startswith("step 1, beam 1: a")
    page.locator(".vlpnb-cell[tabindex='0']").first.focus()
    walked = []
    for key in ("ArrowRight", "ArrowDown", "ArrowUp", "ArrowUp", "ArrowLeft", "ArrowLeft", "End"):
        page.keyboard.press(key)
        walked.append((toys.state(page, "step"), toys.state(page, "beam")))
    last = len(widget.searches[0]["steps"]) - 1
    assert walked == [(1, 0), (1, 1), (1, 0), (1, 0), (0, 0), (0, 0), (last, 2)], "it stops at the edges"
    assert page.locator(".vlpnb-cell[tabindex='0']").count() == 2, "Tab reaches either search"
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement === document.body")


def test_a_cell_tells_its_text_what_may_follow_and_why_a_word_may_not(show):
    widget = toys.stepper()
    page = show(widget)
    page.get_by_role("gridcell", name="step 3, beam 1: disc").last.click()  # of the second search
    assert (toys.state(page, "search"), toys.state(page, "step"), toys.state(page, "beam")) == (1, 2, 0)
    assert page.locator(".vlpnb-so-far").inner_text() == "a red disc"
    told = page.locator(".vlpnb-options tr").all()
    rows = [[cell.inner_text() for cell in row.locator("td").all()] for row in told]
    expected = widget.searches[1]["next"][3][0]
    assert [row[0] for row in rows] == [word for word, *_ in expected]
    assert [row[3] for row in rows] == [why or ("goes on" if kept else "") for _, _, why, kept in expected]
    page.get_by_role("gridcell", name="step 1, beam 1: a").first.click()
    assert page.locator(".vlpnb-options .barred td").first.inner_text() == "[SEP]", (
        "the minimum forbids to end"
    )
    assert page.locator(".vlpnb-options .barred").inner_text().endswith("too short to end")
    page.locator(".vlpnb-cell.chosen").first.click()
    assert "It ends here." in page.get_by_role("status").inner_text()


def test_the_words_path_is_drawn_from_cell_to_cell_and_its_regions_are_lit(show):
    widget = toys.stepper()
    page = show(widget)
    name, trace = next(iter(widget.traces.items()))
    page.get_by_role("gridcell", name="step 3, beam 2").first.click()
    on = page.locator(".vlpnb-cell.path").evaluate_all(
        "(all) => all.map((n) => n.querySelector('b').textContent)"
    )
    assert " ".join(on) == "a big red"
    edges = page.locator(".vlpnb-lanes").first.locator("path")
    assert edges.count() == 3 * (len(trace.steps) - 1)
    assert edges.locator("xpath=self::*[@class='path']").count() == 2
    weights = widget.maps[name][2, 1]
    shares = page.locator(".vlpnb-box").evaluate_all(
        "(all) => all.map((n) => +n.style.getPropertyValue('--share'))"
    )
    assert shares == pytest.approx(weights / max(weights.max(), 2 / len(weights)), abs=1e-5)
    assert page.locator(".vlpnb-tag").first.inner_text().startswith(widget.labels[weights.argmax()])


def test_a_long_search_scrolls_inside_the_view(show):
    page = show(toys.stepper())
    page.set_viewport_size({"width": 420, "height": 700})
    assert page.evaluate("document.documentElement.scrollWidth") <= 420
    inner = page.locator(".vlpnb-scroll").first
    assert inner.evaluate("(n) => n.scrollWidth > n.clientWidth")
