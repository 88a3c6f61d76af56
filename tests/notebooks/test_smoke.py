"""Every notebook at `smoke`, through the same runner and profile machinery that `vlpnb run` uses.

The notebooks share one run, as a reader's do: each finds the stages that the ones before it finished.
"""

import pytest

from vlpnb.course import notebooks_folder, open_run
from vlpnb.course.runner import find_notebooks, run_notebooks
from vlpnb.course.site import outside_requests, write_site

NUMBERS = ["00", "01", "02", "10", "11", "12", "13", "14", "15", "16"]
pytestmark = [pytest.mark.notebook, pytest.mark.slow, pytest.mark.xdist_group("notebooks")]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return open_run("smoke", "smoke", root=tmp_path_factory.mktemp("data"))


def test_the_profile_names_every_notebook(run):
    assert [str(number) for number in run.profile.notebooks] == NUMBERS
    assert len(find_notebooks(notebooks_folder(), NUMBERS)) == len(NUMBERS)


@pytest.mark.parametrize("number", NUMBERS)
def test_notebook_runs(run, number):
    (outcome,) = run_notebooks(run, find_notebooks(notebooks_folder(), [number]))
    assert outcome.problem == ""


def test_the_run_reports_the_metrics_that_readers_ask_for(run):
    metrics = run.metrics()
    for name in (
        "vision.kind_accuracy",
        "vision.colour_accuracy",
        "matching.test_r10",
        "vokens.named_rate",
        "vokens.contextual_rate",
        "vokens.contextual_rate_context_free",
    ):
        assert 0 <= metrics[name] <= 1, name


def test_the_site_of_the_run_asks_nobody_outside(run):
    index = write_site(run.folder, run.results(), run.name, "smoke", "cpu")
    pages = sorted(index.parent.glob("*.html"))
    assert len(pages) >= len(NUMBERS) + 1
    for page in pages:
        assert outside_requests(page) == [], page.name
