"""Flickr8k and Flickr30k as people find them today: the authors' lines, a table with commas, a table with bars."""

import json

import pytest

from vlpnb.data.captions import read_captions
from vlpnb.data.fetching import check_folder
from vlpnb.data.flickr_tables import read_flickr_lines
from vlpnb.errors import UserError

SENTENCES = {
    "1.jpg": ('A dog , a cat and "Fred" run .', "Two pets ."),
    "2.jpg": ("A red car .", "It's a car | or a van ."),
}
ROWS = [(name, i, text) for name, texts in SENTENCES.items() for i, text in enumerate(texts)]
QUOTED = '"A dog , a cat and ""Fred"" run ."'
FORMS = {
    "Flickr8k.token.txt": [f"{name}#{i}\t{text}" for name, i, text in ROWS],
    "captions.txt": [
        "image,caption",
        *(f"{n},{QUOTED if 'Fred' in text else text}" for n, _, text in ROWS),
    ],
    "results.csv": ["image_name| comment_number| comment", *(f"{n}| {i}| {text}" for n, i, text in ROWS)],
}


def read(tmp_path, name, lines, **more):
    (tmp_path / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return {i.path.name: i.sentences for i in read_captions("flickr", tmp_path, tmp_path, **more)}


@pytest.mark.parametrize("name", FORMS)
def test_the_three_forms_say_the_same(tmp_path, name):
    (tmp_path / "val.txt").write_text("2.jpg\n")
    assert read(tmp_path, name, FORMS[name]) == SENTENCES
    assert read(tmp_path, name, FORMS[name], split="valid") == {"2.jpg": SENTENCES["2.jpg"]}
    assert read(tmp_path, name, ["\ufeff" + FORMS[name][0], *FORMS[name][1:]]) == SENTENCES


def test_the_line_of_flickr30k_that_lacks_a_bar(tmp_path):
    lines = [
        "image_name| comment_number| comment",
        "9.jpg| 3| One .",
        "9.jpg| 4   A dog runs across the grass .",
    ]
    assert read(tmp_path, "results.csv", lines) == {"9.jpg": ("One .", "A dog runs across the grass .")}


def test_a_comma_that_nobody_quoted_belongs_to_the_sentence(tmp_path):
    lines = ["image,caption", '1.jpg,A dog, a cat and a "bird"', "1.jpg,"]
    assert read(tmp_path, "captions.txt", lines) == {"1.jpg": ('A dog, a cat and a "bird"',)}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            ["image,caption", '1.jpg,"A dog', "2.jpg,A cat"],
            "a quotation mark is not closed in the lines up to 3",
        ),
        (["image,caption", "1.jpg"], "captions.txt:2: 1 columns, expected 2"),
        (["image,caption", ",A dog"], "captions.txt:2: 2 columns, expected 2"),
        (["image,address", "1.jpg,http://x"], "captions.txt:1: no column caption or comment"),
        (["image_name| comment_number| comment", "1.jpg| one"], "captions.txt:2: 2 columns, expected 3"),
        (["a sentence alone"], "captions.txt:1: expected 'image.jpg#0<TAB>sentence'"),
        (["image,caption", "../../secret.jpg,A dog"], "lies outside the folder of pictures"),
        (["image,caption", "/etc/a.jpg,A dog"], "lies outside the folder of pictures"),
    ],
)
def test_broken_lines_are_named(tmp_path, lines, message):
    with pytest.raises(UserError, match=message.replace(".", r"\.")):
        read(tmp_path, "captions.txt", lines)


def test_what_a_download_without_lists_of_splits_needs_is_said(tmp_path):
    with pytest.raises(UserError, match=r"none of Flickr_8k\.trainImages\.txt, train\.txt.*Karpathy's JSON"):
        read(tmp_path, "captions.txt", FORMS["captions.txt"], split="train")


def test_the_check_of_a_folder_knows_the_other_names(tmp_path):
    for name in ("trainImages", "devImages", "testImages"):
        (tmp_path / f"Flickr_8k.{name}.txt").write_text("1.jpg\n")
    (tmp_path / "Images").mkdir()
    (tmp_path / "Images/1.jpg").write_bytes(b"x")
    (tmp_path / "captions.txt").write_text("\n".join(FORMS["captions.txt"]))
    assert check_folder(tmp_path, "flickr8k") == []
    (tmp_path / "captions.txt").write_text("image,caption\n1.jpg\n")
    assert "captions.txt:2" in check_folder(tmp_path, "flickr8k")[0]
    (tmp_path / "captions.txt").unlink()
    assert "Flickr8k.token.txt is missing" in check_folder(tmp_path, "flickr8k")[0]


def test_an_entry_that_occurs_twice_is_one_picture(tmp_path):
    images = [{"id": i, "file_name": name} for i, name in ((1, "a/x.jpg"), (2, "b/x.jpg"), (3, "a/x.jpg"))]
    said = {1: ["one", "two"], 2: ["other"], 3: ["two", "three"]}
    rows = [{"image_id": i, "caption": text} for i, texts in said.items() for text in texts]
    path = tmp_path / "c.json"
    path.write_text(json.dumps({"images": images, "annotations": rows}))
    left_out = []
    found = read_captions("coco", path, tmp_path, left_out=left_out)
    assert [(i.image_id, i.sentences) for i in found] == [
        ("a/x", ("one", "two", "three")),
        ("b/x", ("other",)),
    ]
    assert left_out == ["a/x: a picture that is named again; its captions are joined"]
    images[1]["file_name"] = "a/x.png"
    path.write_text(json.dumps({"images": images, "annotations": rows}))
    with pytest.raises(UserError, match=r"a/x\.jpg and .*a/x\.png: two pictures with the id 'a/x'"):
        read_captions("coco", path, tmp_path)
    images[1] = {"id": 1, "file_name": "c.jpg"}
    path.write_text(json.dumps({"images": images, "annotations": rows}))
    with pytest.raises(UserError, match=r"images\[1\]: id 1 is 'c\.jpg' here and 'a/x\.jpg' before"):
        read_captions("coco", path, tmp_path)


def test_the_real_captions_in_each_form(shared_data, tmp_path):
    original = shared_data / "flickr8k/Flickr8k.token.txt"
    expected = [(name, text) for _, name, text in read_flickr_lines(original)]
    bars = "".join(f"{name}| {i % 5}| {text}\n" for i, (name, text) in enumerate(expected))
    commas = "".join(f'{name},"{text.replace(chr(34), chr(34) * 2)}"\n' for name, text in expected)
    (tmp_path / "results.csv").write_text("image_name| comment_number| comment\n" + bars)
    (tmp_path / "captions.txt").write_text("image,caption\n" + commas)
    for name in ("results.csv", "captions.txt"):
        found = [(image, text.strip()) for _, image, text in read_flickr_lines(tmp_path / name)]
        assert found == [(image, text.strip()) for image, text in expected]
