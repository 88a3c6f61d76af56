"""SQuAD's JSON: both versions, and errors that name the file and the field."""

import copy
import json

import pytest

from vlpnb.data.squad import read_squad, squad_file
from vlpnb.errors import UserError

CONTEXT = "Anna saw a red car . Ben saw a tent ."


def content(**fields) -> dict:
    question = {
        "id": "1",
        "question": "What did Anna see?",
        "answers": [{"text": "a red car", "answer_start": 9}],
    }
    paragraphs = [{"context": CONTEXT, "qas": [{**question, **fields}]}]
    return {"version": "1.1", "data": [{"title": "Cars", "paragraphs": paragraphs}]}


def write(folder, value, version="1.1", split="train"):
    squad_file(folder, version, split).write_text(json.dumps(value), encoding="utf-8")


def test_both_versions(tmp_path):
    write(
        tmp_path,
        content(answers=[{"text": "car", "answer_start": 15}, {"text": "a red car", "answer_start": 9}]),
    )
    [question] = read_squad(tmp_path, "1.1", "train")
    assert (question.id, question.title, question.impossible) == ("1", "Cars", False)
    assert question.answers == (("car", 15), ("a red car", 9))
    plausible = [{"text": "a tent", "answer_start": 29}]
    write(tmp_path, content(answers=[], is_impossible=True, plausible_answers=plausible), "2.0", "dev")
    [question] = read_squad(tmp_path, "2.0", "valid")
    assert question.impossible
    assert question.answers == ()


def test_offsets_count_characters(tmp_path):
    value = content(answers=[{"text": "Zürich", "answer_start": 8}])
    value["data"][0]["paragraphs"][0]["context"] = "In 𝒳 is Zürich ."
    write(tmp_path, value)
    assert read_squad(tmp_path, "1.1", "train")[0].answers == (("Zürich", 8),)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"answers": [{"text": "a red car", "answer_start": 10}]},
            r"answers\[0\].answer_start: .*'a red car'",
        ),
        ({"answers": [{"text": "A", "answer_start": -1}]}, r"answers\[0\].answer_start"),
        (
            {"answers": [{"text": "Anna", "answer_start": "0"}]},
            r"answer_start: found '0', expected a whole number",
        ),
        ({"answers": [{"text": "Anna"}]}, r"answers\[0\]: field 'answer_start' is missing"),
        ({"answers": []}, r"qas\[0\].answers: question '1' has none"),
        ({"answers": {}}, r"qas\[0\].answers: expected a list, found an object"),
        ({"question": None}, r"qas\[0\].question: expected text, found null"),
        ({"is_impossible": "no"}, r"is_impossible: found 'no'"),
        ({"is_impossible": True}, r"question '1' has none; expected at least one answer \(v1.1\)"),
    ],
)
def test_errors_name_the_field(tmp_path, fields, message):
    write(tmp_path, content(**fields))
    with pytest.raises(UserError, match=message) as caught:
        read_squad(tmp_path, "1.1", "train")
    assert str(caught.value).startswith(f"{tmp_path / 'train-v1.1.json'}: data[0].paragraphs[0].qas[0]")


def test_other_damage(tmp_path):
    for value, message in (
        ([], "field 'data'"),
        ({"data": []}, "no question"),
        ({"data": [3]}, r"data\[0\]"),
    ):
        write(tmp_path, value)
        with pytest.raises(UserError, match=message):
            read_squad(tmp_path, "1.1", "train")
    twice = content()
    twice["data"].append(copy.deepcopy(twice["data"][0]))
    write(tmp_path, twice)
    with pytest.raises(UserError, match=r"data\[1\].paragraphs\[0\].qas\[0\].id: '1'"):
        read_squad(tmp_path, "1.1", "train")
    with pytest.raises(UserError, match=r"dev-v1.1.json does not exist"):
        read_squad(tmp_path, "1.1", "valid")
    with pytest.raises(UserError, match="version '3'"):
        read_squad(tmp_path, "3", "train")
    with pytest.raises(UserError, match="split 'test'"):
        read_squad(tmp_path, "1.1", "test")
    squad_file(tmp_path, "1.1", "train").write_text('{"data": [')
    with pytest.raises(UserError, match="not valid JSON"):
        read_squad(tmp_path, "1.1", "train")
