"""A finished run in another place, with the old one gone: it is continued, exported, explored and rendered there."""

import os
import shutil

import nbformat
import pytest

from vlpnb.course import explorer, notebooks_folder, open_run
from vlpnb.course.runner import find_notebooks, run_notebooks
from vlpnb.course.site import write_site
from vlpnb.stage.folder import MANIFEST
from vlpnb.vokenization.keys import load_keys
from vlpnb.vokenization.matcher import load_matcher
from vlpnb.vokenization.original.export import EXPORTS, export_stage

pytestmark = [pytest.mark.notebook, pytest.mark.slow, pytest.mark.timeout(1200)]
SPOKEN = ("log", ".ipynb", ".html")  # what was said to people while the run was made


@pytest.fixture
def moved(smoke_run, tmp_path):
    """A copy of the run of all notebooks. The original has another name meanwhile, unless other processes read it."""
    paths = find_notebooks(notebooks_folder(), smoke_run.run.profile.notebooks)
    numbers = [path.name[:2] for path in paths]
    assert [smoke_run.notebook(number).problem for number in numbers] == [""] * len(numbers)
    with smoke_run.alone():
        old = smoke_run.run.folder
        shutil.copytree(old, tmp_path / "another disk" / "runs" / "smoke")
        hidden = old if "PYTEST_XDIST_WORKER" in os.environ else old.rename(old.with_name("hidden"))
        try:
            yield open_run("smoke", "smoke", root=tmp_path / "another disk"), old
        finally:
            hidden.rename(old)


def finished(run):
    return {path.parent.name for path in run.folder.glob(f"*/{MANIFEST}")}


def test_a_run_goes_on_in_another_place(moved, tmp_path):
    run, old = moved
    for path in sorted(run.folder.rglob("*")):
        if path.is_file() and not any(word in path.name for word in SPOKEN):
            assert str(old).encode() not in path.read_bytes(), path

    before = finished(run)
    further = run.stage("vokenization.benchmark", split="valid", max_images=8)
    assert finished(run) - before == {further.folder.name}
    assert further.metrics["pictures"] == 8

    matching, keys = run.stage("vokenization.matching"), load_keys(run.stage("vokenization.keys").folder)
    assert matching.reused
    assert all(path.is_file() for path in keys.paths)
    for name in EXPORTS:
        made = export_stage(name, run.stage(name).folder, tmp_path / name)
        assert all(path.exists() for path in made)
    written = (tmp_path / "vokenization.keys" / "universe.path").read_text().splitlines()
    assert written == [str(path) for path in load_keys(tmp_path / "vokenization.keys").paths]
    assert written == [str(path) for path in keys.paths]

    (tmp_path / "served").mkdir()
    served = nbformat.read(explorer.prepare(run, notebooks_folder(), tmp_path / "served"), as_version=4)
    assert any("smoke" in cell.source for cell in served.cells if "injected-parameters" in cell.metadata.tags)
    (outcome,) = run_notebooks(run, find_notebooks(notebooks_folder(), ["91"]), say=lambda line: None)
    assert outcome.problem == ""
    index = write_site(run.folder, run.results(), run.name, "smoke", "cpu")
    assert len(list(index.parent.glob("*.html"))) > 11
    assert finished(run) - before == {further.folder.name}

    shutil.move(matching.folder, tmp_path / "matcher alone")
    shutil.rmtree(run.folder)
    assert load_matcher(tmp_path / "matcher alone").language.encode(["a red ball ."], 8)
