"""Text for a model that is to caption photographs later: which lines are read."""

import json

import pytest

from tests.vlp import small_captions as small
from vlpnb.data.description import TextData, load_captions, load_text
from vlpnb.errors import UserError
from vlpnb.text.unseen import held_out, unseen_sentences


def test_sentences_about_photographs_to_be_captioned_are_left_out(tmp_path):
    inputs = small.make(tmp_path / "in", train=4, valid=2, test=2)
    data = load_captions(inputs["captions"])
    assert held_out(data) == {"valid0", "valid1", "test0", "test1"}
    lines = {"train": [f"line {i}" for i in range(4)], "valid": ["x"]}
    small.write_text(tmp_path / "in", lines, {"train": ["train0", "test1", "other", "valid0"]})
    text = load_text(inputs["text"])
    assert list(unseen_sentences(text, "train", held_out(data))) == ["line 0", "line 2"]
    assert list(unseen_sentences(text, "train", held_out(data), 1)) == ["line 0"]


def test_flickr30ks_name_of_a_photograph_of_flickr8k_is_known(tmp_path, monkeypatch):
    inputs = small.make(tmp_path / "in", train=4, valid=2, test=2)
    monkeypatch.setattr(small, "number", lambda name: 0)
    path = tmp_path / "in" / "dataset.json"
    found = json.loads(path.read_text())
    found["images"][-1]["filename"] = "1007129816_e794419615.jpg"
    path.write_text(json.dumps(found))
    data = load_captions(inputs["captions"])
    assert "1007129816" in held_out(data)
    small.write_text(
        tmp_path / "in", {"train": ["one", "two"], "valid": ["x"]}, {"train": ["1007129816", "other"]}
    )
    assert list(unseen_sentences(load_text(inputs["text"]), "train", held_out(data))) == ["two"]


@pytest.mark.parametrize("named", [1, 3])
def test_a_list_of_images_must_go_with_its_file(tmp_path, named):
    (tmp_path / "a.txt").write_text("one\ntwo\n")
    (tmp_path / "images.txt").write_text("x.jpg\n" * named)
    text = TextData(tmp_path, "none", train=(tmp_path / "a.txt",), images=(tmp_path / "images.txt",))
    with pytest.raises(UserError, match=r"a.txt: has .*lines, and .*images.txt names"):
        list(unseen_sentences(text, "train", set()))
