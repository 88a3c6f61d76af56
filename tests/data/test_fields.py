"""Fields of JSON are what a reader asked for, or an error that names file, place and field."""

import json

import pytest

from vlpnb.data.captions import lxmert_ids, read_captions
from vlpnb.data.fields import id_field, list_field, number_field, object_field, text_field, unknown_id
from vlpnb.data.gqa import read_gqa, read_gqa_choices
from vlpnb.data.lxmert import AnswerTable, read_labels, read_lxmert, read_lxmert_pairs
from vlpnb.data.nlvr import read_nlvr
from vlpnb.data.nlvr2 import read_nlvr2
from vlpnb.data.squad import read_squad_file
from vlpnb.data.text_files import read_json, read_json_lines
from vlpnb.data.vqa import read_lxmert_questions, read_vqa
from vlpnb.downstream.probes import read_probes
from vlpnb.errors import UserError
from vlpnb.text.wikipedia import extracted_lines

HALF = "a dog \ud83d runs"


def squad(text):
    answers = [{"text": "dog", "answer_start": 2}]
    qas = [{"id": "1", "question": "What ?", "answers": answers}]
    return {"data": [{"paragraphs": [{"context": text, "qas": qas}]}]}


READERS = {
    "coco": (
        lambda text: {
            "images": [{"id": 1, "file_name": "a.jpg"}],
            "annotations": [{"image_id": 1, "caption": text}],
        },
        lambda path: read_captions("coco", path, path.parent)[0].sentences[0],
        "annotations[0].caption",
    ),
    "karpathy": (
        lambda text: {"images": [{"filename": "a.jpg", "split": "train", "sentences": [{"raw": text}]}]},
        lambda path: read_captions("karpathy", path, path.parent)[0].sentences[0],
        "images[0].raw",
    ),
    "lxmert": (
        lambda text: [{"img_id": "a", "sentf": {"vg": [text]}}],
        lambda path: read_captions("lxmert", path, path.parent)[0].sentences[0],
        "[0].sentf.vg",
    ),
    "lxmert ids": (
        lambda text: [{"img_id": text, "sentf": {}}],
        lambda path: lxmert_ids(path)[0],
        "[0].img_id",
    ),
    "squad": (squad, lambda path: read_squad_file(path)[0].context, "data[0].paragraphs[0].context"),
    "vqa": (
        lambda text: {"questions": [{"question_id": 1, "image_id": 2, "question": text}]},
        lambda path: read_vqa(path)[0].question,
        "questions[0].question",
    ),
    "lxmert questions": (
        lambda text: [{"question_id": 1, "img_id": 2, "sent": text}],
        lambda path: read_lxmert_questions(path)[0].question,
        "[0].sent",
    ),
    "lxmert answers": (
        lambda text: [{"question_id": 1, "img_id": 2, "sent": "What ?", "label": {text: 1}}],
        lambda path: next(iter(read_lxmert_questions(path)[0].targets)),
        "[0].label",
    ),
    "gqa": (
        lambda text: {"7": {"imageId": "2", "question": text}},
        lambda path: read_gqa(path)[0].question,
        "7.question",
    ),
    "gqa answers": (
        lambda text: {"7": {"imageId": "2", "question": "What ?", "answer": text}},
        lambda path: read_gqa(path)[0].answer,
        "7.answer",
    ),
    "nlvr2": (
        lambda text: {"identifier": "dev-1-0-0", "sentence": text, "label": "True"},
        lambda path: read_nlvr2(path)[0].sentence,
        "1.sentence",
    ),
    "lxmert sentences": (
        lambda text: [{"img_id": "a", "sentf": {"vg": [text]}}],
        lambda path: read_lxmert(path)[0].sentences["vg"][0],
        "[0].sentf.vg[0]",
    ),
    "lxmert pairs": (
        lambda text: [{"identifier": "dev-1-0-0", "img0": "a", "img1": "b", "sent": text, "label": 1}],
        lambda path: read_lxmert_pairs(path)[0].sentence,
        "[0].sent",
    ),
    "answer table": (
        lambda text: [{"ans": text, "dsets": ["vqa"]}],
        lambda path: AnswerTable.read(path).answers[0],
        "[0].ans",
    ),
    "task's answers": (lambda text: [text], lambda path: read_labels(path)[0], "[0]"),
    "gqa choices": (
        lambda text: {"7": {"valid": [text], "plausible": []}},
        lambda path: next(iter(read_gqa_choices(path)["7"].valid)),
        "7.valid",
    ),
    "nlvr": (
        lambda text: {"identifier": "1-0", "directory": "0", "sentence": text, "label": "true"},
        lambda path: read_nlvr(path)[0].sentence,
        "1.sentence",
    ),
    "probes": (
        lambda text: {"prompt": f"{text} [MASK]", "answer": "a", "candidates": ["a"], "kind": "x"},
        lambda path: read_probes(path.parent)["file"][0]["prompt"].removesuffix(" [MASK]"),
        "1.prompt",
    ),
    "wikipedia": (
        lambda text: {"id": "1", "title": "", "text": text},
        lambda path: next(extracted_lines(path)),
        "1.text",
    ),
}


