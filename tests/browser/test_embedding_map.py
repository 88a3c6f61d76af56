"""The map of embeddings on a blank page with a fake model: neighbours, keys, wheel, dragging, one finger and two."""

import pytest

from tests.browser import toys

pytestmark = pytest.mark.browser


def test_embedding_map_shows_neighbours_and_moves(show):
    page = show(toys.embedding())
    plane, detail = page.locator(".vlpnb-plane"), page.locator(".vlpnb-detail")
    assert "Choose a point" in detail.inner_text()
    green = page.get_by_role("option", name="token green")
    green.click()
    assert detail.locator("li").all_inner_texts()[0].split() == ["brown", "0.88"]
    assert toys.alts(detail)[0] == "a green disc"
    assert page.locator(".vlpnb-point.near").count() == 6
    page.keyboard.press("ArrowLeft")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "picture a green disc"
    assert toys.alts(detail)[0] == "a green disc", "a picture is shown larger"

    def where():
        return green.bounding_box()["x"]

    start = where()
    for keys, zoom in (
        ("+", "1.50"),
        ("+", "2.25"),
        ("-", "1.50"),
        ("0", "1.00"),
        ("+", "1.50"),
        ("Escape", "1.00"),
    ):
        page.keyboard.press(keys)
        assert plane.get_attribute("data-zoom") == zoom
    assert abs(where() - start) < 1
    box = plane.bounding_box()
    page.mouse.move(box["x"] + 300, box["y"] + 380)
    page.mouse.wheel(0, -200)
    page.wait_for_timeout(100)
    assert plane.get_attribute("data-zoom") == "1.00", "the wheel alone belongs to the page"
    page.mouse.down()
    page.mouse.move(box["x"] + 340, box["y"] + 380, steps=4)
    page.mouse.up()
    assert 30 < where() - start <= 40, "dragged by the pointer"
    page.keyboard.down("Control")
    page.mouse.wheel(0, -200)
    page.keyboard.up("Control")
    page.wait_for_function("document.querySelector('.vlpnb-plane').dataset.zoom > 1.5")
    page.get_by_role("button", name="show all").click()
    assert abs(where() - start) < 1


def pinch(page, start, end, steps=6):
    """Two fingers of a touch screen go from two places to two others, evenly, as the browser sees them."""
    protocol = page.context.new_cdp_session(page)
    for step in range(steps + 1):
        points = [
            {"x": x + (to_x - x) * step / steps, "y": y + (to_y - y) * step / steps, "id": finger}
            for finger, ((x, y), (to_x, to_y)) in enumerate(zip(start, end, strict=True))
        ]
        kind = "touchMove" if step else "touchStart"
        protocol.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    protocol.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    page.wait_for_timeout(50)


def places_of(page):
    """Middle of every point of the map on the screen."""
    return page.locator(".vlpnb-point").evaluate_all(
        "(all) => all.map((n) => n.getBoundingClientRect()).map((b) => [b.x + b.width / 2, b.y + b.height / 2])"
    )


@pytest.mark.parametrize("upright", [False, True], ids=["side by side", "one above the other"])
def test_two_fingers_zoom_the_map_about_the_place_between_them(show, upright):
    page = show(toys.embedding(), has_touch=True)
    plane = page.locator(".vlpnb-plane")
    box = plane.bounding_box()
    x, y = box["x"] + box["width"] * 0.4, box["y"] + box["height"] * 0.6

    def fingers(apart):
        dx, dy = (0, apart) if upright else (apart, 0)
        return [(x - dx, y - dy), (x + dx, y + dy)]

    def zoom():
        return float(plane.get_attribute("data-zoom"))

    before = places_of(page)
    page.evaluate("document.body.style.height = '3000px'")  # a page that could scroll under the fingers
    pinch(page, fingers(30), fingers(75))
    assert zoom() == pytest.approx(2.5, rel=0.05)
    for old, new in zip(before, places_of(page), strict=True):
        expected = (x + 2.5 * (old[0] - x), y + 2.5 * (old[1] - y))
        assert new == pytest.approx(expected, abs=12)
    assert page.evaluate("scrollY") == 0, "two fingers belong to the map, not to the page"
    assert page.evaluate("visualViewport.scale") == 1
    far = places_of(page)
    pinch(page, fingers(50), [(px + 40, py - 20) for px, py in fingers(50)])
    assert zoom() == pytest.approx(2.5, rel=0.05)
    for old, new in zip(far, places_of(page), strict=True):
        assert new == pytest.approx((old[0] + 40, old[1] - 20), abs=6), "two fingers move it, too"
    pinch(page, fingers(80), fingers(20))
    assert zoom() == 1, "never smaller than the plane"
    for old, new in zip(before, places_of(page), strict=True):
        assert new == pytest.approx(old, abs=1)
    assert toys.state(page, "selected") == -1, "a pinch chooses nothing"


def test_one_finger_scrolls_the_page_until_the_map_is_enlarged(show):
    page = show(toys.embedding(), has_touch=True)
    plane = page.locator(".vlpnb-plane")
    assert plane.evaluate("(n) => getComputedStyle(n).touchAction") == "pan-y"
    page.get_by_role("button", name="zoom in").tap()
    assert plane.evaluate("(n) => getComputedStyle(n).touchAction") == "none"


def test_the_wheel_zooms_about_the_pointer_and_stops_at_both_ends(show):
    page = show(toys.embedding())
    plane = page.locator(".vlpnb-plane")
    box = plane.bounding_box()
    x, y = box["x"] + 200, box["y"] + 150
    before = places_of(page)
    page.mouse.move(x, y)
    page.keyboard.down("Control")
    page.mouse.wheel(0, -150)
    page.wait_for_function("document.querySelector('.vlpnb-plane').dataset.zoom > 1")
    zoom = float(plane.get_attribute("data-zoom"))
    for old, new in zip(before, places_of(page), strict=True):
        assert new == pytest.approx((x + zoom * (old[0] - x), y + zoom * (old[1] - y)), abs=3)
    for amount, end in ((-4000, "16.00"), (4000, "1.00")):
        page.mouse.wheel(0, amount)
        page.wait_for_function(
            "(end) => document.querySelector('.vlpnb-plane').dataset.zoom === end", arg=end
        )
    page.keyboard.up("Control")
