"""The curves of a training, read again."""

import json

from vlpnb.train.history import read_history


def test_curves_are_read_by_name(tmp_path):
    lines = [{"step": 0, "valid": 5.0}, {"step": 10, "loss": 3.0}, {"step": 20, "loss": 2.0, "valid": 4.0}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    history = read_history(tmp_path)
    assert history.curve("loss") == ([10, 20], [3.0, 2.0])
    assert history.curve("valid") == ([0, 20], [5.0, 4.0])
    assert history.curve("never") == ([], [])
    assert history.steps == 20


def test_a_stage_that_trained_nothing_has_no_curves(tmp_path):
    (tmp_path / "metrics.jsonl").write_text("")
    assert read_history(tmp_path).steps == 0