# A number is an id, keys are always text, an answer may be absent: there only half a character is wrong.
ONLY_TEXT = ("lxmert ids", "lxmert answers", "gqa answers", "probes")
CASES = [
    (name, value)
    for name in READERS
    for value in (HALF, 7, None, ["a"])
    if value is HALF or name not in ONLY_TEXT
]


@pytest.mark.parametrize(("name", "value"), CASES)
def test_every_reader_names_the_field_whose_text_is_none(tmp_path, name, value):
    make, read, where = READERS[name]
    path = tmp_path / "file.jsonl"
    path.write_text(json.dumps(make("a dog runs")))
    assert read(path) == "a dog runs"
    path.write_text(json.dumps(make(value)))
    with pytest.raises(UserError) as caught:
        read(path)
    words = "half a character (\\ud83d) at position 6" if value is HALF else "expected text, found"
    assert words in str(caught.value)
    assert where in str(caught.value)
    assert str(path) in str(caught.value)


def test_whole_characters_beyond_the_first_plane_are_text(tmp_path):
    path = tmp_path / "file.json"
    path.write_text(json.dumps({"a": "a dog \U0001f415 runs"}))  # written as two halves
    assert "\\ud83d" in path.read_text()
    assert text_field(read_json(path, "x"), "a", "file") == "a dog 🐕 runs"


def test_ids_that_are_text_here_and_numbers_there_are_told_apart(tmp_path):
    path = tmp_path / "c.json"
    images, annotations = [{"id": 7, "file_name": "a.jpg"}], [{"image_id": "7", "caption": "x"}]
    path.write_text(json.dumps({"images": images, "annotations": annotations}))
    with pytest.raises(
        UserError, match=r"annotations\[0\]: image_id '7' \(text.*\) is not among .*have 7 \(a number"
    ):
        read_captions("coco", path, tmp_path)
    assert unknown_id(8, [7], "the images") == "8 is not among the images"


@pytest.mark.parametrize(
    "value", ["", "  ", "a\nb", "a\rb", "a\x00b", "a\u2028b", "\ud83d", True, 1.5, None, []]
)
def test_an_id_is_a_number_or_one_line(value):
    with pytest.raises(UserError, match=r"^file\.id: "):
        id_field({"id": value}, "id", "file")


def test_lists_objects_and_numbers():
    item = {"list": [1], "object": {"a": 1}, "number": 0.5, "nothing": None}
    assert list_field(item, "list", "f") == [1]
    assert object_field(item, "object", "f") == {"a": 1}
    assert object_field(item, "nothing", "f") == object_field(item, "absent", "f") == {}
    assert number_field(item, "number", "f") == 0.5
    for read, name in ((list_field, "object"), (object_field, "list"), (number_field, "list")):
        with pytest.raises(UserError, match=rf"^f\.{name}: expected"):
            read(item, name, "f")
    for number in (float("nan"), float("inf"), True, "1"):
        with pytest.raises(UserError, match=r"^f\.n: expected a number"):
            number_field({"n": number}, "n", "f")
    for read in (list_field, object_field, number_field, text_field, id_field):
        with pytest.raises(UserError, match=r"^f: expected an object with field 'x', found a list"):
            read([], "x", "f")


@pytest.mark.parametrize("content", ["[" * 100_000, "1" * 10_000, '{"a": 1', "\ufeff"])
def test_json_that_breaks_the_parser_names_its_file(tmp_path, content):
    path = tmp_path / "x.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=r"x\.json: not valid JSON"):
        read_json(path, "anything")
    if content.strip("\ufeff"):
        with pytest.raises(UserError, match=r"x\.json:1: not valid JSON"):
            list(read_json_lines(path, "anything"))
