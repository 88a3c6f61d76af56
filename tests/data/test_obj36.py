"""The obj36 TSV: decoded to the byte, written back, and every damage named with file and line."""

import base64
import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.regions import invented
from vlpnb.data.obj36 import (
    encode_line,
    index_obj36,
    read_classes,
    read_obj36,
    read_place,
    write_obj36,
)
from vlpnb.errors import UserError

GOLDEN = Path(
    os.environ.get("VLPNB_SHARED_GOLDEN", Path(__file__).parents[3] / "shared" / "golden" / "lxmert")
)
DECODED = {
    "object_ids": "objects_id", "object_conf": "objects_conf", "attribute_ids": "attrs_id",
    "attribute_conf": "attrs_conf", "boxes": "boxes",
}  # fmt: skip


def golden() -> tuple[dict, dict]:
    if not (GOLDEN / "regions.json").is_file():
        pytest.skip(f"recorded numbers of LXMERT not found at {GOLDEN}")
    return json.loads((GOLDEN / "regions.json").read_text()), load_file(GOLDEN / "regions.safetensors")


def test_varying_numbers_of_boxes_decode_as_recorded():
    about, tensors = golden()
    found = list(read_obj36(GOLDEN / "mini_obj.tsv"))
    assert [item.image_id for item in found] == [item["img_id"] for item in about["mini"]]
    for item, expected in zip(found, about["mini"], strict=True):
        assert (item.height, item.width, len(item)) == tuple(
            expected[name] for name in ("img_h", "img_w", "num_boxes")
        )
        recorded = {key: tensors[f"mini.{item.image_id}.{name}"] for key, name in DECODED.items()}
        recorded["features"] = tensors[f"mini.{item.image_id}.features"]
        for name, values in recorded.items():
            np.testing.assert_array_equal(getattr(item, name), values)
        np.testing.assert_array_equal(
            item.relative_boxes(), tensors[f"mini.{item.image_id}.boxes_normalised"]
        )


def test_published_rows_decode_as_recorded(shared_data):
    about, tensors = golden()
    path = shared_data / "butd" / "train2014_obj36.tsv"
    names = shared_data / "butd" / "vocab_1600-400-20"
    objects = read_classes(names / "objects_vocab.txt", "objects")
    attributes = read_classes(names / "attributes_vocab.txt", "attributes")
    assert [len(objects), len(attributes)] == about["vocabulary_sizes"]
    found = {item.image_id: item for item in read_obj36(path, len(objects), len(attributes))}
    assert list(found) == about["order_in_file"]
    for name, expected in about["images"].items():
        item = found[name]
        for key in ("features", "boxes"):
            digest = hashlib.sha256(getattr(item, key).astype("<f4").tobytes()).hexdigest()
            assert digest == expected[f"{key}_sha256"]
        for key, recorded in DECODED.items():
            np.testing.assert_array_equal(getattr(item, key), tensors[f"{name}.{recorded}"])
        np.testing.assert_array_equal(item.relative_boxes(), tensors[f"{name}.boxes_normalised"])
        assert [objects[i] for i in item.object_ids[:6]] == expected["objects"]
        assert [attributes[i] for i in item.attribute_ids[:6]] == expected["attributes"]


def test_what_is_written_reads_back_and_has_the_same_bytes(tmp_path):
    pictures = [invented(f"p{i}", count=n) for i, n in enumerate((3, 1, 0, 5))]
    assert write_obj36(tmp_path / "a.tsv", iter(pictures)) == 4
    found = list(read_obj36(tmp_path / "a.tsv"))
    write_obj36(tmp_path / "b.tsv", found)
    assert (tmp_path / "a.tsv").read_bytes() == (tmp_path / "b.tsv").read_bytes()
    for item, expected in zip(found, pictures, strict=True):
        for name in ("boxes", *DECODED):
            np.testing.assert_array_equal(getattr(item, name), getattr(expected, name))
        if len(expected):
            np.testing.assert_array_equal(item.features, expected.features)


def test_pictures_are_found_by_id_wherever_their_line_is(tmp_path):
    names = [f"p{i}" for i in range(6)]
    write_obj36(tmp_path / "a.tsv", [invented(name) for name in names[3:]])
    write_obj36(tmp_path / "b.tsv", [invented(name) for name in names[2::-1]])
    # a mark of UTF-8 and lines as Windows has them
    marked = b"\xef\xbb\xbf" + (tmp_path / "b.tsv").read_bytes().replace(b"\n", b"\r\n")
    (tmp_path / "b.tsv").write_bytes(marked)
    places = index_obj36([tmp_path / "a.tsv", tmp_path / "b.tsv"])
    assert {name: place.line for name, place in places.items()} == dict(
        zip(names, [3, 2, 1, 1, 2, 3], strict=True)
    )
    for name in names:
        np.testing.assert_array_equal(read_place(places[name]).features, invented(name).features)


