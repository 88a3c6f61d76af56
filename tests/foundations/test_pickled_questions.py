"""The stage `questions` on VLP's files: pickles by an explicit switch, answers in a text that begins with `<unk>`."""

from pathlib import Path

import numpy as np
import pytest

from tests.data.test_imdb import HEADER, question, write
from tests.small import run_stage
from vlpnb.config import parse_config
from vlpnb.data.asked_data import load_questions
from vlpnb.errors import UserError
from vlpnb.foundations.questions import QUESTIONS, QuestionsConfig


def run(root: Path, **fields) -> dict[str, float]:
    files = {split: f"imdb_{split}.npy" for split in ("train", "valid")}
    vqa = {
        "format": "imdb", "questions": files, "annotations": {}, "images": "", "answers": "answers_vqa.txt", **fields,
    }  # fmt: skip
    config = parse_config(QuestionsConfig, {"root": str(root), "vqa": vqa, "gqa": None}, "questions")
    folder = root / "stage"
    folder.mkdir(exist_ok=True)
    return run_stage(QUESTIONS, config, folder)


@pytest.fixture
def root(tmp_path) -> Path:
    write(tmp_path / "imdb_train.npy", question(1), question(2, answers=["grey"] * 10))
    write(tmp_path / "imdb_valid.npy", question(3))
    (tmp_path / "answers_vqa.txt").write_text("<unk>\ncat\ndog\n")
    return tmp_path


def test_trusted_questions_are_described_and_read_again(root):
    metrics = run(root, trusted=True)
    assert metrics["vqa_answers"] == 3
    assert (metrics["vqa_train_questions"], metrics["vqa_train_outside"], metrics["vqa_valid_questions"]) == (
        2,
        1,
        1,
    )
    data = load_questions(root / "stage")
    assert data.answers("vqa") == ("<unk>", "cat", "dog")
    assert [q.image_id for q in data.read("vqa", "valid")] == ["COCO_train2014_000000000003"]


def test_without_the_switch_no_pickle_is_opened(root):
    with pytest.raises(UserError, match=r"imdb_train\.npy: this file is a pickle.*trusted: true"):
        run(root)


def test_training_questions_need_answers_and_others_do_not(root):
    silent = {**HEADER, "has_answer": False}
    write(root / "imdb_valid.npy", question(3), header=silent)
    assert run(root, trusted=True)["vqa_valid_questions"] == 1
    write(root / "imdb_train.npy", question(1), header=silent)
    with pytest.raises(
        UserError, match=r"imdb_train\.npy: the header says that the questions have no answers"
    ):
        run(root, trusted=True)


def test_two_questions_with_one_id_are_named(root):
    write(root / "imdb_valid.npy", question(3), question(4, question_id=np.int64(3)))
    with pytest.raises(UserError, match="two questions have the id 3"):
        run(root, trusted=True)
