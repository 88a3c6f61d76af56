"""The command line: quick help, errors in words with code 2, strict JSON reports."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vlpnb.course import report
from vlpnb.course.cli import exit_code, main
from vlpnb.stage import Run
from vlpnb.stage.profiles import PROFILES, load_profile

TOYS = str(Path(__file__).parent)


@pytest.fixture
def toy_pipeline(tmp_path, monkeypatch):
    """The course's data folder in `tmp_path`, and toy stages in place of the pipeline."""
    import types

    monkeypatch.setenv("VLPNB_DATA", str(tmp_path))
    monkeypatch.syspath_prepend(TOYS)
    from toy_stages import STAGES

    monkeypatch.setitem(sys.modules, "vlpnb.course.pipeline", types.SimpleNamespace(STAGES=STAGES))
    monkeypatch.setitem(report.PAPER, "count.seed0.total", (1.75, "toy"))
    plain = tmp_path / "plain.yaml"
    plain.write_text("description: toys\nnotebooks: []\n")
    return str(plain)


def fails(arguments, capsys, code=2):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == code
    return capsys.readouterr().err


def succeeds(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    captured = capsys.readouterr()
    assert caught.value.code in (0, None), captured.err
    return captured.out


def test_help_is_quick_and_imports_nothing_heavy():
    heavy = "print([m for m in ('torch', 'pydantic', 'yaml') if m in sys.modules])"
    code = f"import sys; from vlpnb.course.cli import app; {heavy}"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"
    times = []
    for _ in range(2):
        start = time.monotonic()
        out = subprocess.run(
            [sys.executable, "-m", "vlpnb", "--help"], capture_output=True, text=True, check=True
        ).stdout
        times.append(time.monotonic() - start)
    assert min(times) < 1.0
    assert all(word in out for word in ("run", "stage", "report", "world", "data", "doctor", "site"))


def test_stage_and_report(toy_pipeline, capsys):
    arguments = ["stage", "count", "--profile", toy_pipeline, "--run", "t", "--set", "count.steps=2"]
    assert "total = 1.5" in succeeds(arguments, capsys)
    assert "(reused)" in succeeds(arguments, capsys)
    found = json.loads(succeeds(["report", "--json"], capsys), parse_constant=pytest.fail)
    assert found["metrics"]["count.seed0.total"] == 1.5
    assert found["undefined"] == ["count.seed0.unknown"]
    assert found["paper"] == {"count.seed0.total": {"value": 1.75, "note": "toy"}}
    table = succeeds(["report", "--run", "t"], capsys)
    assert "| count.seed0.total" in table
    assert "1.75" in table


def test_errors_are_words_without_a_traceback(toy_pipeline, capsys):
    base = ["stage", "count", "--profile", toy_pipeline]
    assert "did you mean 'count'" in fails(["stage", "coutn", "--profile", toy_pipeline], capsys)
    error = fails([*base, "--set", "count.stepz=2"], capsys)
    assert "vlpnb: count.stepz: unknown field; did you mean 'steps'" in error
    assert "Traceback" not in error
    assert "found 'x'" in fails([*base, "--set", "count.steps=x"], capsys)
    assert "stage.field=value" in fails([*base, "--set", "steps"], capsys)
    assert "no such folder" in fails([*base, "--data", "/nonexistent"], capsys)
    assert "not found" in fails([*base[:2], "--profile", "lap"], capsys)
    assert "no run yet" in fails(["report"], capsys)
    assert "notebook '99'" in fails(["run", "99", "--profile", toy_pipeline], capsys)


def test_report_names_the_nearest_run(toy_pipeline, capsys):
    succeeds(["stage", "source", "--profile", toy_pipeline, "--run", "first"], capsys)
    assert "did you mean 'first'" in fails(["report", "--run", "frist"], capsys)


def test_doctor_lists_the_profiles(capsys):
    assert all(f"profile {name}" in succeeds(["doctor"], capsys) for name in ("smoke", "photos"))


@pytest.mark.parametrize("path", sorted(PROFILES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_profile_is_accepted_by_the_pipeline(path, tmp_path):
    Run(tmp_path, "x", load_profile(path.stem), "vlpnb.course.pipeline:STAGES")


@pytest.mark.slow
def test_run_tells_schedulers_what_happened(toy_pipeline, tmp_path, monkeypatch, capsys):
    import nbformat

    new = nbformat.v4
    folder = tmp_path / "notebooks"
    folder.mkdir()
    names = ("profile", "run_name", "settings", "devices")
    first = new.new_code_cell("\n".join(f"{n}: str = ''" for n in names), metadata={"tags": ["parameters"]})
    for name, code in (("10_never", "1"), ("11_bad", "1/0"), ("12_never", "1")):
        cells = [new.new_markdown_cell("# Toy"), first, new.new_code_cell(code)]
        nbformat.write(new.new_notebook(cells=cells), folder / f"{name}.ipynb")
    monkeypatch.setattr("vlpnb.course.notebooks_folder", lambda: folder)
    base = ["run", "--profile", toy_pipeline, "--run", "t"]
    assert "--budget 'soon'" in fails([*base, "--budget", "soon"], capsys, 2)
    assert "--from 13" in fails([*base, "--only", "10,11", "--from", "13"], capsys, 2)
    with pytest.raises(SystemExit) as caught:
        main([*base, "--only", "10,11,12", "--from", "11"])
    out = capsys.readouterr().out
    assert caught.value.code == 3
    assert "ZeroDivisionError" in out
    assert "2 notebooks" in out
    assert "never" not in out


@pytest.mark.parametrize(
    ("kinds", "complete", "code"),
    [
        (["", ""], True, 0),
        (["", "failed"], False, 3),
        (["", "memory"], False, 4),
        (["killed"], False, 4),
        (["", "budget"], False, 5),
        ([""], False, 5),
        (["budget", "failed"], False, 3),
        (["interrupted"], False, 130),
    ],
)
def test_exit_codes(kinds, complete, code):
    assert exit_code(kinds, complete) == code


def test_exit_codes_are_in_the_help(capsys):
    text = " ".join(succeeds(["run", "--help"], capsys).split())
    assert "5 stopped for the budget" in text
