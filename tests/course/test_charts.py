"""Charts show the data that their words tell, and draw text as it is."""

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib import pyplot as plt

from vlpnb.course import charts, picture_charts
from vlpnb.course.charts import GREY, Chart, bars, curves, draw, heat, histogram, palette, points
from vlpnb.course.picture_charts import graph, picture, scattered, show_rows, wrapped
from vlpnb.course.plotting import PALETTE
from vlpnb.lettering import png

mpl.use("Agg")


@pytest.fixture
def shown(monkeypatch):
    """What is shown: (figure, alt text)."""
    found = []
    for module in (charts, picture_charts):
        monkeypatch.setattr(module, "show", lambda figure, alt, save=None: found.append((figure, alt)))
    yield found
    plt.close("all")


def painted(chart: Chart):
    """The axes that a chart has drawn on."""
    _, axis = plt.subplots()
    chart.paint(axis, palette(chart.series))
    axis.figure.canvas.draw()
    return axis


def texts(axis) -> set[str]:
    return {text.get_text() for text in axis.figure.findobj(plt.Text)} - {""}


def test_bars_are_as_high_as_their_values_and_are_told(shown):
    chart = bars(
        {"ours": {"R@1": 0.25, "R@5": 0.5}, "chance": {"R@1": 0.1, "R@5": 0.2}},
        y="share",
        lines={"half": 0.5},
    )
    axis = painted(chart)
    assert sorted(bar.get_height() for bar in axis.patches) == [0.1, 0.2, 0.25, 0.5]
    assert chart.told == "Bars of share. ours: R@1 0.25, R@5 0.50; chance: R@1 0.10, R@5 0.20; half at 0.50."
    assert {"ours", "chance", "half"} <= texts(axis)
    grey = {bar.get_facecolor() for bar in axis.patches if bar.get_height() in (0.1, 0.2)}
    assert grey == {(0.7, 0.7, 0.7, 1.0)}, "what one compares with is grey"


def test_many_bars_are_told_by_their_ends_and_lie_down(shown):
    chart = bars({f"kind {i}": i / 20 for i in range(20)}, y="share right", lying=True)
    assert "20 bars, from 0.00 (kind 0) to 0.95 (kind 19)" in chart.told
    assert painted(chart).patches[19].get_width() == pytest.approx(0.95)


def test_dots_errors_and_missing_spread(shown):
    errors = {"a": 0.5, "b": float("nan")}
    axis = painted(bars({"a": 1.0, "b": 2.0}, y="points", errors=errors, dots={"a": [0.5, 1.5]}))
    assert [0.5, 1.5] in [list(line.get_ydata()) for line in axis.lines]
    assert [bar.get_height() for bar in axis.patches] == [1, 2]
    halves = [segment[:, 1].tolist() for segment in axis.collections[0].get_segments()]
    assert halves == [[0.5, 1.5], [2, 2]], "an unknown spread has no length"


def test_stacked_bars_stand_at_the_same_places(shown):
    axis = painted(bars({"padding": {"0": 5, "1": 5}, "tokens": {"0": 2, "1": 4}}, y="length", stacked=True))
    first, second = axis.patches[:2], axis.patches[2:]
    assert [b.get_x() for b in first] == [b.get_x() for b in second]


def test_curves_have_a_band_over_seeds_and_tell_their_ends(shown):
    chart = curves(
        {"vokens": ([0, 10], [[4.0, 1.0], [2.0, 3.0]])}, x="updates", y="loss", levels={"ln V": 5.0}, log="y"
    )
    axis = painted(chart)
    assert axis.lines[0].get_ydata().tolist() == [3.0, 2.0]
    assert len(axis.collections) == 1, "a band from the lowest to the highest seed"
    assert axis.get_yscale() == "log"
    assert chart.told == (
        "Curves of loss over updates on a logarithmic y axis: vokens from 3 at 0 to 2 at 10; ln V at 5.00."
    )


def test_a_curve_tells_its_valley(shown):
    chart = curves({"valid": ([1, 2, 3], [5.0, 1.0, 3.0])}, x="epoch", y="loss")
    assert "valid from 5 at 1 to 3 at 3, lowest 1 at 2." in chart.told


