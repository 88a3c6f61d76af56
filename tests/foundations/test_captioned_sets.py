"""Sets of pictures with sentences, by name and split."""

from pathlib import Path
from types import SimpleNamespace

from vlpnb.data.multilingual import Picture
from vlpnb.foundations.captioned_sets import Sets


def test_a_row_of_a_set_of_iglue_becomes_a_picture_with_captions():
    row = SimpleNamespace(image_id="7", sentences=("ein Hund",))
    iglue = SimpleNamespace(
        rows=lambda *a, **k: [row, SimpleNamespace(image_id="8", sentences=("x",))],
        languages=lambda name: ("en", "de"), image_path=lambda name: Path(f"{name}.jpg"),
    )  # fmt: skip
    sets = Sets(None, iglue, {"7"})
    assert sets.pictures("xflickrco", "test")["de"] == [Picture("7", Path("7.jpg"), {"de": ("ein Hund",)})]
    assert set(sets.pictures("wit", "train")) == {"en"}
