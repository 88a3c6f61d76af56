"""Pythia's pickled questions: opened only where somebody answers for them, and nothing in them is run."""

import os
import pickle
from collections import OrderedDict

import numpy as np
import pytest

from vlpnb.data.asked import PictureNames, read_questions
from vlpnb.data.imdb import read_imdb
from vlpnb.data.lxmert import read_labels
from vlpnb.data.vqa import VqaExample
from vlpnb.errors import UserError

HEADER = {"dataset_name": "vqa2", "version": 1.0, "has_answer": True}


def question(number=7, **fields):
    name = f"COCO_train2014_{number:012d}"
    about = {
        "question_str": "what is it?",
        "question_id": number,
        "image_name": name,
        "feature_path": f"{name}.npy",
    }
    return {**about, "answers": ["cat"] * 6 + ["the cat"] * 4, "ocr_tokens": [], **fields}


def write(path, *elements, header=HEADER, version=None):
    values = np.empty(1 + len(elements), object)
    values[:] = [header, *elements]
    with path.open("wb") as file:
        np.lib.format.write_array(file, values, version=version, allow_pickle=True)
    return path


def test_questions_are_read_as_they_are_written(tmp_path):
    odd = OrderedDict(
        question(
            8, question_id=np.int64(8), answers=np.array(["a"] * 10), image_name="x", feature_path="y/z.npy"
        )
    )
    found = read_imdb(write(tmp_path / "imdb_train2014.npy", question(), odd), trusted=True, labelled=True)
    assert found == [
        VqaExample(7, "COCO_train2014_000000000007", "what is it?", ("cat",) * 6 + ("the cat",) * 4),
        VqaExample(8, "z", "what is it?", ("a",) * 10),
    ]
    test = question()
    del test["answers"], test["feature_path"]
    path = write(tmp_path / "imdb_test2015.npy", test, header={**HEADER, "has_answer": False}, version=(2, 0))
    assert read_imdb(path, trusted=True) == [VqaExample(7, "COCO_train2014_000000000007", "what is it?")]


def test_a_pickle_is_not_opened_unless_it_is_trusted(tmp_path):
    path = write(tmp_path / "imdb.npy", question())
    with pytest.raises(UserError, match=r"imdb\.npy: this file is a pickle.*`trusted: true`.*format vqa"):
        read_imdb(path)


class Harmful:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("place", ["answers", "header", "question"])
def test_even_a_trusted_one_runs_nothing(tmp_path, place):
    harm = Harmful(tmp_path / "harm")
    header = {**HEADER, "has_answer": harm} if place == "header" else HEADER
    rows = {"answers": question(answers=[harm]), "question": harm}.get(place, question())
    path = write(tmp_path / "imdb.npy", rows, header=header)
    with pytest.raises(
        UserError, match=r"imdb\.npy: it would run (posix|nt)\.mkdir; expected arrays, numbers, texts"
    ):
        read_imdb(path, trusted=True)
    assert not harm.path.exists()


@pytest.mark.parametrize(
    "call", [b"cbuiltins\neval\n(S'1'\ntR.", b"cnumpy\nload\n(S'x'\ntR.", b"cos\nsystem\n(S'true'\ntR."]
)
def test_functions_that_are_not_numbers_and_containers_are_named(tmp_path, call):
    path = write(tmp_path / "imdb.npy", question())
    with path.open("rb") as file:
        np.lib.format.read_magic(file)
        np.lib.format.read_array_header_1_0(file)
        head = file.tell()
    path.write_bytes(path.read_bytes()[:head] + call)
    with pytest.raises(UserError, match=r"it would run (builtins\.eval|numpy\.load|os\.system)"):
        read_imdb(path, trusted=True)