def test_a_curve_without_points_is_left_out_of_the_words(shown):
    chart = curves({"train": ([], []), "valid": ([1], [2.0])}, x="epoch", y="loss")
    painted(chart)
    assert "train" not in chart.told
    assert "valid from 2 at 1" in chart.told


def test_heat_circles_and_tells_the_highest_of_each_row(shown):
    chart = heat(
        [[0.1, 0.9], [0.8, 0.2]], rows=["car", "boat"], columns=["red", "blue"], label="score", marks=[(0, 1)]
    )
    axis = painted(chart)
    assert axis.images[0].get_array().tolist() == [[0.1, 0.9], [0.8, 0.2]]
    assert [line.get_xdata()[0] for line in axis.lines] == [1, 1]
    assert "car at blue, boat at red" in chart.told
    assert "from 0.1 to 0.9" in chart.told


def test_points_and_histograms_tell_their_numbers(shown):
    cloud = points(
        {"things": ([1, 2], [3, 4]), "other": ([5], [6])}, x="first", y="second", names={"here": (1, 3)}
    )
    assert len(painted(cloud).collections) == 2
    assert "2 of things, 1 of other" in cloud.told
    assert "first from 1 to 5, second from 3 to 6" in cloud.told
    many = histogram(np.arange(11), x="length", y="sentences", places={"limit": 8.0})
    assert painted(many).patches
    assert "11 values of length: from 0 to 10, mean 5, median 5; limit at 8.00" in many.told


def test_a_dollar_in_data_is_a_dollar(shown):
    draw(
        bars({"cost $5 and $6": 1.0}, y="price ($)", title="$a$"),
        heat([[1.0]], rows=["$x$"], columns=["$y$"], label="$z$"),
    )
    figure, alt = shown[0]
    png(figure)
    for text in ("cost $5 and $6", "price ($)", "$a$", "$x$", "$y$", "$z$"):
        drawn = [found for found in figure.findobj(plt.Text) if found.get_text() == text]
        assert drawn, text
        assert not any(found.get_parse_math() for found in drawn), text
    assert "cost $5 and $6" in alt


def test_charts_stand_beside_each_other_under_one_text(shown):
    draw(bars({"a": 1.0}, y="left"), bars({"b": 2.0}, y="right"), about="Two charts.")
    figure, alt = shown[0]
    assert len(figure.axes) == 2
    assert alt == "Two charts. Bars of left. a 1.00. Bars of right. b 2.00."
    with pytest.raises(ValueError, match="at least one chart"):
        draw()


def test_a_series_has_one_colour_in_all_charts_of_a_figure(shown):
    draw(
        curves({"mlm": ([0], [1.0]), "vokens": ([0], [2.0])}, x="x", y="y"),
        curves({"vokens": ([0], [3.0])}, x="x", y="z"),
    )
    left, right = shown[0][0].axes
    assert left.lines[1].get_color() == right.lines[0].get_color() != left.lines[0].get_color()
    assert palette(["a", "chance", "b", "a"]) == {"a": PALETTE[0], "chance": GREY, "b": PALETTE[1]}


def test_pictures_with_boxes_places_rows_and_arrows(shown):
    image = np.zeros((4, 4, 3))
    boxed = picture(image, {"red car": (0.1, 0.2, 0.5, 0.6)}, title="a scene", dots=[(0.2, 0.3)])
    (box,) = painted(boxed).patches
    assert (box.get_x(), box.get_width()) == (0.1, pytest.approx(0.4))
    assert boxed.told == "A scene with boxes around red car and 1 sample points."
    assert len(painted(scattered([image, image], [[0, 0], [1, 2]], x="u", y="v")).images) == 2
    arrows = graph({"world": (0, 0), "vision": (1, 0)}, {"vision": ["world"]})
    assert "vision reads world" in arrows.told
    assert len(painted(arrows).texts) == 3, "two boxes and an arrow"
    show_rows(
        {"first": [(image, "0.5", True)], "second": [(image, "0.2", False), (image, "0.1", False)]},
        about="Rows.",
    )
    assert shown[0][1] == "Rows. first: 0.5; second: 0.2, 0.1."


def test_a_long_sentence_is_wrapped_and_cut():
    assert wrapped("one two three four", 9) == "one two\nthree\nfour"
    assert wrapped("a b c d", 1, most=2) == "a\nb"
    assert wrapped("a little rock .", 13) == "a little rock ."
