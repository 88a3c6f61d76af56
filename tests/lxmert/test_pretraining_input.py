"""LXMERT's pre-training on input that is not as it should be: what is left out is said, what is wrong is named."""

import json

import numpy as np
import pytest

from tests.lxmert import small_pretraining as small
from vlpnb.data.store import mapped
from vlpnb.errors import UserError
from vlpnb.lxmert.pretraining import load_answers


def test_pictures_without_regions_are_counted_and_listed(tmp_path):
    inputs, said = small.make(tmp_path, train=20, valid=10, missing=3), []
    metrics = small.pretrain(inputs, tmp_path / "run", said, updates=1, batch=8)
    assert metrics["without_regions"] == 3
    assert (tmp_path / "run" / "without_regions.txt").read_text().split() == ["train0", "train1", "train2"]
    assert any(
        "3 pictures have no regions and are left out (listed in without_regions.txt)" in s for s in said
    )


def test_a_split_without_regions_is_an_error(tmp_path):
    inputs = small.make(tmp_path, train=8, valid=4, missing=8)
    with pytest.raises(UserError, match=r"split 'train': found 8 pictures, 8 of them without regions"):
        small.pretrain(inputs, tmp_path / "run")


def test_an_empty_split_is_an_error(tmp_path):
    inputs = small.make(tmp_path, train=8, valid=4)
    (tmp_path / "valid.json").write_text("[]")
    with pytest.raises(UserError, match=r"split 'valid'.*no picture"):
        small.pretrain(inputs, tmp_path / "run")


def test_features_that_are_no_numbers_stop_the_training_by_the_pictures_name(tmp_path):
    inputs = small.make(tmp_path, train=8, valid=4)
    path = inputs["regions"] / "regions.hdf5"
    at = mapped(path, "features")
    offset = at.offset + 2 * WIDTH_BYTES
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(np.float16(np.nan).tobytes())
    with pytest.raises(UserError, match=r"features of picture train1 are not finite"):
        small.pretrain(inputs, tmp_path / "run")


WIDTH_BYTES = small.WIDTH * 2 // 2  # picture 0 has one region, so the second begins after one row


def test_answers_without_a_table_are_left_out_and_said(tmp_path):
    inputs, said = small.make(tmp_path, train=8, valid=4), []
    about = json.loads((inputs["sentences"] / "sentences.json").read_text())
    (inputs["sentences"] / "sentences.json").write_text(json.dumps({**about, "answers": None}))
    metrics = small.pretrain(inputs, tmp_path / "run", said, updates=1)
    assert not {"answers_loss", "answer_accuracy"} & metrics.keys()
    assert any("no labels for the losses answers" in line for line in said)
    assert len(load_answers(tmp_path / "run")) == 0
    with pytest.raises(UserError, match="nothing is left to learn without answers"):
        small.pretrain(inputs, tmp_path / "none", tasks=["answers"])


def test_classes_that_the_regions_lack_are_left_out_and_said(tmp_path):
    inputs, said = small.make(tmp_path, train=20, valid=8), []
    about = json.loads((inputs["regions"] / "regions.json").read_text())
    (inputs["regions"] / "regions.json").write_text(json.dumps({**about, "attributes": []}))
    metrics = small.pretrain(inputs, tmp_path / "run", said, updates=1)
    assert "attributes_loss" not in metrics
    assert any("no labels for the losses attributes" in line for line in said)
