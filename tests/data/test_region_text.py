"""Region lines: what real files hold, and what is refused of them, line by line."""

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from vlpnb.data.multilingual import shards_of
from vlpnb.data.region_text import Region, read_region_text
from vlpnb.errors import UserError

ELEMENT = {"bb": [1, 2, 10, 12.5], "caption": {"en": "a thing", "zh": "东西"}}


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    (folder / "train").mkdir(parents=True)
    values = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    Image.fromarray(values).save(folder / "train" / "a.png")
    return folder


def read(images, *rows, place=None):
    path = images.parent / "regions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    left_out: list[str] = []
    found = list(read_region_text(place or path, images, images.parent / "unpacked", left_out.append))
    return found, left_out


def test_a_line_gives_a_picture_its_size_and_its_regions(images):
    attributes = {"en": "red"}
    row = {"binary": "train/a.png", "caption": [{"en": "all"}, {"en": "everything"}]}
    row["elems"] = [{**ELEMENT, "attributes": attributes}, ELEMENT]
    (picture,), left_out = read(images, row)
    assert not left_out
    assert (picture.id, picture.path) == ("train/a", images / "train" / "a.png")
    assert (picture.width, picture.height) == (40, 30)
    assert picture.captions == ({"en": "all"}, {"en": "everything"})
    box = (1.0, 2.0, 10.0, 12.5)
    assert picture.regions[0] == Region(box, {"en": "a thing", "zh": "东西"}, attributes)
    assert picture.regions[1] == Region(box, {"en": "a thing", "zh": "东西"}, {})


def test_pictures_in_base64_are_written_once_and_named_by_their_content(images):
    data = io.BytesIO()
    Image.new("RGB", (12, 8), "red").save(data, "JPEG")
    row = {"binary": base64.b64encode(data.getvalue()).decode(), "elems": [ELEMENT]}
    found, left_out = read(images, row, row)
    assert not left_out
    assert found[0] == found[1]
    assert found[0].captions == ()
    assert (found[0].width, found[0].height) == (12, 8)
    assert found[0].path.read_bytes() == data.getvalue()
    assert found[0].id == found[0].path.stem


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"elems": []}, r"elems: empty"),
        ({"elems": [{**ELEMENT, "bb": [1, 2, 3]}]}, r"elems\[0\]\.bb: 3 numbers; expected 4"),
        ({"elems": [{**ELEMENT, "bb": [1, 2, 0, 3]}]}, r"0 × 3 pixels; expected a box with an area"),
        ({"elems": [{**ELEMENT, "bb": [1, 2, "3", 3]}]}, r"bb: expected a number, found '3'"),
        (
            {"elems": [{**ELEMENT, "caption": "a thing"}]},
            r"caption: found the text 'a thing'; expected captions by language",
        ),
        ({"elems": [{**ELEMENT, "caption": {}}]}, r"no language"),
        ({"elems": [{"bb": [1, 2, 3, 4]}]}, r"field 'caption' is missing"),
        ({"caption": {"en": 3}}, r"caption\.en: expected text"),
        ({"binary": "train/b.png"}, r"b\.png does not exist"),
        ({"binary": "../secret.png"}, r"leads out of"),
        ({"binary": "no picture!"}, r"neither the path of a picture nor base64 of one"),
        ({"binary": base64.b64encode(b"no picture").decode()}, r"cannot be opened"),
    ],
)
def test_a_line_that_cannot_be_used_is_left_out_with_its_place_and_reason(images, change, words):
    good = {"binary": "train/a.png", "elems": [ELEMENT]}
    found, (line,) = read(images, good, {**good, **change}, good)
    assert len(found) == 2
    with pytest.raises(UserError, match=words):
        raise UserError(line)


def test_the_files_of_a_folder_are_read_in_the_order_of_their_names(images):
    folder = images.parent / "many"
    folder.mkdir()
    for name in ("part-2", "part-1"):
        (folder / name).write_text(json.dumps({"binary": "train/a.png", "elems": [ELEMENT]}) + "\n")
    (folder / "_SUCCESS").write_text("")
    assert [path.name for path in shards_of(folder)] == ["part-1", "part-2"]
    assert len(read(images, place=folder)[0]) == 2
    with pytest.raises(UserError, match="does not exist"):
        shards_of(images / "absent")
