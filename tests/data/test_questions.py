"""VQA v2, LXMERT questions, GQA and NLVR2."""

import json

import pytest

from vlpnb.data.gqa import read_gqa
from vlpnb.data.nlvr2 import read_nlvr2
from vlpnb.data.vqa import coco_image_name, read_lxmert_questions, read_vqa
from vlpnb.errors import UserError


def test_vqa(tmp_path):
    questions, annotations = tmp_path / "q.json", tmp_path / "a.json"
    questions.write_text(json.dumps({"questions": [{"question_id": 1, "image_id": 9, "question": "What ?"}]}))
    row = {"question_id": 1, "answers": [{"answer": "cat"}] * 10, "multiple_choice_answer": "cat"}
    annotations.write_text(json.dumps({"annotations": [row | {"answer_type": "other"}]}))
    example = read_vqa(questions, annotations)[0]
    assert (example.answers, example.answer, example.answer_type) == (("cat",) * 10, "cat", "other")
    assert read_vqa(questions)[0].answers == ()
    annotations.write_text(json.dumps({"annotations": []}))
    with pytest.raises(UserError, match=r"questions\[0\]: question_id 1 is not among the annotations of"):
        read_vqa(questions, annotations)
    assert coco_image_name(9, "train2014") == "COCO_train2014_000000000009.jpg"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"label": {"cat": 7}}, r"\[0\]\.label\['cat'\]: score 7, expected a number from 0 to 1"),
        ({"label": ["cat"]}, r"\[0\]\.label: expected an object, found a list"),
    ],
)
def test_scores_of_lxmerts_questions_are_checked(tmp_path, row, message):
    path = tmp_path / "q.json"
    path.write_text(json.dumps([{"question_id": 1, "img_id": "a", "sent": "What?"} | row]))
    with pytest.raises(UserError, match=message):
        read_lxmert_questions(path)


def test_gqa(tmp_path):
    path = tmp_path / "g.json"
    item = {
        "imageId": "2",
        "question": "Is it red?",
        "answer": "no",
        "types": {"structural": "verify", "semantic": None},
    }
    path.write_text(json.dumps({"07": item, "08": {"imageId": "3", "question": "What?"}}))
    first, second = read_gqa(path)
    assert (first.question_id, first.answer, first.structural, first.semantic) == ("07", "no", "verify", "")
    assert second.answer is None
    path.write_text(json.dumps({"07": {"question": "x"}}))
    with pytest.raises(UserError, match="07: field 'imageId' is missing"):
        read_gqa(path)
    path.write_text("[]")
    with pytest.raises(UserError, match="JSON object"):
        read_gqa(path)


def test_nlvr2(tmp_path):
    path = tmp_path / "n.json"
    path.write_text('{"identifier": "train-1-2-0", "sentence": "s", "label": "True", "directory": 39}\n\n')
    example = read_nlvr2(path)[0]
    assert (example.left, example.right) == ("train-1-2-img0.png", "train-1-2-img1.png")
    assert (example.label, example.directory) == (True, "39")
    path.write_text('{"identifier": "train-1-2-0", "sentence": "s", "label": "Maybe"}\n')
    with pytest.raises(UserError, match=r"n\.json:1: label 'Maybe'"):
        read_nlvr2(path)
    path.write_text('{"identifier": "a-b", "sentence": "s"}\n{"identifier": \n')
    with pytest.raises(UserError, match=r"n\.json:2: not valid JSON"):
        read_nlvr2(path)


def test_published_files(shared_data):
    vqa = shared_data / "vqa_v2/subset_60k"
    valid = read_vqa(vqa / "vqa_questions_valid.gzip", vqa / "vqa_annotatons_valid.gzip")
    assert len(valid) == 8977
    assert all(len(example.answers) == 10 for example in valid)
    assert len(read_nlvr2(shared_data / "nlvr2/dev.json")) == 6982
    okvqa = read_lxmert_questions(shared_data / "okvqa/testdev.json")
    assert len(okvqa) == 2000
    assert all(0 <= score <= 1 for example in okvqa for score in example.targets.values())


def test_damaged_gzip(tmp_path):
    path = tmp_path / "q.json.gz"
    path.write_bytes(b"\x1f\x8b\x08 not really")
    with pytest.raises(UserError, match="the compressed file is damaged"):
        read_vqa(path)
