"""The runner on toy notebooks: success, failure, a killed kernel, and what is refused before anything starts."""

import nbformat
import pytest

from vlpnb.config import Profile
from vlpnb.course.runner import END, find_notebooks, read_status, run_notebooks
from vlpnb.errors import UserError
from vlpnb.stage import Run

PARAMETERS = 'profile: str = "laptop"\nrun_name: str = "laptop"\nsettings: str = ""\ndevices: int = 1'
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


@pytest.fixture
def course(tmp_path):
    folder = tmp_path / "notebooks"
    folder.mkdir()

    def course(parameters=PARAMETERS, **notebooks):
        paths = []
        for name, cells in notebooks.items():
            new = nbformat.v4
            first = new.new_code_cell(parameters, metadata={"tags": ["parameters"]})
            book = new.new_notebook(
                cells=[new.new_markdown_cell("# Toy"), first, *map(new.new_code_cell, cells)]
            )
            paths.append(folder / f"{name.lstrip('n')}.ipynb")
            nbformat.write(book, paths[-1])
        return paths

    return course


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path / "data" / "runs", "toy", Profile("smoke"), (), device="cpu")


def test_executes_with_parameters_and_strips_what_is_not_ours(course, run, capfd):
    lines = []
    code = "import os, vlpnb; print('got', profile, run_name, devices, os.environ['VLPNB_DATA'])"
    paths = course(n10_good=[code])
    outcomes = run_notebooks(run, paths, say=lines.append)
    assert [(item.notebook, item.problem) for item in outcomes] == [("10_good.ipynb", "")]
    book = nbformat.read(run.folder / "notebooks" / "10_good.ipynb", as_version=4)
    text = "".join(output.get("text", "") for cell in book.cells for output in cell.get("outputs", []))
    assert f"got smoke toy 1 {run.root.parent}" in text
    assert END not in str(book)
    assert "    got smoke toy" in capfd.readouterr().out
    assert any("10_good" in line and "done in" in line for line in lines)
    assert read_status(run.folder) == outcomes


def test_stops_at_the_first_failure_and_says_where(course, run):
    lines = []
    raising = "from vlpnb.errors import UserError\nraise UserError('field x: found 1')"
    paths = course(n10_bad=["1/1", raising], n11_never=["1"])
    outcomes = run_notebooks(run, paths, say=lines.append)
    assert len(outcomes) == 1
    assert "UserError: field x: found 1" in outcomes[0].problem
    assert "Traceback" not in outcomes[0].problem
    assert (run.folder / "notebooks" / "10_bad.ipynb").is_file()
    assert any("again to continue" in line for line in lines)


def test_a_killed_kernel_is_a_failure(course, run):
    paths = course(n10_killed=["x = 1", "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)"])
    (outcome,) = run_notebooks(run, paths, say=lambda line: None)
    assert "the kernel was killed" in outcome.problem
    assert "os.kill" in outcome.problem
    assert "memory" in outcome.problem


def test_unknown_parameters_are_refused_before_anything_starts(course, run):
    good, bad = course(n10_a=["1"]) + course("profile: str = ''\nrun_nam: str = ''", n11_b=["1"])
    with pytest.raises(UserError, match=r"11_b\.ipynb.*'run_name'; did you mean 'run_nam'"):
        run_notebooks(run, [good, bad], say=print)
    with pytest.raises(UserError, match="'epoch'"):
        run_notebooks(run, [good], {"epoch": 3}, say=print)
    assert not run.folder.exists()


def test_finds_notebooks_by_number_name_and_path(course, tmp_path):
    paths = course(n10_a=["1"], n11_b=["1"])
    assert find_notebooks(tmp_path / "notebooks", ["11", "10_a"]) == paths[::-1]
    assert find_notebooks(tmp_path / "notebooks", [str(paths[0])]) == paths[:1]
    with pytest.raises(UserError, match="'12' not found"):
        find_notebooks(tmp_path / "notebooks", ["12"])
