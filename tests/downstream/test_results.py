"""What the results stages share: rows and seeds, differences, tables, the files; no claim beyond an interval."""

import math

import numpy as np
import pytest

from tests.tiny_lm import context
from vlpnb.config import Config
from vlpnb.downstream.comparison import paired
from vlpnb.downstream.results import (
    Judged,
    Score,
    comparisons,
    difference,
    folders_by_row,
    learnt,
    publish,
    read_kept,
    remarks,
    seeded,
    shares,
    table,
    verdicts,
    with_interval,
    with_spread,
)


def test_one_row_is_compared_with_every_other():
    assert comparisons(["blind", "ours", "scratch"], "ours") == [("ours", "blind"), ("ours", "scratch")]
    assert comparisons(["blind", "scratch"], "ours") == [("scratch", "blind")]
    assert comparisons(["blind", "scratch"], "ours", 0) == [("blind", "scratch")]


def test_a_stage_is_asked_for_with_every_seed_once_and_its_folders_are_found_by_row(tmp_path):
    found = seeded("vqa.ours", "vlp.vqa", {"blind": False}, (3, 4, 3))
    assert list(found) == ["vqa.ours.3", "vqa.ours.4"]
    assert found["vqa.ours.4"].overrides == {"blind": False, "seed": 4, "seeds": (4,)}
    (plain,) = seeded("vqa.ours", "vlp.vqa", {"blind": False}, ()).items()
    assert (plain[0], plain[1].overrides) == ("vqa.ours", {"blind": False})
    folders = {name: tmp_path / name for name in (*found, "vqa.blind", "captions")}
    assert folders_by_row(folders) == {
        "vqa": {"ours": [tmp_path / "vqa.ours.3", tmp_path / "vqa.ours.4"], "blind": [tmp_path / "vqa.blind"]}
    }


def test_differences_are_paired_by_the_seeds_that_both_rows_have():
    scores = {("vqa", "ours"): {1: 50.0, 2: 52.0, 3: 9.0}, ("vqa", "blind"): {2: 41.0, 1: 40.0}}
    metrics, sentences = verdicts(scores, [("ours", "blind")], {"vqa": "VQA"}, {"ours": "A", "blind": "B"})
    expected = paired([10.0, 11.0])
    assert metrics == {f"difference_vqa.ours_minus_blind.{name}": value for name, value in expected.items()}
    assert len(sentences) == 1
    assert "A against B" in sentences[0] or "A is better than B" in sentences[0]


def test_shares_and_differences_are_of_groups_and_leave_out_what_nobody_knows():
    ours = Judged(np.array([[1, 1, 0, np.nan], [1, 0, 0, np.nan]]), ["a", "a", "b", "b"])
    theirs = Judged(np.array([[0, 0, 0, np.nan], [0, 0, 0, np.nan]]), ["a", "a", "b", "b"])
    found = shares(ours, 100)
    assert found[""] == pytest.approx(50)
    assert found["_std"] == pytest.approx(100 * np.std([2 / 3, 1 / 3], ddof=1))
    assert (found["_low"], found["_high"]) == pytest.approx((0, 75))  # either group alone
    gap = difference([(ours, theirs), (ours, theirs)])
    assert gap["mean"] == pytest.approx(0.5)
    assert gap["low"] <= gap["mean"] <= gap["high"]


def test_what_is_kept_is_read_back_with_what_is_no_number(tmp_path):
    metrics = {
        "vqa.ours.majority": 30.0, "vqa.ours.diverged": 1, "a.low": 1.0, "alone_std": math.nan,
        "difference_vqa.ours_minus_blind.mean": 1.0, "difference_vqa.ours_minus_blind.low": math.nan,
        "difference_vqa.ours_minus_blind.high": math.nan,
    }  # fmt: skip
    said: list[str] = []
    about = context(Config(), tmp_path / "results", {}, said)
    assert publish(about, "# Page", metrics, ["so it is"], rows={"vqa.ours": {1: 40.0, 2: 42.0}}) is metrics
    assert any("so it is" in line for line in said)
    kept = read_kept(tmp_path / "results")
    assert (kept.page, kept.verdict, kept.notes) == ("# Page", ("so it is",), ())
    assert math.isnan(kept.metrics["alone_std"])
    row = kept.rows()["ours"]["vqa"]
    assert (row.scores, row.mean, row.majority, row.diverged) == ({1: 40.0, 2: 42.0}, 41.0, 30.0, 1)
    found = kept.differences(("vqa", "gqa"), [("ours", "blind"), ("ours", "scratch")])
    assert list(found) == [("vqa", "ours", "blind")]
    assert found["vqa", "ours", "blind"].mean == 1.0


def test_cells_show_a_deviation_and_an_interval_where_there_are_some():
    metrics = {"x": 0.5, "x_std": 0.25, "y": 0.5, "y_std": math.nan, "z": 0.5, "z_low": 0.4, "z_high": 0.6}
    assert with_spread(metrics, "x", digits=2) == "0.50 ± 0.25"
    assert [with_spread(metrics, name) for name in ("y", "z", "none")] == ["0.5", "0.5", ""]
    assert with_spread(metrics, "y", "x_std") == "0.5 ± 0.2"
    assert with_interval(metrics, "z", 100) == "50.0 (40.0 to 60.0)"
    assert with_interval(metrics, "none") == ""
    assert Score.read(metrics, "z").low == 0.4
    assert table(["a", "b"], [["1", "2"]]) == ["| a | b |", "| --- | --- |", "| 1 | 2 |"]


def test_runs_that_learnt_nothing_are_named():
    run = {"seed": 1, "diverged": "", "note": ""}
    runs = {
        ("vqa", "ours"): [run, {**run, "seed": 2, "note": "nothing"}],
        ("vqa", "blind"): [{**run, "note": "x"}],
    }
    names = {"ours": "A", "blind": "B"}
    assert remarks(runs, {"vqa": "VQA"}, names, unsaid=("blind",)) == ["VQA, A, seed 2: nothing"]
    assert len(remarks(runs, {"vqa": "VQA"}, names)) == 2
    assert learnt(()) == ["", "Every run learnt."]
    assert learnt(["a"])[-1] == "* a"
