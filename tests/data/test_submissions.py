"""Files of predictions, to the byte as the original project writes them."""

import json
from pathlib import Path

import pytest

from vlpnb.data.captions import CaptionedImage
from vlpnb.data.submissions import (
    caption_results,
    gqa_submission,
    nlvr2_submission,
    read_caption_results,
    vqa_submission,
    write_submission,
)
from vlpnb.errors import UserError

RECORDED = json.loads((Path(__file__).parents[1] / "golden/lxmert/metrics.json").read_text())


def test_submissions_equal_the_originals_byte_for_byte(tmp_path):
    for task, write in (("vqa", vqa_submission), ("gqa", gqa_submission)):
        predictions = dict(RECORDED[task]["predictions"][0]["answers"])
        path = write_submission(tmp_path / "test_predict.json", write(predictions))
        assert path.read_text() == RECORDED[task]["submission_of_first"]
    names = [row["identifier"] for row in RECORDED["nlvr2"]["lxmert_form"]]
    for run in RECORDED["nlvr2"]["runs"]:
        predictions = dict(zip(names, map(bool, run["predictions"]), strict=True))
        path = write_submission(tmp_path / "valid_predict.csv", nlvr2_submission(predictions))
        assert path.read_bytes() == run["csv"].encode()


def test_captions_go_to_the_server_under_official_numbers(tmp_path):
    said = {"COCO_val2014_000000000042": "a dog .", "x": "two dogs", "667626_18": 'a "red" ball'}
    text = caption_results(
        said, [CaptionedImage("x", tmp_path, (), 9), CaptionedImage("unasked", tmp_path, (), 3)]
    )
    assert json.loads(text)[0] == {"image_id": 42, "caption": "a dog ."}
    path = write_submission(tmp_path / "captions_test.json", text)
    assert read_caption_results(path) == {42: "a dog .", 9: "two dogs", "667626_18": 'a "red" ball'}


def test_two_pictures_with_one_official_number_are_named(tmp_path):
    pictures = [CaptionedImage(name, tmp_path, (), 9) for name in "ab"]
    with pytest.raises(UserError, match="pictures 'a' and 'b' have one official id, 9"):
        caption_results({"a": "one", "b": "other"}, pictures)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            '[{"image_id": 1, "caption": "a"}, {"image_id": 1, "caption": "b"}]',
            r"\[1\]: image_id 1 has a caption already",
        ),
        ('[{"image_id": 1}]', r"\[0\]: field 'caption' is missing"),
        ('[{"image_id": 1.5, "caption": "a"}]', r"\[0\]\.image_id: expected an id"),
        ('{"1": "a"}', "expected a list, found an object"),
        ("[]", "holds no caption"),
    ],
)
def test_broken_result_files_name_the_entry(tmp_path, content, message):
    path = tmp_path / "r.json"
    path.write_text(content)
    with pytest.raises(UserError, match=rf"r\.json.*{message}"):
        read_caption_results(path)
