"""Lines that say what pictures show: captions joined, files side by side, names of photographs."""

import gzip

import pytest

from vlpnb.data.description import TextData
from vlpnb.errors import UserError
from vlpnb.text.paragraphs import described, joined, rows_of_pictures


def test_lines_side_by_side_describe_one_picture(tmp_path):
    for i, text in enumerate(("A dog runs\nA cat sits .\n", "The dog is brown .\nA black cat\n")):
        (tmp_path / f"{i}.gz").write_bytes(gzip.compress(text.encode()))
    (tmp_path / "images.txt").write_text("17.jpg\n5.jpg\n")
    files = tuple(tmp_path / f"{i}.gz" for i in range(2))
    text = TextData(tmp_path, "none", files, files, images=(tmp_path / "images.txt",) * 2)
    dog, cat = described(text, "train")
    assert dog == ("A dog runs . The dog is brown .", "17")
    assert cat == ("A cat sits . A black cat .", "5")
    assert [line.picture for line in described(text, "valid")] == ["", ""]
    assert [line.text for line in described(text, "train", one_paragraph=False)][1] == "The dog is brown ."
    assert [line.picture for line in described(text, "train", unseen={"17"})] == ["5"]
    (tmp_path / "images.txt").write_text("17.jpg\n")
    with pytest.raises(UserError, match=r"has 2 lines, and .* names 1 images"):
        list(described(text, "train"))


def test_captions_are_joined_with_stops():
    assert joined(["A dog  runs", "it barks!", " "]) == "A dog runs . it barks!"


def test_photographs_that_two_collections_name_otherwise_are_the_same():
    ids = ["100_ab12cd34", "7", "beach"]
    assert rows_of_pictures(["100", "beach", "8", "100_ab12cd34"], ids).tolist() == [0, 2, -1, 0]