def lines() -> list[bytes]:
    return [encode_line(invented(f"p{i}")) for i in range(3)]


def changed(field: int, value: bytes | str) -> bytes:
    """The second line with another field."""
    fields = lines()[1].rstrip(b"\n").split(b"\t")
    fields[field] = value if isinstance(value, bytes) else value.encode()
    return b"\t".join(fields) + b"\n"


def packed(values: list[float], kind: str = "<f4") -> bytes:
    return base64.b64encode(np.array(values, kind).tobytes())


DAMAGES = {
    "cut short": (lines()[1][:200], "a.tsv:2: 9 fields .*the file may be cut short"),
    "cut in the features": (
        lines()[1][:-6],
        r"a.tsv:2: features: .*(not base64|which do not fit 4 boxes)",
    ),
    "too many fields": (
        lines()[1].replace(b"\t", b"\t\t", 1),
        "a.tsv:2: 11 fields; expected 10: img_id, img_h",
    ),
    "no base64": (changed(8, b"%%%%"), "a.tsv:2: boxes: not base64"),
    "too few boxes": (
        changed(8, packed([0] * 12)),
        "a.tsv:2: boxes: 48 bytes, which do not fit 4 boxes",
    ),
    "a wrong count": (changed(7, "5"), "a.tsv:2: objects_id: 32 bytes, which do not fit 5 boxes"),
    "no number": (changed(7, "four"), "a.tsv:2: num_boxes: found 'four'; expected a whole number"),
    "no feature": (changed(9, b""), "a.tsv:2: features: 0 bytes"),
    "NaN": (
        changed(9, packed([1] * 9 + [np.nan] + [1] * 22)),
        "a.tsv:2: number 1 of the feature of region 1 is nan; expected a finite number",
    ),
    "too large for half precision": (changed(9, packed([1e6] * 32)), "a.tsv:2: number 0 .* is 1000000.0"),
    "outside": (
        changed(8, packed([0, 0, 900, 1] * 4)),
        "a.tsv:2: region 0 has the box .*expected a box inside the picture",
    ),
    "turned": (changed(8, packed([9, 0, 3, 1] * 4)), "a.tsv:2: region 0 .*left ≤ right"),
    "an unknown class": (
        changed(3, packed([0, 1, 6, 0], "<i8")),
        "a.tsv:2: region 2 has the object class 6; expected −1 .* to 5",
    ),
    "a confidence": (
        changed(6, packed([0, 1.5, 0, 0])),
        "a.tsv:2: region 1 has the attribute confidence 1.5",
    ),
    "twice": (lines()[0], "a.tsv:2: picture p0 has a line already"),
    "no id": (changed(0, b" "), "a.tsv:2: img_id"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_line_is_named_with_its_number(tmp_path, damage):
    line, message = DAMAGES[damage]
    path = tmp_path / "a.tsv"
    path.write_bytes(lines()[0] + line + (lines()[2] if line.endswith(b"\n") else b""))
    with pytest.raises(UserError, match=message):
        list(read_obj36(path, objects=6, attributes=3))


def test_the_index_refuses_cut_lines_and_a_picture_in_two_files(tmp_path):
    (tmp_path / "a.tsv").write_bytes(lines()[0] + lines()[1][:100])
    with pytest.raises(UserError, match=r"a\.tsv:2: .*cut short"):
        index_obj36([tmp_path / "a.tsv"])
    (tmp_path / "a.tsv").write_bytes(lines()[0])
    (tmp_path / "b.tsv").write_bytes(lines()[1] + lines()[0])
    with pytest.raises(UserError, match=r"b\.tsv:2: picture p0 has a line already \(.*a\.tsv:1\)"):
        index_obj36([tmp_path / "a.tsv", tmp_path / "b.tsv"])


def test_a_compressed_file_is_refused(tmp_path):
    import gzip

    (tmp_path / "a.tsv").write_bytes(gzip.compress(lines()[0]))
    with pytest.raises(UserError, match="compressed"):
        index_obj36([tmp_path / "a.tsv"])


def test_classes_are_the_first_synonyms(tmp_path):
    (tmp_path / "c.txt").write_text("sky\nman,person\n")
    assert read_classes(tmp_path / "c.txt", "objects") == ("sky", "man")
    (tmp_path / "c.txt").write_text("sky\n\nman\n")
    with pytest.raises(UserError, match=r"c\.txt:2: no name"):
        read_classes(tmp_path / "c.txt", "objects")
