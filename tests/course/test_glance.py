"""Time, memory and device in the opening tables: read from runs, written into notebooks, never stale."""

import datetime
import json

import pytest

from vlpnb.course import glance, notebooks_folder
from vlpnb.course.cli import main
from vlpnb.errors import UserError
from vlpnb.foundations.datasets import DATASETS

START = datetime.datetime(2026, 1, 2, 10, 0, tzinfo=datetime.UTC)


def at(seconds):
    return START + datetime.timedelta(seconds=seconds)


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def executed(run, stem, start, end):
    timing = {"start_time": at(start).isoformat(), "end_time": at(end).isoformat() if end else None}
    write(run / "notebooks" / f"{stem}.ipynb", {"metadata": {"papermill": timing}, "cells": []})


def stage(run, name, finished, megabytes, device="cpu", **more):
    manifest = {"stage": name, "finished": at(finished).strftime("%Y-%m-%dT%H:%M:%S%z"), "device": device}
    write(
        run / f"{name}-{finished:08d}" / "manifest.json",
        {**manifest, "peak_rss_bytes": megabytes * 10**6, **more},
    )


@pytest.fixture
def run(tmp_path):
    """Notebook 10 made two stages, 11 none, 12 failed and 13 is under way."""
    folder = tmp_path / "runs" / "demo"
    write(
        folder / "run.json",
        {"profile": "laptop", "settings": {name: {"root": "photos"} for name in DATASETS}},
    )
    outcomes = [("10_a", 130.2, ""), ("11_b", 20.4, ""), ("12_c", 5.0, "12_c: failed")]
    status = [{"notebook": f"{stem}.ipynb", "seconds": s, "problem": p} for stem, s, p in outcomes]
    write(folder / "notebooks" / "status.json", status)
    for stem, start, end in (("10_a", 0, 130), ("11_b", 131, 151), ("12_c", 152, 157), ("13_d", 160, None)):
        executed(folder, stem, start, end)
    stage(folder, "features", 60, 900)
    stage(folder, "vokenization.matching", 125, 1250)
    stage(folder, "vokenization.vokens", 400, 5000)
    return folder


def notebook(path, *rows):
    table = [
        "## At a glance",
        "",
        "You will be able to",
        "",
        "| | |",
        "|---|---|",
        "| Reads | nothing |",
        *rows,
        "",
        "End.",
    ]
    cells = [{"cell_type": "markdown", "source": [text]} for text in ("# 10 · A", "\n".join(table))]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"cells": cells}, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def test_the_committed_notebooks_show_what_was_measured():
    measured = json.loads(glance.MEASURED.read_text(encoding="utf-8"))
    notebooks = sorted(notebooks_folder().glob("[0-9]*.ipynb"))
    assert glance.stale(notebooks_folder(), measured) == [], "run `vlpnb glance`"
    assert {path.stem for path in notebooks} == set(measured["laptop"]["notebooks"]), (
        "measure the laptop profile again"
    )
    for path in notebooks:
        text = glance.glance_texts(path, measured)[1]
        assert all(f"\n| {row} | `laptop` " in text for row in glance.ROWS), path.name


def test_a_run_is_measured(run):
    profile, entry = glance.measure(run, "2 cores")
    assert (profile, entry["finished"], entry["machine"]) == ("laptop", "2026-01-02", "2 cores")
    assert set(entry["notebooks"]) == {"10_a", "11_b"}, "failed and unfinished ones are left out"
    ten, eleven = entry["notebooks"]["10_a"], entry["notebooks"]["11_b"]
    assert (ten["seconds"], ten["peak_megabytes"], ten["stages"]) == (
        130,
        1250,
        ["features", "vokenization.matching"],
    )
    assert (eleven["peak_megabytes"], eleven["device"], eleven["stages"]) == (None, "cpu", [])


def test_a_gpu_and_the_kernels_own_peak_are_shown(run):
    stage(run, "vokenization.keys", 140, 800, device="cuda:0 (H)", peak_gpu_bytes=20 * 10**9)
    status = json.loads((run / "notebooks" / "status.json").read_text())
    status[1]["peak_rss_bytes"] = 3 * 10**9
    write(run / "notebooks" / "status.json", status)
    measured = {"laptop": glance.measure(run)[1]}
    measured["laptop"]["notebooks"]["11_b"]["seconds"] = 7200
    time, memory, device = glance.glance_rows("11_b", measured)
    assert time == "| Time | `laptop` 2 h 00 min · `photos` not measured · `paper` not measured |"
    assert "`laptop` 3.0 GB and 20.0 GB on the GPU ·" in memory
    assert "`laptop` cuda:0 (H) ·" in device


def test_times_that_would_be_wrong_are_refused(run):
    stage(run, "world", -500, 100)
    with pytest.raises(UserError, match=r"made by no notebook.*not resumed"):
        glance.measure(run)