@pytest.mark.parametrize(
    ("rows", "header", "message"),
    [
        ([question()], {"version": 1}, r"\[0\], the header: field 'has_answer' is missing"),
        ([question()], {"has_answer": "yes"}, "has_answer: expected true or false, found 'yes'"),
        ([question()], {"has_answer": False}, "the header says that the questions have no answers"),
        ([question()], question(), "field 'has_answer' is missing"),
        ([question()], ["header"], r"\[0\], the header: expected an object, found a list"),
        ([question(), question(question_str=5)], HEADER, r"\[2\]\.question_str: expected text"),
        ([question(question_id=None)], HEADER, r"\[1\]\.question_id: expected an id"),
        ([question(image_name="a\nb")], HEADER, r"\[1\]\.image_name: expected a name"),
        ([question(answers=[])], HEADER, r"\[1\]\.answers: is empty"),
        ([question(answers=["a", 3])], HEADER, r"\[1\]\.answers\[1\]: expected text"),
        (["a question"], HEADER, r"\[1\]: expected an object"),
        ([], HEADER, "1 elements; expected a header and questions"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(tmp_path, rows, header, message):
    path = write(tmp_path / "imdb.npy", *rows, header=header)
    with pytest.raises(UserError, match=rf"imdb\.npy: .*{message}"):
        read_imdb(path, trusted=True, labelled=True)


def test_damaged_and_foreign_files_are_named(tmp_path):
    path = tmp_path / "imdb.npy"
    with pytest.raises(UserError, match=r"does not exist.*questions of Pythia"):
        read_imdb(path, trusted=True)
    whole = write(path, question()).read_bytes()
    loop = []
    loop.append(loop)
    for content, message in (
        (b"", "cannot be read"),
        (whole[:-20], "cannot be read"),
        (b"PK" + whole, "cannot be read"),
        (pickle.dumps([HEADER]), "cannot be read"),
    ):
        path.write_bytes(content)
        with pytest.raises(UserError, match=rf"imdb\.npy: {message}.*Fetch it again"):
            read_imdb(path, trusted=True)
    np.save(path, np.zeros(4))
    with pytest.raises(UserError, match=r"an array \[4\] of float64; expected a list of objects"):
        read_imdb(path, trusted=True)
    write(path, loop)
    with pytest.raises(UserError, match=r"imdb\.npy: cannot be read"):
        read_imdb(path, trusted=True)


def test_asked_questions_have_vlps_targets_and_the_types_of_the_annotations(tmp_path):
    path = write(tmp_path / "imdb.npy", question(answers=["Cat?", "cat", "the cat", "it's"]), question(8))
    (tmp_path / "a.json").write_text('{"annotations": [{"question_id": 7, "answer_type": "other"}]}')
    names = PictureNames(tmp_path / "images")
    asked, paths = read_questions("imdb", [path], [tmp_path / "a.json"], names, "train", trusted=True)
    assert asked[0].image_id == "COCO_train2014_000000000007"
    assert asked[0].targets == pytest.approx({"cat": 0.6, "the cat": 0.3, "it 's": 0.3})
    assert asked[0].human == ("Cat?", "cat", "the cat", "it's")
    assert [q.answer_type for q in asked] == ["other", ""]
    assert paths["COCO_train2014_000000000008"].parent.name in ("images", "train2014", "train")
    with pytest.raises(UserError, match="this file is a pickle"):
        read_questions("imdb", [path], [], names, "train")
    with pytest.raises(UserError, match=r"picture '\.\.' lies outside"):
        read_questions(
            "imdb",
            [write(path, question(image_name="..", feature_path=""))],
            [],
            names,
            "train",
            trusted=True,
        )


def test_answers_may_be_a_text_with_one_a_line(tmp_path):
    path = tmp_path / "answers_vqa.txt"
    path.write_text("<unk>\nyes\na cat\n")
    assert read_labels(path) == ("<unk>", "yes", "a cat")
    path.write_text("<unk>\nyes\nyes\n")
    with pytest.raises(UserError, match=r"answers_vqa\.txt: \[2\]: answer 'yes' is class 1 already"):
        read_labels(path)
    path.write_text("<unk>\n\nyes\n")
    with pytest.raises(UserError, match=r"answers_vqa\.txt:2: expected a name"):
        read_labels(path)
