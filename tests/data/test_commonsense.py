"""Lists of colours, sizes and attributes of things: both headings, and errors that name the line."""

import pytest

from vlpnb.data.commonsense import KnownThing, SizePair, read_colours, read_sizes, read_vicomte
from vlpnb.errors import UserError


def test_colours_are_found_by_their_heading(tmp_path):
    path = tmp_path / "colours.csv"
    path.write_text("Index,Descriptor,Item,Color\n1,a ,sunflower,Yellow\n2,,grass,green\n")
    assert read_colours(path) == [KnownThing("sunflower", "yellow", "a"), KnownThing("grass", "green")]
    path.write_text("Index, Descriptor, Item,Plural, Color\n1, the, Coca-Cola logo,, red\n")
    assert read_colours(path) == [KnownThing("Coca-Cola logo", "red", "the")]
    path.write_text('object,color\n"ash, wet",grey\n')
    assert read_colours(path) == [KnownThing("ash, wet", "grey")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("object,colour\nash,grey\n", r":1: found the columns object, colour; expected colours of things"),
        ("object,color\nash\n", r":2: 1 columns, expected 2"),
        ("object,color\n,grey\n", r":2: the thing or its colour is empty"),
        ("object,color\n", "nothing in the file"),
        ("", "found the columns none"),
    ],
)
def test_broken_colours_are_refused_by_line(tmp_path, text, message):
    path = tmp_path / "colours.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        read_colours(path)


def test_sizes(tmp_path):
    path = tmp_path / "sizes.txt"
    path.write_text("aeroplane apple\n\ncow cat\n")
    assert read_sizes(path) == [SizePair("aeroplane", "apple"), SizePair("cow", "cat")]
    path.write_text("cow cat\ncat cow\n")
    with pytest.raises(UserError, match=r":2: cat is bigger than cow here, and smaller in line 1"):
        read_sizes(path)
    path.write_text("cow\n")
    with pytest.raises(UserError, match=r":1: found 'cow'; expected two nouns"):
        read_sizes(path)


def test_vicomte(tmp_path):
    path = tmp_path / "test.jsonl"
    path.write_text('{"sub": "table top", "obj": "round", "alt": "oval"}\n')
    assert read_vicomte(path) == [KnownThing("table top", "round", unlikely="oval")]
    path.write_text('{"sub": "table top", "alt": "oval"}\n')
    with pytest.raises(UserError, match=r":1: field 'obj' is missing; found alt, sub"):
        read_vicomte(path)


def test_the_published_lists_have_the_published_sizes(shared_data):
    folder = shared_data / "commonsense"
    colours = read_colours(folder / "valm" / "memory_color_data.csv")
    assert (len(colours), sum(not item.descriptor for item in colours)) == (109, 54)
    assert len(read_colours(folder / "valm" / "color-concrete-objects.csv")) == 52
    assert len(read_colours(folder / "memory_colors_paper_table.csv")) == 108
    assert len(read_sizes(folder / "valm" / "sizePairsFull.txt")) == 486
    assert len(read_vicomte(folder / "vicomte" / "db" / "shape" / "test.jsonl")) == 140