def test_notebooks_that_are_measured_alone_may_read_what_is_older_but_not_have_written_it_before(run):
    stage(run, "world", -500, 100)
    executed(run, "11_b", 131, 151)
    path = run / "notebooks" / "11_b.ipynb"
    content = json.loads(path.read_text(encoding="utf-8"))
    table = {
        "cell_type": "markdown",
        "metadata": {},
        "source": "| Reads | `world` |\n| Writes | stage `knowledge` |",
    }
    write(path, {**content, "nbformat": 4, "nbformat_minor": 5, "cells": [{**table, "id": "a"}]})
    stage(run, "knowledge", 140, 700)
    _, entry = glance.measure(run, only=["11"])
    assert set(entry["notebooks"]) == {"11_b"}
    assert entry["notebooks"]["11_b"]["stages"] == ["knowledge"]
    stage(run, "knowledge", -100, 700)
    with pytest.raises(UserError, match=r"knowledge.*made by no notebook"):
        glance.measure(run, only=["11"])


def test_notebooks_beside_each_other_are_refused(run):
    executed(run, "11_b", 100, 151)
    with pytest.raises(UserError, match="10_a and 11_b ran beside each other"):
        glance.measure(run)


def test_settings_of_its_own_and_other_folders_are_refused(run, tmp_path):
    write(run / "run.json", {"profile": "laptop", "settings": {"vokenization.pretraining": {"updates": 5}}})
    with pytest.raises(UserError, match=r"vokenization\.pretraining\.updates"):
        glance.measure(run)
    with pytest.raises(UserError, match=r"run\.json: missing"):
        glance.measure(tmp_path)


def test_missing_and_stale_rows_are_found_and_renewed(run, tmp_path):
    measured = {"laptop": glance.measure(run, "2 cores")[1]}
    folder = tmp_path / "notebooks"
    notebook(folder / "10_a.ipynb")
    assert glance.stale(folder, measured) == ["10_a.ipynb"]
    assert glance.rewrite(folder, measured) == [folder / "10_a.ipynb"]
    text = json.loads((folder / "10_a.ipynb").read_text(encoding="utf-8"))["cells"][1]["source"]
    assert "".join(text).split("\n")[-6:] == [
        "| Reads | nothing |",
        "| Time | `laptop` 2 min · `photos` not measured · `paper` not measured |",
        "| Peak memory | `laptop` 1.2 GB · `photos` not measured · `paper` not measured |",
        "| Device | `laptop` CPU (2 cores) · `photos` not measured · `paper` not measured |",
        "",
        "End.",
    ]
    assert glance.stale(folder, measured) == []
    assert glance.rewrite(folder, measured) == []
    measured["laptop"]["notebooks"]["10_a"]["seconds"] = 600
    assert glance.stale(folder, measured) == ["10_a.ipynb"]


def test_a_notebook_without_a_table_is_named(tmp_path):
    notebook(tmp_path / "10_a.ipynb")
    text = (tmp_path / "10_a.ipynb").read_text(encoding="utf-8").replace("|", "")
    (tmp_path / "10_a.ipynb").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=r"10_a\.ipynb: 'At a glance' has no table"):
        glance.stale(tmp_path, {})


def test_one_command_measures_and_writes(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(glance, "MEASURED", tmp_path / "measured.json")
    monkeypatch.setattr("vlpnb.course.notebooks_folder", lambda: tmp_path / "notebooks")
    monkeypatch.setenv("VLPNB_DATA", str(tmp_path))
    notebook(tmp_path / "notebooks" / "10_a.ipynb", "| Time | old |")
    for arguments in (["demo", "--machine", "2 cores"], [str(run)], []):  # by name, by folder, rows only
        with pytest.raises(SystemExit) as ended:
            main(["glance", *arguments])
        assert ended.value.code in (0, None)
    out = capsys.readouterr().out
    assert out.count("measured profile laptop") == 2
    assert out.count("table renewed") == 1
    measured = json.loads((tmp_path / "measured.json").read_text())
    assert measured["laptop"]["machine"] == "2 cores", "kept when it is not said again"
    assert glance.stale(tmp_path / "notebooks", measured) == []


def test_what_was_measured_of_other_notebooks_stays(run, tmp_path):
    path = tmp_path / "measured.json"
    old = {"seconds": 7, "peak_megabytes": 1, "peak_gpu_megabytes": None, "device": "cpu", "stages": []}
    profile, entry = glance.measure(run, "2 cores")
    before = {"finished": "2020-01-01", "machine": "4 cores", "notebooks": {"99_z": old, "10_a": old}}
    path.write_text(json.dumps({profile: before, "other": before}))
    assert glance.remember(run, "2 cores", path) == profile
    found = json.loads(path.read_text())
    assert found["other"] == before
    assert found[profile] == {**entry, "notebooks": {**entry["notebooks"], "99_z": old}}
    assert found[profile]["notebooks"]["10_a"] != old


def test_how_long_a_run_takes_is_said_only_when_all_of_it_was_measured():
    measured = {
        "laptop": {"machine": "2 cores", "notebooks": {"10_a": {"seconds": 80}, "11_b": {"seconds": 100}}}
    }
    assert glance.expected_time("laptop", ["10_a", "11_b"], measured) == "3 min on 2 cores"
    assert glance.expected_time("laptop", ["10_a"], measured) == "80 s on 2 cores"
    assert glance.expected_time("laptop", ["10_a", "12_c"], measured) == ""
    assert glance.expected_time("paper", ["10_a"], measured) == ""
