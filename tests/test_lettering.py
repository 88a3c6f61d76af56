"""Text of the data in figures: drawn as it stands, in every script that a font of the machine has."""

import io
import warnings

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font
from PIL import Image

from vlpnb import lettering
from vlpnb.course.plotting import picture_grid, use_style
from vlpnb.lettering import HAN, fonts_with, literal, png
from vlpnb.world.grammar import LANGUAGES, caption
from vlpnb.world.scene import make_scene

HOSTILE = [
    "A sign says $_5_$",  # no formula: matplotlib fails
    "costs $5 and not $6",  # a formula that loses its spaces
    r"one \$ and \frac",
    "a tab\there, a bell\x07, half a pair \ud83d",
    "% # & ~ ^ {x}_1",
]


def titled(text: str) -> Figure:
    """A figure with the text in every place where a notebook may put it."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    upper, lower = figure.subplots(2)
    figure.suptitle(text)
    upper.set(title=text, xlabel=text)
    upper.set_yticks([0, 1], [text, text])
    upper.annotate(text, (0.2, 0.5))
    upper.plot([0, 1], label=text)
    upper.legend()
    lower.barh([text, "other"], [1, 2])
    return figure


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("L"))


@pytest.mark.parametrize("text", HOSTILE)
def test_text_is_drawn_as_it_stands_wherever_it_is(text, capsys):
    expected = io.BytesIO()
    with mpl.rc_context({"text.parse_math": False}):
        titled(literal(text)).savefig(expected, format="png")
    assert np.array_equal(pixels(png(titled(text))), pixels(expected.getvalue()))
    assert capsys.readouterr().out == ""


def test_undrawable_characters_have_stand_ins_and_all_others_stay():
    assert literal("a\tb\x00c\ud83dd\ne") == "a b�c�d\ne"
    assert literal("Größe 中文 مرحبا 😀 $x$") == "Größe 中文 مرحبا 😀 $x$"


def test_titles_of_pictures_and_views_go_the_same_way(monkeypatch):
    use_style()
    data = png(picture_grid([np.zeros((4, 4, 3))], ["A sign says $_5_$"]))
    plt.close("all")
    assert len(data) > 1000


def test_powers_of_ten_on_an_axis_are_no_formulas():
    figure = Figure(layout="constrained")
    axis = figure.subplots()
    axis.plot([0.02, 300], [1, 5])
    axis.set(xscale="log", yscale="log")
    png(figure)
    said = [label.get_text() for label in axis.get_xticklabels()]
    assert {"10⁻¹", "10⁰", "10²"} <= set(said)
    few = [label.get_text() for label in axis.get_yticklabels(which="both") if label.get_text()]
    assert few
    assert not any(mark in label for label in [*said, *few] for mark in "$\\{}^")


@pytest.fixture
def font(tmp_path):
    """A font with one character that no other has, installed for the test."""
    pen = TTGlyphPen(None)
    for move, place in (("moveTo", (0, 0)), ("lineTo", (900, 0)), ("lineTo", (450, 900))):
        getattr(pen, move)(place)
    pen.closePath()
    builder = FontBuilder(1000)
    names = [".notdef", "triangle"]
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap({0x10FF00: "triangle"})
    builder.setupGlyf(dict.fromkeys(names, pen.glyph()))
    builder.setupHorizontalMetrics(dict.fromkeys(names, (1000, 0)))
    builder.setupHorizontalHeader(ascent=900, descent=-100)
    builder.setupNameTable({"familyName": "Toy Script", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(tmp_path / "toy.ttf")
    before = list(font_manager.fontManager.ttflist)
    font_manager.fontManager.addfont(tmp_path / "toy.ttf")
    yield "Toy Script"
    font_manager.fontManager.ttflist[:] = before


def test_a_script_that_the_font_lacks_is_drawn_with_one_that_has_it(font, capsys):
    assert fonts_with(["\U0010ff00", "\U0010ff01"]) == [font]
    made = pixels(png(titled("a \U0010ff00 b")))
    assert capsys.readouterr().out == ""
    with mpl.rc_context({"font.family": ["sans-serif", font]}):
        assert np.array_equal(made, pixels(png(titled("a \U0010ff00 b"))))


def test_a_character_that_no_font_has_is_said_once_and_not_warned_of(capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        png(titled("a \U0010fffd b"))
    out = capsys.readouterr().out
    assert out.startswith("No font of this machine has \U0010fffd,")
    assert out.count("\n") == 1


def test_other_warnings_of_a_drawing_are_kept(monkeypatch):
    figure = titled("x")
    monkeypatch.setattr(figure, "savefig", lambda *_, **__: warnings.warn("something else", stacklevel=1))
    with pytest.warns(UserWarning, match="something else"):
        lettering.png(figure)


def test_the_shipped_font_has_every_character_that_the_world_writes():
    """Captions of many scenes in all five languages; what a plain font has is not in it."""
    has = set(FT2Font(str(HAN)).get_charmap())
    scenes = [make_scene(1, "train", n) for n in range(150)]
    said = {c for scene in scenes for variant in range(4) for c in caption(scene, "zh", variant)}
    assert len(said) > 150
    assert {c for c in said if ord(c) not in has} == set()
    assert len(LANGUAGES) == 5


def test_chinese_is_drawn_without_a_word_where_the_machine_has_no_chinese_font(monkeypatch, capsys):
    monkeypatch.setattr(
        font_manager.fontManager,
        "ttflist",
        [f for f in font_manager.fontManager.ttflist if "DejaVu" in f.name],
    )
    lettering._know_shipped.cache_clear()
    png(titled("一辆红色的汽车"))
    assert capsys.readouterr().out == ""
    assert fonts_with("汽车") == ["vlpnb Han"]
