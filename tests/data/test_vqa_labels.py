"""Soft targets from ten answers, the official spelling, and LXMERT's files made of raw annotations."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from tests.small import run_stage
from vlpnb.config import parse_config
from vlpnb.course.cli import app
from vlpnb.data.asked_data import load_questions
from vlpnb.data.lxmert import read_labels
from vlpnb.data.vqa import read_lxmert_questions, read_vqa
from vlpnb.data.vqa_answers import normalise
from vlpnb.data.vqa_labels import SplitFiles, build_labels, frequent, most_peoples, soft_score, soft_targets
from vlpnb.errors import UserError
from vlpnb.foundations.questions import QUESTIONS, QuestionsConfig
from vlpnb.metrics.vqa import vqa_accuracy


def test_soft_scores_are_those_of_the_table():
    assert [soft_score(n) for n in range(11)] == [0, 0.3, 0.6, 0.9] + [1.0] * 7
    assert soft_targets(["a", "b", "a"] + ["c"] * 7) == {"a": 0.6, "b": 0.3, "c": 1.0}


@given(st.lists(st.sampled_from(["cat", "dog", "red ball", "2"]), min_size=2, max_size=12))
def test_a_target_is_the_official_accuracy_of_its_answer(people):
    for answer, score in soft_targets(people).items():
        assert vqa_accuracy(answer, people) == pytest.approx(score)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Two dogs", "2 dogs"),
        ("none", "0"),
        ("a man and the dog", "man and dog"),
        ("t-shirt", "t shirt"),
        ("t- shirt", "t shirt"),  # a blank beside the mark: cut out, here as well as elsewhere in the text
        ("black - white-grey", "black whitegrey"),
        ("1,000", "1000"),
        ("1,000 t-shirts", "1000 tshirts"),  # thousands anywhere: all marks are cut out
        ("3.5", "3.5"),
        ("3.5 m.", "3.5 m"),
        ("St. Mary", "st mary"),
        ("dont know", "don't know"),
        ("couldnt've", "couldn't've"),
        ("couldn'tve", "couldn't've"),
        ("yall'd've", "y'all'd've"),
        ("Oclock", "o'clock"),
        ("somebody'd", "somebodyd"),
        ("its", "its"),
        ("5 o'clock?", "5 o'clock"),
        ("10:30", "10:30"),
        ("A", ""),
    ],
)
def test_the_official_spelling(text, expected):
    assert normalise(text) == expected


def test_answers_that_are_most_peoples_often_enough():
    assert most_peoples(["two", "2", "two"]) == "2"
    assert most_peoples(["b", "a"]) == "b"
    assert frequent(["b", "a", "b", "c", "c"], 2) == ["b", "c"]


def raw(folder, name, people, with_annotations=True):
    folder.mkdir(exist_ok=True)
    questions = [{"question_id": i, "image_id": 40 + i, "question": f"What {i}?"} for i in range(len(people))]
    (folder / f"{name}_q.json").write_text(json.dumps({"questions": questions}))
    rows = [
        {
            "question_id": i,
            "answers": [{"answer": a} for a in said],
            "answer_type": "other",
            "question_type": "what",
        }
        for i, said in enumerate(people)
    ]
    (folder / f"{name}_a.json").write_text(json.dumps({"annotations": rows}))


def test_files_of_raw_annotations_in_lxmerts_form(tmp_path):
    raw(
        tmp_path, "train", [["cat"] * 9 + ["the cat"], ["cat"] * 4 + ["dog"] * 6, ["emu"] * 10, ["Cat."] * 10]
    )
    raw(tmp_path, "test", [[]])
    splits = {
        "train": SplitFiles(tmp_path / "train_q.json", tmp_path / "train_a.json", "COCO_train2014_{:012d}"),
        "test": SplitFiles(tmp_path / "test_q.json"),
    }
    counts = build_labels(splits, tmp_path / "out", least=2)
    assert read_labels(tmp_path / "out/trainval_label2ans.json") == ("cat",)
    assert json.loads((tmp_path / "out/trainval_ans2label.json").read_text()) == {"cat": 0}
    assert counts == {
        "answers": 1,
        "train_questions": 4,
        "train_without": 2,
        "test_questions": 1,
        "test_without": 0,
    }
    rows = json.loads((tmp_path / "out/train.json").read_text())
    assert rows[1] == {
        "img_id": "COCO_train2014_000000000041",
        "question_id": 1,
        "sent": "What 1?",
        "question_type": "what",
        "answer_type": "other",
        "label": {"cat": 1.0},
    }
    assert [row["label"] for row in rows] == [
        {"cat": 1.0},
        {"cat": 1.0},
        {},
        {},
    ]  # "Cat." is compared as it stands
    assert "label" not in json.loads((tmp_path / "out/test.json").read_text())[0]
    (tmp_path / "mine.json").write_text('["emu"]')
    counts = build_labels(splits, tmp_path / "again", answers=tmp_path / "mine.json")
    assert (counts["answers"], counts["train_without"]) == (1, 3)
    with pytest.raises(UserError, match="no answer is most people's answer to 9 questions"):
        build_labels(splits, tmp_path / "none")


def test_the_command(tmp_path):
    raw(tmp_path, "train", [["cat"] * 10])
    files = f"{tmp_path}/train_q.json,{tmp_path}/train_a.json"
    command = ["data", "labels", str(tmp_path / "out"), "--least", "1", "--split"]
    found = CliRunner().invoke(app, [*command, f"train={files},n{{:03d}}"])
    assert found.exit_code == 0
    assert "1 answers, 1 train_questions" in found.output
    assert read_lxmert_questions(tmp_path / "out/train.json")[0].image_id == "n040"
    for entry, message in (
        (f"={files}", "expected NAME=QUESTIONS"),
        (f"../train={files}", "NAME without folders"),
        (f"train={files},n{{x}}", "has no name by the pattern 'n{x}'"),
        (f"train={files} --split train={files}", "'train' is named twice"),
    ):
        found = CliRunner().invoke(app, [*command, *entry.split(" ")])
        assert isinstance(found.exception, UserError)
        assert message in str(found.exception)


@pytest.mark.slow
def test_the_answers_of_the_sample_are_among_the_published_ones(shared_data, tmp_path):
    """A part's frequent answers are frequent in the whole, if spelt and counted alike."""
    folder = shared_data / "vqa_v2/subset_60k"
    splits = {
        split: SplitFiles(folder / f"vqa_questions_{split}.gzip", folder / f"vqa_annotatons_{split}.gzip")
        for split in ("train", "valid", "test")
    }
    counts = build_labels(splits, tmp_path)
    assert [counts[f"{split}_questions"] for split in splits] == [48061, 8977, 2962]
    answers = read_labels(tmp_path / "trainval_label2ans.json")
    published = set(read_labels(shared_data / "lxmert/vqa/trainval_label2ans.json"))
    assert len(answers) == 433
    assert set(answers) <= published
    rows = json.loads((tmp_path / "valid.json").read_text())
    original = read_vqa(splits["valid"].questions, splits["valid"].annotations)
    for row, example in zip(rows, original, strict=True):
        assert all(vqa_accuracy(a, example.answers) >= score - 1e-9 for a, score in row["label"].items())


def test_questions_about_shipped_coco_pictures(shared_data, tmp_path):
    section = {
        "questions": {"train": "coco/annotations/vqa_v2_questions_shipped_images.json"},
        "annotations": {"train": "coco/annotations/vqa_v2_annotations_shipped_images.json"},
        "images": "coco/images",
        "image_names": "",
        "answers": "lxmert/vqa/trainval_label2ans.json",
    }
    config = parse_config(QuestionsConfig, {"root": str(shared_data), "vqa": section, "gqa": None})
    metrics = run_stage(QUESTIONS, config, tmp_path)
    data = load_questions(tmp_path)
    questions = data.read("vqa", "train")
    assert (len(questions), metrics["missing_questions"]) == (92, 0)
    assert all(len(q.human) == 10 for q in questions)
    assert all(path.is_file() for path in data.images("vqa", "train").values())
    assert metrics["vqa_train_outside"] == len(
        [q for q in questions if not set(data.answers("vqa")) & q.targets.keys()]
    )
