"""Every notebook at `smoke`, through the same runner and profile machinery that `vlpnb run` uses.

The notebooks share a run, whichever test process executes them: each finds the stages that the ones before it
finished, and makes those that are missing, as it does for a reader who opens it first.
"""

import pytest

from vlpnb.course import notebooks_folder
from vlpnb.course.audit import broken_links, outside_requests, shut_out
from vlpnb.course.runner import find_notebooks
from vlpnb.course.site import write_site

NUMBERS = sorted(path.name[:2] for path in notebooks_folder().glob("[0-9]*.ipynb"))
pytestmark = [pytest.mark.notebook, pytest.mark.slow]


@pytest.fixture
def run(smoke_run):
    return smoke_run.run


def test_the_profile_takes_every_notebook_and_a_part_those_of_its_digit(run):
    every = find_notebooks(notebooks_folder(), run.profile.notebooks)
    assert [path.name[:2] for path in every] == NUMBERS
    part = find_notebooks(notebooks_folder(), ["1"])
    assert part == [path for path in every if path.name[0] == "1"]
    assert len(part) >= 7


@pytest.mark.parametrize("number", NUMBERS)
def test_notebook_runs(smoke_run, number):
    assert smoke_run.notebook(number).problem == ""


def test_the_run_reports_the_metrics_that_readers_ask_for(run):
    for stage in ("vision", "vokenization.matching", "vokenization.vokens"):
        run.stage(stage)
    metrics = run.metrics()
    for name in (
        "vision.kind_accuracy",
        "vision.colour_accuracy",
        "vokenization.matching.seed9595.test_r10",
        "vokenization.vokens.named_rate",
        "vokenization.vokens.contextual_rate",
        "vokenization.vokens.contextual_rate_context_free",
    ):
        assert 0 <= metrics[name] <= 1, name


def test_the_site_of_the_run_asks_nobody_outside(run, smoke_run):
    smoke_run.notebook("00")
    with smoke_run.alone():
        index = write_site(run.folder, run.results(), run.name, "smoke", "cpu")
        executed = list((run.folder / "notebooks").glob("*.ipynb"))
    pages = sorted(index.parent.glob("*.html"))
    assert {path.stem for path in pages} >= {path.stem for path in executed} | {"index"}
    for page in pages:
        assert outside_requests(page) == [], page.name
        assert shut_out(page.read_text(encoding="utf-8")) == [], page.name
    assert broken_links(index.parent) == []
