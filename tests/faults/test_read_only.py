"""A finished run that may only be read: what need not write works, and the rest ends with one line and code 2."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from vlpnb.course import doctor
from vlpnb.errors import UserError
from vlpnb.stage import Run

TOYS = str(Path(__file__).parents[1] / "course")
MAIN = """
import contextlib, io, json, shutil, sys, types
sys.path.insert(0, {toys!r})
from toy_stages import STAGES
from vlpnb.foundations.world import WORLD
sys.modules["vlpnb.course.pipeline"] = types.SimpleNamespace(STAGES=(*STAGES, WORLD))
from vlpnb.vokenization.original import export
export.EXPORTS["count"] = lambda source, target: [shutil.copy(source / "manifest.json", target / "count.json")]
from vlpnb.course.cli import main
ends = []
for arguments in json.loads(sys.argv[1]):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(arguments)
        except SystemExit as end:
            ends.append([end.code, out.getvalue(), err.getvalue()])
print(json.dumps(ends))
"""
# root may write anywhere, unless it gives up that right
WITHOUT_RIGHTS = ["setpriv", "--bounding-set=-dac_override,-dac_read_search,-fowner"]


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A finished run of toy stages with an executed notebook, in a data folder where nothing may be written."""
    if os.name != "posix" or (os.geteuid() == 0 and shutil.which("setpriv") is None):
        pytest.skip("needs a process that the rights of files hold for")
    monkeypatch.syspath_prepend(TOYS)
    from toy_stages import STAGES

    data = tmp_path / "data"
    (tmp_path / "toy.yaml").write_text("count: {steps: 2}\nnotebooks: []\n")
    run = Run(data / "runs", "done", str(tmp_path / "toy.yaml"), STAGES, device="cpu")
    run.stage("count")
    (run.folder / "notebooks").mkdir()
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# 10 Toy\n\nOne.")])
    nbformat.write(book, run.folder / "notebooks" / "10_toy.ipynb")
    paths = [data, *data.rglob("*")]
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    yield run
    for path in paths:
        path.chmod(0o755 if path.is_dir() else 0o644)


def vlpnb(run: Run, *commands: tuple) -> list[tuple[int, str, str]]:
    """Commands in a process that may not write into the run: code, output and errors of each."""
    rights = WITHOUT_RIGHTS if os.geteuid() == 0 else []
    done = subprocess.run(
        [*rights, sys.executable, "-c", MAIN.format(toys=TOYS), json.dumps([[*map(str, c)] for c in commands])],
        env={**os.environ, "VLPNB_DATA": str(run.root.parent)}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [tuple(end) for end in json.loads(done.stdout)]


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file with its size and time."""
    return {str(p): (p.stat().st_size, p.stat().st_mtime_ns) for p in folder.rglob("*")}


@pytest.mark.slow
def test_it_opens_reports_renders_elsewhere_and_exports(run, tmp_path):
    before = listing(run.root)
    reused, report, pages, export = vlpnb(
        run,
        ("stage", "count", "--profile", tmp_path / "toy.yaml", "--run", "done"),
        ("report", "--run", "done", "--json"),
        ("site", "--run", "done", "--target", tmp_path / "pages"),
        ("export", "count", tmp_path / "exported", "--run", "done"),
    )
    assert [end[2] for end in (reused, report, pages, export)] == [""] * 4
    assert "(reused)" in reused[1]
    assert json.loads(report[1])["metrics"]["count.seed0.total"] == 1.5
    assert {"index.html", "10_toy.html", "results.md"} <= {
        path.name for path in (tmp_path / "pages").iterdir()
    }
    assert (tmp_path / "exported" / "count.json").is_file()
    assert listing(run.root) == before


@pytest.mark.slow
def test_commands_that_must_write_end_with_one_line_and_code_2(run, tmp_path):
    toy, data = tmp_path / "toy.yaml", run.root.parent
    commands = [
        ("stage", "count", "--profile", toy, "--run", "done", "--set", "count.steps=3"),
        ("stage", "count", "--profile", toy, "--run", "new"),
        ("run", "00", "--profile", toy, "--run", "done"),
        ("site", "--run", "done"),
        ("site", "--run", "done", "--target", data / "pages"),
        ("export", "count", data / "exported", "--run", "done"),
        ("figures", "--run", "done", "--target", data / "figures"),
        ("world", data / "world", "--profile", toy),
        ("student", data / "student"),
        ("data", "wikipedia", toy, data / "wikipedia"),
    ]
    for command, (code, _, said) in zip(commands, vlpnb(run, *commands), strict=True):
        assert code == 2, (command, said)
        assert said.count("\n") == 1, (command, said)
        assert said.startswith(f"vlpnb: {data}"), (command, said)


def test_damage_that_may_only_be_read_is_named(run, monkeypatch):
    monkeypatch.setattr("vlpnb.stage.execution.may_write", lambda folder: False)
    (file,) = run.folder.glob("source-*/numbers.txt")
    file.chmod(0o644)
    file.write_text("0")
    with pytest.raises(UserError, match=r"source-.*damaged \(numbers\.txt has 1 bytes, 5 expected\)"):
        run.stage("count")


@pytest.mark.slow
def test_doctor_tries_to_write(run, tmp_path):
    ((code, said, _),) = vlpnb(run, ("doctor",))
    assert code == 1
    assert "✗ folder" in said
    assert f"{run.root.parent}: Permission denied" in said
    assert "not before this is mended: folder" in said
    (finding,) = [item for item in doctor.examine(tmp_path / "new" / "data") if item.subject == "folder"]
    assert finding.good
    assert not (tmp_path / "new").exists()
